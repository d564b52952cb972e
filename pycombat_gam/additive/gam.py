"""`gam`: the additive model of one response or of many, fitted as `mgcv::gam` does."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from pycombat_gam.additive.many import GamFits
from pycombat_gam.additive.model import GamFit, Shared
from pycombat_gam.additive.responses import Observations, RowNumbers, patterns_of, sort_out
from pycombat_gam.design.design import Design
from pycombat_gam.design.identified import idle_note
from pycombat_gam.design.rank import check_rank
from pycombat_gam.errors import NotYetError, OptionError, PcgWarning
from pycombat_gam.formula import Formula, parse_formula
from pycombat_gam.penalized.problem import METHODS, Method, Problem
from pycombat_gam.penalized.smoothing import fit_smoothing
from pycombat_gam.progress import progress_bar
from pycombat_gam.types import BoolArray
from pycombat_gam.words import count, did_you_mean, listing

NAMES: dict[str, Method] = {**METHODS, "GCV.Cp": "GCV"}
"""The criteria, one under R's name too."""
FAMILIES = (
    *("gaussian", "binomial", "poisson", "Gamma", "inverse.gaussian", "quasi", "quasibinomial", "quasipoisson"),
    *("nb", "negbin", "Tweedie", "tw", "betar", "scat", "ocat", "ziP", "cox.ph", "mvn", "multinom"),
    *("gaulss", "gammals", "gumbls", "gevlss", "shash", "twlss", "ziplss", "cnorm", "clog", "cpois", "bcg"),
)
"""Families of R's stats and mgcv."""


def gam(
    formula: str,
    data: pd.DataFrame,
    *,
    responses: Sequence[str] | str | None = None,
    method: str = "REML",
    select: bool = False,
    weights: RowNumbers = None,
    offset: RowNumbers = None,
    gamma: float = 1.0,
    sp: Sequence[float] | float | None = None,
    knots: Mapping[str, Sequence[float]] | None = None,
    family: str = "gaussian",
) -> GamFit | GamFits:
    """Fit a Gaussian additive model: the columns and penalties of mgcv, its criterion, its optimum.

    Parameters
    ----------
    formula : str
        ``"thickness ~ s(age, k=10) + sex + te(age, icv) + (1|site)"``; ``cbind(a, b) ~ …`` for several responses, or
        one-sided with `responses`.
    data : DataFrame, shape (n, any)
        Rows with a missing value in a column that is used are left out, and counted in a warning.
    responses : list of str or str, optional
        For a one-sided formula: column names, or a regular expression searched in column names.
    method : {"REML", "ML", "GCV"}
        Criterion for the smoothing parameters; ``"GCV.Cp"`` is the same as ``"GCV"``.
    select : bool
        Penalise the null space of every smooth too, so that a term can shrink to nothing.
    weights : array of shape (n,) or str, optional
        Prior weights (the variance is scale/weight), or the column that holds them; a row of weight 0 is left out.
    offset : array of shape (n,) or str, optional
        Added to the linear predictor of the fit; predictions leave it out, as mgcv's do. ``offset(w)`` in the formula
        is part of predictions.
    gamma : float
        Above 1 for smoother fits: multiplies the effective degrees of freedom in GCV, divides the sample size in REML.
    sp : sequence of float, optional
        One smoothing parameter each, on mgcv's scale; negative ones are estimated.
    knots : mapping of str to sequence of float, optional
        Knots by variable.
    family : {"gaussian"}
        The distribution, with its identity link; R's other families are not here.

    Returns
    -------
    GamFit
        For one response on the formula's left; `GamFits` for several, or with `responses`.

    Raises
    ------
    PcgError
        A subclass that says what was given, what is allowed and how to fix it.

    Notes
    -----
    Wood (2011), JRSS-B 73:3–36; R's `mgcv::gam` with ``family=gaussian()``.

    Examples
    --------
    >>> import pycombat_gam as pcg
    >>> table = pcg.datasets.load_multisite()
    >>> fit = pcg.gam("lh_precuneus_thickness ~ s(age) + sex", table)
    >>> bool(3 < fit.edf.sum() < 12)
    True
    """
    if not isinstance(method, str) or method not in NAMES:
        raise OptionError(
            f"method={method!r}: allowed are {listing(map(repr, NAMES))}{did_you_mean(str(method), list(NAMES))}"
        )
    check_family(family)
    if not isinstance(gamma, int | float) or isinstance(gamma, bool) or not 0 < gamma < np.inf:
        raise OptionError(f"gamma={gamma!r}: give a positive number")
    if not isinstance(select, bool):
        raise OptionError(f"select={select!r}: allowed are True and False")
    parsed = parse_formula(formula)
    observations = sort_out(parsed, data, responses, weights, offset)
    fits: dict[str, GamFit] = {}
    notes: list[str] = []
    groups = patterns_of(observations)
    for rows, members in groups:
        shared = _share(
            parsed, data.loc[rows], observations, rows, NAMES[method], float(gamma), select, sp, knots or {}
        )
        fits |= _fit(shared, observations, rows, members)
        size = np.sqrt(np.einsum("ij,ij->j", shared.X, shared.X))
        notes += idle_note(shared.design, shared.R, size, batches=False)
    notes += _left_out(observations, groups) + _perfect(fits)
    if notes:
        warnings.warn("; ".join(dict.fromkeys(notes)), PcgWarning, stacklevel=2)
    if len(observations.names) == 1 and not observations.several:
        return fits[observations.names[0]]
    return GamFits({name: fits[name] for name in observations.names})


def check_family(family: object) -> None:
    """Stop for a family that is not Gaussian with the identity link.

    Raises
    ------
    NotYetError
        For another one of R's families.
    OptionError
        For anything else.
    """
    plain = family.replace(" ", "").replace("'", "").replace('"', "") if isinstance(family, str) else ""
    if plain in ("gaussian", "gaussian()", "gaussian(identity)", "gaussian(link=identity)"):
        return
    if plain.partition("(")[0] in FAMILIES:
        raise NotYetError(
            f"family={family!r} is not in this version, which fits family='gaussian' (identity link) only; transform "
            "the response, or fit this model in R"
        )
    raise OptionError(
        f"family={family!r}: allowed is 'gaussian', with the identity link"
        f"{did_you_mean(plain, ['gaussian']) if plain else ''}"
    )


def _share(
    formula: Formula,
    table: pd.DataFrame,
    observations: Observations,
    rows: BoolArray,
    method: Method,
    gamma: float,
    select: bool,
    sp: Sequence[float] | float | None,
    knots: Mapping[str, Sequence[float]],
) -> Shared:
    """Build what all responses observed on the same rows have in common."""
    at = {name: np.asarray(values, dtype=np.float64) for name, values in knots.items()}
    design = Design.learn(formula, table, absorb_intercept=False, knots=at, select=select)
    X = design.on(table)
    w = observations.weights[rows]
    root = np.sqrt(w)[:, None]
    Q, R = np.linalg.qr(X * root)
    if R.shape[0] < R.shape[1]:
        # More coefficients than rows: columns of random effects may repeat one another.
        lack = R.shape[1] - R.shape[0]
        Q, R = np.pad(Q, ((0, 0), (0, lack))), np.pad(R, ((0, lack), (0, 0)))
    check_rank(design, X, R, n_batches=0)
    fixed = None if sp is None else np.atleast_1d(np.asarray(sp, dtype=np.float64)).tolist()
    parameters = design.smoothing_parameters(fixed)
    shift = observations.offset[rows] + design.offset(table)
    return Shared(design, table, X, Q, R, w, shift, parameters, method, gamma)


def _fit(shared: Shared, observations: Observations, rows: BoolArray, members: Sequence[int]) -> dict[str, GamFit]:
    """Fit the responses `members` at once."""
    Y = observations.Y[rows][:, list(members)]
    root = np.sqrt(shared.weights)[:, None]
    target = (Y - shared.offset[:, None]) * root
    f = shared.Q.T @ target
    left = target - shared.Q @ f
    # What the first projection leaves by rounding goes with a second one (Kahan, Parlett).
    more = shared.Q.T @ left
    f, left = f + more, left - shared.Q @ more
    problem = Problem(
        R=shared.R,
        f=f,
        residual_ss=np.einsum("ij,ij->j", left, left),
        n=len(Y),
        log_weights=float(np.log(shared.weights).sum()),
    )
    with progress_bar("choosing smoothing parameters", len(members)) as advance:
        solved = fit_smoothing(
            problem, shared.parameters.penalties, method=shared.method, gamma=shared.gamma, advance=advance
        )
    return {
        observations.names[k]: GamFit(shared, observations.names[k], observations.written[k], Y[:, i], solved, i)
        for i, k in enumerate(members)
    }


def _left_out(observations: Observations, groups: list[tuple[BoolArray, list[int]]]) -> list[str]:
    """Count the rows left out, in one note or none."""
    n = observations.usable.size
    observed = observations.weights > 0
    lost = [(n - int((rows | ~observed).sum()), members) for rows, members in groups]
    worst = max(rows for rows, _ in lost)
    if not worst:
        return []
    fewest = min(rows for rows, _ in lost)
    some = f"{fewest:,} to {worst:,} rows" if fewest < worst else count(worst, "row")
    return [f"{some} of {n:,} left out for missing values"]


def _perfect(fits: Mapping[str, GamFit]) -> list[str]:
    """Name the responses that the terms explain to the last digit (R warns at their summary)."""
    exact = [name for name, fit in fits.items() if fit.is_perfect]
    if not exact:
        return []
    return [f"essentially perfect fit of {listing(exact)}: scale, errors, tests and AIC there are rounding"]
