"""What ``import fnn`` costs beyond ``import jax, optax``: python -m benchmarks.import_time [ROUNDS].

Each import is a process of its own, the two in turn; the median of the differences is printed.
"""

from __future__ import annotations

import statistics
import subprocess
import sys

SCRIPT = """
import time
import jax, optax
begin = time.perf_counter()
{statement}
print(time.perf_counter() - begin)
"""


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    seconds = [_seconds("import fnn") - _seconds("pass") for _ in range(rounds)]
    print(f"import fnn, beyond jax and optax: median {statistics.median(seconds):.3f} s of {rounds} rounds")


def _seconds(statement: str) -> float:
    script = SCRIPT.format(statement=statement)
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    return float(done.stdout)


if __name__ == "__main__":
    main()
