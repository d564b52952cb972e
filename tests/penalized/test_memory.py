"""A random effect of many groups needs no array of its coefficients squared for each column."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pandas as pd

from pycombat_gam import ComBat


def test_a_random_intercept_of_many_subjects_fits_a_small_machine() -> None:
    """600 subjects: (600 columns × 600² products) would be 1.7 GB; the fit itself needs a few 600 × 600 matrices."""
    rng = np.random.default_rng(0)
    who = np.repeat(np.arange(600), 2)
    table = pd.DataFrame(
        {
            "site": np.array(list("abcd"))[who % 4],
            "subject": [f"s{i}" for i in who],
            "age": rng.uniform(20, 80, who.size),
        }
    )
    values = rng.standard_normal((who.size, 4)) + rng.standard_normal((600, 1))[who]
    table[["f1", "f2", "f3", "f4"]] = values
    harmonizer = ComBat("~ age + (1 | subject)", batch="site")
    tracemalloc.start()
    try:
        harmonizer.fit(table)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 200e6  # bytes above what was there before: 70 MB today
