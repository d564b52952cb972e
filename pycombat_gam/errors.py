"""Errors and warnings: what was given, what is allowed, how to fix it. Every message is one line.

The classes say *where* the trouble lies (formula, data, model file, usage); the messages name features, sites,
columns and rows. All errors are `ValueError` subclasses, so that a caller who knows nothing of this package can
still catch them.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


class PcgError(ValueError):
    """Base of every error that this package raises on purpose."""


class FormulaError(PcgError):
    """The formula cannot be read, or names something that is not allowed in one."""


class DataError(PcgError):
    """The table cannot be used as given: missing, infinite, non-numeric, duplicated, unseen."""


class DesignError(DataError):
    """The design cannot be estimated from these rows: confounded, collinear, constant or saturated."""


class OptionError(PcgError):
    """An argument has a value that is not allowed."""


class ModelFileError(PcgError):
    """A saved model is broken, was altered, or is not one of ours."""


class OutputError(PcgError):
    """A result cannot be written where it was asked to go."""


class NotFittedError(PcgError, AttributeError):
    """The model was used before `fit`."""


class TrainingError(PcgError, ArithmeticError):
    """A model's training cannot go on: its objective keeps being not finite."""


class NotYetError(PcgError, NotImplementedError):
    """The request is understood and planned, but this version cannot do it yet."""


class MissingPackageError(PcgError, ImportError):
    """A package that this part needs is not installed; the message has the command that installs it."""


class PcgWarning(UserWarning):
    """Something was handled rather than stopped; the message names the features and sites concerned."""


FLOW = "pip install 'torch>=2.2' 'zuko>=1.2'"
"""What the extra `flow` installs, by names that an index knows wherever the package itself came from."""


def flow_requirements() -> None:
    """Raise `MissingPackageError` unless what the flow needs is installed."""
    missing = [name for name in ("torch", "zuko", "sklearn") if not _installed(name)]
    if missing:
        raise MissingPackageError(f"the flow needs {listing(missing)}: {FLOW}")


def _installed(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ImportError:
        return False


def listing(names: Iterable[object], limit: int = 8) -> str:
    """Join names for a message, the first `limit` of them and the count of the rest.

    >>> listing(["a", "b", "c"], limit=2)
    'a, b and 1 more'
    """
    shown = [str(name) for name in names]
    if len(shown) <= limit:
        return ", ".join(shown)
    return f"{', '.join(shown[:limit])} and {len(shown) - limit} more"


def count(number: int, noun: str, plural: str | None = None) -> str:
    """Write a number with its noun.

    >>> count(1, "row"), count(3, "row")
    ('1 row', '3 rows')
    """
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def rows_named(labels: Sequence[object] | pd.Index[Any], limit: int = 3) -> str:
    """Count rows and name the first of them by their index label; a named index says what its labels are.

    >>> rows_named([4, 7, 9, 12])
    '4 rows (index 4, 7, 9, …)'
    """
    more = ", …" if len(labels) > limit else ""
    name = getattr(labels, "name", None)
    what = "index" if name is None else name
    return f"{count(len(labels), 'row')} ({what} {', '.join(map(str, labels[:limit]))}{more})"


def did_you_mean(given: str, allowed: Sequence[str]) -> str:
    """Return ``"; did you mean 'age'?"`` when something allowed looks like what was given, else ``""``.

    >>> did_you_mean("aeg", ["age", "sex"])
    "; did you mean 'age'?"
    """
    lowered = {name.lower(): name for name in reversed(allowed)}
    close = difflib.get_close_matches(given.lower(), list(lowered), n=1, cutoff=0.6)
    return f"; did you mean '{lowered[close[0]]}'?" if close else ""
