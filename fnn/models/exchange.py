"""A model's weights in the names and layouts of other libraries."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from fnn.layer import Params, State
from fnn.models.blocks import regrouped
from fnn.trees import from_paths, near, paths

Rule = tuple[str, str | Callable[[re.Match[str]], str]]
"""A regular expression and what takes the place of what it fits."""

LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "slope": "weight",
    "mean": "running_mean",
    "var": "running_var",
}
"""How PyTorch calls what its modules hold; a name that is not here is the same."""
COUNTER = "num_batches_tracked"
"""PyTorch counts the batches of a BatchNorm; nothing depends on it."""
WRAPPERS = ("module.", "model.", "_orig_mod.")
"""What PyTorch's DataParallel, a module of one's own around a network, and torch.compile put before names."""
MOST_NAMED = 20
"""How many tensors of a kind (missing, extra, misshaped) an error names; a file may hold millions."""


class ExchangeError(ValueError):
    """Weights from outside do not fit the model."""


@dataclass(frozen=True)
class Naming:
    """How another library names and lays out the tensors of a model.

    By default a tensor bears our path with dots, and PyTorch's names of what a module holds: ``conv1/kernel``
    is ``conv1.weight``. Kernels are kept as ``(out, in, *space)``, those of dense layers as ``(out, in)``.

    Attributes:
        rules: What changes the default names into theirs, one substitution after the other.
        flattened: By the path of a dense layer that follows a flattening: height, width and channels of what
            is flattened. They keep channels first, and so flatten in another order.
        shapes: By a regular expression that fits the whole of their name: their shape, from the default one.
    """

    rules: tuple[Rule, ...] = ()
    flattened: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)
    shapes: tuple[tuple[str, Callable[[tuple[int, ...]], tuple[int, ...]]], ...] = ()

    def name(self, path: str) -> str:
        r"""Their name of the tensor at our path.

        Example:
            >>> Naming(rules=((r"^block(\d)", r"layer\1"),)).name("block1/conv1/kernel")
            'layer1.conv1.weight'
        """
        *modules, leaf = path.split("/")
        name = ".".join((*modules, LEAVES.get(leaf, leaf)))
        for pattern, replacement in self.rules:
            name = re.sub(pattern, replacement, name)
        return name


def from_foreign(
    naming: Naming, tensors: Mapping[str, np.ndarray], params: Params, state: State
) -> tuple[Params, State]:
    """A model's params and state from another library's tensors.

    Args:
        naming: How the library names and keeps them.
        tensors: By their names.
        params, state: What the model has, as arrays or shapes. Blocks that are scanned get theirs stacked.

    Raises:
        ExchangeError: Tensors are missing, superfluous, of another shape, or not of floating point; all are
            named, or the first of each kind and how many more.

    Example:
        >>> import jax, jax.numpy as jnp, numpy as np, fnn
        >>> from fnn.models.exchange import Naming, from_foreign
        >>> params, state = fnn.serial(head=fnn.dense(2)).init(jax.random.key(0), jnp.ones((1, 3)))
        >>> theirs = {"head.weight": np.ones((2, 3), np.float32), "head.bias": np.ones(2, np.float32)}
        >>> from_foreign(Naming(), theirs, params, state)[0]["head"]["kernel"].shape
        (3, 2)
    """
    leaves = _all(params, state)
    wanted = {path: _Layout.of(naming, path, leaf) for path, leaf in regrouped(leaves, ()).items()}
    names = [layout.name for layout in wanted.values()]
    missing = [f"missing {name}" for name in names if name not in tensors]
    unlike = [p for layout in wanted.values() if (p := layout.problem(tensors))]
    extra = [name for name in tensors if name not in names and not name.endswith(COUNTER)]
    unknown = [f"unknown {name}; nearest: {near(name, names, 1)}" for name in extra[:MOST_NAMED]]
    problems = [
        *_cut(missing, len(missing), "missing"),
        *_cut(unlike, len(unlike), "that differ"),
        *_cut(unknown, len(extra), "unknown"),
    ]
    if problems:
        raise ExchangeError("the tensors do not fit the model: " + "; ".join(problems))
    ours = {path: layout.read(tensors[layout.name]) for path, layout in wanted.items()}
    tree = from_paths(regrouped(ours, leaves))
    return tree.get("params", {}), tree.get("state", {})


def to_foreign(naming: Naming, params: Params, state: State) -> dict[str, np.ndarray]:
    """A model's params and state as another library's tensors: the inverse of `from_foreign`.

    Example:
        >>> import jax, jax.numpy as jnp, fnn
        >>> from fnn.models.exchange import Naming, to_foreign
        >>> params, state = fnn.serial(stem=fnn.conv(8, 3)).init(jax.random.key(0), jnp.ones((1, 9, 9, 1)))
        >>> {name: tensor.shape for name, tensor in to_foreign(Naming(), params, state).items()}
        {'stem.bias': (8,), 'stem.weight': (8, 1, 3, 3)}
    """
    leaves = regrouped(_all(params, state), ())
    layouts = {path: _Layout.of(naming, path, leaf) for path, leaf in leaves.items()}
    return {layouts[path].name: layouts[path].write(np.asarray(leaf)) for path, leaf in leaves.items()}


def nearest_naming(
    namings: Mapping[str, Naming], names: Collection[str], params: Params, state: State
) -> str | None:
    """Whose names they are: the library that calls the most of the model's tensors by one of them.

    Args:
        namings: By library.
        names: What a file calls its tensors.
        params, state: What the model has, as arrays or shapes.

    Returns:
        The library, the first of several that are alike; None: not one name is known.

    Example:
        >>> from fnn.models.exchange import Naming, nearest_naming
        >>> namings = {"ours": Naming(), "theirs": Naming(rules=((r"^head", "fc"),))}
        >>> nearest_naming(namings, ["fc.weight", "fc.bias"], {"head": {"kernel": 0, "bias": 0}}, {})
        'theirs'
    """
    places = [path.split("/", 1)[1] for path in regrouped(_all(params, state), ())]
    known = {
        library: sum(naming.name(place) in names for place in places) for library, naming in namings.items()
    }
    best = max(known, key=lambda library: known[library], default=None)
    return best if best is not None and known[best] else None


def unwrapped(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Tensors by the names that they had before their network was wrapped.

    Example:
        >>> from fnn.models.exchange import unwrapped
        >>> list(unwrapped({"module._orig_mod.fc.weight": 1, "module._orig_mod.fc.bias": 2}))
        ['fc.weight', 'fc.bias']
    """
    found = dict(tensors)
    while prefix := next((p for p in WRAPPERS if found and all(name.startswith(p) for name in found)), None):
        found = {name.removeprefix(prefix): tensor for name, tensor in found.items()}
    return found


@dataclass(frozen=True)
class _Layout:
    """One tensor, here and there."""

    name: str
    shape: tuple[int, ...]
    split: tuple[int, ...]
    order: tuple[int, ...]
    theirs: tuple[int, ...]

    @classmethod
    def of(cls, naming: Naming, path: str, leaf: Any) -> _Layout:
        """``split`` is our shape with the flattened axis taken apart, ``order`` of its axes is theirs."""
        place = path.split("/", 1)[1]
        name = naming.name(place)
        shape = split = tuple(leaf.shape)
        order = tuple(range(len(shape)))
        if path.endswith("/kernel") or place == "kernel":
            last = len(shape) - 1
            order = (last, last - 1, *range(last - 1))
            flattened = naming.flattened.get(place.rpartition("/")[0])
            if flattened is not None:
                split, order = (*flattened, shape[1]), (3, 2, 0, 1)
        theirs = tuple(split[axis] for axis in order)
        if split != shape:
            theirs = (shape[1], shape[0])
        for pattern, change in naming.shapes:
            if re.fullmatch(pattern, name):
                theirs = change(theirs)
        return cls(name, shape, split, order, theirs)

    def problem(self, tensors: Mapping[str, np.ndarray]) -> str | None:
        """What is wrong with what is there, or None."""
        if self.name not in tensors:
            return None
        found = tensors[self.name]
        if tuple(found.shape) != self.theirs:
            return f"{self.name}: expected the shape {list(self.theirs)}, got {list(found.shape)}"
        if not jax.numpy.issubdtype(found.dtype, jax.numpy.floating):
            return f"{self.name}: expected floating-point numbers, got {found.dtype}"
        return None

    def read(self, tensor: np.ndarray) -> np.ndarray:
        """Theirs as ours, in float32."""
        split = tensor.reshape([self.split[axis] for axis in self.order])
        ours = split.transpose(np.argsort(self.order)).reshape(self.shape)
        return np.ascontiguousarray(ours, np.float32)

    def write(self, array: np.ndarray) -> np.ndarray:
        """Ours as theirs."""
        return np.ascontiguousarray(array.reshape(self.split).transpose(self.order).reshape(self.theirs))


def _cut(problems: list[str], count: int, kind: str) -> list[str]:
    """The first of them, and how many more there are."""
    named = problems[:MOST_NAMED]
    return [*named, f"and {count - len(named)} more {kind}"] if count > len(named) else named


def _all(params: Params, state: State) -> dict[str, Any]:
    return paths({"params": params, "state": state})
