"""The design audit: is a table fit to be harmonized, and what will later tests be worth? Verdicts in words."""

from pycombat_gam.audit.compose import audit
from pycombat_gam.audit.result import Audit

__all__ = ["Audit", "audit"]
