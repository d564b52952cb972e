"""Site effects and biology, tested before and after harmonization: one file per question."""

from pycombat_gam.diagnose.diagnose import diagnose
from pycombat_gam.diagnose.diagnosis import Diagnosis

__all__ = ["Diagnosis", "diagnose"]
