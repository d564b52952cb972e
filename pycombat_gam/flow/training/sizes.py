"""How many rows a flow needs, and what is said where there are fewer."""

from __future__ import annotations

from pycombat_gam.batch.levels import BatchLevels
from pycombat_gam.flow.mechanisms.structured import MOST_CORRELATED
from pycombat_gam.types import IntArray
from pycombat_gam.words import Setting, Worded, listing

FEW_ROWS = 10
"""A site of the structured flow with fewer rows leans on the others, which is said."""
ROWS_FOR_A_NETWORK = 200
"""Rows a site that the flows of the paper's family need before they remove site effects as well as ComBat does."""


def size_notes(flow: str, levels: BatchLevels, n_rows: IntArray, V: int) -> list[str]:
    """Say where the flow has few rows for what it estimates, or too many features for their covariance."""
    structured = flow == "structured"
    notes = []
    if structured and V > MOST_CORRELATED:
        notes.append(f"more than {MOST_CORRELATED:,} features: log_prob takes them as independent given their parents")
    enough = FEW_ROWS if structured else ROWS_FOR_A_NETWORK
    few = [f"{label} ({rows:,})" for label, rows in zip(levels.labels, n_rows, strict=True) if 1 < rows < enough]
    if few and structured:
        notes.append(f"few rows at {listing(few)}: what such a site does rests largely on the other sites")
    elif few:
        notes.append(
            Worded(
                f"flow='{flow}' estimates networks and needs about {ROWS_FOR_A_NETWORK} rows a site; fewer are at "
                f"{listing(few)}: expect site effects to remain, or use ",
                Setting("flow", "structured"),
            )
        )
    return notes
