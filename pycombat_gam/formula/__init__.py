"""R formula → terms → columns. Only the parametric part becomes columns here; patsy codes its contrasts."""

from pycombat_gam.formula.formula import Formula, RandomTerm, SmoothTerm, Term
from pycombat_gam.formula.terms import parse_formula

__all__ = ["Formula", "RandomTerm", "SmoothTerm", "Term", "parse_formula"]
