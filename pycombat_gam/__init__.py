"""Harmonize data measured at many sites: remove site effects, keep the biology, and check every number against R."""

from pycombat_gam import datasets
from pycombat_gam.additive.gam import gam
from pycombat_gam.additive.many import GamFits
from pycombat_gam.additive.model import GamFit
from pycombat_gam.combat import ComBat
from pycombat_gam.errors import PcgError, PcgWarning
from pycombat_gam.saved import load

__version__ = "0.1.0"
__all__ = ["ComBat", "GamFit", "GamFits", "PcgError", "PcgWarning", "datasets", "gam", "load"]
