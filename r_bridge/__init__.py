"""R beside `pycombat_gam`: run R's own functions, and compare.

Importing this package neither loads rpy2 nor starts R; the first call does. `r_bridge` builds on
`pycombat_gam`, never the reverse.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from r_bridge import session
    from r_bridge.agreement.crosscheck import crosscheck
    from r_bridge.agreement.report import Agreement
    from r_bridge.checkup import Checkup, doctor
    from r_bridge.combat import Harmonized, comfam, longcombat, neurocombat, sva_combat
    from r_bridge.gam_fit import RGamFit, gam
    from r_bridge.lme4 import LmerFit, lmer
    from r_bridge.mgcv import MgcvMean
    from r_bridge.prediction import RmaFit, Roc, SurvFit, rma, roc, survfit

__all__ = [
    "Agreement",
    "Checkup",
    "Harmonized",
    "LmerFit",
    "MgcvMean",
    "RGamFit",
    "RmaFit",
    "Roc",
    "SurvFit",
    "comfam",
    "crosscheck",
    "doctor",
    "gam",
    "lmer",
    "longcombat",
    "neurocombat",
    "rma",
    "roc",
    "session",
    "survfit",
    "sva_combat",
]

_HOMES = {
    "Agreement": "agreement",
    "Checkup": "checkup",
    "Harmonized": "combat",
    "LmerFit": "lme4",
    "MgcvMean": "mgcv",
    "RGamFit": "gam_fit",
    "RmaFit": "prediction",
    "Roc": "prediction",
    "SurvFit": "prediction",
    "comfam": "combat",
    "crosscheck": "agreement",
    "doctor": "checkup",
    "gam": "gam_fit",
    "lmer": "lme4",
    "longcombat": "combat",
    "neurocombat": "combat",
    "rma": "prediction",
    "roc": "prediction",
    "survfit": "prediction",
    "sva_combat": "combat",
}
"""Where each name lives: imported with its first use, so that the command line starts at once."""


def __getattr__(name: str) -> Any:
    if name == "session":
        return import_module(f"{__name__}.session")
    if name not in _HOMES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
