"""Formulas with random effects drawn by chance, on designs drawn by chance, against a dense oracle.

Run as a program for as many cases as you like: ``python tests/helpers/random_effect_fuzz.py 2000`` (in the repository's
folder). What a case checks, for `gam` and for `ComBat`:

- either a fit or an error of ours; never numpy's, never a number that is not finite;
- refused for its random effects exactly where the columns span all rows or where two variances have the same matrix;
- the score is that of the definition, computed here from dense matrices, and no other λ among 40 has a lower one;
- coefficients solve the penalised normal equations; the order of the rows changes nothing;
- the mean model of `ComBat` is that of `gam` with the site as a fixed factor, and a saved model loads as itself.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

import pycombat_gam as pcg
from pycombat_gam.additive.model import GamFit
from pycombat_gam.design.design import Design
from pycombat_gam.formula import parse_formula
from pycombat_gam.penalized.problem import METHODS

FIXED = ["age", "sex", "x", "age * sex", "visit", "log(x)", "factor(visit)"]
SMOOTH = ["s(age, k=5)", "s(x, bs='cr', k=4)", "s(age, bs='ts', k=4)", "s(visit, bs='cs', k=3)", "s(x, by=sex, k=3)"]
RANDOM = [
    "(1 | subject)",
    "(1 | family)",
    "(1 | vendor)",
    "(1 | rater)",
    "(1 | sex)",
    "(age || subject)",
    "(0 + x | family)",
    "(x || rater)",
    "(1 | subject:rater)",
    "(1 | person)",
    "s(rater, bs='re')",
    "s(x, rater, bs='fs', k=3)",
    "(visit || family)",
]
RESPONSES = ["y0", "y1", "y2"]
TRIALS = 40
"""Other λ's tried for each response."""
ORDER = {"REML": 1e-6, "ML": 1e-6, "GCV": 1e-5}
"""How far, in sd, another order of the rows may move predictions: the search ends at a gain of 1e-13 of the score.

GCV may send a λ to 0 among columns that repeat one another; its score has ten digits there, log λ half of them.
"""
TOGETHER = 1e-11
"""Least ratio of two λ's of one block: below it, the dense eigenvalues of the smaller penalty are rounding."""
SHARE = 1e-6
"""How much lower, as a share of 1 + |score|, another λ may score: what the search promises."""


@dataclass(frozen=True, eq=False)
class Case:
    """A table and a one-sided formula."""

    table: pd.DataFrame
    formula: str
    method: str
    seed: int


def draw(seed: int) -> Case:
    """Draw a design of 24 to 80 rows and a formula with one to three random effects."""
    rng = np.random.default_rng(seed)
    n, sites = int(rng.integers(24, 81)), int(rng.integers(2, 5))
    visits = rng.choice([1, 1, 2, 2, 3, 4], n)
    subject = np.repeat(np.arange(n), visits)[:n]
    site_of = rng.integers(0, sites, subject.max() + 1)
    site = site_of[subject] if rng.random() < 0.7 else rng.integers(0, sites, n)
    site[:sites] = np.arange(sites)
    site[sites : 2 * sites] = np.arange(sites)
    table = pd.DataFrame(
        {
            "site": np.array(list("ABCD"))[site],
            "subject": [f"p{i}" for i in subject],
            "person": [f"q{i * 7 % 101}" for i in subject],
            "family": [f"h{i // 3}" for i in subject],
            "vendor": np.array(["u", "v"])[site % 2],
            "rater": np.array([f"r{i}" for i in rng.integers(0, 6, n)]),
            "visit": rng.integers(0, 3, n).astype(float),
            "sex": np.array(["F", "M"])[rng.integers(0, 2, n)],
            "age": rng.uniform(20, 80, n).round(int(rng.integers(0, 3))),
            "x": np.exp(rng.normal(0, 0.7, n)),
        }
    )
    table.loc[:5, "rater"] = [f"r{i}" for i in range(6)]
    table.loc[:2, "visit"] = [0.0, 1.0, 2.0]
    table.loc[:1, "sex"] = ["F", "M"]
    size = 10.0 ** rng.integers(-3, 4)
    for k, (between, noise) in enumerate([(1.0, 1.0), (0.0, 1.0), (3.0, 0.1)]):
        effects = sum(
            between * rng.normal(size=n)[pd.factorize(table[name])[0]] for name in ("subject", "family", "rater")
        )
        curve = np.sin(table["age"].to_numpy() / 12.0) + 0.3 * table["x"].to_numpy()
        shift = 10.0 ** rng.integers(-1, 4) + site
        table[f"y{k}"] = size * (shift + curve + effects + noise * rng.normal(size=n))
    fixed = rng.choice(FIXED, int(rng.integers(0, 3)), replace=False).tolist()
    smooth = rng.choice(SMOOTH, int(rng.choice([0, 0, 0, 1, 1, 2])), replace=False).tolist()
    random = rng.choice(RANDOM, int(rng.choice([1, 1, 1, 2, 2, 3])), replace=False).tolist()
    return Case(table, " + ".join([*fixed, *smooth, *random]), str(rng.choice(list(METHODS))), seed)


def dense_score(fit: GamFit, lam: np.ndarray) -> float:
    """Criterion at λ from its definition (Wood 2011), by QR of [X; √S]; GCV as its logarithm."""
    X, y = fit._shared.X, fit._y
    n, p = X.shape
    blocks = [(b.columns, S) for b in fit._shared.parameters.penalties.blocks for S in b.matrices]
    S = np.zeros((p, p))
    for (columns, matrix), weight in zip(blocks, lam, strict=True):
        S[columns, columns] += weight * matrix
    roots, held, log_det = [], [], 0.0
    for columns in {(b.columns.start, b.columns.stop) for b in fit._shared.parameters.penalties.blocks}:
        part = S[slice(*columns), slice(*columns)]
        values, vectors = np.linalg.eigh(part)
        keep = values > values[-1] * 1e-13
        span = np.zeros((p, int(keep.sum())))
        span[slice(*columns)] = vectors[:, keep]
        roots.append((span * np.sqrt(values[keep])).T)
        held.append(span)
        log_det += float(np.log(values[keep]).sum())
    E, U = np.vstack(roots), np.hstack(held)
    stacked = np.vstack([X, E])
    scale = np.sqrt((stacked**2).sum(axis=0))
    Q, R = np.linalg.qr(stacked / scale)
    target = np.concatenate([y, np.zeros(len(E))])
    fitted = Q @ (Q.T @ target)
    fitted += Q @ (Q.T @ (target - fitted))
    D = float(((target - fitted) ** 2).sum())
    if fit.method == "GCV":
        rss = float(((y - fitted[:n]) ** 2).sum())
        edf = float((Q[:n] ** 2).sum())
        return float(np.log(n * rss) - 2 * np.log(n - edf))
    if fit.method == "ML":
        R = np.linalg.qr(np.vstack([X @ U, E @ U]))[1]
        log_ratio = 2.0 * float(np.log(np.abs(np.diag(R))).sum()) - log_det
        return 0.5 * n * (1.0 + np.log(2 * np.pi * D / n)) + 0.5 * log_ratio
    left = n - (p - U.shape[1])
    log_ratio = 2.0 * float(np.log(np.abs(np.diag(R)) * scale).sum()) - log_det
    return 0.5 * left * (1.0 + np.log(2 * np.pi * D / left)) + 0.5 * log_ratio


def check_gam(case: Case) -> str:
    """Check all responses; return the refusal, if any."""
    try:
        fits = pcg.gam(f"~ {case.formula}", case.table, responses=RESPONSES, method=case.method)
    except pcg.PcgError as error:
        check_refusal(case, str(error))
        return str(error)
    shuffled = case.table.sample(frac=1.0, random_state=case.seed)
    others = pcg.gam(f"~ {case.formula}", shuffled, responses=RESPONSES, method=case.method)
    for response in RESPONSES:
        fit, other = fits[response], others[response]
        check_fit(fit, case.seed)
        sd = float(case.table[response].std())
        moved = float(np.abs(np.asarray(other.predict(case.table)) - np.asarray(fit.predict(case.table))).max()) / sd
        assert moved < ORDER[case.method], f"{response}: the order of the rows moves predictions by {moved:.1e} sd"
    return ""


def check_refusal(case: Case, message: str) -> None:
    """Check by dense matrices that a formula refused for its random effects had to be."""
    if "the random effects cannot be estimated" not in message:
        return
    design = Design.learn(parse_formula(f"~ {case.formula}"), case.table, absorb_intercept=False)
    X = design.on(case.table)
    free = np.linalg.qr(X @ design.unpenalised().basis)[0]
    spans = np.linalg.matrix_rank(X / np.sqrt((X**2).sum(axis=0).clip(1e-300)))
    if "group the rows alike" not in message:
        assert spans >= len(X), f"refused, though {spans} columns span {len(X)} rows: {message}"
        return
    covariances = []
    for smooth in design.smooth.smooths:
        for S in smooth.penalties if smooth.random else ():
            Z = X[:, design.term_slices[smooth.label]] @ np.diag(
                np.sqrt(np.linalg.pinv(np.diag(np.diag(S))).diagonal())
            )
            V = Z - free @ (free.T @ Z)
            if np.abs(V).max() > 1e-9:
                covariances.append((V @ V.T / np.linalg.norm(V @ V.T)).ravel())
    values = np.linalg.svd(np.array(covariances), compute_uv=False)
    # Eigenvalues relative to the largest.
    assert values[-1] < 1e-6, f"refused, though the variances can be told apart ({values[-1]:.1e}): {message}"


def check_fit(fit: GamFit, seed: int) -> None:
    """Check one response: its score by definition, and that no other λ has a lower one."""
    name = fit.response
    score = np.log(fit.score) if fit.method == "GCV" else fit.score
    assert np.isfinite([score, fit.scale, *fit.coef, *fit.edf]).all(), f"{name}: not finite"
    X = fit._shared.X
    spans = np.linalg.matrix_rank(X / np.sqrt((X**2).sum(axis=0).clip(1e-300)))
    assert spans < fit.n, f"{name}: fitted, though {spans} columns span {fit.n} rows"
    # A stiff penalty and its near-null space meet in the dense oracle's eigenvalues: λ's within 1e8 of the data.
    lam = np.clip(fit._lambda, 1e-8, 1e8)
    if np.array_equal(lam, fit._lambda):
        by_definition = dense_score(fit, lam)
        assert abs(by_definition - score) < digits(fit, lam, score), (
            f"{name}: score {score}, by definition {by_definition}"
        )
    rng = np.random.default_rng(seed)
    L = fit._shared.parameters.penalties.L
    for k in range(TRIALS):
        step = rng.normal(0.0, [0.3, 1.0, 3.0][k % 3], L.shape[1])
        start = np.log(lam) if k % 2 else L @ rng.uniform(-6.0, 12.0, L.shape[1])
        other = dense_score(fit, together(fit, np.exp(np.clip(start + L @ step, -18.0, 18.0))))
        assert other > score - SHARE * (1.0 + abs(score)), f"{name}: score {score}, lower at another λ: {other}"


def digits(fit: GamFit, lam: np.ndarray, score: float) -> float:
    """How far rounding may take the score: solutions keep 1e-16/λ of the response, residuals are less than it is."""
    if fit.method != "GCV":
        return 1e-7 * (1.0 + abs(score))
    rss = fit.scale * (fit.n - fit.edf.sum())
    size = float(((fit._y - fit._y.mean()) ** 2).sum())
    return 1e-7 * (1.0 + abs(score)) + 2e-16 / min(float(lam.min()), 1.0) * float(np.sqrt(size / rss))


def together(fit: GamFit, lam: np.ndarray) -> np.ndarray:
    """Raise the λ's that a stiffer penalty of their block leaves no digits in the dense oracle."""
    blocks = fit._shared.parameters.penalties.blocks
    place = np.array([block.columns.start for block in blocks for _ in block.matrices])
    stiffest = np.array([lam[place == start].max() for start in place])
    return np.maximum(lam, TOGETHER * stiffest)


def check_combat(case: Case, folder: Path) -> str:
    """Check ComBat on all responses; return its refusal, if any."""
    table, formula = case.table, f"~ {case.formula}"
    model = pcg.ComBat(formula, "site", features=RESPONSES, smoothing=case.method)
    try:
        harmonized = model.fit_transform(table)
    except pcg.PcgError as error:
        return str(error)
    assert np.isfinite(harmonized[RESPONSES].to_numpy()).all(), "not finite"
    model.save(folder / "model.pcg")
    again = pcg.load(folder / "model.pcg").transform(table)
    assert np.array_equal(again[RESPONSES], harmonized[RESPONSES]), "the loaded model is another one"
    fitted = model.fitted
    codes, _ = fitted.levels.codes(table["site"])
    means = fitted.mean.intercepts[codes] + fitted.mean.design.on(table) @ fitted.mean.coefficients
    fits = pcg.gam(f"~ site + {case.formula}", table, responses=RESPONSES, method=case.method)
    for k, response in enumerate(RESPONSES):
        fit = fits[response]
        gap = float(np.abs(means[:, k] - fit.fitted.to_numpy()).max() / table[response].std())
        scores = np.array([fitted.mean.smoothing.score[0, k], fit.score])
        scores = np.log(scores) if case.method == "GCV" else scores
        better = (scores[0] - scores[1]) / (1.0 + abs(scores[1]))
        assert abs(better) < SHARE, f"{response}: score {better:.1e} from that of gam with a fixed site"
        # Two searches on a flat score.
        assert gap < 1e-4, f"{response}: {gap:.1e} sd from gam with a fixed site"
    shuffled = table.sample(frac=1.0, random_state=case.seed)
    other = pcg.ComBat(formula, "site", features=RESPONSES, smoothing=case.method).fit_transform(shuffled)
    apart = np.abs(other.loc[table.index, RESPONSES] - harmonized[RESPONSES]) / table[RESPONSES].std()
    gap = float(apart.to_numpy().max())
    assert gap < 10 * ORDER[case.method], f"the order of the rows moves harmonized values by {gap:.1e} sd"
    return ""


def check(seed: int) -> list[str]:
    """Run one case; say what is wrong with it, and what was refused (behind 'refused')."""
    case = draw(seed)
    said = []
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", pcg.PcgWarning)
        for what, run in (("gam", lambda: check_gam(case)), ("ComBat", lambda: check_combat(case, Path(folder)))):
            try:
                refusal = run()
                said += [f"refused {refusal}"] if refusal else []
            except Exception as error:  # whatever it is, it is a finding
                said.append(f"{what} ~ {case.formula} ({case.method}): {type(error).__name__}: {error}")
    return said


def main(first: int, cases: int) -> int:
    """Run many cases and print what is wrong; return how many are."""
    wrong, refused = 0, 0
    reasons: Counter[str] = Counter()
    for seed in range(first, first + cases):
        said = check(seed)
        refused += any(line.startswith("refused") for line in said)
        reasons.update(line.partition(":")[0] for line in said if line.startswith("refused"))
        bad = [line for line in said if not line.startswith("refused")]
        wrong += bool(bad)
        for line in bad:
            sys.stdout.write(f"case {seed}: {line}\n")
            sys.stdout.flush()
    sys.stdout.write(f"{cases} cases from {first}: {wrong} wrong, {refused} with a refusal\n")
    for reason, times in reasons.most_common():
        sys.stdout.write(f"{times:6} {reason}\n")
    return wrong


if __name__ == "__main__":
    counts = [int(text) for text in sys.argv[1:]]
    sys.exit(bool(main(counts[1] if len(counts) > 1 else 0, counts[0] if counts else 100)))
