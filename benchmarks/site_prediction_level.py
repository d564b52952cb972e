"""How often sites are predicted "better than chance" where there are none to find: 200 tables a design, minutes each.

Features depend on age and sex, sites differ in both, and no site has an effect. A test of level 5 % rejects in 5 %.
Run: ``python benchmarks/site_prediction_level.py [tables]``.
"""

from __future__ import annotations

import sys
import warnings

import numpy as np
import pandas as pd

import pycombat_gam as pcg

DESIGNS = {
    "three sites, ages apart": ([40, 40, 40], [30, 45, 60], "~ age + sex", 10),
    "three sites, uneven": ([15, 30, 80], [30, 50, 55], "~ age + sex", 10),
    "eight sites, smooth": ([20] * 8, np.linspace(25, 65, 8), "~ s(age) + sex", 10),
    "two sites, ages apart": ([50, 50], [35, 55], "~ age", 3),
    "three sites, ages alike": ([40, 40, 40], [45, 45, 45], "~ age + sex", 10),
}


def null_table(sizes: list[int], ages: list[float], features: int, seed: int) -> pd.DataFrame:
    """Draw a table without site effects; features share three factors."""
    rng = np.random.default_rng(seed)
    site = np.repeat(np.arange(len(sizes)), sizes)
    age = rng.normal(np.asarray(ages)[site], 8)
    n = len(site)
    shared = rng.normal(size=(n, 3)) @ rng.normal(size=(3, features)) * 0.5
    values = 0.03 * age[:, None] + shared + rng.normal(size=(n, features))
    table = pd.DataFrame(values, columns=[f"f{k}" for k in range(features)])
    male = rng.random(n) < np.linspace(0.3, 0.7, len(sizes))[site]
    return table.assign(site=site, age=age, sex=np.where(male, "M", "F"))


def main(tables: int) -> None:
    """Print the share of tables that are rejected, by design and classifier."""
    warnings.simplefilter("ignore", pcg.PcgWarning)
    for name, (sizes, ages, formula, features) in DESIGNS.items():
        parts = []
        for seed in range(tables):
            table = null_table(sizes, list(ages), features, seed)
            found = pcg.diagnose(table, formula=formula, batch="site", features="^f", permutations=19, seed=seed)
            parts.append(found.of("site prediction").set_index("measure")["p"])
        share = (pd.concat(parts, axis=1) < 0.05).mean(axis=1)
        print(f"{name}, {formula}: {', '.join(f'{kind} {100 * part:.1f} %' for kind, part in share.items())}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
