"""The one-step fit against matrices of rows by rows: what the sums over sites stand for."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.unequal_sites import unequal_sites
from scipy.linalg import null_space

import pycombat_gam as pcg
from pycombat_gam.infer.contrast import site_variances
from pycombat_gam.infer.engine import Engine
from pycombat_gam.infer.kenward_roger import inflation
from pycombat_gam.infer.one_step import OneStep
from pycombat_gam.infer.share import within_share

EXACT = 1e-9
"""Inverses of matrices of condition number 1e4, in double precision."""


@pytest.fixture(scope="module")
def case() -> dict[str, object]:
    study = unequal_sites(V=6, seed=3)
    model = pcg.ComBat("~ age + sex + dx", batch="site", features=study.features).fit(study.table)
    mean = model.fitted.mean
    codes = np.unique(study.table["site"], return_inverse=True)[1]
    return {"model": model, "mean": mean, "Y": study.raw, "X": mean.design.on(study.table), "codes": codes}


@pytest.mark.parametrize("C", [[[0, 0, 1, 0]], [[0, 0, 1, 0], [0, 0, 0, 1]]], ids=["one", "two"])
def test_estimates_variances_and_degrees_of_freedom(case: dict[str, np.ndarray], C: list[list[int]]) -> None:
    X, Y, codes, w = case["X"], case["Y"], case["codes"], np.array([1.3, 0.6, 1.0, 0.8])
    (group,) = case["mean"].groups
    contrasts = np.array(C, dtype=float)
    tested = site_variances(OneStep.of(group.statistics, w), contrasts, 1.0)
    B, n = 4, len(Y)
    D, W = np.column_stack([np.eye(B)[codes], X]), np.diag(w[codes])
    inverse = np.linalg.inv(D.T @ W @ D)
    H = D @ inverse @ D.T @ W
    residual = Y - H @ Y
    d = np.array([(codes == b).sum() - np.trace(H[np.ix_(codes == b, codes == b)]) for b in range(B)])
    s2 = np.array([(residual[codes == b] ** 2).sum(axis=0) for b in range(B)]) / d[:, None]
    # Half the covariance of the sites' residual sums of squares, in units of their variances, if these are 1/w.
    spread = (np.eye(n) - H) @ np.diag(1 / w[codes]) @ (np.eye(n) - H).T
    A = np.array(
        [[(spread[np.ix_(codes == b, codes == c)] ** 2).sum() * w[b] * w[c] for c in range(B)] for b in range(B)]
    )
    padded = np.column_stack([np.zeros((len(contrasts), B)), contrasts])
    rows = W @ D @ inverse @ padded.T
    for k in range(Y.shape[1]):
        estimate = rows.T @ Y[:, k]
        V = sum(s2[b, k] * rows[codes == b].T @ rows[codes == b] for b in range(B))
        base = padded @ inverse @ padded.T
        unit = np.linalg.inv(np.linalg.cholesky(base))
        vectors = unit.T @ np.linalg.eigh(unit @ V @ unit.T)[1]
        each = []
        for direction in vectors.T:
            weight = np.array([((rows[codes == b] @ direction) ** 2).sum() for b in range(B)])
            q = weight * s2[:, k] / d
            each.append((weight @ s2[:, k]) ** 2 / (q @ A @ q))
        if len(C) == 1:
            np.testing.assert_allclose([tested.estimate[k], tested.se[k]], [estimate[0], np.sqrt(V[0, 0])], rtol=EXACT)
            np.testing.assert_allclose(tested.df_residual[k], each[0], rtol=EXACT)
            continue
        E = sum(v / (v - 2) for v in each)
        np.testing.assert_allclose(tested.statistic[k], estimate @ np.linalg.solve(V, estimate) / 2, rtol=EXACT)
        np.testing.assert_allclose(tested.df_residual[k], 2 * E / (E - 2), rtol=EXACT)


def test_the_inflation_is_kenward_and_rogers(case: dict[str, np.ndarray]) -> None:
    """Kenward & Roger (1997), equations 3 to 5, for site variances of one feature, as matrices of rows by rows."""
    X, codes, w = case["X"], case["codes"], np.array([1.3, 0.6, 1.0, 0.8])
    (group,) = case["mean"].groups
    B = 4
    D, V_inverse = np.column_stack([np.eye(B)[codes], X]), np.diag(w[codes])
    Phi = np.linalg.inv(D.T @ V_inverse @ D)
    P = V_inverse - V_inverse @ D @ Phi @ D.T @ V_inverse
    E = [np.diag((codes == b).astype(float)) for b in range(B)]
    information = np.array([[0.5 * np.trace(P @ E[b] @ P @ E[c]) for c in range(B)] for b in range(B)])
    covariance = np.linalg.inv(information)
    half = [-D.T @ V_inverse @ E[b] @ V_inverse @ D for b in range(B)]
    Lambda = np.zeros_like(Phi)
    for b, c in np.ndindex(B, B):
        Q = D.T @ V_inverse @ E[b] @ V_inverse @ E[c] @ V_inverse @ D
        Lambda += covariance[b, c] * (Q - half[b] @ Phi @ half[c])
    adjusted = Phi + 2 * Phi @ Lambda @ Phi
    design = OneStep.of(group.statistics, w).design
    for j in range(X.shape[1]):
        place = B + j
        expected = adjusted[place, place] / Phi[place, place] - 1
        np.testing.assert_allclose(inflation(design, np.eye(X.shape[1])[[j]]), expected, rtol=1e-7)  # a difference


@pytest.mark.parametrize("options", [{}, {"eb": False}], ids=["shrunken", "unshrunk"])
def test_least_squares_of_the_harmonized_table_is_one_step(options: dict[str, bool]) -> None:
    """With its known singular covariance LΣL' and the mean L[B Z], whatever the later Z."""
    study = unequal_sites(V=5, seed=4)
    model = pcg.ComBat("~ age + sex", batch="site", features=study.features, **options)  # type: ignore[arg-type]
    harmonized = model.fit_transform(study.table)[study.features].to_numpy()
    mean, batch = model.fitted.mean, model.fitted.location_scale("the test")
    codes = np.unique(study.table["site"], return_inverse=True)[1]
    n, B, k = len(codes), 4, 2
    X, D = mean.design.on(study.table), np.eye(4)[codes]
    sizes = np.bincount(codes)
    means = D.T / sizes[:, None]
    centred = X - D @ (means @ X)
    slope = np.linalg.solve(centred.T @ centred, centred.T)
    level = means - (means @ X) @ slope
    grand = (sizes / n) @ level
    H_f = np.outer(np.ones(n), grand) + X @ slope
    t2 = batch.shrunken.priors.t2
    rho = np.ones(B) if options else sizes * t2 / (sizes * t2 + batch.shrunken.delta[:, k])
    H_g = D @ (level - grand)
    L = (1 / np.sqrt(batch.shrunken.delta[:, k]))[codes][:, None] * (np.eye(n) - H_f - rho[codes][:, None] * H_g) + H_f
    constant = harmonized[:, k] - L @ study.raw[:, k]
    for b in range(B):
        assert np.ptp(constant[codes == b]) < 1e-9
    variances = np.array([0.5, 1.0, 1.7, 1.2])
    Z = np.column_stack([study.table["dx"] == "AD", study.table["age"] ** 2 / 1000]).astype(float)
    whole = np.column_stack([D, Z])
    one_step = np.linalg.inv(whole.T @ (whole / variances[codes][:, None]))
    beta = one_step @ whole.T @ (study.raw[:, k] / variances[codes])
    covariance = L @ np.diag(variances[codes]) @ L.T
    values, vectors = np.linalg.eigh(covariance)
    root = (vectors / np.sqrt(np.where(values > 1e-9 * values.max(), values, np.inf))).T
    design, response = root @ L @ whole, root @ (harmonized[:, k] - constant)
    later = np.linalg.lstsq(design, response, rcond=1e-9)[0]
    np.testing.assert_allclose(later[B:], beta[B:], rtol=1e-7)  # a pseudo-inverse of condition number 1e4
    later_covariance = np.linalg.pinv(design.T @ design, rcond=1e-9)[B:, B:]
    np.testing.assert_allclose(later_covariance, one_step[B:, B:], rtol=1e-7)  # likewise


def test_the_share_within_sites_is_the_ratio_of_two_variances(case: dict[str, np.ndarray]) -> None:
    X, codes = case["X"], case["codes"]
    (group,) = case["mean"].groups
    with_sites = np.linalg.inv((lambda D: D.T @ D)(np.column_stack([np.eye(4)[codes], X])))[4:, 4:]
    without = np.linalg.inv((lambda D: D.T @ D)(np.column_stack([np.ones(len(X)), X])))[1:, 1:]
    for j in range(X.shape[1]):
        share = within_share(group.statistics, np.eye(X.shape[1])[[j]])
        np.testing.assert_allclose(share, without[j, j] / with_sites[j, j], rtol=EXACT)
    mixed = np.array([[1.0, -2.0, 0.5, 0.0]])
    expected = (mixed @ without @ mixed.T) / (mixed @ with_sites @ mixed.T)
    np.testing.assert_allclose(within_share(group.statistics, mixed), expected[0, 0], rtol=EXACT)
    C = np.eye(4)[2:]
    ratios = np.linalg.eigvals(np.linalg.solve(C @ with_sites @ C.T, C @ without @ C.T)).real
    np.testing.assert_allclose(within_share(group.statistics, C), ratios.mean(), rtol=EXACT)
    assert null_space(C).shape == (4, 2)


def test_hc3_with_equal_weights_is_statsmodels(case: dict[str, object]) -> None:
    import statsmodels.formula.api as smf

    study = unequal_sites(missing=True)
    model = pcg.ComBat("~ age + sex", batch="site", features=study.features, missing="omit").fit(study.table)
    later = pcg.later_test(model, "~ age + sex", study.table, state="raw", weights=None, variance="hc3")
    table = later.table.set_index(["feature", "term"])
    for name in study.features:
        fit = smf.ols(f"{name} ~ C(site) + age + C(sex)", study.table).fit().get_robustcov_results("HC3", use_t=True)
        names = fit.model.exog_names
        for term, column in (("age", "age"), ("sex", "C(sex)[T.M]")):
            row, place = table.loc[(name, term)], names.index(column)
            ours = [row.estimate, row.se, row.p, row.df_residual]
            theirs = [fit.params[place], fit.bse[place], fit.pvalues[place], fit.df_resid]
            np.testing.assert_allclose(ours, theirs, rtol=1e-8)  # two solvers, condition number 1e3


def test_random_intercepts_have_satterthwaite_degrees_of_freedom_by_matrices() -> None:
    """The REML information of (log σ², log λ) and the gradient of a variance, as matrices of rows by rows."""
    rng = np.random.default_rng(5)
    study = unequal_sites(V=4, seed=6)
    table = study.table.loc[study.table.index.repeat(2)].reset_index(drop=True)
    table["subject"] = np.repeat(np.arange(len(study.table)), 2).astype(str)
    table[study.features] += rng.normal(size=(len(table), 4)) * 0.7
    table["visit"] = np.tile([0.0, 1.0], len(study.table)) + rng.normal(size=len(table)) * 0.1
    table["rater"] = rng.choice(["a", "b", "c", "d", "e"], len(table))
    for random in ("(1|subject)", "(1|subject) + (1|rater)"):
        model = pcg.ComBat(f"~ age + visit + {random}", batch="site", features=study.features).fit(table)
        engine = Engine(model.fitted.mean, 0.0, False, False)
        codes = np.unique(table["site"], return_inverse=True)[1]
        fixed = np.column_stack([np.eye(4)[codes], table["age"], table["visit"]])
        groups = [
            np.eye(c.max() + 1)[c] for c in (np.unique(table[g], return_inverse=True)[1] for g in ("subject", "rater"))
        ]
        groups = groups[: random.count("|")]
        for place, term in ((4, "age"), (5, "visit")):
            tested = engine.term(term).tested
            for k in range(4):
                lam = model.fitted.mean.smoothing.parameters[:, k]
                s2 = float(engine._step(0, False).phi[k])
                pieces = [Z @ Z.T * s2 / one for Z, one in zip(groups, lam, strict=True)]
                V = s2 * np.eye(len(table)) + sum(pieces)
                inverse = np.linalg.inv(V)
                Phi = np.linalg.inv(fixed.T @ inverse @ fixed)
                P = inverse - inverse @ fixed @ Phi @ fixed.T @ inverse
                slopes = [V, *(-piece for piece in pieces)]
                information = 0.5 * np.array([[np.trace(P @ a @ P @ b) for b in slopes] for a in slopes])
                gradient = np.array(
                    [(Phi @ fixed.T @ inverse @ a @ inverse @ fixed @ Phi)[place, place] for a in slopes]
                )
                df = 2 * Phi[place, place] ** 2 / (gradient @ np.linalg.solve(information, gradient))
                np.testing.assert_allclose(tested.se[k], np.sqrt(Phi[place, place]), rtol=1e-6)  # inverses of n × n
                np.testing.assert_allclose(tested.df_residual[k], min(df, len(table)), rtol=1e-6)  # likewise
