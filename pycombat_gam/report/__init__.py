"""The report of a harmonization: one page that a reviewer opens offline, and the same as Markdown.

`sections` has a function for each section, `parts` says what they are made of.
"""

from pycombat_gam.report.build import FILES, Report, report
from pycombat_gam.report.parts import Section

__all__ = ["FILES", "Report", "Section", "report"]
