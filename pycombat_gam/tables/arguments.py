"""Arguments that all models of tables share: texts, choices from a list, names of columns."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from pycombat_gam.errors import OptionError
from pycombat_gam.words import did_you_mean, listing


def check_texts(formula: object, batch: object) -> None:
    """Stop for a formula or batch that is not text, such as a table in the formula's place."""
    if isinstance(batch, list | tuple | pd.Index) and len(batch) > 1 and all(isinstance(name, str) for name in batch):
        joined, made = "_".join(batch), " + '_' + ".join(f"table['{name}'].astype(str)" for name in batch)
        raise OptionError(
            f"batch={list(batch)}: give one column; combine them, table['{joined}'] = {made}, and give batch='{joined}'"
        )
    for name, value, what in (("formula", formula, "the formula"), ("batch", batch, "the column's name")):
        if not isinstance(value, str):
            short = value is None or isinstance(value, int | float)
            shown = f"{name}={value!r}" if short else f"{name} is a {type(value).__name__}"
            raise OptionError(f"{shown}: give {what} as text")


def check_choices(params: Mapping[str, Any], allowed: Mapping[str, Sequence[str]]) -> None:
    """Stop for an argument whose value is not allowed."""
    for name, values in allowed.items():
        value = params[name]
        if not isinstance(value, str) or value not in values:
            hint = did_you_mean(value, values) if isinstance(value, str) else ""
            raise OptionError(f"{name}={value!r}: allowed are {listing(map(repr, values))}{hint}")


def check_seed(seed: object) -> int:
    """Return a seed of random numbers, a whole number from 0 on."""
    if isinstance(seed, bool | np.bool_) or not isinstance(seed, int | np.integer) or seed < 0:
        raise OptionError(f"seed={seed!r}: give a whole number, 0 or more")
    return int(seed)


def check_level(level: object) -> float:
    """Return the coverage of an interval, a number between 0 and 1."""
    if isinstance(level, bool) or not isinstance(level, int | float | np.number) or not 0 < level < 1:
        raise OptionError(f"level={level!r}: give a number between 0 and 1, such as 0.95")
    return float(level)


def names(value: object, argument: str) -> list[str]:
    """Return column names as a list of text; None is none."""
    if value is None:
        return []
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list | tuple | np.ndarray | pd.Index):
        shown = " ".join(reprlib.repr(value).split())
        raise OptionError(f"{argument}={shown}: give a column's name, a list of names, or None")
    for name in value:
        if not isinstance(name, str | int | np.integer):
            raise OptionError(f"{argument} holds {name!r}: give the names of columns")
    return [str(name) for name in value]
