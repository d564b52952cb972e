"""Harmonize data measured at many sites: remove site effects, keep the biology, and check every number against R."""

from typing import TYPE_CHECKING, Any

from pycombat_gam import datasets, plot
from pycombat_gam.additive.gam import gam
from pycombat_gam.additive.many import GamFits
from pycombat_gam.additive.model import GamFit
from pycombat_gam.audit import Audit, audit
from pycombat_gam.combat import ComBat
from pycombat_gam.diagnose import Diagnosis, diagnose
from pycombat_gam.errors import PcgError, PcgWarning
from pycombat_gam.report import Report, report
from pycombat_gam.saved import load

if TYPE_CHECKING:
    from pycombat_gam.flow.harmonizer import FlowSCM

__version__ = "0.1.0"
__all__ = [
    "Audit",
    "ComBat",
    "Diagnosis",
    "FlowSCM",
    "GamFit",
    "GamFits",
    "PcgError",
    "PcgWarning",
    "Report",
    "audit",
    "datasets",
    "diagnose",
    "gam",
    "load",
    "plot",
    "report",
]


def __getattr__(name: str) -> Any:
    """Import torch with the first use of `FlowSCM`, and not before."""
    if name != "FlowSCM":
        raise AttributeError(f"module 'pycombat_gam' has no attribute '{name}'")
    from pycombat_gam.errors import flow_requirements

    flow_requirements()
    from pycombat_gam.flow.harmonizer import FlowSCM

    return FlowSCM
