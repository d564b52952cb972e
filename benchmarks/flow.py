"""The flow beside ComBat-GAM: distance to a known truth, ABIDE, a null test, intervals, seconds and memory.

    python benchmarks/flow.py                    every part; the tables go to the screen in markdown
    python benchmarks/flow.py truth coverage     some: truth abide null coverage speed families
    python benchmarks/flow.py abide speed --data FOLDER     where abide_dk.csv.gz and flowscm_example.csv.gz lie

One thread. `flow_simulated.py` holds the parts on simulated studies and their seeds.
"""

from __future__ import annotations

import argparse
import datetime
import json
import subprocess
import sys
import warnings
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path

import flow_simulated as simulated
import numpy as np
import pandas as pd
import patsy
import torch
from measure import cpu_seconds, peak_bytes
from scipy import stats
from scipy.stats import multivariate_normal
from sklearn.covariance import ledoit_wolf
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from sklearn.model_selection import LeaveOneGroupOut, StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

import pycombat_gam as pcg
from pycombat_gam.errors import PcgWarning

INPUTS = Path(__file__).resolve().parents[2] / "shared" / "reference" / "inputs"
ABIDE, EXAMPLE = "abide_dk.csv.gz", "flowscm_example.csv.gz"
FORMULA = "~ s(age) + sex"
FOLDS, LABELS = 0, range(401, 421)
"""Seeds of the folds, and of the random labels."""
EPOCHS = 5
"""Over how many an epoch's cost is averaged."""


def read_abide(folder: Path) -> tuple[pd.DataFrame, list[str]]:
    """The table, and its 68 regional thicknesses."""
    table = pd.read_csv(folder / ABIDE)
    thickness = [name for name in table if name.endswith("_thickness") and "MeanThickness" not in name]
    return table, thickness


def classifier() -> object:
    return make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000))


def site_share(Y: np.ndarray, table: pd.DataFrame) -> float:
    """Share of features whose F test of site, beside a spline of age and sex, has p < .05."""
    fits = []
    for formula in ("bs(age, df=6) + sex", "bs(age, df=6) + sex + C(site)"):
        basis, _ = np.linalg.qr(np.asarray(patsy.dmatrix(formula, table)))
        fits.append((((Y - basis @ (basis.T @ Y)) ** 2).sum(axis=0), len(Y) - basis.shape[1]))
    (less, df_less), (more, df_more) = fits
    F = (less - more) / (df_less - df_more) / (more / df_more)
    return float((stats.f.sf(F, df_less - df_more, df_more) < 0.05).mean())


def random_label(Y: np.ndarray) -> tuple[float, float]:
    """Mean and standard error of the cross-validated area under the curve for labels drawn at random."""
    areas = []
    for seed in LABELS:
        label = np.random.default_rng(seed).integers(0, 2, len(Y))
        folds = StratifiedKFold(5, shuffle=True, random_state=seed)
        score = cross_val_predict(classifier(), Y, label, cv=folds, method="decision_function")
        areas.append(roc_auc_score(label, score))
    return simulated.mean_and_error(areas)


def gaussian(train: np.ndarray, test: np.ndarray, shrunk: bool) -> np.ndarray:
    """Log-density of rows under the normal distribution of the training rows, its covariance by Ledoit–Wolf or not."""
    covariance = ledoit_wolf(train)[0] if shrunk else np.cov(train.T)
    return np.asarray(multivariate_normal(train.mean(axis=0), covariance).logpdf(test))


def residuals(train: pd.DataFrame, test: pd.DataFrame, features: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Of a GAM without site."""
    fit = pcg.gam(FORMULA, train, responses=features)
    first, second = (np.asarray(rows[features]) - np.asarray(fit.predict(rows)) for rows in (train, test))
    return first, second


def abide(folder: Path) -> None:
    """Every number from rows that the harmonizer was not fitted to."""
    table, features = read_abide(folder)
    table = table[["subject", "site", "age", "sex", *features]]
    methods = ("raw", "ComBat-GAM", "flow")
    Y = {name: np.empty((len(table), len(features))) for name in methods}
    accuracy: dict[str, list[float]] = {name: [] for name in methods}
    densities = ("flow, Student t", "Gaussian on ComBat-GAM residuals", "the same, Ledoit–Wolf")
    densities += ("Gaussian on GAM residuals without site", "the same, Ledoit–Wolf ")
    density = {name: np.empty(len(table)) for name in densities}
    chosen = []
    for rest, held in StratifiedKFold(5, shuffle=True, random_state=FOLDS).split(table, table["site"]):
        train, test = table.iloc[rest], table.iloc[held]
        common = {"batch": "site", "id": "subject", "features": features}
        combat = pcg.ComBat(FORMULA, **common).fit(train)
        flow = pcg.FlowSCM(FORMULA, device="cpu", **common).fit(train, progress=False)
        chosen.append(simulated.variant_of(flow))
        for name, model in zip(methods, (None, combat, flow), strict=True):
            first, second = (train, test) if model is None else (model.transform(train), model.transform(test))
            Y[name][held] = second[features]
            guess = classifier().fit(first[features].to_numpy(), train["site"]).predict(second[features].to_numpy())
            accuracy[name].append(balanced_accuracy_score(test["site"], guess))
        density[densities[0]][held] = flow.log_prob(test, by="node")["features"]
        # ComBat's density is that of the harmonized rows, times d harmonized / d measured = 1 / √δ*.
        slope = -0.5 * np.log(combat.estimates.delta_star[features]).sum(axis=1).loc[test["site"]].to_numpy()
        harmonized = residuals(combat.transform(train), combat.transform(test), features)
        plain = residuals(train, test, features)
        for j, shrunk in enumerate((False, True)):
            density[densities[1 + j]][held] = gaussian(*harmonized, shrunk) + slope
            density[densities[3 + j]][held] = gaussian(*plain, shrunk)

    site, age = table["site"].to_numpy(), table["age"].to_numpy()
    error = {}
    for name in methods:
        ridge = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-1, 4, 21)))
        guess = cross_val_predict(ridge, Y[name], age, groups=site, cv=LeaveOneGroupOut())
        error[name] = float(np.abs(guess - age).mean())

    def rows() -> Iterable[Sequence[object]]:
        for name in methods:
            mean, spread = random_label(Y[name])
            age_error = f"{error[name]:.3f} ({error[name] / error['ComBat-GAM']:.3f})"
            share = f"{100 * site_share(Y[name], table):.1f} %"
            yield name, float(np.mean(accuracy[name])), share, age_error, f"{mean:.3f} ± {spread:.3f}"
        yield "asked of the flow", "≤ 0.10", "≤ 5 %", "≤ 1.02 times", "0.5 ± 0.05"

    columns = ["method", "site, balanced accuracy", "features with a site effect", "age error, years (ratio)"]
    columns += ["random labels, area"]
    title = f"abide: {len(table):,} × {len(features)}, {len(set(site))} sites, 5-fold; flow: {', '.join(chosen)}"
    simulated.print_table(title, columns, rows())
    best = density[densities[0]]
    cells = []
    for name, values in density.items():
        gap, spread = simulated.mean_and_error(best - values)
        cells.append((name.strip(), f"{values.mean():.2f}", "" if values is best else f"{gap:.2f} ± {spread:.2f}"))
    simulated.print_table("abide: held-out log-probability a row", ["density", "mean", "flow's advantage"], cells)


JOBS = {
    "structured, 1,325 × 145": (EXAMPLE, {}),
    "structured, 1,035 × 68, 20 sites": (ABIDE, {}),
    **{
        f"{flow}, 1,325 × 145": (EXAMPLE, {"flow": flow}) for flow in ("affine", "spline", "autoregressive", "coupling")
    },
}


def cost(job: str, folder: Path) -> dict[str, float]:
    """What one fit costs, alone in this process: CPU seconds, and peak memory in GB, imports included."""
    name, options = JOBS[job]
    if name == ABIDE:
        table, features = read_abide(folder)
        formula, batch, id = FORMULA, "site", "subject"
    else:
        table = pd.read_csv(folder / EXAMPLE)
        formula, batch, id = "~ s(Age) + Sex", "Site", "PTID"
        features = [column for column in table if column not in ("PTID", "Sex", "Age", "Site")]
    table = table[[*dict.fromkeys([id, batch, *(c for c in table if c.lower() in ("age", "sex"))]), *features]]

    def fit(**kw: object) -> tuple[pcg.FlowSCM, float]:
        before = cpu_seconds().sum()
        flow = pcg.FlowSCM(formula, batch=batch, id=id, features=features, device="cpu", **options, **kw)
        return flow.fit(table, progress=False), float(cpu_seconds().sum() - before)

    found: dict[str, float] = {}
    if options:
        fit(training={"max_epochs": 1})  # torch and zuko load what they need on first use
        _, one = fit(training={"max_epochs": 1})
        _, more = fit(training={"max_epochs": 1 + EPOCHS})
        found["epoch"] = (more - one) / EPOCHS
    flow, found["fit"] = fit()
    rows = table.iloc[:1000]
    for key, to in (("none", None), ("site", str(table[batch].iloc[0]))):
        times = []
        for _ in range(5):
            before = cpu_seconds().sum()
            flow.transform(rows, to=to)
            times.append(float(cpu_seconds().sum() - before))
        found[key] = min(times)
    return {**found, "epochs": float(flow.history_["epoch"].max()), "peak": peak_bytes() / 1e9}


def speed(folder: Path) -> None:
    """Each job in a process of its own."""

    def rows() -> Iterable[Sequence[object]]:
        for job in JOBS:
            command = [sys.executable, __file__, "--data", str(folder), "--job", job]
            ran = subprocess.run(command, check=True, capture_output=True, text=True)
            found = json.loads(ran.stdout.splitlines()[-1])
            epoch = f"{found['epoch']:.2f} × {found['epochs']:.0f}" if "epoch" in found else "–"
            yield job, f"{found['fit']:.1f}", epoch, found["none"], found["site"], f"{found['peak']:.2f}"
        yield "asked", "≤ 20 (structured, 145)", "< 20 (autoregressive)", "≤ 0.1", "≤ 0.1", "< 2 (autoregressive)"

    columns = [
        "flow, table",
        "fit, CPU s",
        "an epoch, CPU s × epochs",
        "1,000 rows to=None, s",
        "to a site, s",
        "peak GB",
    ]
    simulated.print_table("speed", columns, rows())


def main() -> None:
    parts = {
        "truth": lambda folder: simulated.truth(),
        "abide": abide,
        "null": lambda folder: simulated.null(),
        "coverage": lambda folder: simulated.coverage(),
        "speed": speed,
        "families": lambda folder: simulated.families(),
    }
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "parts", nargs="*", choices=[*parts, "all"], default="all", metavar="part", help=" ".join(parts)
    )
    parser.add_argument("--data", type=Path, default=INPUTS, help=f"folder of the tables (default {INPUTS})")
    parser.add_argument("--job", choices=[*JOBS], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    threadpool_limits(1)
    warnings.simplefilter("ignore", PcgWarning)
    if arguments.job:
        print(json.dumps(cost(arguments.job, arguments.data)))
        return
    versions = ", ".join(f"{name} {version(name)}" for name in ("numpy", "torch", "scikit-learn"))
    print(f"{datetime.date.today()}, Python {sys.version.split()[0]}, {versions}, one thread")
    for name, part in parts.items():
        if "all" in arguments.parts or name in arguments.parts:
            part(arguments.data)


if __name__ == "__main__":
    main()
