"""A model as a table: each layer's path, output shape, parameters and FLOPs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import jax

from fnn.layer import Layer, Params, State, map_layers, spec
from fnn.trees import count


@dataclass(frozen=True)
class Row:
    """One layer that has no layers in it.

    Attributes:
        path: Its place in the model.
        kind: What it is.
        output: The shape of its output, with the batch.
        parameters: The number of its parameters.
        flops: Floating-point operations of a forward pass over the whole batch, as XLA counts them: a
            multiplication and an addition are two.
    """

    path: str
    kind: str
    output: tuple[int, ...]
    parameters: int
    flops: float


@dataclass(frozen=True)
class Summary:
    """The rows of a model, in the order in which they run, and its totals."""

    rows: tuple[Row, ...]
    parameters: int
    flops: float

    def __str__(self) -> str:
        head = ("path", "kind", "output", "parameters", "MFLOP")
        body = [
            (r.path, r.kind, " × ".join(map(str, r.output)), f"{r.parameters:,}", f"{r.flops / 1e6:,.3f}")
            for r in self.rows
        ]
        last = ("total", "", "", f"{self.parameters:,}", f"{self.flops / 1e6:,.3f}")
        widths = [max(map(len, column)) for column in zip(head, *body, last, strict=True)]
        lines = [_line(row, widths) for row in (head, *body, last)]
        rule = "─" * len(lines[0])
        return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1]])


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
        path    kind   output  parameters  MFLOP
        ────────────────────────────────────────
        dense1  dense  1 × 8           40  0.000
        relu1   relu   1 × 8            0  0.000
        dense2  dense  1 × 2           18  0.000
        ────────────────────────────────────────
        total                          58  0.000
    """
    rows: list[Row] = []

    def watch(path: str, layer: Layer) -> Layer:
        return layer if layer.children else _watched(path, layer, rows)

    x = spec(x)
    params, state = jax.eval_shape(model.init, jax.random.key(0), x)
    jax.eval_shape(map_layers(watch, model).apply, params, state, x)
    total = count(params)
    return Summary(tuple(rows), total, sum(row.flops for row in rows))


def _watched(path: str, layer: Layer, rows: list[Row]) -> Layer:
    """The same leaf layer, which adds a row whenever it is applied."""

    def apply(params: Params, state: State, x: Any, *, key: Any = None, train: bool = False) -> Any:
        y, state_after = layer.apply(params, state, x, key=key, train=train)
        shapes = spec((params, state, x))
        lowered = jax.jit(lambda p, s, v: layer.apply(p, s, v)[0]).lower(*shapes)
        cost = lowered.cost_analysis() or {}
        rows.append(Row(path, layer.kind, tuple(y.shape), count(params), float(cost.get("flops", 0.0))))
        return y, state_after

    return replace(layer, apply=apply)


def _line(row: tuple[str, ...], widths: list[int]) -> str:
    cells = [f"{c:<{w}}" if i < 3 else f"{c:>{w}}" for i, (c, w) in enumerate(zip(row, widths, strict=True))]
    return "  ".join(cells).rstrip()
