"""How much of each site's unshrunken estimates empirical Bayes kept.

Location: the slope of γ* on γ̂ over the features, 1 without shrinkage and 0 where a site takes its mean over features.
Scale: the same for log δ. The reference site has none.
"""

from __future__ import annotations

import numpy as np

from pycombat_gam.combat.estimates import Estimates
from pycombat_gam.diagnose.rows import rows
from pycombat_gam.types import FloatArray


def shrinkage(estimates: Estimates, sizes: np.ndarray) -> list[dict[str, np.ndarray]]:
    """Return the share kept and the size of the site effects; a row per site and measure.

    Parameters
    ----------
    estimates : estimated site effects; sizes : (B,) rows of each site.
    """
    sites = estimates.gamma_hat.index.to_numpy(dtype=object)
    touched = (estimates.gamma_hat != 0).any().to_numpy()
    hat, star, delta_hat, delta_star = (
        getattr(estimates, name).to_numpy()[:, touched]
        for name in ("gamma_hat", "gamma_star", "delta_hat", "delta_star")
    )
    before, after = np.log(_positive(delta_hat)), np.log(delta_star)
    measures = {
        "location kept": slope(hat, star),
        "scale kept": slope(before, after),
        "location, root mean square": np.sqrt((star**2).mean(axis=1)),
        "scale, geometric mean": np.exp(after.mean(axis=1) / 2),
    }
    return [
        rows(aspect="shrinkage", measure=measure, site=sites, value=value, n=sizes)
        for measure, value in measures.items()
    ]


def _positive(delta: FloatArray) -> FloatArray:
    return np.where(delta > 0, delta, np.nan)


def slope(x: FloatArray, y: FloatArray) -> FloatArray:
    """Return the slope of each row of y on the same row of x."""
    known = np.isfinite(x) & np.isfinite(y)
    n = known.sum(axis=1, keepdims=True)
    x, y = np.where(known, x, 0.0), np.where(known, y, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        dx, dy = np.where(known, x - x.sum(axis=1, keepdims=True) / n, 0.0), y - y.sum(axis=1, keepdims=True) / n
        return np.asarray((dx * dy).sum(axis=1) / (dx**2).sum(axis=1))
