"""Where a step fails first: in the order in which it is computed."""

from __future__ import annotations

import math
from collections.abc import Mapping

from fnn.training.findings import Extent, Fault, Findings, Row, Stage


def first_fault(found: Findings) -> Fault | None:
    """The first thing that is not finite: input, layers, loss, gradients, updates, norms.

    In the backward pass a layer is to blame that gets a finite gradient and makes one that is not: by its
    input, or by a parameter. It is the nearest such layer above the first parameter whose gradient is not
    finite: an infinity further up got lost on the way, as in a ``relu``. Of a container and a layer in it, it
    is the layer.
    """
    return _input(found) or _forward(found) or _loss(found) or _backward(found) or _optimizer(found)


def _input(found: Findings) -> Fault | None:
    if found.input.finite:
        return None
    text = "the data are not finite"
    if found.raw.finite:
        text = "the data are finite, and are not any more once augmented, normalised and cast"
    return _fault("input", text, {"input": found.input, "in the data": found.raw})


def _forward(found: Findings) -> Fault | None:
    for row in found.rows:
        evidence = {"output": row.output, "input": row.input, **_own(row, row.parameters, "its ")}
        broken = _broken(row.parameters)
        if broken:
            origin = f"the update of step {found.step - 1}" if found.step > 1 else "its initialiser"
            text = f"{broken} was not finite before this step: {origin} made it so"
            return _fault("parameter", text, {broken: row.parameters[broken]}, row)
        if not row.output.finite:
            text = f"{row.name} is the first layer whose output is not finite"
            return _fault("forward", text, evidence, row)
        if row.broken_state:
            states = ", ".join(row.broken_state)
            text = f"{row.name} is the first layer with something not finite: its new state {states}"
            return _fault("forward", text, evidence, row)
    return None


def _loss(found: Findings) -> Fault | None:
    if math.isfinite(found.scalars["loss"]):
        return None
    evidence = {"losses": found.losses, "model's output": found.output}
    if not found.losses.finite:
        return _fault("loss", "the model's output is finite, and the loss of it is not", evidence)
    if not math.isfinite(found.penalty):
        text = f"the losses are finite, and the penalty (train.l2) is {found.penalty}"
        return _fault("loss", text, evidence)
    return _fault("loss", "the loss of each example is finite, and all together are not", evidence)


def _backward(found: Findings) -> Fault | None:
    if all(not _broken(row.parameter_gradients) for row in found.rows):
        return None
    last = found.rows[-1]
    if last.output_gradient is not None and not last.output_gradient.finite:
        evidence = {"gradient by the model's output": last.output_gradient, "model's output": found.output}
        text = "the loss is finite, and its gradient by the model's output is not"
        return _fault("backward", text, evidence)
    broken = next(i for i in reversed(range(len(found.rows))) if _broken(found.rows[i].parameter_gradients))
    guilty = [row for row in found.rows[broken:] if _guilty(row)]
    innermost = (row for row in guilty if not any(_inside(other, row) for other in guilty))
    return _blame(next(innermost, found.rows[broken]))


def _guilty(row: Row) -> bool:
    arrives, leaves = row.output_gradient, row.input_gradient
    if arrives is not None and not arrives.finite:
        return False
    return bool(_broken(row.parameter_gradients)) or (leaves is not None and not leaves.finite)


def _inside(inner: Row, outer: Row) -> bool:
    below = inner.path.startswith(f"{outer.path}/" if outer.path else "") and inner.path != outer.path
    return below and inner.repetition[: len(outer.repetition)] == outer.repetition


def _blame(row: Row) -> Fault:
    evidence = {"gradient by its output": row.output_gradient, "gradient by its input": row.input_gradient}
    evidence |= _own(row, row.parameter_gradients, "gradient by its ")
    evidence |= {"input": row.input, "output": row.output}
    names = ["its input"] if row.input_gradient is not None and not row.input_gradient.finite else []
    names += [
        name for name, extent in _own(row, row.parameter_gradients, "its ").items() if not extent.finite
    ]
    text = (
        f"from the loss down, {row.name} is the first layer that makes a gradient which is not finite: "
        f"by {' and by '.join(names)}"
    )
    return _fault("backward", text, {n: e for n, e in evidence.items() if e is not None}, row)


def _own(row: Row, extents: Mapping[str, Extent], label: str) -> dict[str, Extent]:
    """What belongs to a layer, by the names that it has in there."""
    return {label + path.removeprefix(row.path).strip("/"): extent for path, extent in extents.items()}


def _optimizer(found: Findings) -> Fault | None:
    gradients = {path: e for row in found.rows for path, e in row.parameter_gradients.items()}
    if not math.isfinite(found.scalars["gradient_norm"]) and not _broken(gradients):
        return _overflow("gradient_norm", gradients)
    ordered = [path for path in gradients if path in found.updates]
    broken = next((path for path in (*ordered, *found.updates) if not found.updates[path].finite), None)
    if broken is not None:
        text = f"the gradient is finite, and {broken} is the first parameter whose update is not"
        evidence = {"update": found.updates[broken]}
        evidence |= {"gradient": gradients[broken]} if broken in gradients else {}
        return Fault("optimizer", broken, (), text, evidence)
    if not math.isfinite(found.scalars["update_norm"]):
        return _overflow("update_norm", found.updates)
    if not math.isfinite(found.scalars["parameter_norm"]):
        return _overflow("parameter_norm", found.new_parameters)
    return None


def _overflow(norm: str, arrays: Mapping[str, Extent]) -> Fault:
    """A sum of squares beyond float32, of finite values."""
    path = max(arrays, key=lambda name: arrays[name].largest)
    text = f"every value is finite, and the {norm.replace('_', ' ')} overflows: the largest is in {path}"
    stage: Stage = "gradient" if norm == "gradient_norm" else "optimizer"
    return Fault(stage, path, (), text, {path: arrays[path]})


def _broken(extents: Mapping[str, Extent]) -> str | None:
    return next((path for path, extent in extents.items() if not extent.finite), None)


def _fault(stage: Stage, text: str, evidence: Mapping[str, Extent], row: Row | None = None) -> Fault:
    path, repetition = ("", ()) if row is None else (row.path, row.repetition)
    return Fault(stage, path, repetition, text, evidence)
