"""Our numbers for a study, quantity by quantity, with the unit that a difference is measured in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pycombat_gam.combat.fitted import FittedComBat
from pycombat_gam.types import FloatArray
from r_bridge.agreement.inference import site_weights, tests
from r_bridge.study import Study

SMOOTH = 1e-5
"""Both searches end at a gradient near 1e-6 of the score, which moves a curve by less than this."""
LINEAR = 1e-8
"""Both solve one least-squares problem in double precision, and iterate the same shrinkage."""


@dataclass(frozen=True, eq=False)
class Quantity:
    """One thing to compare.

    Attributes
    ----------
    name : as in the report; values : rows × features; unit : rows × features or 1 × features, what 1 means.
    measured_in : the unit in words; rows : what the rows are, ``"subjects"``, ``"sites"``, ``"terms"``,
        ``"tests"``, one of each term that can be tested, or ``"measures"`` that are pooled over sites.
    tolerance : the largest difference that counts as agreement; reason : for it.
    """

    name: str
    values: FloatArray
    unit: FloatArray
    measured_in: str
    rows: str
    tolerance: float
    reason: str


def quantities(fit: FittedComBat, study: Study) -> dict[str, Quantity]:
    """Return everything that an engine may be compared with, by name."""
    sites, mean, X = fit.location_scale("crosscheck"), fit.mean, fit.mean.design.on(study.given.covariates)
    sd = np.where(sites.scale.degenerate, 1.0, sites.scale.sd)[None]
    slices = mean.design.smooth_slices
    smooth = bool(slices)
    tolerance = SMOOTH if smooth else LINEAR
    reason = (
        "smoothing parameters are found by search, on both sides to a gradient of about 1e-6"
        if smooth
        else "one least-squares problem in double precision"
    )
    by_name: dict[str, Quantity] = {}

    def add(
        name: str, values: FloatArray, unit: FloatArray, measured_in: str, rows: str, limit: float = tolerance,
        why: str = reason,
    ) -> None:  # fmt: skip
        by_name[name] = Quantity(name, np.asarray(values, dtype=np.float64), unit, measured_in, rows, limit, why)

    taken = {j for columns in slices for j in range(columns.start, columns.stop)}
    parametric = [j for j in range(X.shape[1]) if j not in taken]
    if parametric:
        spread = X[:, parametric].std(axis=0)[:, None]
        add(
            "coefficients", mean.coefficients[parametric], sd / spread, "residual sd, for one sd of the column", "terms"
        )
    offset = mean.design.offset(study.given.covariates)[:, None]
    add("fitted", X @ mean.coefficients + mean.intercepts[study.codes] + offset, sd, "residual sd", "subjects")
    for label, columns in zip(mean.smoothing.smooths, slices, strict=True):
        add(f"curve {label}", X[:, columns] @ mean.coefficients[columns], sd, "residual sd", "subjects")
    if smooth:
        weight = sensitivity(fit)
        with np.errstate(divide="ignore"):
            logs = np.maximum(np.log(mean.smoothing.parameters), -300.0)
        where = "the score is flat at its minimum, so its square root counts here"
        add("log smoothing parameters", logs, 1.0 / weight, "degrees of freedom it moves", "terms", 1e-3, where)
        add("edf", mean.smoothing.edf, np.ones_like(sd), "degrees of freedom", "terms", 1e-3, where)
        add("score", mean.smoothing.score, np.ones_like(sd), mean.smoothing.criterion, "terms", 1e-6,
            "the criterion itself, which both minimise")  # fmt: skip
    add("grand mean", sites.scale.grand_mean[None], sd, "residual sd", "terms")
    add("pooled variance", sites.scale.var_pooled[None], sd**2, "share of it", "terms")
    ones = np.ones_like(sd)
    add("gamma hat", sites.effects.gamma, ones, "residual sd", "sites")
    add("delta hat", sites.effects.delta, ones, "ratio of variances", "sites")
    add("gamma star", sites.shrunken.gamma, ones, "residual sd", "sites")
    add("delta star", sites.shrunken.delta, ones, "ratio of variances", "sites")
    Y = study.Y.to_numpy()
    harmonized = np.empty_like(Y)
    sites.adjust(Y, mean.rows(study.given.covariates, sites.level), study.codes, harmonized)
    add("harmonized", harmonized, sd, "residual sd", "subjects")
    weights = None if smooth else site_weights(mean, fit.correlation)
    moved = "smoothing parameters move tests √n times as much as curves" if smooth else reason
    for column in tests(mean, weights):
        add(column.name, column.values, column.unit, column.measured_in, "tests", 1e-3 if smooth else LINEAR, moved)
    return by_name


def sensitivity(fit: FittedComBat) -> FloatArray:
    """How many degrees of freedom a unit of log λ moves, for each smoothing parameter and feature.

    tr(H⁻¹ λS H⁻¹ X'X), H = X'X + ΣλS, from the blocks of one QR of X's factor over the square roots of all λS, which
    stays exact for a practically infinite λ: it moves none, and may be any large number.
    """
    mean = fit.mean
    p = mean.coefficients.shape[0]
    roots: list[FloatArray] = []
    for smooth, columns in zip(mean.design.smooth.smooths, mean.design.smooth_slices, strict=True):
        for S in smooth.penalties if not smooth.fixed else ():
            values, vectors = np.linalg.eigh(S)
            kept = values > values.max() * 1e-12
            root = np.zeros((int(kept.sum()), p))
            root[:, columns] = np.sqrt(values[kept])[:, None] * vectors[:, kept].T
            roots.append(root)
    parameters = mean.smoothing.parameters
    if len(roots) != len(parameters):
        # Shared by an id, or given with the term: each counts as it is.
        return np.ones_like(parameters)
    out = np.empty_like(parameters)
    for k in range(parameters.shape[1]):
        # Large rows first: Householder's QR then keeps the digits of the small ones.
        order = np.argsort(-parameters[:, k])
        blocks = [np.sqrt(parameters[j, k]) * roots[j] for j in order]
        Q = np.linalg.qr(np.vstack([*blocks, mean.R]))[0]
        ends = np.cumsum([0, *(len(block) for block in blocks)])
        data = Q[ends[-1] :]
        for place, j in enumerate(order):
            out[j, k] = float(((Q[ends[place] : ends[place + 1]] @ data.T) ** 2).sum())
    return np.maximum(out, 1e-12)
