"""Steps: a number of updates, ``"5 epochs"`` or ``"10%"`` of the run."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from fnn.choices import ConfigError, Path, shown

STEPS = frozenset(
    {
        "accumulation_size",
        "cooldown",
        "decay_offset",
        "decay_steps",
        "k",
        "patience",
        "print_win_rate_every_n_steps",
        "step_offset",
        "sync_period",
        "transition_begin",
        "transition_steps",
        "update_interval",
        "update_proj_gap",
        "warmup_steps",
    }
)
"""The arguments of optax that count updates. (``ns_steps``, ``max_linesearch_steps`` count iterations.)"""

_SHARE = re.compile(r"(\d+(?:\.\d+)?) *(%|epochs?)")


@dataclass(frozen=True)
class Clock:
    """How many updates a run and an epoch have: whole numbers where nothing is accumulated."""

    run: float
    epoch: float

    def every(self, updates: int) -> Clock:
        """The clock of what happens once in so many updates.

        Example:
            >>> Clock(run=100, epoch=10).every(2)
            Clock(run=50.0, epoch=5.0)
        """
        return Clock(self.run / updates, self.epoch / updates)

    def count(self, value: Any, path: Path) -> int:
        """A number of updates from its form in a config; a share of the run or an epoch is at least 1.

        Raises:
            ConfigError: It is none of the three forms, or negative.

        Example:
            >>> clock = Clock(run=1000, epoch=50)
            >>> [clock.count(value, ()) for value in (7, "2.5 epochs", "10%", "0.01%")]
            [7, 125, 100, 1]
        """
        if isinstance(value, str) and (share := _SHARE.fullmatch(value.strip())):
            number, unit = float(share[1]), share[2]
            return max(1, round(number / 100 * self.run if unit == "%" else number * self.epoch))
        whole = isinstance(value, int) and not isinstance(value, bool)
        whole = whole or (isinstance(value, float) and value.is_integer())  # YAML reads 1e4 as a float
        if whole and value >= 0:
            return int(value)
        forms = "expected a number of steps, '5 epochs' or '10%' of the run"
        raise ConfigError(path, f"{forms}, got {shown(value)}")
