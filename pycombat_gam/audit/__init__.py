"""The design audit: can a table be harmonized, and how reliable will later tests be? Verdicts in words."""

from pycombat_gam.audit.compose import audit
from pycombat_gam.audit.result import Audit

__all__ = ["Audit", "audit"]
