"""The start of training: ComBat's fit of the same formula, which is the structured flow without shape."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.linalg import solve_triangular

from pycombat_gam.combat.fitted import FittedComBat
from pycombat_gam.flow.model.frame import Frame
from pycombat_gam.types import BoolArray, FloatArray, IntArray

STIFFEST_TRAINED = 1e7
"""Largest penalty over the data's information: a direction then has 1e-7 degrees of freedom left."""


@dataclass(frozen=True, eq=False)
class Start:
    """ComBat's fit on standardized scales: p columns, B sites, V modelled features.

    Attributes
    ----------
    coefficients : (p, V); location, log_scale : (B, V) shrunken site effects.
    preconditioner : (1 or V, p, p) F with FFᵀ the inverse of the penalised information; 1 if all features share it.
    roots : (m, r, p) square roots of the penalties; smoothing : (m, V) their parameters.
    sizes : (B,) rows; df : (B,) what the fit leaves of them, the mean over features.
    known : (B, V) whether rows estimate more than a location.
    """

    coefficients: FloatArray
    location: FloatArray
    log_scale: FloatArray
    preconditioner: FloatArray
    roots: FloatArray
    smoothing: FloatArray
    sizes: FloatArray
    df: FloatArray
    known: BoolArray


def frame_of(fit: FittedComBat, table: pd.DataFrame) -> Frame:
    """Return the scales of a fit; table : its rows."""
    scale = fit.location_scale("a flow").scale
    design, kept = fit.mean.design, ~scale.degenerate
    columns = design.on(table)
    spread = columns.std(axis=0)
    spread[spread == 0] = 1.0
    location = scale.grand_mean + fit.mean.center @ fit.mean.coefficients
    return Frame(
        design, fit.mean.center, spread, fit.features, kept, location[kept], scale.sd[kept], location[~kept]
    )  # fmt: skip


def start_of(fit: FittedComBat, frame: Frame) -> Start:
    """Return a ComBat fit in the units of a frame."""
    kept, scale, sites = frame.modelled, frame.scale, fit.location_scale("a flow")
    R = fit.mean.R / frame.spread
    information = R.T @ R
    roots, smoothing = _penalties(fit, frame)
    each = roots.transpose(0, 2, 1) @ roots
    size = max(float(np.trace(information)) / max(len(information), 1), np.finfo(float).tiny)
    for j, penalty in enumerate(each):
        stiffest = STIFFEST_TRAINED * size / max(float(np.linalg.norm(penalty, 2)), 1e-300)
        smoothing[j] = np.minimum(smoothing[j], stiffest)
    total: FloatArray = information[None].astype(np.float64)
    if len(each):
        total = total + np.einsum("mv,mpq->vpq", smoothing, each)
    p = len(information)
    # A small ridge fixes directions that neither data nor penalties determine.
    total = total + 1e-10 * size * np.eye(p)
    L = np.asarray(np.linalg.cholesky(total), dtype=np.float64)
    factor: FloatArray = np.stack([solve_triangular(lower, np.eye(p), lower=True).T for lower in L]) if p else L
    return Start(
        coefficients=fit.mean.coefficients[:, kept] * frame.spread[:, None] / scale,
        location=sites.shrunken.gamma[:, kept],
        log_scale=0.5 * np.log(sites.shrunken.delta[:, kept]),
        preconditioner=factor,
        roots=roots,
        smoothing=smoothing,
        sizes=fit.mean.n_rows.astype(np.float64),
        df=fit.mean.df[:, kept].mean(axis=1),
        known=~sites.effects.location_only[:, kept],
    )


def restarted(start: Start, x: FloatArray, columns: FloatArray, site: IntArray, weight: FloatArray) -> Start:
    """Return the start for reweighted rows: penalised least squares with the same smoothing parameters.

    Site effects are not shrunk anew: each changes as its unshrunken estimate does.

    Parameters
    ----------
    x : (n, V) standardized features; columns : (n, p); site : (n,) codes; weight : (n,), positive somewhere in each
        site.
    """
    B = len(start.sizes)
    hot = (site[:, None] == np.arange(B)) * weight[:, None]
    rows = hot.sum(axis=0)

    def centred(values: FloatArray) -> FloatArray:
        within: FloatArray = values - (hot.T @ values / rows[:, None])[site]
        return within

    X, Z = centred(columns), centred(x)
    information, cross = X.T @ (weight[:, None] * X), X.T @ (weight[:, None] * Z)
    each = start.roots.transpose(0, 2, 1) @ start.roots
    total = information[None] + np.einsum("mv,mpq->vpq", start.smoothing, each)
    total = total + 1e-10 * max(float(np.trace(information)), 1.0) * np.eye(len(information))
    coefficients = np.linalg.solve(total, cross.T[..., None])[..., 0].T
    residual = x - columns @ coefficients
    location = hot.T @ residual / rows[:, None]
    spread = hot.T @ (residual - location[site]) ** 2 / np.maximum(rows - 1.0, 1.0)[:, None]
    unweighted = (site[:, None] == np.arange(B)).astype(np.float64)
    rest = x - columns @ start.coefficients
    before = unweighted.T @ rest / start.sizes[:, None]
    scatter = unweighted.T @ (rest - before[site]) ** 2 / np.maximum(start.sizes - 1.0, 1.0)[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        change = 0.5 * np.log(spread / scatter)
    return replace(
        start,
        coefficients=coefficients,
        location=start.location + location - before,
        log_scale=start.log_scale + np.where(start.known & np.isfinite(change), change, 0.0),
    )


def _penalties(fit: FittedComBat, frame: Frame) -> tuple[FloatArray, FloatArray]:
    """Return square roots of all penalties on the frame's columns (m, r, p), and their parameters (m, V)."""
    p, penalties = len(frame.spread), fit.mean.penalties
    roots: list[FloatArray] = []
    for _, columns, S, _ in penalties:
        values, vectors = np.linalg.eigh(S)
        root = np.zeros((p, p))
        root[: len(S), columns] = np.sqrt(np.maximum(values, 0.0))[:, None] * vectors.T
        roots.append(root / frame.spread)
    smoothing = np.array([weight[frame.modelled] for *_, weight in penalties])
    return np.array(roots).reshape(len(roots), p, p), smoothing.reshape(len(roots), int(frame.modelled.sum()))
