"""Our fit beside R's, quantity by quantity, and the evidence for it.

`crosscheck` fits ComBat (`of_combat`) or a predictor (`of_predictor`), takes our numbers (`ours`, `measured`), asks R's
engines (`engines`, `R/agreement.R`), looks where a known difference is at work (`known`) and returns an `Agreement`
(`report`), which can be printed, written as HTML, and left as a folder that R alone can run again (`folder`).
"""

from r_bridge.agreement.crosscheck import crosscheck
from r_bridge.agreement.report import Agreement

__all__ = ["Agreement", "crosscheck"]
