"""The R code of this package: files in `R/` that run as they are, in R without Python too."""

from __future__ import annotations

from functools import cache
from importlib.resources import files


@cache
def text(name: str) -> str:
    """Return a file of `R/`, by name without its ending."""
    return (files("r_bridge") / "R" / f"{name}.R").read_text(encoding="utf-8")


def function(name: str, *sources: str) -> str:
    """Return the text that defines everything in these files and evaluates to one function of theirs.

    >>> from r_bridge import session
    >>> session.call(function("posterior_mean", "combat"), g_hat=[1.0], g_bar=0.0, n=3, d=1.0, t2=1.0)
    array([0.75])
    """
    return "\n".join([*(text(source) for source in sources), name])
