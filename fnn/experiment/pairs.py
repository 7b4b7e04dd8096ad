"""What is special where targets are pictures: their values, and that pictures are of several sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from fnn.data import Augmentation, Dataset, Paired

Shape = jax.ShapeDtypeStruct


def of_bytes(function: Callable[..., Any]) -> Callable[..., Any]:
    """A loss or a measure of targets that are pictures: from 0 to 1, as the model sees its inputs."""
    return lambda outputs, targets, *rest: function(outputs, targets.astype(jnp.float32) / 255, *rest)


def larger(dataset: Dataset, inputs: Shape) -> tuple[int, ...] | None:
    """The shape of a batch of targets, where they are pictures as the inputs are."""
    targets = dataset.train.targets
    pictures = targets is not None and targets.ndim == inputs.ndim == 4
    return (inputs.shape[0], *targets.shape[1:]) if targets is not None and pictures else None


def other_sizes(
    dataset: Dataset, inputs: Shape, augment: Augmentation | None
) -> Iterator[tuple[Shape, Shape, str]]:
    """Inputs and targets of every size but that of the training part, and whose they are.

    Args:
        dataset: Its parts may hold pictures of other sizes.
        inputs: A batch of its training part, in the type of the activations.
        augment: What may cut them.
    """
    targets = larger(dataset, inputs)
    if targets is not None and augment is not None:
        whole: Any = (Shape(shape, jnp.float32) for shape in (inputs.shape, targets))
        cut = jax.eval_shape(augment, jax.random.key(0), Paired(*whole))
        if cut.inputs.shape != inputs.shape:
            yield Shape(cut.inputs.shape, inputs.dtype), cut.targets, "as data.augment gives them"
    seen = {inputs.shape[1:]}
    for name in ("validation", "test"):
        part = getattr(dataset, name)
        for split in part if isinstance(part, tuple) else ():
            if split.inputs.shape[1:] not in seen:
                seen.add(split.inputs.shape[1:])
                small = Shape((1, *split.inputs.shape[1:]), inputs.dtype)
                large = Shape((1, *split.targets.shape[1:]), split.targets.dtype)
                yield small, large, f"of the {name} part"
