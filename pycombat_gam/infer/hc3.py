r"""Tests whose variances come from the squared residuals of rows: for variances that differ within sites.

HC3 (MacKinnon & White 1985, J Econometrics 29:305) in the weighted fit with site intercepts. With x̃_i the row of the
design less its site's mean, a_i = w_ix̃_i'Φc and the leverage h_i = 1/n_b + w_ix̃_i'Φx̃_i,

    Var c'β = Σ a_i² e_i²/(1 − h_i)²,      df = n − p − B.

Rows that are fitted exactly, h_i = 1, tell nothing and are left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import solve_triangular

from pycombat_gam.infer.contrast import Tested, f_test, t_test
from pycombat_gam.infer.one_step import OneStep
from pycombat_gam.penalized.sufficient import blocks
from pycombat_gam.types import FloatArray, IntArray

EXACT = 1e-9


@dataclass(frozen=True, eq=False)
class RawRows:
    """Rows of a fit.

    Attributes
    ----------
    X : (n, p) design; Y : (n, V) features, less the formula's offset; codes : (n,) sites.
    """

    X: FloatArray
    Y: np.ndarray
    codes: IntArray

    def of(self, members: IntArray) -> RawRows:
        """Return the rows that features with the same missing cells are observed on, and these features."""
        seen = ~np.isnan(self.Y[:, members[0]])
        return RawRows(self.X[seen], self.Y[np.ix_(seen, members)], self.codes[seen])


def hc3_test(fit: OneStep, C: FloatArray, rows: RawRows, raised: float) -> Tested:
    """Test contrasts C (q, p) in k features, from the rows of the fit.

    Parameters
    ----------
    raised : what the variances are multiplied by for the weights' own error.
    """
    X, Y, codes = rows.X, rows.Y, rows.codes
    q, k = len(C), Y.shape[1]
    w, n = fit.design.weights[codes], np.bincount(codes, minlength=fit.design.n.size)
    means = np.zeros((n.size, X.shape[1]))
    np.add.at(means, codes, X)
    means /= np.maximum(n, 1)[:, None]
    centred = solve_triangular(fit.design.R, ((X - means[codes]) * np.sqrt(w)[:, None]).T, trans="T")
    leverage = 1.0 / n[codes] + np.einsum("pi,pi->i", centred, centred)
    useful = leverage < 1.0 - EXACT
    a = (centred.T @ fit.design.directions(C)) * (np.sqrt(w) / np.where(useful, 1.0 - leverage, np.inf))[:, None]
    covariance = np.empty((k, q, q))
    for columns, block in blocks(Y, np.arange(len(Y))):
        residual = block - X @ fit.coefficients[:, columns]
        location = np.zeros((n.size, residual.shape[1]))
        np.add.at(location, codes, residual)
        residual -= (location / np.maximum(n, 1)[:, None])[codes]
        covariance[columns] = np.einsum("is,it,ik->kst", a, a, residual**2, optimize=True)
    covariance *= raised
    estimate, df = C @ fit.coefficients, np.full(k, fit.total_df)
    return t_test(estimate[0], covariance[:, 0, 0], df) if q == 1 else f_test(estimate, covariance, df)
