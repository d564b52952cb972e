"""How messages and tables are worded: names listed, things counted, tables as plain data."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isnan
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:  # the command line words its messages before numbers are needed
    import pandas as pd

    from pycombat_gam.types import JsonDict


def listing(names: Iterable[object], limit: int = 8) -> str:
    """Join names for a message, the first `limit` of them and the count of the rest.

    >>> listing(["a", "b", "c"], limit=2)
    'a, b and 1 more'
    """
    shown = [str(name) for name in names]
    if len(shown) <= limit:
        return ", ".join(shown)
    return f"{', '.join(shown[:limit])} and {len(shown) - limit} more"


def joined(clauses: Sequence[str], last: str = "and") -> str:
    """Join clauses as a sentence does.

    >>> joined(["a", "b", "c"])
    'a, b and c'
    """
    return clauses[0] if len(clauses) == 1 else f"{', '.join(clauses[:-1])} {last} {clauses[-1]}"


def count(number: int, noun: str, plural: str | None = None) -> str:
    """Write a number with its noun.

    >>> count(1, "row"), count(3, "row")
    ('1 row', '3 rows')
    """
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def percent(share: float, form: str = ".3g") -> str:
    """Write a share as a percentage, with three digits unless `form` says otherwise.

    >>> percent(0.0147), percent(-0.5, "+.1f")
    ('1.47 %', '-50.0 %')
    """
    return f"{100 * share:{form}} %"


def rows_named(labels: Sequence[object] | pd.Index[Any], limit: int = 3) -> str:
    """Count rows and name the first of them by their index label; a named index says what its labels are.

    >>> rows_named([4, 7, 9, 12])
    '4 rows (index 4, 7, 9, …)'
    """
    more = ", …" if len(labels) > limit else ""
    name = getattr(labels, "name", None)
    what = "index" if name is None else name
    return f"{count(len(labels), 'row')} ({what} {', '.join(map(str, labels[:limit]))}{more})"


def did_you_mean(word: str, allowed: Sequence[str]) -> str:
    """Return ``"; did you mean 'age'?"`` when something allowed looks like what was given, else ``""``.

    >>> did_you_mean("aeg", ["age", "sex"])
    "; did you mean 'age'?"
    """
    lowered = {name.lower(): name for name in reversed(allowed)}
    close = difflib.get_close_matches(word.lower(), list(lowered), n=1, cutoff=0.6)
    return f"; did you mean '{lowered[close[0]]}'?" if close else ""


def plain_table(frame: pd.DataFrame) -> JsonDict:
    """Return a table as plain data, row by row; a missing number is None."""
    return {
        str(name): {
            str(key): None if isinstance(value, float) and isnan(value) else value for key, value in row.items()
        }
        for name, row in zip(frame.index, frame.astype(object).to_dict("records"), strict=True)
    }


def printable(text: str) -> str:
    """Return a text without control characters.

    Labels and notes may come from a stranger's model file: they must not drive the terminal.
    """
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)


def covariate_line(name: str, about: JsonDict) -> str:
    """Describe a covariate of the fitted table."""
    if "levels" in about:
        return f"  {name}: " + listing((f"{level!r} {rows:,}" for level, rows in about["levels"].items()), 12)
    return f"  {name}: {about['min']:.4g} to {about['max']:.4g}, mean {about['mean']:.4g}"


NO_VALUE: Final = object()
"""The value of a `Setting` that only names an argument."""


@dataclass(frozen=True)
class Setting:
    """An argument that a message names, with its value: Python's users read ``missing='omit'``.

    Attributes
    ----------
    argument : its name.
    value : what was given, or what is advised; ``...`` for any; `NO_VALUE` to name the argument alone.
    """

    argument: str
    value: object = NO_VALUE

    def __str__(self) -> str:
        if self.value is NO_VALUE:
            return self.argument
        return f"{self.argument}={'…' if self.value is ... else repr(self.value)}"


@dataclass(frozen=True)
class Remedy:
    """Advice to Python's users, under a name by which another interface finds its own advice."""

    name: str
    words: str

    def __str__(self) -> str:
        return self.words


class Worded(str):
    """A message that knows which of its words name arguments; as text it is written for Python's users.

    Attributes
    ----------
    parts : text, `Setting` and `Remedy`, in order; a `Worded` among them is replaced by its parts.

    Examples
    --------
    >>> message = Worded("missing values: use ", Setting("missing", "omit"))
    >>> message, message.parts[1].argument
    ("missing values: use missing='omit'", 'missing')
    """

    parts: tuple[str | Setting | Remedy, ...]

    def __new__(cls, *parts: str | Setting | Remedy) -> Worded:
        """Join parts."""
        made = super().__new__(cls, "".join(map(str, parts)))
        made.parts = tuple(inner for part in parts for inner in (part.parts if isinstance(part, Worded) else (part,)))
        return made

    def __repr__(self) -> str:
        return repr(str(self))


def in_one(messages: Iterable[str]) -> Worded:
    """Join messages by semicolons."""
    parts: list[str] = []
    for message in messages:
        parts += ["; ", message] if parts else [message]
    return Worded(*parts)
