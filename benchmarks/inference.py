"""Tests after harmonization: do they keep their level, what can they find, what do they cost?

    python benchmarks/inference.py                      # every part, about half an hour
    python benchmarks/inference.py levels power         # some: levels few terms random power speed
    python benchmarks/inference.py levels --data FOLDER # where abide_dk.csv.gz lies; without it that column is left out

One thread. Nothing was tuned on these seeds.
"""

from __future__ import annotations

import os

os.environ.update({"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"})

import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from flow_simulated import print_table
from inference_designs import DESIGNS, HOMOGENEOUS, SMALL_NOISY, SMALL_QUIET, Design, abide, many_sites, site_effects
from scipy import stats

import pycombat_gam as pcg
from pycombat_gam.batch.levels import BatchLevels
from pycombat_gam.batch.location_scale import LocationScale, LocationScaleFit
from pycombat_gam.batch.model import Batches
from pycombat_gam.infer.correlation import residual_correlation
from pycombat_gam.infer.engine import Engine
from pycombat_gam.mean.additive import AdditiveMean
from pycombat_gam.mean.fit import MeanFit

INPUTS = Path(__file__).resolve().parents[2] / "shared" / "reference" / "inputs"
V = 2_000
REPLICATES = 50
SEED = 20261127


@dataclass(frozen=True)
class Result:
    """Estimates and p-values of one test in V features."""

    estimate: np.ndarray
    p: np.ndarray


@dataclass(frozen=True)
class Table:
    """One simulated table and its fits."""

    design: Design
    Y: np.ndarray
    mean: MeanFit

    @classmethod
    def draw(
        cls,
        design: Design,
        rng: np.random.Generator,
        scales: str,
        V: int,
        *,
        effect: np.ndarray | float = 0.0,
        shared: float = 0.0,
    ) -> Table:
        """Draw V features; `shared` is the correlation of their noise."""
        n, p = design.X.shape
        location, variance = site_effects(rng, design.sizes, V, scales)
        beta = rng.normal(size=(p, V)) * 0.3
        beta[design.tested] = effect
        noise = np.sqrt(shared) * rng.normal(size=(n, 1)) + np.sqrt(1 - shared) * rng.normal(size=(n, V))
        Y = design.X @ beta + location[design.site] + np.sqrt(variance)[design.site] * noise
        return cls(design, Y, AdditiveMean().fit(design.table, Y, design.site, formula=design.formula))

    def harmonized(self, **options: bool) -> tuple[np.ndarray, LocationScaleFit]:
        labels = tuple(f"s{b}" for b in range(self.design.sizes.size))
        batches = Batches(BatchLevels("site", labels), None, tuple(f"f{k}" for k in range(self.Y.shape[1])))
        fit = LocationScale(**options).fit(self.mean.moments, batches)
        out = np.empty(self.Y.shape)
        fit.adjust(self.Y, self.mean.rows(self.design.table, fit.level), self.design.site, out)
        return out, fit

    def one_step(self, *, by_site: bool = True, weighted: bool = True) -> Result:
        design = self.design
        correlation = residual_correlation(self.mean, self.Y, design.table, design.site)
        tested = Engine(self.mean, correlation, by_site, weighted).term(design.names[design.tested]).tested
        return Result(tested.estimate, tested.p)


def least_squares(Y: np.ndarray, Z: np.ndarray, at: int) -> Result:
    """`lm`, and the t test of one coefficient."""
    inverse = np.linalg.inv(Z.T @ Z)
    beta = inverse @ (Z.T @ Y)
    df = len(Y) - Z.shape[1]
    se = np.sqrt(((Y - Z @ beta) ** 2).sum(axis=0) / df * inverse[at, at])
    return Result(beta[at], 2 * stats.t.sf(np.abs(beta[at] / se), df))


def combat_cor(design: Design) -> np.ndarray:
    """The matrix that ComBat+Cor (Li et al. 2023) multiplies harmonized data and design with."""
    X, B = design.X, np.eye(design.sizes.size)[design.site]
    n = len(X)
    within = B.T @ (np.eye(n) - X @ np.linalg.solve(X.T @ X, X.T))
    R = np.eye(n) - B @ np.linalg.solve(within @ B, within)
    values, vectors = np.linalg.eigh(R @ R.T)
    values = np.where(values < 1e-4, values.sum() / n, values)
    return np.linalg.inv(np.linalg.cholesky((vectors * values) @ vectors.T))


def own_weights(table: Table, fit: LocationScaleFit) -> Result:
    """Generalised least squares with each feature's own weights, 1/δ*."""
    (group,) = table.mean.groups
    statistics, w = group.statistics, 1 / fit.shrunken.delta
    M = statistics.R.transpose(0, 2, 1) @ statistics.R
    C = np.einsum("bqp,bqv->bpv", statistics.R, statistics.Z)
    inverse = np.linalg.inv(np.einsum("bv,bpq->vpq", w, M))
    beta = np.einsum("vpq,bqv,bv->pv", inverse, C, w, optimize=True)
    left = np.einsum("bqp,pv->bqv", statistics.R, beta)
    rss = statistics.residual_ss + ((statistics.Z - left) ** 2).sum(axis=1)
    df, at = len(table.Y) - len(beta) - len(w), table.design.tested
    t = beta[at] / np.sqrt((w * rss).sum(axis=0) / df * inverse[:, at, at])
    return Result(beta[at], 2 * stats.t.sf(np.abs(t), df))


METHODS = (
    *("naive, EB", "naive, eb=False", "site as covariate afterwards", "ComBat+Cor"),
    *("lm + site on raw", "own weights 1/δ*", "one step"),
)


def every_test(table: Table, cor: np.ndarray) -> dict[str, Result]:
    design = table.design
    n, at = len(design.X), design.tested
    plain = np.column_stack([np.ones(n), design.X])
    with_sites = np.column_stack([np.eye(design.sizes.size)[design.site], design.X])
    shrunken, fit = table.harmonized()
    unshrunk, _ = table.harmonized(eb=False)
    return dict(
        zip(
            METHODS,
            (
                least_squares(shrunken, plain, 1 + at),
                least_squares(unshrunk, plain, 1 + at),
                least_squares(shrunken, with_sites, design.sizes.size + at),
                least_squares(cor @ shrunken, cor @ plain, 1 + at),
                table.one_step(by_site=False, weighted=False),
                own_weights(table, fit),
                table.one_step(),
            ),
            strict=True,
        )
    )


CASES = (
    *(("10/10", SMALL_NOISY), ("6/14", HOMOGENEOUS), ("3/17", HOMOGENEOUS), ("2/18", HOMOGENEOUS)),
    *(("uneven", SMALL_NOISY), ("uneven", SMALL_QUIET), ("8 sites", SMALL_NOISY), ("age by site", HOMOGENEOUS)),
    ("sites of 3–14", HOMOGENEOUS),
)


def levels(folder: Path) -> None:
    """How often is a null hypothesis rejected at 5 % and at 0.1 %?"""
    cases = {f"{name}, {scales}": (DESIGNS[name](), scales) for name, scales in CASES}
    if (folder / "abide_dk.csv.gz").exists():
        cases[f"ABIDE, {SMALL_NOISY}"] = (abide(folder), SMALL_NOISY)

    def rows() -> list[Sequence[object]]:
        rejected: dict[str, list[str]] = {name: [] for name in METHODS}
        for design, scales in cases.values():
            rng, cor = np.random.default_rng(SEED), combat_cor(design)
            counts = {name: np.zeros(2) for name in METHODS}
            for _ in range(REPLICATES):
                for name, result in every_test(Table.draw(design, rng, scales, V), cor).items():
                    counts[name] += [(result.p < 0.05).mean(), (result.p < 0.001).mean()]
            for name, total in counts.items():
                five, tenth = 100 * total / REPLICATES
                rejected[name].append(f"{five:.1f} ({tenth:.2f})")
        return [(name, *cells) for name, cells in rejected.items()]

    title = f"levels: % of true nulls rejected at 5 % (at 0.1 %), {V:,} features × {REPLICATES} tables"
    print_table(title, ["test", *cases], rows())


def few(_: Path) -> None:
    """Few or correlated features: the weights' own error counts."""
    designs = ("2/18", "uneven", "sites of 4–10", "sites of 3–14", "8 sites")

    def rows() -> Iterator[Sequence[object]]:
        for name in designs:
            design = DESIGNS[name]()
            for scales in (HOMOGENEOUS, SMALL_NOISY):
                cells = []
                for features, shared, tables in ((1, 0.0, 4000), (5, 0.5, 2500), (50, 0.6, 1500)):
                    rng, total = np.random.default_rng(SEED), 0.0
                    for _ in range(tables):
                        total += (Table.draw(design, rng, scales, features, shared=shared).one_step().p < 0.05).mean()
                    cells.append(100 * total / tables)
                yield (name, scales, *cells)

    columns = ["design", "scales", "1 feature", "5, correlation 0.5", "50, correlation 0.6"]
    print_table("few: % of true nulls rejected at 5 %, one step", columns, rows())


def power(_: Path) -> None:
    """An effect of 2.8 standard errors that `lm` would have without site effects."""

    def rows() -> Iterator[Sequence[object]]:
        for name in ("6/14", "2/18", "8 sites"):
            design = DESIGNS[name]()
            plain = np.column_stack([np.ones(len(design.X)), design.X])
            size = 2.8 * np.sqrt(np.linalg.inv(plain.T @ plain)[1 + design.tested, 1 + design.tested])
            for scales in (HOMOGENEOUS, SMALL_NOISY):
                rng, total = np.random.default_rng(SEED), np.zeros(2)
                for _ in range(REPLICATES):
                    table = Table.draw(design, rng, scales, V, effect=size * rng.choice([-1, 1], V))
                    plain_site = table.one_step(by_site=False, weighted=False)
                    total += [(table.one_step().p < 0.05).mean(), (plain_site.p < 0.05).mean()]
                yield (name, scales, *(100 * total / REPLICATES))

    print_table("power: % found at 5 %", ["design", "scales", "one step", "lm + site on raw"], rows())


def terms(_: Path) -> None:
    """A factor of four levels and a smooth, without any effect."""

    def rows() -> Iterator[Sequence[object]]:
        for name, sizes in (
            ("4 sites of 12–25", (12, 15, 20, 25)),
            ("sites of 4–10", (4, 5, 6, 7, 8, 10)),
            ("8 sites", (15, 20, 25, 30, 40, 50, 60, 80)),
            ("sites of 3–14", (3, 3, 4, 5, 5, 6, 8, 10, 12, 14)),
        ):
            for scales in (HOMOGENEOUS, SMALL_NOISY, SMALL_QUIET):
                rng = np.random.default_rng(SEED)
                design = many_sites(sizes, 11, 8.0)
                group = rng.integers(0, 4, len(design.site)).astype(str)
                table = design.table.assign(group=group, age=design.X[:, 0])
                cells = []
                for formula, term, features, tables in (
                    ("~ age + group", "group", 1000, 40),
                    ("~ s(age, k=8) + x2", "s(age)", 400, 40),
                ):
                    total = np.zeros(2)
                    for _ in range(tables):
                        location, variance = site_effects(rng, design.sizes, features, scales)
                        noise = rng.normal(size=(len(design.site), features))
                        Y = location[design.site] + np.sqrt(variance)[design.site] * noise
                        mean = AdditiveMean().fit(table, Y, design.site, formula=formula)
                        p = Engine(mean, 0.0, True, True).term(term).tested.p
                        total += [(p < 0.05).mean(), (p < 0.001).mean()]
                    cells.append("{:.1f} ({:.2f})".format(*(100 * total / tables)))
                yield (name, scales, *cells)

    columns = ["design", "scales", "factor of 4 levels", "s(age)"]
    print_table("terms: % of true nulls rejected at 5 % (at 0.1 %), one step", columns, rows())


def random(_: Path) -> None:
    """Terms between and within subjects beside a random intercept, without any effect."""

    def rows() -> Iterator[Sequence[object]]:
        for subjects, visits in (((6, 8, 10, 12), 3), ((15, 20, 25, 30, 40), 2)):
            for scales in (HOMOGENEOUS, SMALL_NOISY):
                rng = np.random.default_rng(SEED)
                B, count = len(subjects), sum(subjects)
                of_subject = np.repeat(np.arange(B), subjects)
                person = np.repeat(np.arange(count), visits)
                site = of_subject[person]
                dx = rng.permuted(np.linspace(0.2, 0.8, B)[of_subject] > rng.random(count)).astype(float)
                table = pd.DataFrame(
                    {
                        "dx": dx[person],
                        "time": np.tile(np.arange(visits), count) + 0.3 * rng.normal(size=person.size),
                        "subject": [f"p{i}" for i in person],
                    }
                )
                total = np.zeros(2)
                for _ in range(20):
                    location, variance = site_effects(rng, np.array(subjects), 500, scales)
                    noise = rng.normal(size=(count, 500))[person] + rng.normal(size=(person.size, 500))
                    Y = location[site] + np.sqrt(variance)[site] * noise
                    mean = AdditiveMean().fit(table, Y, site, formula="~ dx + time + (1|subject)")
                    engine = Engine(mean, 0.0, True, True)
                    total += [(engine.term(term).tested.p < 0.05).mean() for term in ("dx", "time")]
                yield (f"{count} × {visits} visits, {B} sites", scales, *(100 * total / 20))

    columns = ["design", "scales", "between subjects", "within subjects"]
    print_table("random: % of true nulls rejected at 5 %, one step", columns, rows())


def speed(_: Path) -> None:
    """All terms of a fitted model, 20 sites and 5 covariates; beside the fit itself."""

    def rows() -> Iterator[Sequence[object]]:
        for features in (1_000, 10_000, 100_000):
            rng = np.random.default_rng(SEED)
            covariates = pd.DataFrame(rng.normal(size=(1000, 5)), columns=list("abcde"))
            covariates["site"] = np.repeat([f"s{b}" for b in range(20)], 50)
            model = pcg.ComBat("~ a + b + c + d + e", batch="site")
            began = time.process_time()
            model.fit(rng.normal(size=(1000, features)), covariates)
            fit = time.process_time() - began
            seconds = []
            for _ in range(3):
                began = time.process_time()
                model.test()
                seconds.append(time.process_time() - began)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
            yield (f"{features:,}", min(seconds), fit, f"{min(seconds) / fit:.2f}", peak)

    columns = ["features", "all 5 terms, CPU s", "the fit, CPU s", "ratio", "peak GB of both"]
    print_table("speed: 1,000 rows, 20 sites, 5 terms", columns, rows())


PARTS: dict[str, Callable[[Path], None]] = {
    "levels": levels,
    "few": few,
    "terms": terms,
    "random": random,
    "power": power,
    "speed": speed,
}


def main(arguments: list[str]) -> None:
    """Run the parts that are named, or all."""
    folder = INPUTS
    if "--data" in arguments:
        at = arguments.index("--data")
        folder = Path(arguments[at + 1])
        del arguments[at : at + 2]
    for name in arguments or PARTS:
        began = time.time()
        PARTS[name](folder)
        print(f"({name}: {time.time() - began:.0f} s)\n", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
