r"""How far a contrast's variance must be raised because the site variances that weight it are estimated too.

Kenward & Roger (1997), Biometrics 53:983: with site variances θ_b estimated from one feature by REML, the covariance
of c'β is Φ + 2Λ. Relative to c'Φc, in the terms of `infer.one_step` and at θ = 1/w,

    κ = 4 [Σ_b (A⁻¹)_bb t'G_bt − Σ_bc (A⁻¹)_bc t'G_bG_ct] / t't.

Weights that V features share are V_eff times as precise (`infer.correlation`): the variance is raised by κ/V_eff.
"""

from __future__ import annotations

import numpy as np

from pycombat_gam.infer.one_step import SiteDesign
from pycombat_gam.types import FloatArray

TOLD = 0.2
"""A site with fewer degrees of freedom tells nothing of its variance."""


def inflation(design: SiteDesign, C: FloatArray) -> float:
    """Return κ of a contrast C (1, p), or its mean over the directions of several (q, p)."""
    sites = np.flatnonzero(design.df > TOLD)
    t = design.directions(C)
    u = design.G[sites] @ t
    inverse = np.linalg.inv(design.A[np.ix_(sites, sites)])
    first = np.einsum("b,pi,bpj->ij", np.diag(inverse), t, u)
    second = np.einsum("bc,bpi,cpj->ij", inverse, u, u, optimize=True)
    return float(4.0 * np.trace(np.linalg.solve(t.T @ t, first - second)) / t.shape[1])
