"""The form in which every model describes to a report what it did."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from pycombat_gam.account.papers import Reference


@dataclass(frozen=True)
class Account:
    """How a fitted model describes itself, for the paragraph of methods.

    Attributes
    ----------
    method : what the method is called, with its papers, after "removed with".
    sentences : how it was fitted and what harmonized values are, in order.
    papers : the papers it rests on.
    effects : where the user finds every site's effect on every feature; empty where there are none.
    """

    method: str
    sentences: tuple[str, ...]
    papers: tuple[Reference, ...]
    effects: str = ""


@dataclass(frozen=True, eq=False)
class NamedTable:
    """A table of estimates.

    Attributes
    ----------
    name : its identifier; caption : what it shows; where : the code that gives it whole.
    """

    name: str
    caption: str
    frame: pd.DataFrame
    where: str
