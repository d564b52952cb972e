"""The number of rows that a flow needs, and notes where there are fewer."""

from __future__ import annotations

from pycombat_gam.batch.levels import BatchLevels
from pycombat_gam.flow.mechanisms.structured import MOST_CORRELATED
from pycombat_gam.types import IntArray
from pycombat_gam.words import Setting, Worded, listing

FEW_ROWS = 10
"""Fewest rows of a site of the structured flow without a note: smaller sites are shrunk strongly to the others."""
ROWS_FOR_A_NETWORK = 200
"""Rows per site with which flows of the paper's family remove site effects as well as ComBat does."""


def size_notes(flow: str, levels: BatchLevels, n_rows: IntArray, V: int) -> list[str]:
    """Note sites with too few rows for what the flow estimates, and too many features for their covariance."""
    structured = flow == "structured"
    notes = []
    if structured and V > MOST_CORRELATED:
        notes.append(f"more than {MOST_CORRELATED:,} features: log_prob treats them as independent given their parents")
    enough = FEW_ROWS if structured else ROWS_FOR_A_NETWORK
    few = [f"{label} ({rows:,})" for label, rows in zip(levels.labels, n_rows, strict=True) if 1 < rows < enough]
    if few and structured:
        notes.append(
            f"few rows at {listing(few)}: the estimated effects of these sites rest largely on the other sites"
        )
    elif few:
        notes.append(
            Worded(
                f"flow='{flow}' estimates networks and needs about {ROWS_FOR_A_NETWORK} rows per site; there are fewer "
                f"at {listing(few)}: expect site effects to remain, or use ",
                Setting("flow", "structured"),
            )
        )
    return notes
