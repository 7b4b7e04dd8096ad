"""A training step taken apart: where in it something is not finite, and how large everything is.

The step is computed as `make_step` does, with the same batch and keys, but for a model that is wrapped by
`fnn.probe`: every layer returns what goes in and comes out, and adds −0.0 there. The derivatives by these
zeros are the gradients that arrive there. All is one compiled program, of which only ranges come out.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from fnn.layer import Key, join
from fnn.probe import INPUT, OUTPUT, Probe
from fnn.training.findings import Extent, Findings, Row
from fnn.training.step import Recipe, TrainState, descend, losses, norms, objective, prepare_batch
from fnn.training.verdict import first_fault
from fnn.trees import paths


class _Span(NamedTuple):
    """An `Extent` on the device; of what is stacked, an array of each figure."""

    shape: Any
    nan: Any
    inf: Any
    low: Any
    high: Any


def inspect(recipe: Recipe, train_state: TrainState, inputs: Any, targets: Any, key: Key) -> Findings:
    """Take the step that follows apart. Nothing is changed, and nothing donated.

    It is another program than the training's own: where XLA fuses operations otherwise, the last bits may
    differ.

    Args:
        recipe: What is trained.
        train_state: Before the step.
        inputs, targets: The raw batch of the step.
        key: The randomness of the steps, as it was given to `make_step`'s.

    Example:
        >>> import jax, jax.numpy as jnp, optax, fnn
        >>> from fnn.training import Recipe, initial_state, inspect
        >>> recipe = Recipe(
        ...     model=fnn.serial(fnn.dense(2), log=fnn.stateless("log", lambda params, x: jnp.log(x))),
        ...     optimizer=optax.with_extra_args_support(optax.sgd(0.1)),
        ...     loss=fnn.losses.squared_error,
        ...     penalty=lambda params: jnp.zeros(()),
        ...     metrics={},
        ...     normalize=lambda x: x,
        ... )
        >>> x, key = jnp.array([[1.0], [-1.0]]), jax.random.key(0)
        >>> findings = inspect(recipe, initial_state(recipe, key, x), x, jnp.ones((2, 2)), key)
        >>> findings.fault.stage, findings.fault.path
        ('forward', 'log')
    """
    probe = Probe(recipe.model)
    measure = jax.jit(functools.partial(_measure, recipe, probe))
    measured = jax.device_get(measure(train_state, jnp.asarray(inputs), jnp.asarray(targets), key))
    rows = tuple(_rows(probe, measured))
    bad = next((row for row in rows if not row.output.finite), None)
    found = Findings(
        step=int(train_state.step) + 1,
        fault=None,
        examples={
            "input": _where(measured["bad"]["input"]),
            "activation": bad.examples if bad is not None else (),
            "loss": _where(measured["bad"]["loss"]),
        },
        rows=rows,
        **{name: _extent(span) for name, span in measured["batch"].items()},
        penalty=float(measured["penalty"]),
        scalars={name: float(value) for name, value in measured["scalars"].items()},
        updates={path: _extent(span) for path, span in measured["updates"].items()},
        new_parameters={path: _extent(span) for path, span in measured["new_parameters"].items()},
    )
    return replace(found, fault=first_fault(found))


def _measure(
    recipe: Recipe, probe: Probe, old: TrainState, inputs: Array, targets: Array, key: Key
) -> dict[str, Any]:
    """The step, and of every array in it the range."""
    batch = prepare_batch(recipe, old.step, inputs, targets, key)
    x = batch.inputs
    trained, frozen = recipe.split(old.params)
    compute = objective(replace(recipe, model=probe.model), frozen)

    def probed(trained: Any, added: Any) -> Any:
        return compute(trained, probe.adding(old.state, added), batch)

    zeros = probe.zeros(old.params, old.state, x, batch.key)
    (loss, (state, outputs)), (gradient, arriving) = jax.value_and_grad(probed, (0, 1), has_aux=True)(
        trained, zeros
    )
    updates, _, params = descend(recipe, old, batch, loss, gradient)
    each = losses(recipe, outputs, batch)
    values = probe.values(state)
    depths = {path: values[join(path, OUTPUT)].ndim - len(s.output.shape) for path, s in probe.sites.items()}

    def spans(tree: Any) -> dict[str, _Span]:
        """Of a tree whose leaves belong to layers, which may be stacked."""
        leaves = paths(tree)
        owners = {name: _owner(name, depths) for name in leaves}
        return {name: _span(leaf, depths.get(owners[name] or "", 0)) for name, leaf in leaves.items()}

    return {
        "scalars": {"loss": loss, **norms(gradient, updates, params)},
        "penalty": recipe.penalty(old.params),
        "bad": {"input": _bad_rows(x), "loss": _bad_rows(each)},
        "batch": {"raw": _span(inputs), "input": _span(x), "output": _span(outputs), "losses": _span(each)},
        "updates": {path: _span(leaf) for path, leaf in paths(updates).items()},
        "new_parameters": {path: _span(leaf) for path, leaf in paths(params).items()},
        "values": spans(values),
        "arriving": spans(arriving),
        "bad_outputs": {
            path: _bad_rows(values[join(path, OUTPUT)], depths[path])
            for path, site in probe.sites.items()
            if site.output.shape[:1] == targets.shape[:1]
        },
        "parameters": spans(old.params),
        "gradients": spans(gradient),
        "state_before": spans(old.state),
        "state_after": spans({name: leaf for name, leaf in paths(state).items() if name not in values}),
    }


def _span(array: Array, depth: int = 0) -> _Span:
    """The range of an array over all axes but the first ones, along which it is stacked."""
    wide = array.astype(jnp.promote_types(array.dtype, jnp.float32))
    finite = jnp.isfinite(wide)
    inf = jnp.asarray(jnp.inf, wide.dtype)
    figures = (
        jnp.isnan(wide).astype(jnp.int32),
        jnp.isinf(wide).astype(jnp.int32),
        jnp.where(finite, wide, inf),
        jnp.where(finite, wide, -inf),
    )
    # one reduction of four compiles in a fraction of the time of four
    reduced = jax.lax.reduce(
        figures, (np.int32(0), np.int32(0), inf, -inf), _merge, tuple(range(depth, array.ndim))
    )
    return _Span(np.asarray(array.shape[depth:], np.int32), *reduced)


def _merge(a: Any, b: Any) -> Any:
    return a[0] + b[0], a[1] + b[1], jnp.minimum(a[2], b[2]), jnp.maximum(a[3], b[3])


def _bad_rows(array: Array, depth: int = 0) -> Array:
    """Which rows of a batch have something in them that is not finite."""
    return ~jnp.isfinite(array).all(tuple(range(depth + 1, array.ndim)))


def _rows(probe: Probe, measured: Mapping[str, Any]) -> list[Row]:
    """A row for each layer and repetition, in the order in which they run."""
    found = []
    for path in probe.sites:
        for index in np.ndindex(measured["values"][join(path, OUTPUT)].nan.shape):
            found.append((_order(probe, path, index), _row(probe, measured, path, index)))
    return [row for _, row in sorted(found, key=lambda pair: pair[0])]


def _order(probe: Probe, path: str, index: tuple[int, ...]) -> tuple[int, ...]:
    """A key to sort by: all layers of one repetition come before the next repetition."""
    places = {site: i for i, site in enumerate(probe.sites)}
    around = sorted((outer for outer in probe.repeats if _below(path, outer)), key=len)
    key: list[int] = []
    for outer, i in zip(around, index, strict=False):
        key += [min(place for site, place in places.items() if _below(site, outer)), i]
    return (*key, places[path], *index[len(around) :])


def _row(probe: Probe, measured: Mapping[str, Any], path: str, index: tuple[int, ...]) -> Row:
    site = probe.sites[path]
    bad = measured["bad_outputs"].get(path)

    def gradient(end: str) -> Extent | None:
        span = measured["arriving"].get(join(path, end))
        return None if span is None else _extent(span, index)

    def own(what: str) -> dict[str, Extent]:
        spans = measured[what].items()
        return {name: _extent(span, index) for name, span in spans if _owner(name, probe.sites) == path}

    before, after = own("state_before"), own("state_after")
    return Row(
        path,
        site.kind,
        site.container,
        index,
        input=_extent(measured["values"][join(path, INPUT)], index),
        output=_extent(measured["values"][join(path, OUTPUT)], index),
        examples=() if bad is None else _where(bad[index]),
        input_gradient=gradient(INPUT),
        output_gradient=gradient(OUTPUT),
        parameters=own("parameters"),
        parameter_gradients=own("gradients"),
        broken_state=tuple(n for n in after if before[n].finite and not after[n].finite),
    )


def _extent(span: _Span, index: tuple[int, ...] = ()) -> Extent:
    low, high = (float(value[index]) for value in (span.low, span.high))
    if low > high:  # no value is finite
        low = high = math.nan
    return Extent(tuple(span.shape.tolist()), int(span.nan[index]), int(span.inf[index]), low, high)


def _where(flags: np.ndarray) -> tuple[int, ...]:
    return tuple(np.flatnonzero(flags).tolist())


def _owner(name: str, sites: Collection[str]) -> str | None:
    """The path of the layer that a parameter or a state belongs to."""
    while name:
        name = name.rpartition("/")[0]
        if name in sites:
            return name
    return None


def _below(path: str, outer: str) -> bool:
    return path != outer and path.startswith(f"{outer}/" if outer else "")
