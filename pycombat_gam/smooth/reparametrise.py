"""Coordinates in which a basis falls into penalised and free columns, as mgcv's `nat.param` chooses them."""

from __future__ import annotations

import numpy as np

from pycombat_gam.types import FloatArray


def split_eigenvectors(S: FloatArray, rank: int) -> tuple[FloatArray, FloatArray]:
    """Eigenvalues (falling) and eigenvectors of S, the last K − rank of them spanning its null space in echelon form.

    The eigenvectors of a multiple eigenvalue are anyone's choice, yet what mgcv makes of them (t2, fs, cs) depends on
    it. LAPACK's `dsyevr`, which R calls, returns null vectors of which all but one begin with a zero: that choice,
    made here by rotation, does not depend on rounding.
    """
    values, vectors = np.linalg.eigh(_even(S))
    values, vectors = values[::-1].copy(), vectors[:, ::-1].copy()
    null = vectors[:, rank:]
    done = 0
    for row in range(len(null)):
        width = null.shape[1] - done
        if width < 2:
            break
        at = null[row, done:]
        if np.linalg.norm(at) < 1e-7:
            continue
        # Reflect the row onto its first entry: the columns after it begin with one more zero.
        u = at.copy()
        u[0] += np.copysign(np.linalg.norm(u), u[0])
        u *= np.sqrt(2.0) / np.linalg.norm(u)
        null[:, done:] -= np.outer(null[:, done:] @ u, u)
        done += 1
    vectors[:, rank:] = null
    return values, vectors


def demmler_reinsch(X: FloatArray, S: FloatArray, rank: int) -> FloatArray:
    """P (K, K) for which XP has `rank` columns with an identity penalty, then free ones; both of mean square one."""
    R = np.linalg.qr(X)[1]
    half = np.linalg.solve(R.T, S)
    values, vectors = split_eigenvectors(np.linalg.solve(R.T, half.T), rank)
    size = np.ones(values.size)
    size[:rank] = np.sqrt(values[:rank])
    P = np.linalg.solve(R, vectors) / size
    return _unit(X, P, rank)


def by_penalty(X: FloatArray, S: FloatArray, rank: int) -> FloatArray:
    """The same from the penalty's own eigenvectors; free columns along their principal axes, the flattest first."""
    values, vectors = split_eigenvectors(S, rank)
    K = values.size
    size = np.ones(K)
    size[:rank] = np.sqrt(values[:rank])
    norms = ((X @ vectors) ** 2).sum(axis=0) / size**2
    size[rank:] = np.sqrt(norms[rank:] / norms[:rank].mean())
    P = vectors / size
    if rank < K - 1:
        free = X @ P[:, rank:]
        free = free - free.mean(axis=0)
        P[:, rank:] = P[:, rank:] @ np.linalg.eigh(_even(free.T @ free))[1]
    return _unit(X, P, rank)


def _unit(X: FloatArray, P: FloatArray, rank: int) -> FloatArray:
    """Scale penalised and free columns of XP to mean square one, each group as a whole."""
    for group in (slice(0, rank), slice(rank, P.shape[1])):
        if P[:, group].size:
            P[:, group] /= np.sqrt(((X @ P[:, group]) ** 2).mean())
    return np.asarray(P)


def _even(S: np.ndarray) -> FloatArray:
    return np.asarray((S + S.T) / 2)
