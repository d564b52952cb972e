"""Pictures of a flow's training; matplotlib is imported with the first."""

from __future__ import annotations

from typing import Any

import pandas as pd


def plot_history(history: pd.DataFrame, ax: Any = None) -> Any:
    """Plot the held-out log-probability (solid) and minus the training loss (dashed) of every stage by epoch.

    Parameters
    ----------
    history : as `FlowSCM.history_`; ax : matplotlib axes, or None for new ones.

    Returns
    -------
    The axes.
    """
    if ax is None:
        import matplotlib.pyplot as plt

        _, ax = plt.subplots(figsize=(7, 4.2), layout="constrained")
    for number, (stage, rows) in enumerate(history.groupby("stage", sort=False)):
        color = f"C{number % 10}"
        if rows["held_out"].notna().any():
            ax.plot(rows["epoch"], rows["held_out"], color=color, label=f"{stage}, held out")
        else:
            ax.plot(rows["epoch"], -rows["loss"], color=color, linestyle="--", label=f"{stage}, training")
    ax.set_xlabel("epoch")
    ax.set_ylabel("log-probability a row")
    ax.legend(fontsize="small", frameon=False)
    return ax
