"""R beside `pycombat_gam`: run R's own functions, and compare.

Importing this package neither loads rpy2 nor starts R; the first call does. `r_bridge` builds on
`pycombat_gam`, never the reverse.
"""

from r_bridge import session
from r_bridge.agreement import Agreement, crosscheck
from r_bridge.combat import Harmonized, comfam, longcombat, neurocombat, sva_combat
from r_bridge.diagnosis import Diagnosis, doctor
from r_bridge.gam_fit import RGamFit, gam
from r_bridge.lme4 import LmerFit, lmer
from r_bridge.mgcv import MgcvMean

__all__ = [
    "Agreement",
    "Diagnosis",
    "Harmonized",
    "LmerFit",
    "MgcvMean",
    "RGamFit",
    "comfam",
    "crosscheck",
    "doctor",
    "gam",
    "lmer",
    "longcombat",
    "neurocombat",
    "session",
    "sva_combat",
]
