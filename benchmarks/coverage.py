"""Do intervals of harmonized values cover, how near are posterior means, and what do draws cost?

    python benchmarks/coverage.py                       # every part, about half an hour
    python benchmarks/coverage.py known new speed memory

Six sites of 3 to 250 rows, ages and cases uneven; locations N(γ̄_b, .3²) and variances with a coefficient of variation
of .3 over features. The truth is what would have been measured if all sites had the common level and scale. New sites
of 3 to 50 rows beside eight that are fitted. One thread. Seeds were fixed before looking.
"""

from __future__ import annotations

import os

os.environ.update({"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"})

import sys
import time
import tracemalloc
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from flow_simulated import print_table

import pycombat_gam as pcg
from pycombat_gam.combat.drawn import PlacedRows, tables
from pycombat_gam.infer.gibbs import Plan

SIZES = (3, 5, 10, 20, 50, 250)
OLD, NEW = (20, 25, 30, 35, 40, 50, 60, 80), (3, 5, 10, 20, 50)
TABLES = {5: 100, 20: 40, 300: 6}
FEWER = {5: 40, 20: 30, 300: 5}
"""Tables by number of features, and the same for new sites, each table with one of every size."""
FORMULA = "~ age + sex + dx"
SEED = 11


@dataclass(frozen=True, eq=False)
class Made:
    """A table, the site of each row, and the values that sites did not touch (n, V)."""

    table: pd.DataFrame
    features: list[str]
    site: np.ndarray
    truth: np.ndarray


def made(sizes: tuple[int, ...], V: int, seed: tuple[int, ...], known: int) -> Made:
    """Draw a table; the first `known` sites define the common level and scale."""
    rng = np.random.default_rng(seed)
    B, site = len(sizes), np.repeat(np.arange(len(sizes)), sizes)
    n = site.size
    age = rng.normal(45 + 8 * rng.normal(size=B)[site], 10)
    dx = np.zeros(n)
    for b, share in enumerate(np.linspace(0.2, 0.8, B)[rng.permutation(B)]):
        rows = np.flatnonzero(site == b)
        dx[rng.permutation(rows)[: int(np.clip(round(share * rows.size), 1, rows.size - 1))]] = 1
    X = np.column_stack([(age - age.mean()) / age.std(), rng.random(n) < 0.5, dx]).astype(float)
    shape = 2 + 1 / 0.3**2
    level = 0.5 * rng.normal(size=(B, 1)) + 0.3 * rng.normal(size=(B, V))
    variance = (shape - 1) / rng.gamma(shape, size=(B, V))
    explained, noise = X @ (0.3 * rng.normal(size=(3, V))), rng.normal(size=(n, V))
    w = np.where(np.arange(B) < known, sizes, 0) / sum(sizes[:known])
    features = [f"f{k}" for k in range(V)]
    table = pd.DataFrame(explained + level[site] + np.sqrt(variance)[site] * noise, columns=features)
    about = pd.DataFrame({"site": site, "age": X[:, 0], "sex": X[:, 1], "dx": X[:, 2]})
    truth = explained + w @ level + np.sqrt(w @ variance) * noise
    return Made(pd.concat([about, table], axis=1), features, site, truth)


def measured(data: Made, known: int, seed: int) -> dict[str, np.ndarray]:
    """Coverage, and mean squared errors of both priors, by site."""
    fitted = data.table[data.site < known]
    errors = {}
    for prior in ("parametric", "bayes"):
        model = pcg.ComBat(FORMULA, "site", features=data.features, prior=prior, seed=seed, on_unseen="estimate").fit(
            fitted
        )
        harmonized = model.transform(data.table)[data.features].to_numpy()
        errors[prior] = ((harmonized - data.truth) ** 2).mean(axis=1)
    intervals = model.interval(data.table, seed=seed)
    truth = data.truth.ravel()
    inside = ((intervals["lower"] <= truth) & (truth <= intervals["upper"])).to_numpy().reshape(data.truth.shape)
    by_row = {"coverage": inside.mean(axis=1), **errors}
    sites = np.unique(data.site)
    return {name: np.array([values[data.site == b].mean() for b in sites]) for name, values in by_row.items()}


def coverage(sizes: tuple[int, ...], known: int, shown: tuple[int, ...], counts: dict[int, int]) -> Iterator[list[str]]:
    """Yield coverage and root mean squared errors for every number of features."""
    for V, count in counts.items():
        results = [measured(made(sizes, V, (SEED, V, t), known), known, t) for t in range(count)]
        last = {
            name: np.array([r[name][-len(shown) :] for r in results]) for name in ("coverage", "parametric", "bayes")
        }
        mean, se = last["coverage"].mean(axis=0), last["coverage"].std(axis=0, ddof=1) / np.sqrt(count)
        yield [f"V = {V}, coverage", *(f"{m:.3f} ± {s:.3f}" for m, s in zip(mean, se, strict=True))]
        for prior in ("parametric", "bayes"):
            yield [f"V = {V}, error, {prior}", *(f"{x:.3f}" for x in np.sqrt(last[prior].mean(axis=0)))]


def known() -> None:
    """Print what intervals and posterior means do at sites of the fit."""
    columns = ["", *(f"{n} rows" for n in SIZES)]
    print_table("Sites of the fit", columns, coverage(SIZES, len(SIZES), SIZES, TABLES))


def new() -> None:
    """Print the same at new sites."""
    print_table("New sites", ["", *(f"{n} rows" for n in NEW)], coverage((*OLD, *NEW), len(OLD), NEW, FEWER))


def large(V: int, seed: int) -> PlacedRows:
    """Twenty sites of 50 rows, five columns, V features: three rows of a fit to it."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(1000, 5))
    site = np.repeat(np.arange(20), 50)
    Y = rng.normal(size=(1000, V)).astype(np.float32)
    Y += 0.3 * rng.normal(size=(20, V)).astype(np.float32)[site]
    about = pd.DataFrame({**{f"x{j}": X[:, j] for j in range(5)}, "site": site})
    model = pcg.ComBat("~ x0 + x1 + x2 + x3 + x4", "site").fit(Y, about)
    return PlacedRows.of(model.fitted, Y[:3], about.iloc[:3], site[:3], ())


def speed() -> None:
    """Print the processor time of 250 sweeps."""

    def rows() -> Iterator[list[str]]:
        for V in (1_000, 10_000, 100_000):
            placed = large(V, SEED)
            start = time.process_time()
            next(tables(placed, Plan(20, thin=5), 0))
            yield [f"{V:,}", f"{time.process_time() - start:.1f} s"]

    print_table("250 sweeps of 20 sites and 5 columns, 20 draws kept", ["features", "processor time"], rows())


def memory() -> None:
    """Print the peak beside the fit, and how much of it is draws; sweeps don't change it."""
    placed = large(100_000, SEED)
    kept = 20 * (5 + 20 + 20 + 1) * 100_000 * 8
    tracemalloc.start()
    next(tables(placed, Plan(20, burn=0), 0))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    row = ["100,000", f"{kept / 2**20:.0f} MiB", f"{peak / 2**20:.0f} MiB", f"{peak / kept:.2f}"]
    print_table("Memory beside the fit", ["features", "parameters kept", "peak", "ratio"], [row])


PARTS = {"known": known, "new": new, "speed": speed, "memory": memory}

if __name__ == "__main__":
    warnings.simplefilter("ignore", pcg.PcgWarning)
    for name in sys.argv[1:] or PARTS:
        PARTS[name]()
