"""A model as a table: each layer's path, output shape, parameters, FLOPs and the memory of its output."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp

from fnn.analysis.flops import flops
from fnn.layer import Key, Layer, Params, State, join, map_layers, spec
from fnn.machine import in_bytes
from fnn.table import table
from fnn.trees import count, paths

_COPIES = "@copies"  # no parameter is named so


@dataclass(frozen=True)
class Row:
    """One layer that has no layers in it.

    Attributes:
        path: Its place in the model.
        kind: What it is.
        output: The shape of its output, with the batch.
        parameters: The number of its parameters; of a repeated layer, in all copies.
        flops: Floating-point operations of a forward pass over the whole batch, as XLA counts them: a
            multiplication and an addition are two; of a repeated layer, in all copies.
        activations: The bytes of its output over the whole batch; of a repeated layer, in all copies.
    """

    path: str
    kind: str
    output: tuple[int, ...]
    parameters: int
    flops: float
    activations: int


@dataclass(frozen=True)
class Summary:
    """The rows of a model, in the order in which they run, and its totals.

    The FLOPs of all rows are those of the whole model, as XLA counts it, but for two things: what containers
    do between the layers, such as the sums of residual blocks, is in no row; and where max pooling comes
    before the bias and the ReLU written before it, these have less to do than their rows say. Both are below
    half a percent of the published networks.

    The activations of all rows are the bytes of every output. Training keeps about as many for the way back:
    fewer where XLA computes several layers in one pass, an output is the input in another shape, or `remat`
    forgets it; more where a layer keeps what it has in between. Evaluation keeps the largest few.
    """

    rows: tuple[Row, ...]
    parameters: int
    flops: float
    activations: int

    def __str__(self) -> str:
        head = ("path", "kind", "output", "parameters", "MFLOP", "activations")
        body = [(r.path, r.kind, " × ".join(map(str, r.output)), *_figures(r)) for r in self.rows]
        return table(head, body, ("total", "", "", *_figures(self)), left=3)


def summary(model: Layer, x: Any) -> Summary:
    """Follow shapes through a model; nothing is computed.

    Args:
        model: Any layer.
        x: An input, or its shape and dtype.

    Raises:
        LayerError: The model does not take such an input.

    Example:
        >>> import jax.numpy as jnp, fnn
        >>> print(fnn.summary(fnn.serial(fnn.dense(8), fnn.relu, fnn.dense(2)), jnp.ones((1, 4))))
        path    kind   output  parameters  MFLOP  activations
        ─────────────────────────────────────────────────────
        dense1  dense  1 × 8           40  0.000         32 B
        relu1   relu   1 × 8            0  0.000         32 B
        dense2  dense  1 × 2           18  0.000          8 B
        ─────────────────────────────────────────────────────
        total                          58  0.000         72 B
    """
    rows: dict[str, Row] = {}
    known: dict[str, float] = {}

    def watch(path: str, layer: Layer) -> Layer:
        return layer if layer.children else _watched(path, layer, rows, known)

    watched = map_layers(watch, model)
    x = spec(x)
    params, state = jax.eval_shape(watched.init, jax.random.key(0), x)
    jax.eval_shape(watched.apply, params, state, x)
    copies = {path: math.prod(leaf.shape) for path, leaf in paths(params).items()}
    table = tuple(_times(copies[join(path, _COPIES)], row) for path, row in rows.items())
    totals = (sum(getattr(row, name) for row in table) for name in ("parameters", "flops", "activations"))
    return Summary(table, *totals)


def _figures(of: Row | Summary) -> tuple[str, str, str]:
    return f"{of.parameters:,}", f"{of.flops / 1e6:,.3f}", in_bytes(of.activations)


def _watched(path: str, layer: Layer, rows: dict[str, Row], known: dict[str, float]) -> Layer:
    """The same leaf layer, which notes its row when it is applied, and counts its copies.

    For those it has a scalar among its parameters, which becomes an array where parameters are stacked.
    """

    def init(key: Key, x: Any) -> tuple[Params, State]:
        params, state = layer.init(key, x)
        return {**params, _COPIES: jnp.zeros(())}, state

    def apply(params: Params, state: State, x: Any, *, key: Any = None, train: bool = False) -> Any:
        own = {name: leaf for name, leaf in params.items() if name != _COPIES}
        y, new_state = layer.apply(own, state, x, key=key, train=train)
        if path not in rows:
            work = flops(lambda p, s, v: layer.apply(p, s, v)[0], *spec((own, state, x)), known=known)
            memory = y.size * y.dtype.itemsize
            rows[path] = Row(path, layer.kind, tuple(y.shape), count(own), work, memory)
        return y, new_state

    return replace(layer, init=init, apply=apply)


def _times(copies: int, row: Row) -> Row:
    return replace(
        row,
        parameters=copies * row.parameters,
        flops=copies * row.flops,
        activations=copies * row.activations,
    )
