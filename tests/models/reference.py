"""torchvision's models beside ours: the same weights, the same answers, the same step of training."""

from __future__ import annotations

import functools
import sys
from importlib.util import find_spec
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn.layer import Layer
from fnn.models.exchange import Naming, from_foreign, to_foreign

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
        pytest.skip("needs torchvision: pip install --no-deps torchvision==0.28.0")
    try:
        import torchvision
    except RuntimeError:
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _declared.append(library)  # what it declared goes with it
        import torchvision

    return torchvision.models


def random_weights(net: Any, seed: int = 0) -> Any:
    """A torch module with every weight and statistic drawn, none of them at its default; in evaluation.

    Kernels keep the size of a signal through ReLU, whatever the depth.
    """
    rng = np.random.default_rng(seed)
    drawn = {}
    for name, value in net.state_dict().items():
        if not value.is_floating_point():
            continue
        shape = tuple(value.shape)
        if name.endswith("running_var"):
            new = rng.uniform(0.5, 2.0, shape)
        elif len(shape) in (2, 4):
            new = rng.normal(size=shape) * np.sqrt(2 / np.prod(shape[1:]))
        elif name.endswith(("bias", "running_mean")):
            new = 0.1 * rng.normal(size=shape)
        else:
            new = rng.uniform(0.5, 1.5, shape)
        drawn[name] = new.astype(np.float32)
    _set(net, drawn)
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
    y, _ = jax.jit(model.apply)(params, state, x)
    with torch.no_grad():
        near("logits", y, net.eval()(_picture(x)))


def same_step(naming: Naming, net: Any, model: Layer, x: np.ndarray, labels: np.ndarray) -> None:
    """One step in training: logits, loss, every gradient, and the running statistics after it."""
    from torch.nn.functional import cross_entropy

    params, state = taken(naming, net, model, x)

    def loss(params: Any, state: Any, x: Any) -> Any:
        logits, state = model.apply(params, state, x, key=KEY, train=True)
        return fnn.losses.cross_entropy(logits, labels).mean(), (logits, state)

    (value, (logits, state)), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(params, state, x)
    theirs = net.train()(_picture(x))
    wanted = cross_entropy(theirs, _tensor(labels))
    wanted.backward()
    slopes = {name: weight.grad.numpy() for name, weight in net.named_parameters()}
    wanted_gradients, wanted_state = from_foreign(naming, foreign(net) | slopes, gradients, state)
    near("logits", logits, theirs)
    near("loss", value, wanted)
    _near_trees("the gradient of ", gradients, wanted_gradients)
    _near_trees("", state, wanted_state)


def near(what: str, got: Any, wanted: Any) -> None:
    """Within 1e-4 of the largest value."""
    wanted = np.asarray(wanted.detach() if hasattr(wanted, "detach") else wanted, np.float64)
    atol = 1e-4 * np.abs(wanted).max()
    np.testing.assert_allclose(np.asarray(got), wanted, rtol=0, atol=atol, err_msg=what)


def _near_trees(what: str, got: Any, wanted: Any) -> None:
    got, wanted = fnn.paths(got), fnn.paths(wanted)
    assert list(got) == list(wanted)
    for path, value in got.items():
        near(f"{what}{path}", value, wanted[path])


def _picture(x: np.ndarray) -> Any:
    return _tensor(x.transpose(0, 3, 1, 2).copy())


def _tensor(values: np.ndarray) -> Any:
    import torch

    return torch.tensor(values)


def _set(net: Any, values: dict[str, np.ndarray]) -> None:
    import torch

    with torch.no_grad():
        for name, tensor in net.state_dict().items():
            if name in values:
                tensor.copy_(torch.tensor(values[name]))
