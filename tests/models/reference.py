"""torchvision's models beside ours: the same weights, the same answers, the same step of training."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn.layer import Layer
from fnn.models.exchange import Naming, from_foreign, to_foreign
from tests.models.torch_blocks import function

KEY = jax.random.key(0)
_declared: list[Any] = []


@functools.cache
def torchvision_models() -> Any:
    """``torchvision.models``; the test is skipped without torchvision.

    Its compiled operators ask for the build of PyTorch that they were made with. The models need none of
    them: beside another build the two that are named when it is imported are declared, without a body.
    """
    torch = pytest.importorskip("torch")
    if find_spec("torchvision") is None:
        pytest.skip("needs torchvision, the extra [oracle]")
    try:
        import torchvision
    except RuntimeError:
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        from torch import library

        operators = library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            operators.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _declared.append(operators)  # what it declared goes with it
        import torchvision

    torch.set_num_threads(1)  # they wait for each other in a loop, which is dear beside other processes
    return torchvision.models


def random_weights(net: Any, shifts: Sequence[float] = (-2.0, 2.0), seed: int = 0) -> Any:
    """A torch module with every weight and statistic drawn, none of them at its default; in evaluation.

    Kernels keep the size of a signal through ReLU, whatever the depth. Batch normalisation's biases lie about
    one of ``shifts``, three of its scales from 0: few values so fall where the rounding of float32 decides
    whether a ReLU lets a gradient through. (With biases about 0 PyTorch's own gradients of densenet121 and
    mobilenet_v2 in float32 are 0.06 to 0.2 of a tensor's largest value away from its own in float64.)
    """
    import torch

    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for name, tensor in net.state_dict().items():
            shape = tuple(tensor.shape)
            if len(shape) in (2, 4):
                tensor.copy_(torch.tensor(rng.normal(size=shape) * np.sqrt(2 / np.prod(shape[1:]))))
            elif tensor.is_floating_point():
                around = 0.0 if name.endswith(("bias", "running_mean")) else 1.0
                tensor.copy_(torch.tensor(around + rng.uniform(-0.5, 0.5, shape)))
        for module in net.modules():
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                channels = tuple(module.bias.shape)
                module.weight.copy_(torch.tensor(rng.uniform(0.4, 0.8, channels)))
                module.bias.copy_(
                    torch.tensor(rng.choice(shifts, channels) + 0.1 * rng.normal(size=channels))
                )
    return net.eval()


def foreign(net: Any) -> dict[str, np.ndarray]:
    """The weights and running statistics of a torch module, by its names."""
    return {
        name: value.detach().cpu().numpy().copy()
        for name, value in net.state_dict().items()
        if value.is_floating_point()
    }


def shapes(model: Layer, x: Any) -> tuple[Any, Any]:
    """The shapes of a model's parameters and state; nothing is computed."""
    return jax.eval_shape(lambda key: model.init(key, jnp.asarray(x)), KEY)


def taken(naming: Naming, net: Any, model: Layer, x: Any) -> tuple[Any, Any]:
    """Our parameters and state, with the values of a torch module."""
    return from_foreign(naming, foreign(net), *shapes(model, x))


def same_structure(naming: Naming, net: Any, model: Layer, x: Any) -> None:
    """Ours written as theirs has the names and shapes of their tensors, no more and no less.

    ``net`` may be made under ``torch.device("meta")``: nothing is computed, and little memory is used.
    """
    bytes_of = functools.partial(np.broadcast_to, np.int8(0))
    ours = to_foreign(naming, *jax.tree.map(lambda leaf: bytes_of(leaf.shape), shapes(model, x)))
    theirs = {name: value for name, value in net.state_dict().items() if value.is_floating_point()}
    assert {name: tuple(value.shape) for name, value in ours.items()} == {
        name: tuple(value.shape) for name, value in theirs.items()
    }


def same_logits(naming: Naming, net: Any, model: Layer, x: np.ndarray) -> None:
    """In evaluation, for a picture ``(batch, height, width, channels)``."""
    import torch

    params, state = taken(naming, net, model, x)
    with _compiled_soon():
        y, _ = jax.jit(model.apply)(params, state, x)
    with torch.no_grad():
        near("logits", y, net.eval()(_picture(x)))


def same_step(naming: Naming, net: Any, model: Layer, x: np.ndarray, labels: np.ndarray) -> None:
    """One step in training: logits, loss, every gradient, and the running statistics after it.

    Ours are computed in float32, theirs in float64.
    """
    from torch.nn.functional import cross_entropy

    ours = functools.partial(fnn.losses.cross_entropy, targets=labels)
    _same_step(naming, net, model, x, ours, lambda logits: cross_entropy(logits, _tensor(labels)))


def same_fit(naming: Naming, net: Any, model: Layer, x: np.ndarray, targets: np.ndarray) -> None:
    """`same_step` for the squared error from other pictures ``(batch, height, width, channels)``."""
    ours = functools.partial(fnn.losses.squared_error, targets=targets)
    net.append(function(lambda y: y.permute(0, 2, 3, 1)))
    _same_step(naming, net, model, x, ours, lambda y: ((y - _tensor(targets).double()) ** 2).mean())


def _same_step(
    naming: Naming,
    net: Any,
    model: Layer,
    x: np.ndarray,
    ours: Callable[..., Any],
    theirs: Callable[..., Any],
) -> None:
    """``ours`` and ``theirs``: the loss, from what the model and the module give."""
    params, state = taken(naming, net, model, x)

    def loss(params: Any, state: Any, x: Any) -> Any:
        logits, state = model.apply(params, state, x, key=KEY, train=True)
        return ours(logits).mean(), (logits, state)

    step = jax.jit(jax.value_and_grad(loss, has_aux=True))
    with _compiled_soon():
        (value, (logits, state)), gradients = step(params, state, x)
    net = net.double().train()
    given = net(_picture(x).double())
    wanted = theirs(given)
    wanted.backward()
    slopes = {name: weight.grad.numpy() for name, weight in net.named_parameters()}
    wanted_gradients, wanted_state = from_foreign(naming, foreign(net) | slopes, gradients, state)
    near("logits", logits, given)
    near("loss", value, wanted)
    _near_gradients(fnn.paths(gradients), fnn.paths(wanted_gradients))
    for path, moved in fnn.paths(state).items():
        near(path, moved, fnn.paths(wanted_state)[path])


def near(what: str, got: Any, wanted: Any) -> None:
    """Within 1e-4 of the largest value."""
    wanted = np.asarray(wanted.detach() if hasattr(wanted, "detach") else wanted, np.float64)
    atol = 1e-4 * np.abs(wanted).max()
    np.testing.assert_allclose(np.asarray(got), wanted, rtol=0, atol=atol, err_msg=what)


def _near_gradients(got: Any, wanted: Any) -> None:
    """A bias before a normalisation that takes it out again has no gradient: what is left is rounding."""
    sizes = {path: np.abs(slope).max() for path, slope in wanted.items()}
    largest = max(sizes.values())
    assert list(got) == list(wanted)
    for path, slope in got.items():
        if sizes[path] > 1e-9 * largest:
            near(f"the gradient of {path}", slope, wanted[path])
        else:
            assert np.abs(slope).max() < 1e-6 * largest, path


@contextmanager
def _compiled_soon() -> Iterator[None]:
    """Each program here runs once, on small pictures."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def _picture(x: np.ndarray) -> Any:
    return _tensor(x.transpose(0, 3, 1, 2).copy())


def _tensor(values: np.ndarray) -> Any:
    import torch

    return torch.tensor(values)
