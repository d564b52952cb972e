"""ComBat written a second time, slowly, from its equations: a loop over features, lstsq on rows, no shared code.

The rules for awkward features are those of the package's documentation. Used to check what R answers differently or
not at all, and as an oracle for random tables.
"""

from __future__ import annotations

import numpy as np
import pandas as pd


def textbook_combat(
    Y: np.ndarray,
    X: np.ndarray,
    batch: np.ndarray,
    *,
    eb: bool = True,
    prior: str = "parametric",
    mean_only: bool = False,
    ref: object = None,
) -> tuple[np.ndarray, pd.DataFrame, pd.DataFrame]:
    """Return harmonized values, γ* and δ* (batches × features, as numpy-indexed frames).

    Y is (n, V) with NaN for missing cells; X is (n, p) without intercept.
    """
    labels = sorted(set(batch))
    n, V = Y.shape
    B, p = len(labels), X.shape[1]
    member = np.array([[b == label for label in labels] for b in batch], dtype=float)
    X = X - X.mean(axis=0)
    design = np.column_stack([member, X])
    grand, pooled = np.zeros(V), np.zeros(V)
    beta = np.zeros((B + p, V))
    gamma, delta = np.zeros((B, V)), np.ones((B, V))
    flat = np.zeros((B, V), dtype=bool)
    count = np.zeros((B, V))
    for k in range(V):
        seen = ~np.isnan(Y[:, k])
        y, D = Y[seen, k], design[seen]
        offset = y.mean()
        beta[:, k] = np.linalg.lstsq(D, y - offset, rcond=None)[0]
        beta[:B, k] += offset
        residual = y - D @ beta[:, k]
        if ref is None:
            grand[k] = member.sum(axis=0) / n @ beta[:B, k]
            used = np.ones(y.size, dtype=bool)
        else:
            grand[k] = beta[labels.index(ref), k]
            used = D[:, labels.index(ref)] == 1
        pooled[k] = (residual[used] ** 2).mean()
        flat_reference = ref is not None and np.ptp(y[used]) == 0
        # What rounding leaves of an sd.
        if flat_reference or np.sqrt(pooled[k]) <= 1e-14 * np.abs(y).max():
            pooled[k] = 0.0
            continue
        for i in range(B):
            rows = D[:, i] == 1
            count[i, k] = rows.sum()
            flat[i, k] = np.ptp(y[rows]) == 0
            gamma[i, k] = (beta[i, k] - grand[k]) / np.sqrt(pooled[k])
            if not mean_only and not flat[i, k]:
                delta[i, k] = residual[rows].var(ddof=1) / pooled[k]
    touched = pooled > 0
    gamma_star, delta_star = gamma.copy(), delta.copy()
    for i, label in enumerate(labels):
        if label == ref:
            gamma_star[i], delta_star[i] = 0.0, 1.0
            continue
        if not eb:
            continue
        single = (batch == label).sum() == 1
        informs = touched if single else touched & ~flat[i]
        g_bar, t2 = gamma[i, informs].mean(), gamma[i, informs].var(ddof=1)
        m, s2 = delta[i, informs].mean(), delta[i, informs].var(ddof=1)
        for k in np.flatnonzero(touched):
            shots = 1.0 if mean_only else count[i, k]
            alone = flat[i, k] and not (single and mean_only)
            if alone or (mean_only and prior == "parametric"):
                gamma_star[i, k] = (shots * t2 * gamma[i, k] + g_bar) / (shots * t2 + 1)
                delta_star[i, k] = 1.0
            elif prior == "nonparametric":
                others = [h for h in np.flatnonzero(informs) if h != k]
                z_ss = (count[i, k] - 1) * delta[i, k] + count[i, k] * (gamma[i, k] - gamma[i, others]) ** 2
                log_w = -count[i, k] / 2 * np.log(2 * np.pi * delta[i, others]) - z_ss / (2 * delta[i, others])
                w = np.exp(log_w - log_w.max())
                gamma_star[i, k] = (w * gamma[i, others]).sum() / w.sum()
                delta_star[i, k] = (w * delta[i, others]).sum() / w.sum()
        if prior == "parametric" and not mean_only and not single:
            a, b = (2 * s2 + m**2) / s2, (m * s2 + m**3) / s2
            ks = np.flatnonzero(informs)
            g, d, n_k = gamma[i, ks], delta[i, ks], count[i, ks]
            while True:
                g_new = (t2 * n_k * gamma[i, ks] + d * g_bar) / (t2 * n_k + d)
                ss = (n_k - 1) * delta[i, ks] + n_k * (gamma[i, ks] - g_new) ** 2
                d_new = (ss / 2 + b) / (n_k / 2 + a - 1)
                with np.errstate(invalid="ignore", divide="ignore"):
                    change = np.nanmax([np.abs(g_new - g) / g, np.abs(d_new - d) / d])
                g, d = g_new, d_new
                if not change > 1e-4:
                    break
            gamma_star[i, ks], delta_star[i, ks] = g, d
    out = Y.astype(float).copy()
    for i, label in enumerate(labels):
        rows = np.flatnonzero(batch == label)
        if label == ref:
            continue
        for k in np.flatnonzero(touched):
            f = grand[k] + X[rows] @ beta[B:, k]
            sd = np.sqrt(pooled[k])
            out[rows, k] = ((Y[rows, k] - f) / sd - gamma_star[i, k]) / np.sqrt(delta_star[i, k]) * sd + f
    return out, pd.DataFrame(gamma_star, index=labels), pd.DataFrame(delta_star, index=labels)
