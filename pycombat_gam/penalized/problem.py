"""What the engine takes and returns: one design, its penalties, V responses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from pycombat_gam.types import BoolArray, FloatArray

Method: TypeAlias = Literal["REML", "ML", "GCV"]
METHODS: dict[str, Method] = {"REML": "REML", "ML": "ML", "GCV": "GCV"}


@dataclass(frozen=True, eq=False)
class PenaltyBlock:
    """The penalties of one smooth.

    Attributes
    ----------
    columns : where its coefficients stand among the p.
    matrices : each (df, df), positive semi-definite.
    """

    columns: slice
    matrices: tuple[FloatArray, ...]


@dataclass(frozen=True, eq=False)
class Penalties:
    """All penalties of a model: m matrices in blocks that share no column, driven by r parameters.

    Attributes
    ----------
    blocks : one for each penalised smooth.
    L : (m, r); offset : (m,): log λ = Lρ + offset. A fixed λ has a row of zeros, smooths that share one a column.
    """

    blocks: tuple[PenaltyBlock, ...]
    L: FloatArray
    offset: FloatArray


@dataclass(frozen=True, eq=False)
class Problem:
    """A least-squares problem reduced to p columns, for V responses.

    Attributes
    ----------
    R : (p, p) with R'R = X'WX, after columns projected earlier (batch intercepts) are gone. Directions that are
        penalised may be rank deficient, as random effects beside an intercept are.
    f : (p, V) Q'√W y, where √W X = QR.
    residual_ss : (V,) squares that no column explains.
    n : rows of positive weight.
    projected : unpenalised columns projected earlier; log_det_projected : log|X_b'WX_b| of them.
    R_full : (any, p) with R_full'R_full = X'WX *before* that projection; ML needs it. None: nothing was projected.
    log_weights : Σ log w.
    """

    R: FloatArray
    f: FloatArray
    residual_ss: FloatArray
    n: int
    projected: int = 0
    log_det_projected: float = 0.0
    R_full: FloatArray | None = None
    log_weights: float = 0.0


@dataclass(frozen=True, eq=False)
class SmoothingFit:
    """The fit at the best smoothing parameters of each response.

    Attributes
    ----------
    rho : (r, V) logs of the free parameters; sp : (m, V) λ of every penalty.
    coefficients : (p, V); edf : (p, V) diagonal of (X'WX + S)⁻¹X'WX.
    score : (V,) the criterion with mgcv's constants.
    unexplained : (V,) the part of rss that no column explains, however little is penalised.
    rss : (V,) residual sum of squares; scale : (V,) rss/(n − total edf).
    converged : (V,) whether the search ended at a stationary point or a limit.
    at_infinity : (m, V) whether λ ran into the flat region where its smooth has no wiggle left.
    """

    rho: FloatArray
    sp: FloatArray
    coefficients: FloatArray
    edf: FloatArray
    score: FloatArray
    unexplained: FloatArray
    rss: FloatArray
    scale: FloatArray
    converged: BoolArray
    at_infinity: BoolArray
