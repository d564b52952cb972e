"""The prior of a site's effects beside the estimates behind it, as neuroCombat's `drawPriors`."""

from __future__ import annotations

from typing import Any

import numpy as np

from pycombat_gam.errors import OptionError
from pycombat_gam.plot.given import LocationScale, check_effect, location_scale
from pycombat_gam.plot.room import few_ticks, lay_out, legend_below
from pycombat_gam.plot.style import INK, look_of, minus, panels, plain, shown, titled
from pycombat_gam.types import FloatArray
from pycombat_gam.words import count

POINTS = 400


def prior(model: object, site: object, *, effect: str = "location", ax: Any = None) -> Any:
    r"""Draw the density of a site's estimates over the features, and the prior fitted to them.

    Location: γ̂ and N(γ̄, τ²). Scale: δ̂, a variance, and the inverse gamma distribution with shape a and rate b. Where
    the two curves differ much, the parametric prior does not fit. The kernel density has R's default bandwidth
    (`bw.nrd0`); ticks below it are the features. With ``prior="nonparametric"`` the estimates themselves are the prior;
    the parametric prior, which was not used, is drawn for comparison.

    Parameters
    ----------
    model : ComBat
        A fitted model with ``eb=True``.
    site : object
        The site's label.
    effect : str
        ``"location"`` or ``"scale"``.
    ax : matplotlib axes or None
        New axes by default.

    Returns
    -------
    Axes
        The axes.

    Raises
    ------
    OptionError
        If there is no such prior: ``eb=False``, the reference site, or scale with ``mean_only`` or for a single row.
    """
    from scipy.stats import gaussian_kde, invgamma, norm

    check_effect(effect)
    shrunk = location_scale(model, "prior")
    fitted = shrunk.fitted
    b = fitted.levels.index(site, "site")
    label, location = fitted.levels.labels[b], effect == "location"
    sites = fitted.location_scale("prior")
    priors = sites.shrunken.priors
    first, second = (priors.gamma_bar[b], priors.t2[b]) if location else (priors.a_prior[b], priors.b_prior[b])
    if np.isnan(first):
        raise OptionError(f"prior: site '{label}' has no prior of {effect}: {_why(shrunk, b)}")
    informs = ~sites.scale.degenerate
    if fitted.mean.n_rows[b] > 1:
        informs &= ~sites.effects.location_only[b]
    values = (sites.effects.gamma if location else sites.effects.delta)[b, informs]
    fitted_prior = norm(first, np.sqrt(second)) if location else invgamma(first, scale=second)
    low, high = _reach(values, np.asarray(fitted_prior.ppf([0.001, 0.999])))
    grid = np.linspace(low if location else max(low, 1e-6 * high), high, POINTS)
    density = gaussian_kde(values, bw_method=bandwidth(values) / float(values.std(ddof=1)))(grid)
    (ax,) = panels(ax, 1, (5.6, 3.6))
    color = look_of(b).color
    ax.fill_between(grid, density, color=color, alpha=0.18, linewidth=0)
    (estimates,) = ax.plot(grid, density, color=color, linewidth=1.6)
    (curve,) = ax.plot(grid, fitted_prior.pdf(grid), color=INK, linewidth=1.8, linestyle=(0, (5, 1.5)))
    ticks = np.full(values.size, -0.035)
    faint = float(np.clip(60 / values.size, 0.15, 0.8))
    ax.plot(
        values, ticks, "|", color=INK, markersize=6, markeredgewidth=0.7, alpha=faint,
        transform=ax.get_xaxis_transform(), clip_on=False,
    )  # fmt: skip
    ax.set_xlim(grid[0], grid[-1])
    ax.set_ylim(0.0, None)
    ax.tick_params(axis="x", pad=9)
    plain(ax)
    if location:
        ax.set_xlabel("location γ̂ (pooled sd)")
        formula = f"normal, mean {minus(f'{first:.2f}')}, sd {np.sqrt(second):.2f}"
    else:
        ax.set_xlabel("scale δ̂ (× pooled variance)")
        formula = f"inverse gamma, shape {first:.3g}, rate {second:.3g}"
    ax.set_ylabel("density over features")
    lay_out(ax)
    few_ticks(ax)
    used = "not used" if shrunk.prior == "nonparametric" else "prior"
    legend_below(ax, [estimates, curve], [f"estimates of {values.size:,} features", f"{used}: {formula}"])
    under = {
        "parametric": "",
        "nonparametric": "the fit is nonparametric: the estimates themselves are the prior",
        "bayes": "the prior's own parameters at their posterior means",
    }[shrunk.prior]
    titled(ax, f"{effect.capitalize()} of {shown(label, 40)} ({count(int(fitted.mean.n_rows[b]), 'row')})", under)
    return ax


def bandwidth(values: FloatArray) -> float:
    """Return the bandwidth of R's `bw.nrd0`: 0.9 min(sd, IQR/1.34) n^(−1/5) (Silverman 1986, eq. 3.31)."""
    sd = float(values.std(ddof=1))
    spread = min(sd, float(np.subtract(*np.quantile(values, [0.75, 0.25]))) / 1.34) or sd
    return float(0.9 * spread * values.size**-0.2)


def _reach(values: FloatArray, tails: FloatArray) -> tuple[float, float]:
    """Return the range to draw: the estimates with room for the kernel, and the prior without its tails."""
    room = 3.0 * bandwidth(values)
    return float(min(values.min() - room, tails[0])), float(max(values.max() + room, tails[1]))


def _why(model: LocationScale, b: int) -> str:
    """Return why a site has no prior."""
    fitted = model.fitted
    if not model.eb:
        return "the model was fitted with eb=False, where each feature keeps its own estimates; fit with eb=True"
    if b == fitted.reference:
        return "it is the reference, which is not adjusted"
    if model.mean_only:
        return "the model was fitted with mean_only=True; use effect='location'"
    return "it has one row, which has no variance; use effect='location'"
