"""SIGINT and SIGTERM: the first is noted, so that a run can end in order; the second ends the process."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType
from typing import Any, Self

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """Whether one of the signals has come.

    Attributes:
        number: Of the signal; 0 before it came.

    Example:
        >>> import signal
        >>> with Stop() as stop:
        ...     signal.raise_signal(signal.SIGTERM)
        ...     print(stop(), stop.number)
        True 15
    """

    def __init__(self) -> None:
        self.number = 0
        self._before: dict[signal.Signals, Any] = {}

    def __call__(self) -> bool:
        """Whether it has."""
        return self.number != 0

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        for other in SIGNALS:
            signal.signal(other, signal.SIG_DFL)
