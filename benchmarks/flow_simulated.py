"""The parts of `flow.py` on simulated studies: distance to the truth, a null test, coverage, every flow.

The seeds below were never used in tuning.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import patsy
from scipy import stats

import pycombat_gam as pcg
from pycombat_gam.datasets import MultisiteStudy, simulate_multisite
from pycombat_gam.datasets.simulate import site_pattern

FORMULA = "~ s(age) + sex + dx + icv"
SEEDS = range(201, 206)
"""Of the simulated studies in `truth`; `families` uses the first three."""
COVERAGE_SEEDS = range(401, 407)
"""Of the studies in `coverage`, fixed before the first look at them."""
NULL_SEEDS = range(301, 321)
"""Of the studies, and of their noise, in `null`."""
PACKAGED = (42, 95, 18, 61, 78, 34, 50, 25)
"""Rows a site of the packaged study, whose simulator `null` draws from."""
VARIANTS = ("residual", "whole", "residual-shape", "whole-shape")
FLOWS: dict[str, dict[str, object]] = {
    "structured": {},
    "affine": {},
    "spline": {"spline": "quadratic"},
    "spline, linear": {"spline": "linear"},
    "autoregressive": {},
    "coupling": {},
}
MEMBERS, RESAMPLES = 25, 200
TAIL = 0.15
"""Standard deviation of the number whose absolute value is a site's h in `heavy_tailed`."""


@dataclass(frozen=True)
class World:
    """A study and what each site would have measured of every row (traveling subjects)."""

    table: pd.DataFrame
    features: list[str]
    measured: dict[str, np.ndarray]
    spread: np.ndarray

    @property
    def average(self) -> np.ndarray:
        """The mean of `measured` over sites, weighted by their shares of the rows."""
        shares = self.table["site"].value_counts(normalize=True)
        return sum(shares[site] * values for site, values in self.measured.items())

    def values(self, harmonized: pd.DataFrame) -> np.ndarray:
        return harmonized[self.features].to_numpy()

    def error(self, harmonize: Callable[[str | None], pd.DataFrame]) -> tuple[float, float]:
        """Root mean squares in sd: to each site over rows of the others, averaged over sites; and to their mean."""
        site = self.table["site"].to_numpy()
        each = []
        for to, truth in self.measured.items():
            gap = (self.values(harmonize(to)) - truth) / self.spread
            each.append(np.sqrt((gap[site != to] ** 2).mean()))
        gap = (self.values(harmonize(None)) - self.average) / self.spread
        return float(np.mean(each)), float(np.sqrt((gap**2).mean()))


def world_of(study: MultisiteStudy) -> World:
    measured = {str(site): study.measured_at(str(site)).to_numpy() for site in study.location.index}
    return World(study.table, list(study.features), measured, study.spread.to_numpy())


def heavy_tailed(study: MultisiteStudy, seed: int) -> World:
    """ComBat's model, but each site turns a residual z into z·exp(h z²/2) (Tukey's h), standardized: no flow's own."""
    pattern = site_pattern(len(study.location), len(study.features), np.random.default_rng(seed))
    h = np.minimum(TAIL * np.abs(pattern), 0.4)
    sd = (1.0 - 2.0 * h) ** -0.75
    spread, expected = study.spread.to_numpy(), study.signal.to_numpy() @ study.effects.to_numpy()
    z = (study.truth.to_numpy() - expected) / spread
    measured = {}
    for j, site in enumerate(study.location.index):
        bent = z * np.exp(0.5 * h[j] * z**2) / sd[j]
        scale = study.scale.loc[site].to_numpy() * spread
        measured[str(site)] = study.location.loc[site].to_numpy() + scale * bent + expected
    table, names = study.table.copy(), list(study.features)
    Y, own = np.empty_like(z), table["site"].to_numpy()
    for site, values in measured.items():
        Y[own == site] = values[own == site]
    table[names] = Y
    return World(table, names, measured, spread)


def make_world(kind: str, seed: int, rows: int = 250) -> World:
    """Four sites of so many rows, 20 features."""
    options = {"skew": {"skew": 0.8}, "distortion": {"distortion": 1.2}}.get(kind, {})
    study = simulate_multisite(sites=4, subjects=[rows] * 4, features=20, seed=seed, **options)
    return heavy_tailed(study, seed) if kind == "tail" else world_of(study)


def fit_flow(world: World, formula: str = FORMULA, table: pd.DataFrame | None = None, **kw: object) -> pcg.FlowSCM:
    flow = pcg.FlowSCM(formula, batch="site", id="subject", features=world.features, device="cpu", **kw)
    return flow.fit(world.table if table is None else table, progress=False)


def variant_of(flow: pcg.FlowSCM) -> str:
    """Which variant a structured flow chose."""
    return str(flow.summary().variant)


def combat(world: World, to: str | None, formula: str = FORMULA, table: pd.DataFrame | None = None) -> pcg.ComBat:
    model = pcg.ComBat(formula, batch="site", id="subject", features=world.features, ref_batch=to)
    return model.fit(world.table if table is None else table)


def combat_error(world: World) -> tuple[float, float]:
    return world.error(lambda to: combat(world, to).transform(world.table))


def flow_error(world: World, flow: pcg.FlowSCM) -> tuple[float, float]:
    return world.error(lambda to: flow.transform(world.table, to=to))


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print markdown, each row as soon as it is known."""
    print(f"\n**{title}**\n\n| {' | '.join(columns)} |\n|{'---|' * len(columns)}", flush=True)
    for row in rows:
        print("| " + " | ".join(f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in row) + " |")
        sys.stdout.flush()


def mean_and_error(values: Sequence[float] | np.ndarray) -> tuple[float, float]:
    return float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(len(values)))


def truth() -> None:
    """Root mean square distance to what the site would have measured, as a multiple of ComBat-GAM's."""
    asked = {"exact": "≤ 1.05 (whole ≤ 1.25)", "skew": "≤ 0.6", "tail": "–", "distortion": "≤ 0.8"}

    def rows() -> Iterable[Sequence[object]]:
        for kind in asked:
            found: dict[str, list[tuple[float, float]]] = {name: [] for name in ("combat", "auto", *VARIANTS)}
            chosen = []
            for seed in SEEDS:
                world = make_world(kind, seed)
                found["combat"].append(combat_error(world))
                for variant in ("auto", *VARIANTS):
                    flow = fit_flow(world, flow_options={"variant": variant})
                    found[variant].append(flow_error(world, flow))
                    if variant == "auto":
                        chosen.append(variant_of(flow))
            base = np.array(found["combat"])
            yield (
                kind,
                "ComBat-GAM, sd",
                *map(float, base[:, 0]),
                float(base[:, 0].mean()),
                float(base[:, 1].mean()),
                "",
            )
            for variant in ("auto", *VARIANTS):
                ratio = np.array(found[variant]) / base
                name = f"auto ({', '.join(sorted(set(chosen)))})" if variant == "auto" else variant
                goal = asked[kind] if variant == "auto" else ""
                yield (kind, name, *map(float, ratio[:, 0]), float(ratio[:, 0].mean()), float(ratio[:, 1].mean()), goal)

    columns = ["world", "flow / ComBat-GAM", *(f"seed {seed}" for seed in SEEDS), "mean", "to=None, mean", "asked"]
    print_table(f"truth: 4 × 250 rows, 20 features, `{FORMULA}`", columns, rows())


def share_significant(Y: np.ndarray, columns: Sequence[np.ndarray], tested: np.ndarray) -> float:
    """The share of features in whose least squares on `columns` and `tested` the latter has p < .05 (t test)."""
    others, _ = np.linalg.qr(np.column_stack(columns))
    x = tested - others @ (others.T @ tested)
    residual = Y - others @ (others.T @ Y)
    slope = x @ residual / (x @ x)
    freedom = len(Y) - others.shape[1] - 1
    variance = ((residual - np.outer(x, slope)) ** 2).sum(axis=0) / freedom / (x @ x)
    return float((2 * stats.t.sf(np.abs(slope) / np.sqrt(variance), freedom) < 0.05).mean())


def noise_tests(seed: int) -> Iterable[tuple[str, str, str, float, float]]:
    """Kind of noise, whether the formula has it, method, shares before and after."""
    world = world_of(simulate_multisite(sites=8, subjects=PACKAGED, features=40, seed=seed))
    rng = np.random.default_rng(seed)
    n = len(world.table)
    sites = pd.get_dummies(world.table["site"], drop_first=True, dtype=float).to_numpy()
    base = np.asarray(patsy.dmatrix("bs(age, df=6) + sex + dx + icv", world.table))

    def harmonized(table: pd.DataFrame, formula: str) -> dict[str, np.ndarray]:
        both = {"flow": fit_flow(world, formula, table), "ComBat-GAM": combat(world, None, formula, table)}
        return {name: world.values(model.transform(table)) for name, model in both.items()}

    without = harmonized(world.table, FORMULA)
    for kind, noise in (("numeric", rng.standard_normal(n)), ("binary", rng.permutation(n) % 2 * 1.0)):
        before = share_significant(world.values(world.table), [base, sites], noise)
        knowing = harmonized(world.table.assign(noise=noise), f"{FORMULA} + noise")
        for known, results in (("no", without), ("yes", knowing)):
            for method, Y in results.items():
                yield kind, known, method, before, share_significant(Y, [base], noise)


def null() -> None:
    """A covariate of pure noise: how many features are associated with it, before and after."""
    found: dict[tuple[str, ...], list[tuple[float, float]]] = {}
    for seed in NULL_SEEDS:
        for *what, before, after in noise_tests(seed):
            found.setdefault(tuple(map(str, what)), []).append((100 * float(before), 100 * float(after)))

    def rows() -> Iterable[Sequence[object]]:
        for what, pairs in found.items():
            before, after = np.array(pairs).T
            yield (*what, *("{:.2f} ± {:.2f}".format(*mean_and_error(x)) for x in (before, after, after - before)))

    columns = ["noise", "in the formula", "method", "before, %", "after, %", "after − before, %"]
    print_table(f"null: features with p < .05, mean ± standard error over {len(NULL_SEEDS)} studies", columns, rows())


def coverage() -> None:
    """Do intervals of a bootstrap ensemble hold what the site would have measured?"""

    def rows() -> Iterable[Sequence[object]]:
        for n in (250, 100):
            for kind in ("exact", "skew", "tail", "distortion"):
                each = np.array([covered(make_world(kind, seed, n)) for seed in COVERAGE_SEEDS])
                ideal = float(np.mean([ideally_covered(seed, n) for seed in COVERAGE_SEEDS]))
                yield (kind, f"4 × {n}", *each.mean(axis=0).tolist(), _ends(each[:, 0]), ideal)

    columns = [
        "world", "rows", "95 % hold", "80 % hold", "half-width of 95 %, sd", "RMSE, sd", "95 %, by seed", "ideal"
    ]  # fmt: skip
    print_table(f"coverage: {MEMBERS} members, to each site, {len(COVERAGE_SEEDS)} seeds", columns, rows())


def ideally_covered(seed: int, rows: int) -> float:
    """Of all differences between two sites' locations, the share that an ideal 95 % interval holds in this study.

    The ideal is weighted least squares with the true curve of age and the true variances, where ComBat's model holds
    (the other worlds bend the same noise). Over many studies it holds 95 %; what it misses here is the luck of a study.
    """
    study = simulate_multisite(sites=4, subjects=[rows] * 4, features=20, seed=seed)
    table, labels = study.table, list(study.location.index)
    site = table["site"].map({label: j for j, label in enumerate(labels)}).to_numpy()
    X = np.column_stack([np.eye(4)[site], study.signal.to_numpy()[:, 1:]])
    first, second = np.triu_indices(4, 1)
    pairs = np.eye(4, X.shape[1])[first] - np.eye(4, X.shape[1])[second]
    holds = []
    for feature in study.features:
        weight = (study.scale.loc[labels, feature].to_numpy() * study.spread[feature])[site] ** -2.0
        covariance = np.linalg.inv(X.T @ (weight[:, None] * X))
        estimate = covariance @ (X.T @ (weight * table[feature].to_numpy()))
        location = study.location.loc[labels, feature].to_numpy()
        error = pairs @ estimate - (location[first] - location[second])
        holds.append(np.abs(error) < stats.norm.ppf(0.975) * np.sqrt(np.diag(pairs @ covariance @ pairs.T)))
    return float(np.mean(holds))


def _ends(values: np.ndarray) -> str:
    return f"{values.min():.3f} to {values.max():.3f}"


def covered(world: World, **kw: object) -> tuple[float, float, float, float]:
    """Coverage of 95 % and 80 % intervals, mean half-width of the former, root mean square error of the values."""
    flow = fit_flow(world, n_members=MEMBERS, **kw)
    site, spread = world.table["site"].to_numpy(), world.spread
    results = []
    for to, truth in world.measured.items():
        other = site != to
        wide, narrow = (flow.interval(world.table, to=to, level=level) for level in (0.95, 0.8))
        holds = [((band.lower <= truth) & (truth <= band.upper)).to_numpy()[other].mean() for band in (wide, narrow)]
        half = ((wide.upper - wide.lower) / 2 / spread).to_numpy()[other].mean()
        results.append((*holds, half, (((wide.value - truth) / spread).to_numpy()[other] ** 2).mean()))
    hold, less, width, square = np.mean(results, axis=0).tolist()
    return hold, less, width, float(np.sqrt(square))


def families() -> None:
    """Every flow where ComBat's model holds; and the affine flow beside ComBat's own sampling error."""
    seeds = SEEDS[:3]
    worlds = [make_world("exact", seed) for seed in seeds]
    base = np.array([combat_error(world) for world in worlds])

    def rows() -> Iterable[Sequence[object]]:
        for name, options in FLOWS.items():
            ratios, scores, seconds, epochs = [], [], [], []
            for world, own in zip(worlds, base, strict=True):
                began = time.process_time()
                flow = fit_flow(world, flow=name.split(",")[0], flow_options=options)
                seconds.append(time.process_time() - began)
                ratios.append(np.array(flow_error(world, flow)) / own)
                history = flow.history_[flow.history_["stage"] == name.split(",")[0]].set_index("epoch")["held_out"]
                epochs.append("–" if history.empty else f"{history.idxmax()} of {history.index.max()}")
                rows_of = world.table.groupby("site").sample(frac=0.2, random_state=0).index
                partial = fit_flow(
                    world, FORMULA, world.table.drop(index=rows_of), flow=flow.flow, flow_options=options
                )
                scores.append(partial.log_prob(world.table.loc[rows_of], by="node")["features"].mean())
            mean = np.mean(ratios, axis=0).tolist()
            yield (name, *mean, f"{np.mean(scores):.2f}", ", ".join(epochs), f"{np.mean(seconds):.1f}")

    columns = ["flow", "to a site / ComBat-GAM", "to=None / ComBat-GAM", "held-out log p a row", "best epoch", "CPU s"]
    print_table(f"families: exact world, 4 × 250 rows, seeds {seeds.start} to {seeds.stop - 1}", columns, rows())
    columns = ["seed", "affine − ComBat, sd (root mean square)", "ComBat's sampling error, sd", "ratio"]
    print_table("families: the affine flow recovers ComBat's answer", columns, map(recovery, seeds, worlds))


def recovery(seed: int, world: World) -> Sequence[object]:
    """How far the affine flow is from ComBat, and ComBat from itself fitted to rows drawn anew within sites."""
    own = world.values(combat(world, None).transform(world.table))
    flow = world.values(fit_flow(world, flow="affine").transform(world.table))
    rng = np.random.default_rng(seed)
    squares = []
    for _ in range(RESAMPLES):
        drawn = world.table.groupby("site").sample(frac=1.0, replace=True, random_state=rng)
        again = combat(world, None, FORMULA, drawn.assign(subject=np.arange(len(drawn))).reset_index(drop=True))
        squares.append((((world.values(again.transform(world.table)) - own) / world.spread) ** 2).mean())
    gap, error = np.sqrt((((flow - own) / world.spread) ** 2).mean()), np.sqrt(np.mean(squares))
    return seed, f"{gap:.4f}", f"{error:.4f}", f"{gap / error:.2f}"
