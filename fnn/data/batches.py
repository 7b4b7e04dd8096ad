"""Batches as indices: pure functions of the seed and the epoch. And the normalisation of what they pick."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from fnn.data.on_disk import OnDisk
from fnn.kernels import quick_key
from fnn.layer import name_key

CHUNK = 1 << 20
"""Values that the normalisation holds in float64 at a time: 8 MB."""
SAMPLE, SAMPLE_BYTES = 1000, 1 << 30
"""Examples that stay on disk of which so many are measured, or as many as take so many bytes: a mean of 1,000
pictures is within 1 % or so of a standard deviation of that of all."""


def steps_per_epoch(n: int, batch_size: int) -> int:
    """How many whole batches an epoch has; a set smaller than the batch is one batch.

    Args:
        n: Examples, at least 1.
        batch_size: At least 1.

    Raises:
        ValueError: An argument is below 1.

    Example:
        >>> steps_per_epoch(1437, 128), steps_per_epoch(5, 128)
        (11, 1)
    """
    return max(1, n // _batch(n, batch_size))


def _batch(n: int, batch_size: int) -> int:
    if n < 1 or batch_size < 1:
        raise ValueError(
            f"expected at least 1 example and a batch_size of at least 1, got {n} and {batch_size}"
        )
    return min(n, batch_size)


def epoch_order(seed: int | Array, epoch: int | Array, n: int, batch_size: int) -> Array:
    """Which examples each step of an epoch trains on.

    A random permutation of the set, cut into whole batches; the remainder is left out, another
    one each epoch. It depends on nothing but the arguments, so a run resumed at any step goes
    on as it would have.

    Args:
        seed: The run's; may be traced.
        epoch: From 0; may be traced, so a scan over epochs is one program.
        n: Examples in the training part.
        batch_size: Of each batch, if there are as many examples.

    Returns:
        Indices ``(steps, batch)`` in int32, distinct within the epoch.

    Raises:
        ValueError: ``n`` or ``batch_size`` is below 1.

    Example:
        >>> epoch_order(seed=0, epoch=3, n=10, batch_size=4).shape
        (2, 4)
    """
    steps, batch = steps_per_epoch(n, batch_size), _batch(n, batch_size)
    key = jax.random.fold_in(name_key(quick_key(jax.random.key(seed)), "order"), epoch)
    order = jax.random.permutation(key, jnp.arange(n, dtype=jnp.int32))
    return order[: steps * batch].reshape(steps, batch)


def evaluation_batches(n: int, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Every example once, in order, in batches of one shape.

    Args:
        n: Examples in the part.
        batch_size: Of each batch, if there are as many examples.

    Returns:
        Indices ``(steps, batch)`` in int32, the last batch filled up with 0, and a mask of the
        same shape that is false where it was.

    Raises:
        ValueError: An argument is below 1.

    Example:
        >>> indices, mask = evaluation_batches(5, 3)
        >>> indices.tolist(), mask.tolist()
        ([[0, 1, 2], [3, 4, 0]], [[True, True, True], [True, True, False]])
    """
    batch = _batch(n, batch_size)
    steps = -(-n // batch)
    indices = np.arange(steps * batch, dtype=np.int32).reshape(steps, batch)
    mask = indices < n
    return np.where(mask, indices, 0), mask


@dataclass(frozen=True, eq=False)
class Normalizer:
    """Takes the mean from each channel and divides by its standard deviation.

    Attributes:
        mean: Of each channel ``(c,)``, in float32.
        std: Of each channel ``(c,)``, in float32, above 0.
        bgr: Whether the channels are reversed first: what is red, green and blue comes out blue, green and
            red, as ``mean`` and ``std`` are.

    Example:
        >>> import numpy as np
        >>> from fnn.data import fit_normalizer
        >>> normalize = fit_normalizer(np.array([[1.0, 5.0], [3.0, 5.0]]))
        >>> print(normalize(np.array([[1.0, 6.0]])))
        [[-1.  1.]]
    """

    mean: np.ndarray
    std: np.ndarray
    bgr: bool = False

    def __call__(self, x: Array | np.ndarray) -> Array:
        """Inputs of any dtype with channels last, normalised in float32; may be traced.

        Raises:
            ValueError: The last axis of ``x`` has another length than it was fitted to.
        """
        if x.ndim == 0 or x.shape[-1] != len(self.mean):
            raise ValueError(f"Normalizer: expected {len(self.mean)} channels, got the shape {x.shape}")
        shape = (1,) * (x.ndim - 1) + self.mean.shape
        x = x[..., ::-1] if self.bgr else x
        return (jnp.asarray(x, jnp.float32) - self.mean.reshape(shape)) / self.std.reshape(shape)


def fit_normalizer(inputs: np.ndarray | OnDisk) -> Normalizer:
    """Measure the mean and the standard deviation of each channel, the last axis.

    Two passes in float64 over slices of the rows, so that memory stays bounded and the variance
    of values far from 0 is right. A constant channel gets the standard deviation 1.

    Args:
        inputs: The training part's inputs, ``(n, ..., c)``, with at least one row. Of inputs that stay on
            disk 1,000 are measured, at equal distances from each other, the same ones each time.

    Raises:
        ValueError: There is no value to measure.

    Example:
        >>> import numpy as np
        >>> from fnn.data import fit_normalizer
        >>> fit_normalizer(np.array([[1.0, 5.0], [3.0, 5.0]])).std.tolist()
        [1.0, 1.0]
    """
    if inputs.ndim < 2 or inputs.size == 0:
        raise ValueError(f"fit_normalizer: expected inputs of shape (n, ..., channels), got {inputs.shape}")
    if isinstance(inputs, OnDisk):
        inputs = _sample(inputs)
    count = inputs.size // inputs.shape[-1]
    mean = sum(chunk.sum(0) for chunk in _chunks(inputs)) / count
    variance = sum(((chunk - mean) ** 2).sum(0) for chunk in _chunks(inputs)) / count
    axes = tuple(range(inputs.ndim - 1))
    std = np.sqrt(variance).astype(np.float32)
    # a constant's mean is rounded, so its variance need not be 0; nor may a tiny one round to 0
    flat = (inputs.min(axes) == inputs.max(axes)) | (std < np.finfo(np.float32).tiny)
    return Normalizer(np.asarray(mean, np.float32), np.where(flat, np.float32(1), std))


def _sample(inputs: OnDisk) -> np.ndarray:
    """Examples at equal distances, so that of those in order of their class each class has its share."""
    fit = max(1, SAMPLE_BYTES * len(inputs) // (inputs.size * inputs.dtype.itemsize))
    chosen = np.linspace(0, len(inputs) - 1, min(SAMPLE, fit, len(inputs)))
    return inputs.rows(chosen.round().astype(np.int64)).load()


def _chunks(inputs: np.ndarray) -> Iterator[np.ndarray]:
    """The inputs as rows of channels in float64, not too many at a time."""
    rows = max(1, CHUNK // (inputs.size // len(inputs)))
    for start in range(0, len(inputs), rows):
        yield inputs[start : start + rows].reshape(-1, inputs.shape[-1]).astype(np.float64)
