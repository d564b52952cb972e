r"""Cholesky factors of many small matrices at once, one for each feature; features are on the last axis.

LAPACK is called matrix by matrix and spends most of its time on the call where matrices are as small as a formula has
columns. Here each step of the factorization runs over all features (Golub & Van Loan §4.2, column by column). Large
matrices, of random effects with many groups, are left to LAPACK.
"""

from __future__ import annotations

import numpy as np

from pycombat_gam.types import FloatArray

LARGE = 32
"""Rows from which LAPACK is faster."""
LEAST_PIVOT = 1e-14
"""A pivot below this share of its diagonal is rounding."""


def cholesky(P: FloatArray) -> FloatArray:
    """Return lower triangular L with LL' = P for every feature; P (q, q, v) positive definite."""
    if len(P) > LARGE:
        try:
            return np.ascontiguousarray(np.linalg.cholesky(P.transpose(2, 0, 1)).transpose(1, 2, 0))
        except np.linalg.LinAlgError:
            pass  # a pivot that is rounding: bounded below
    L = np.zeros_like(P)
    for j in range(len(P)):
        column = P[j:, j] - np.einsum("ikv,kv->iv", L[j:, :j], L[j, :j]) if j else P[j:, j]
        pivot = np.maximum(column[0], LEAST_PIVOT * P[j, j])
        L[j:, j] = column / np.sqrt(pivot)
        L[j, j] = np.sqrt(pivot)
    return L


def forward(L: FloatArray, right: FloatArray) -> FloatArray:
    """Solve Lx = right (q, v)."""
    x = np.empty_like(right)
    for j in range(len(L)):
        x[j] = (right[j] - np.einsum("kv,kv->v", L[j, :j], x[:j])) / L[j, j]
    return x


def backward(L: FloatArray, right: FloatArray) -> FloatArray:
    """Solve L'x = right (q, v)."""
    x = np.empty_like(right)
    for j in range(len(L) - 1, -1, -1):
        x[j] = (right[j] - np.einsum("kv,kv->v", L[j + 1 :, j], x[j + 1 :])) / L[j, j]
    return x
