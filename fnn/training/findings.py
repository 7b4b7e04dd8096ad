"""What is found in a step that was taken apart."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from fnn.table import table

Stage = Literal["input", "parameter", "forward", "loss", "backward", "gradient", "optimizer"]


@dataclass(frozen=True)
class Extent:
    """The values of an array.

    Attributes:
        shape: Of the array; of a layer that is repeated, in one repetition.
        nan, inf: How many values are not finite, and how.
        low, high: The least and the greatest of the finite values; NaN where there is none.

    Example:
        >>> from fnn.training.findings import Extent
        >>> print(Extent((2, 3), 1, 2, -0.5, 4.0))
        2 × 3: 1 nan and 2 inf of 6 values, the others from -0.5 to 4
    """

    shape: tuple[int, ...]
    nan: int
    inf: int
    low: float
    high: float

    @property
    def finite(self) -> bool:
        """Whether every value is."""
        return not (self.nan or self.inf)

    @property
    def largest(self) -> float:
        """The largest magnitude; NaN or infinity where there is one."""
        if not self.finite:
            return math.nan if self.nan else math.inf
        return max(abs(self.low), abs(self.high))

    def __str__(self) -> str:
        shape = " × ".join(map(str, self.shape)) or "scalar"
        span = f"from {self.low:.4g} to {self.high:.4g}"
        if self.finite:
            return f"{shape}, {span}"
        others = "" if math.isnan(self.low) else f", the others {span}"
        kinds = [f"{n} {kind}" for n, kind in ((self.nan, "nan"), (self.inf, "inf")) if n]
        return f"{shape}: {' and '.join(kinds)} of {math.prod(self.shape)} values{others}"


@dataclass(frozen=True)
class Row:
    """A layer, where it was applied; of one that is repeated, one repetition.

    Attributes:
        path, kind: Of the layer.
        container: Whether it is made of layers.
        repetition: Which one, from 0, of each ``repeat`` around it, the outermost first.
        input, output: What went in and came out.
        examples: Rows of the batch in which the output is not finite; empty where it has no such rows.
        input_gradient, output_gradient: Of the loss, by what went in and came out; None where no
            parameter has a part in that.
        parameters, parameter_gradients: Of its own, by path.
        broken_state: Paths of its state that were finite before the step, and are not after it.
    """

    path: str
    kind: str
    container: bool
    repetition: tuple[int, ...]
    input: Extent
    output: Extent
    examples: tuple[int, ...]
    input_gradient: Extent | None
    output_gradient: Extent | None
    parameters: Mapping[str, Extent]
    parameter_gradients: Mapping[str, Extent]
    broken_state: tuple[str, ...]

    @property
    def name(self) -> str:
        """The path, with the repetition."""
        return (self.path or "model") + "".join(f"[{i}]" for i in self.repetition)


@dataclass(frozen=True)
class Fault:
    """The first thing in a step that is not finite.

    Attributes:
        stage: In which part of the step.
        path: Of the layer, or of the parameter where the stage is the optimizer's.
        repetition: Of the layer, where it is repeated.
        text: What is not finite, and what before it is.
        evidence: The arrays that show it, by what they are.
    """

    stage: Stage
    path: str
    repetition: tuple[int, ...]
    text: str
    evidence: Mapping[str, Extent]


@dataclass(frozen=True)
class Findings:
    """A step, taken apart; its text says the fault and shows the table.

    Attributes:
        step: The number of the step, from 1.
        fault: The first thing that is not finite, or None.
        examples: Rows of the batch that are not finite: in the ``input``, in the ``activation`` that is the
            first with something that is not, in the ``loss``.
        rows: The layers, in the order in which they run.
        raw, input: The batch as it is in the data, and as the model sees it.
        output, losses: Of the model, and one an example.
        penalty: What is added to their mean or sum.
        scalars: The loss and the norms of gradient, updates and new parameters.
        updates, new_parameters: By path.
    """

    step: int
    fault: Fault | None
    examples: Mapping[str, tuple[int, ...]]
    rows: tuple[Row, ...]
    raw: Extent
    input: Extent
    output: Extent
    losses: Extent
    penalty: float
    scalars: Mapping[str, float]
    updates: Mapping[str, Extent]
    new_parameters: Mapping[str, Extent]

    def table(self) -> str:
        """The largest magnitudes of every layer, in the order in which they run; an arrow at the fault."""
        head = ("layer", "output", "|output|", "|gradient|", "|parameter|", "|its gradient|")
        body = [self._cells(row) for row in self.rows]
        first = ("input", _shape(self.input), _largest(self.input), "", "", "")
        last = ("loss", _shape(self.losses), _largest(self.losses), "", "", "")
        return table(head, [first, *body], last, left=2)

    def __str__(self) -> str:
        if self.fault is None:
            return f"step {self.step}: everything is finite\n\n{self.table()}"
        lines = [f"step {self.step}, {self.fault.stage}: {self.fault.text}"]
        lines += [f"  {name}: {extent}" for name, extent in self.fault.evidence.items()]
        lines += [f"  {what} not finite in the rows {rows}" for what, rows in self.examples.items() if rows]
        return "\n".join([*lines, "", self.table()])

    def _cells(self, row: Row) -> tuple[str, ...]:
        fault = self.fault
        here = fault is not None and (fault.path, fault.repetition) == (row.path, row.repetition)
        owns = fault is not None and fault.stage == "optimizer" and fault.path in row.parameters
        return (
            f"{'→ ' if here or owns else ''}{row.name}",
            _shape(row.output),
            _largest(row.output),
            _largest(row.output_gradient),
            _largest(*row.parameters.values()),
            _largest(*row.parameter_gradients.values()),
        )


def _shape(extent: Extent) -> str:
    return " × ".join(map(str, extent.shape))


def _largest(*extents: Extent | None) -> str:
    found = [extent.largest for extent in extents if extent is not None]
    if not found:
        return ""
    return f"{math.nan if any(map(math.isnan, found)) else max(found):.3g}"
