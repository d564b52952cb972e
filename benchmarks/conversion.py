"""How long a matrix takes to R and back: `python benchmarks/conversion.py`.

1000 × 100,000 doubles (0.8 GB), by rows as numpy has them and by columns as R does, beside one plain copy of the same
memory in numpy in the same run. The first crossing of a process is shown apart: it pays for memory never used before.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np

from r_bridge import session

SHAPE = (1000, 100_000)
REPEATS = 5


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one run."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    """Print first and median times."""
    session.call("function() NULL")
    by_rows = np.random.default_rng(0).normal(size=SHAPE)
    for name, matrix in (("rows", by_rows), ("columns", np.asfortranarray(by_rows))):
        assert (session.call("function(x) x", x=matrix[:10]) == matrix[:10]).all()
        first, *later = (
            seconds(lambda matrix=matrix: session.call("function(x) x", x=matrix)) for _ in range(REPEATS + 1)
        )
        copy = statistics.median(seconds(matrix.copy) for _ in range(REPEATS))
        median = statistics.median(later)
        print(f"by {name:<8} first {first:.2f} s, then {median:.2f} s; numpy's copy {copy:.2f} s")


if __name__ == "__main__":
    main()
