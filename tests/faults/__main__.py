"""``python -m tests.faults --kills 200 [--seed N]``: kill a run so often, and say what became of it."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from tests.faults.kills import Killer


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="at least so many  [default: 200]")
    parser.add_argument("--seed", type=int, default=0, help="of the moments  [default: 0]")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="faults-") as home:
        print(Killer(Path(home), given.seed).until(given.kills))


if __name__ == "__main__":
    main()
