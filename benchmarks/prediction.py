"""Do sets hold at sites never seen as often as they say, how wide are they, and what does it cost?

    python benchmarks/prediction.py                     # every part, about three quarters of an hour
    python benchmarks/prediction.py simulated abide permuted bags prevalence cost

`simulated`: 500 studies of K sites with 50 rows each; sites shift features, the outcome's level, slopes and spread;
400 rows of a new site. `abide` needs the reference table beside the checkout. One thread. Seeds were fixed before
looking.
"""

from __future__ import annotations

import os

os.environ.update({"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"})

import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from flow_simulated import print_table as print_rows
from sklearn.dummy import DummyClassifier, DummyRegressor

import pycombat_gam as pcg
from pycombat_gam.predict.answers import answer
from pycombat_gam.predict.calibration import Demand
from pycombat_gam.predict.fitted import FittedPredictor, scores_of
from pycombat_gam.predict.fold import Recipe
from pycombat_gam.predict.learners import learner_of
from pycombat_gam.predict.left_out import leave_out
from pycombat_gam.predict.outcome import learn_outcome, read_question
from pycombat_gam.predict.rows import Layout
from pycombat_gam.predict.scores import ClassScores
from pycombat_gam.predict.site_measures import measured_by_site

ABIDE = Path(__file__).resolve().parents[2] / "shared" / "reference" / "inputs" / "abide_dk.csv.gz"
SEED = 1
STUDIES = 500
LEVEL = 0.9
FEATURES = tuple(f"x{k}" for k in range(6))
BETA = np.array([1.0, 0.6, 0.4, 0, 0, 0])
SETS = {
    "estimated": Demand(LEVEL, None, False),
    "guaranteed": Demand(LEVEL, None, True),
    "guaranteed at 90 % of sites": Demand(LEVEL, 0.9, True),
}


def print_table(title: str, rows: list[dict[str, Any]]) -> None:
    """Print rows as a markdown table."""
    print_rows(title, list(rows[0]), [list(row.values()) for row in rows])


def without_pairs(table: pd.DataFrame, estimator: Any = None) -> FittedPredictor:
    """Fit as `Predictor` does, but for the pairs of sites, which serve validation only."""
    question = read_question("y ~ 1")
    layout = Layout(question, "site", None, None, (), FEATURES)
    outcome, y = learn_outcome(question, table)
    rows, levels = layout.read(table, None)
    recipe = Recipe(None, "site", question.right, FEATURES, learner_of(estimator, outcome.n_classes))
    full, without, evidence = leave_out(recipe, rows, y, y, None, what="sites")
    return FittedPredictor(
        layout, outcome, levels, full, without, evidence, None, {}, pd.DataFrame(), np.bincount(rows.codes), ()
    )


def site(rng: np.random.Generator, n: int, kind: str, name: str) -> pd.DataFrame:
    """Draw n rows of one site: shifts .7, slopes .15, log spread .25."""
    X = rng.normal(size=(n, 6)) + 0.7 * rng.normal(size=6)
    shift, slope, sd = 0.7 * rng.normal(), BETA + 0.15 * rng.normal(size=6), np.exp(0.25 * rng.normal())
    eta = X @ slope + shift
    table = pd.DataFrame(X, columns=list(FEATURES)).assign(site=name)
    if kind == "number":
        return table.assign(y=eta + sd * rng.normal(size=n))
    return table.assign(y=np.where(rng.uniform(size=n) < 1 / (1 + np.exp(-1.2 * eta)), "ill", "well"))


def simulated() -> None:
    """Coverage, share of sites at the level and size, by kind of outcome, K and kind of sets."""
    useless = {"number": DummyRegressor(), "classes": DummyClassifier(strategy="prior")}
    for kind in ("number", "classes"):
        for K in (5, 10, 20, 50):
            rng = np.random.default_rng([SEED, K])
            runs: dict[tuple[str, str], list[tuple[float, float]]] = {}
            for _ in range(STUDIES):
                table = pd.concat([site(rng, 50, kind, f"s{k:02d}") for k in range(K)], ignore_index=True)
                new = site(rng, 400, kind, "new")
                for model, estimator in (("ridge", None), ("useless", useless[kind])):
                    fitted = without_pairs(table, estimator)
                    scores = scores_of(fitted.outcome, fitted.layout, fitted.full.learner, per_class=False)
                    rows, _ = fitted.layout.read(new, fitted.levels)
                    for name, demand in SETS.items():
                        if model == "useless" and name != "guaranteed":
                            continue
                        answers = answer(fitted, demand, scores, rows, None, 0).table
                        runs.setdefault((model, name), []).append(held(answers, new["y"].to_numpy()))
            title = f"{kind}, K = {K}, {STUDIES} studies, level {LEVEL}"
            print_table(title, [summarized(model, name, np.array(v)) for (model, name), v in runs.items()])


def held(answers: pd.DataFrame, y: np.ndarray) -> tuple[float, float]:
    """Coverage and mean size of sets."""
    if "set" in answers:
        return float(np.mean([a in s for a, s in zip(y, answers["set"], strict=True)])), float(answers["size"].mean())
    inside = (y >= answers["lower"]) & (y <= answers["upper"])
    return float(inside.mean()), float((answers["upper"] - answers["lower"]).mean())


def summarized(model: str, name: str, runs: np.ndarray) -> dict[str, Any]:
    """A row: mean coverage over studies, and the median width."""
    return {
        "model": model,
        "sets": name,
        "coverage": runs[:, 0].mean(),
        "se": runs[:, 0].std(ddof=1) / np.sqrt(len(runs)),
        "sites ≥ level": (runs[:, 0] >= LEVEL - 1e-9).mean(),
        "size": np.median(runs[:, 1]),
    }


def abide_table() -> tuple[pd.DataFrame, list[str]]:
    table = pd.read_csv(ABIDE)
    return table, [name for name in table if name.endswith(("_thickness", "_area", "_volume"))]


def abide() -> None:
    """Each of 20 sites unseen in turn, nested: raw, and ComBat-GAM inside."""
    table, features = abide_table()
    for outcome, covariates in (("dx", "~ s(age) + sex"), ("sex", "~ s(age)"), ("age", "~ sex")):
        rows = []
        model = pcg.Predictor(
            f"{outcome} ~ 1", batch="site", id="subject", features=features,
            harmonizer=pcg.ComBat(covariates, batch="site"),
        ).fit(table)  # fmt: skip
        for per_class in (True, False) if outcome != "age" else (True,):
            sets = model.set_params(per_class=per_class).validation.sets
            rows += [{"per class": per_class, **row} for row in sets.to_dict("records")]
        print_table(f"ABIDE, {outcome}, level {LEVEL}, each site unseen in turn", rows)
        auc = model.validation.overall
        print_table(
            f"ABIDE, {outcome}, over sites", auc[auc["measure"].isin(["AUC", "mean absolute error"])].to_dict("records")
        )
        print_table(f"ABIDE, {outcome}, harmonized less raw", model.validation.comparison.to_dict("records"))


def permuted() -> None:
    """Labels that say nothing, prevalence 20 or 80 % by site: within-site AUC, harmonized in the fold and raw."""
    table, features = abide_table()
    aucs = []
    for seed in range(20):
        rng = np.random.default_rng([SEED, seed])
        y = permuted_within(table, rng)
        kept = imbalanced(table["site"].to_numpy(), (y == "ASD").to_numpy(), rng)
        some = table.copy().assign(y=y)[kept].reset_index(drop=True)
        question = read_question("y ~ 1")
        layout = Layout(question, "site", "subject", None, ("age", "sex"), tuple(features))
        outcome, codes = learn_outcome(question, some)
        rows, levels = layout.read(some, None)
        plain = Recipe(None, "site", question.right, tuple(features), learner_of(None, 2))
        for name, recipe in (
            ("raw", plain),
            ("ComBat inside", replace(plain, harmonizer=pcg.ComBat("~ age + sex", batch="site"))),
        ):
            _, _, evidence = leave_out(recipe, rows, codes, codes, None, what=name)
            scores = ClassScores(outcome.classes, per_class=True)
            by_site = measured_by_site(outcome, scores, evidence, levels.labels)
            aucs.append((name, by_site.loc[by_site["measure"] == "AUC", "estimate"].mean()))
    frame = pd.DataFrame(aucs, columns=["features", "within-site AUC"])
    summary = frame.groupby("features")["within-site AUC"].agg(["mean", "sem"]).reset_index()
    print_table("permuted labels, prevalence 20/80, 20 draws", summary.to_dict("records"))


def permuted_within(table: pd.DataFrame, rng: np.random.Generator) -> pd.Series:
    """Permute the diagnoses within each site."""
    return table.groupby("site")["dx"].transform(lambda dx: rng.permutation(dx.to_numpy()))


def imbalanced(sites: np.ndarray, event: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Drop rows so that the prevalence is 20 or 80 % by site."""
    kept = np.zeros(sites.size, dtype=bool)
    names = rng.permutation(np.unique(sites))
    for number, name in enumerate(names):
        share = 0.8 if number < len(names) // 2 else 0.2
        ill, well = (rng.permutation(np.flatnonzero((sites == name) & (event == e))) for e in (True, False))
        n = min(ill.size / share, well.size / (1 - share))
        kept[ill[: round(n * share)]] = True
        kept[well[: round(n * (1 - share))]] = True
    return kept


def bags() -> None:
    """New sites of m rows, 20 sites of 50 rows, shifts of 1.5, ComBat inside: bags, and whole sites without them."""
    rng = np.random.default_rng(SEED)

    def shifted(name: str, n: int) -> pd.DataFrame:
        B = rng.normal(size=(n, 6))
        X = B + 1.5 * rng.normal(size=6)
        return pd.DataFrame(X, columns=list(FEATURES)).assign(y=B @ BETA + 0.7 * rng.normal(size=n), site=name)

    runs: dict[tuple[int, str], list[tuple[float, float]]] = {}
    for _ in range(25):
        table = pd.concat([shifted(f"s{k:02d}", 50) for k in range(20)], ignore_index=True)
        model = pcg.Predictor(
            "y ~ 1", batch="site", features=list(FEATURES), harmonizer=pcg.ComBat("~ 1", batch="site", mean_only=True)
        ).fit(table)
        kept = model.fitted
        for m in (2, 3, 5, 10, 50):
            new = pd.concat([shifted(f"new{k}", m) for k in range(20)], ignore_index=True)
            for name, site_rows in (("bags", kept.site_rows), ("whole sites", np.ones_like(kept.site_rows))):
                model._fitted = replace(kept, site_rows=site_rows)  # bags are for sites smaller than these
                runs.setdefault((m, name), []).append(held(model.predict(new), new["y"].to_numpy()))
        model._fitted = kept
    rows = []
    for (m, name), values in runs.items():
        v = np.array(values)
        rows.append({"rows of the new site": m, "calibrated on": name, "coverage": v[:, 0].mean(),
                     "se": v[:, 0].std(ddof=1) / np.sqrt(len(v)), "width": v[:, 1].mean()})  # fmt: skip
    print_table("few rows at a new site, guaranteed sets at 0.9", rows)


def prevalence() -> None:
    """Sites of prevalence .05–.25, a clinic of .6: sets marginal and per class, raw and label-free harmonized."""
    rng = np.random.default_rng(SEED)
    mu = np.array([1.2, 0.8, 0.4, 0, 0, 0])

    def clinic(name: str, n: int, share: float) -> pd.DataFrame:
        ill = rng.uniform(size=n) < share
        X = ill[:, None] * (mu + 0.2 * rng.normal(size=6)) + rng.normal(size=(n, 6)) + 0.5 * rng.normal(size=6)
        return pd.DataFrame(X, columns=list(FEATURES)).assign(y=np.where(ill, "ill", "well"), site=name)

    runs: dict[tuple[str, str, str], list[tuple[float, float, float]]] = {}
    for _ in range(60):
        table = pd.concat([clinic(f"s{k:02d}", 80, rng.uniform(0.05, 0.25)) for k in range(20)], ignore_index=True)
        clinics = {"like the others": clinic("new", 400, 0.15), "specialist, .6": clinic("new", 400, 0.6)}
        for inside, harmonizer in (("raw", None), ("ComBat inside", pcg.ComBat("~ 1", batch="site"))):
            model = pcg.Predictor("y ~ 1", batch="site", features=list(FEATURES), harmonizer=harmonizer).fit(table)
            for per_class in (True, False):
                model.set_params(per_class=per_class)
                for where, new in clinics.items():
                    inside_set = [a in s for a, s in zip(new["y"], model.predict(new)["set"], strict=True)]
                    by_class = pd.Series(inside_set).groupby(new["y"].to_numpy()).mean()
                    key = (inside, "per class" if per_class else "marginal", where)
                    runs.setdefault(key, []).append((np.mean(inside_set), by_class["ill"], by_class["well"]))
    rows = [
        {
            "features": a,
            "sets": b,
            "new site": c,
            **dict(zip(["coverage", "ill", "well"], np.mean(v, axis=0), strict=True)),
        }
        for (a, b, c), v in runs.items()
    ]
    print_table("another prevalence, 60 studies, guaranteed sets at 0.9", rows)


def cost() -> None:
    """CPU seconds of a whole fit to ABIDE: 211 fits with 20 sites, raw, and with ComBat-GAM inside."""
    table, features = abide_table()
    rows = []
    for name, harmonizer in (
        ("raw", None),
        ("ComBat-GAM inside, raw beside it", pcg.ComBat("~ s(age) + sex", batch="site")),
    ):
        model = pcg.Predictor("dx ~ 1", batch="site", id="subject", features=features, harmonizer=harmonizer)
        model.fit(table[table["site"].isin(["NYU", "UM_1", "USM", "UCLA_1", "YALE"])])  # imports and caches
        started = time.process_time()
        model.fit(table)
        _ = str(model.validation)
        rows.append({"features": name, "CPU seconds": time.process_time() - started})
    print_table("a fit to ABIDE, validated", rows)


PARTS: dict[str, Callable[[], None]] = {
    "simulated": simulated,
    "abide": abide,
    "permuted": permuted,
    "bags": bags,
    "prevalence": prevalence,
    "cost": cost,
}

if __name__ == "__main__":
    warnings.simplefilter("ignore", pcg.PcgWarning)
    for part in sys.argv[1:] or PARTS:
        PARTS[part]()
