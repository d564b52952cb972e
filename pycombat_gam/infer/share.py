r"""How much of a term's information lies within sites: what is left of it when sites are accounted for.

For one contrast it is the ratio of its variances in least squares without and with site intercepts,
[(X'M₁X)⁻¹]_jj/[(X'M_BX)⁻¹]_jj; for several the mean of the eigenvalues, 1 less the mean squared partial canonical
correlation with the sites. Smooths count with their whole basis, unpenalised; random effects do not enter.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import null_space

from pycombat_gam.checks.terms import basis_of
from pycombat_gam.penalized.solve import pooled_factor
from pycombat_gam.penalized.sufficient import Statistics
from pycombat_gam.types import FloatArray


def within_share(statistics: Statistics, C: FloatArray) -> float:
    """Return the share for contrasts C (q, p) of a design's columns; NaN where nothing of them varies."""
    R = pooled_factor(statistics.R)[1]
    n = statistics.n
    center = (n / n.sum()) @ statistics.x_mean
    every = np.vstack([R, np.sqrt(n)[:, None] * (statistics.x_mean - center)])
    within = np.arange(len(every)) < len(R)
    # β = C⁺γ + Nδ: γ are the contrasts, δ the rest.
    rest = null_space(C)
    nothing = every[:, :0]
    Q = basis_of(every @ np.linalg.pinv(C), basis_of(every @ rest, nothing))
    if not Q.shape[1]:
        return float("nan")
    left = Q[within]
    held = basis_of(R @ rest, nothing[within])
    left = left - held @ (held.T @ left)
    return float(np.clip((left**2).sum() / Q.shape[1], 0.0, 1.0))
