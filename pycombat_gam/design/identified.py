r"""Whether the data identify the variances of random effects: apart from the residual variance and one another.

With P the projection that takes batches and unpenalised columns out, a response has covariance

    σ² P + Σ_j σ_j² V_j,      V_j = P Z_j Z_j' P,

so that its variances are identified where P, V_1, …, V_m are linearly independent. σ² is identified where the columns,
penalised or not, leave a row: R's `lme4` asks for fewer levels than rows, `mgcv` for fewer coefficients than rows. Here
the rank decides, because columns may repeat. The others are identified where the Gram matrix of the inner products
tr(V_jV_k) is of full rank; two factors that group the rows alike make it singular.

V_j = 0 is another matter, a random effect in the span of the unpenalised columns (a random country beside a fixed
site): its variance is zero, and the fit is the one without it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pycombat_gam.design.design import Design
from pycombat_gam.penalized.solve import RANK_TOLERANCE
from pycombat_gam.penalized.whiten import INSIDE
from pycombat_gam.smooth.assemble import Smooth
from pycombat_gam.types import FloatArray
from pycombat_gam.words import count, listing

SINGULAR = 1e-10
"""An eigenvalue of the Gram matrix, its diagonal scaled to one, that counts as zero.

Exact dependence leaves rounding, 1e-15. One pair of rows among n singletons leaves about 2/n.
"""


@dataclass(frozen=True, eq=False)
class Held:
    """What the unpenalised columns leave of a penalised smooth, on the scale of its penalty.

    Attributes
    ----------
    smooth : whose columns these are; key : smooths of one key share their variance.
    K : (p, r), with K K' = V_j in the coordinates of R.
    """

    smooth: Smooth
    key: str
    K: FloatArray


def rows_used_up(R: FloatArray, n: int, n_batches: int) -> bool:
    """Whether batches and the columns of R (p, p), penalised ones included, leave none of n rows."""
    size = np.sqrt(np.einsum("ij,ij->j", R, R))
    if n_batches + int((size > 0).sum()) < n:
        return False
    values = np.linalg.svd(R[:, size > 0] / size[size > 0], compute_uv=False)
    return n_batches + int((values > RANK_TOLERANCE * values.max(initial=0.0)).sum()) >= n


def held_parts(design: Design, R: FloatArray, size: FloatArray) -> list[Held]:
    """Collect what is left of every random effect; its K is empty where nothing is.

    Parameters
    ----------
    design : p columns, unpenalised ones of full rank; R : (p, p) R'R is their cross product within batches.
    size : (p,) length of each column before batches are taken out: rounding scales with it.
    """
    X_free = R @ design.unpenalised().basis
    Q = np.linalg.qr(X_free / np.sqrt(np.einsum("ij,ij->j", X_free, X_free)))[0]
    parts = []
    for smooth, columns in design.random_effects:
        for j, S in enumerate(smooth.penalties):
            # Penalties of random effects are diagonal.
            members = np.flatnonzero(np.diag(S) > 0)
            root = np.sqrt(np.diag(S)[members])
            members += columns.start
            left = R[:, members] - Q @ (Q.T @ R[:, members])
            left -= Q @ (Q.T @ left)
            lives = np.sqrt(np.einsum("ij,ij->j", left, left)) > INSIDE * size[members]
            parts.append(Held(smooth, f"{smooth.id or smooth.label} {j}", left[:, lives] / root[lives]))
    return parts


def idle_effects(design: Design, R: FloatArray, size: FloatArray) -> list[str]:
    """Name the terms that add nothing to batches and the other terms, so that their effect is zero.

    Random effects inside the span of what is not penalised, and smooths whose columns terms before them have already.

    Parameters
    ----------
    design, R, size : as in `held_parts`.
    """
    gone = [smooth.label for smooth in design.smooth.smooths if not smooth.df]
    if not design.random_effects:
        return gone
    alive: dict[str, bool] = {}
    for part in held_parts(design, R, size):
        alive[part.smooth.label] = alive.get(part.smooth.label, False) or part.K.shape[1] > 0
    return [*gone, *(label for label, lives in alive.items() if not lives)]


def idle_note(design: Design, R: FloatArray, size: FloatArray, *, batches: bool) -> list[str]:
    """Word what `idle_effects` found, in one note or none."""
    idle = idle_effects(design, R, size)
    if not idle:
        return []
    beside = "batch and the other terms" if batches else "the other terms"
    verb, effect = ("adds", "its effect is") if len(idle) == 1 else ("add", "their effects are")
    return [f"{listing(idle)} {verb} nothing to {beside}: {effect} zero"]


def find_unidentified(design: Design, X: FloatArray, R: FloatArray, n_batches: int) -> str:
    """Say which random effects have variances that the rows cannot separate; empty where all are identified.

    Parameters
    ----------
    design : p columns, unpenalised ones of full rank; X : (n, p) its values, in `n_batches` batches.
    R : (p, p) R'R is their cross product within batches.
    """
    n = len(X)
    random = [smooth for smooth, _ in design.random_effects]
    if not random:
        return ""
    if rows_used_up(R, n, n_batches):
        return _used_up(design, random, X, n_batches)
    by_variance: dict[str, list[Held]] = {}
    for part in held_parts(design, R, np.sqrt(np.einsum("ij,ij->j", X, X))):
        if part.K.shape[1]:
            by_variance.setdefault(part.key, []).append(part)
    groups = list(by_variance.values())
    if not groups:
        return ""
    gram = np.empty((len(groups), len(groups)))
    for i, parts in enumerate(groups):
        for j, others in enumerate(groups[: i + 1]):
            gram[i, j] = gram[j, i] = sum(float(((a.K.T @ b.K) ** 2).sum()) for a in parts for b in others)
    size = np.sqrt(np.diag(gram))
    values, vectors = np.linalg.eigh(gram / np.outer(size, size))
    if values[0] > SINGULAR:
        return ""
    involved = np.flatnonzero(np.abs(vectors[:, 0]) > 1e-4)
    labels = dict.fromkeys(part.smooth.label for k in involved for part in groups[k])
    return (
        f"{listing(labels)} group the rows alike, so that their variances cannot be separated: "
        "keep one of them in the formula"
    )


def _used_up(design: Design, random: list[Smooth], X: FloatArray, n_batches: int) -> str:
    """Word that no residual is left, or that one factor has as many levels as there are rows."""
    n = len(X)
    for smooth in random:
        levels = int((X[:, design.term_slices[smooth.label]] != 0).any(axis=0).sum())
        if smooth.random_intercept and levels >= n:
            return (
                f"{smooth.label} has {count(levels, 'level')} for {count(n, 'row')}, so that its variance cannot be "
                "separated from the residual variance: it needs fewer levels than rows; remove it from the formula"
            )
    columns = sum(smooth.df for smooth in random)
    others = len(design.columns) - columns
    terms = [count(n_batches, "batch", "batches")] if n_batches else []
    terms += [count(others, "covariate column")] if others else []
    return (
        f"{count(n, 'row')} for {', '.join([*terms, count(columns, 'column')])} of {listing(s.label for s in random)} "
        "leave no residual variance: remove a random effect from the formula, or give more rows"
    )
