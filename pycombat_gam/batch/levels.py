"""Batch labels: one canonical spelling, an order, and codes.

Labels are compared by their canonical text, so that 3, 3.0 and "3" are one site, whether the table came from memory or
from a CSV file. The order is that of R's `factor`: a categorical keeps its order, numbers sort as numbers, text sorts
by code point (R: by locale). The order decides the order of rows in tables, never a number.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pycombat_gam.errors import DataError, DesignError, OptionError
from pycombat_gam.types import IntArray
from pycombat_gam.words import Remedy, Setting, Worded, did_you_mean, listing, rows_named


def canonical(label: object) -> str:
    """Return the text that stands for a label.

    >>> canonical(3), canonical(3.0), canonical("3"), canonical("3.0"), canonical("03"), canonical("NYU")
    ('3', '3', '3', '3', '03', 'NYU')
    """
    if isinstance(label, bool | np.bool_):
        return str(bool(label))
    if isinstance(label, int | np.integer):
        return str(int(label))
    if isinstance(label, float | np.floating):
        return str(int(label)) if float(label).is_integer() else repr(float(label))
    text = str(label)
    return text.split(".")[0] if _WHOLE.fullmatch(text) else text


FEW = 10
"""Up to this many batches may be real in any table, however small."""
_WHOLE = re.compile(r"-?[0-9]+\.0+")
"""How files spell whole numbers in a column that once held a missing value."""


@dataclass(frozen=True)
class BatchLevels:
    """The batches of a fit, in order."""

    column: str
    labels: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    @classmethod
    def learn(cls, values: pd.Series, column: str) -> BatchLevels:
        """Find the levels of a batch column; missing labels and fewer than two batches are errors."""
        _, uniques = _texts(values, column)
        if isinstance(values.dtype, pd.CategoricalDtype):
            present = set(uniques)
            ordered = [text for text in map(canonical, values.cat.categories) if text in present]
        elif _all_numbers(values):
            ordered = sorted(uniques, key=lambda text: (float(text), text))
        else:
            ordered = sorted(uniques)
        if len(ordered) < 2:
            raise DataError(
                f"batch column '{column}' has one batch ('{ordered[0]}'): ComBat needs at least two; "
                "with one site there is nothing to harmonize"
                if ordered
                else f"batch column '{column}' is empty: there are no rows to fit"
            )
        measured = pd.api.types.is_float_dtype(values.dtype) and any("." in text for text in ordered)
        if measured and 2 * len(ordered) > max(len(values), 2 * FEW):
            raise DataError(_no_sites(column, len(ordered), len(values)))
        return cls(column, tuple(ordered))

    def index(self, label: object, argument: str = "ref_batch") -> int:
        """Return the position of a label that an argument names; a label that isn't there is an error."""
        text = canonical(label)
        if text not in self.labels:
            raise OptionError(
                Worded(
                    Setting(argument),
                    f" '{text}' is not a batch of column '{self.column}', which has: "
                    f"{listing(self.labels, 30)}{self.meant(text)}",
                )
            )
        return self.labels.index(text)

    def look_alikes(self) -> list[tuple[str, ...]]:
        """Return groups of labels that differ in case, spaces or leading zeros only.

        >>> BatchLevels("site", ("Oslo", "oslo ", "1", "01", "NYU")).look_alikes()
        [('Oslo', 'oslo '), ('1', '01')]
        """
        groups: dict[str, list[str]] = {}
        for label in self.labels:
            groups.setdefault(_sound(label), []).append(label)
        return [tuple(group) for group in groups.values() if len(group) > 1]

    def spelled_like(self, label: str) -> str | None:
        """Return the known label that differs from this one in case, spaces or leading zeros only."""
        return next((known for known in self.labels if _sound(known) == _sound(label)), None)

    def meant(self, label: str) -> str:
        """Return ``"; did you mean '001'?"`` if a known label is spelled (nearly) like this one."""
        known = self.spelled_like(label)
        return did_you_mean(label, self.labels) if known is None else f"; did you mean '{known}'?"

    def advice(self, unseen: Sequence[str], new: str | Remedy) -> Worded:
        """Say what to do about labels that were not in the fit.

        Parameters
        ----------
        unseen : the labels; new : what to do where they are new sites.
        """
        alike = [(label, known) for label in unseen if (known := self.spelled_like(label)) is not None]
        if not alike:
            return Worded(new, did_you_mean(unseen[0], self.labels))
        pairs = listing([f"'{label}' is spelled like '{known}'" for label, known in alike], 3)
        zeros = any(label.isdigit() for label, _ in alike)
        how = " (read the column as text, such as read_csv's dtype=str, and leading zeros stay)" if zeros else ""
        others = [] if len(alike) == len(unseen) else ["; for the others, ", new]
        return Worded(f"{pairs}{self.meant(alike[0][0])} Spell sites as in the fit{how}", *others)

    @contextmanager
    def doubted(self, rows: int) -> Iterator[None]:
        """If a fit fails with hardly more rows than batches, say that the column does not hold sites."""
        try:
            yield
        except DataError as error:
            if 2 * len(self) <= rows or len(self) <= FEW:
                raise
            raise (DesignError if isinstance(error, DesignError) else DataError)(
                _no_sites(self.column, len(self), rows)
            ) from error

    def codes(self, values: pd.Series) -> tuple[IntArray, tuple[str, ...]]:
        """Code each row by its batch; unseen batches get the codes after the known ones.

        Returns
        -------
        codes : (n,) integers from 0.
        unseen : labels of the batches not in the fit, sorted; ``codes == len(self) + i`` belongs to ``unseen[i]``.
        """
        texts, uniques = _texts(values, self.column)
        unseen = tuple(sorted(set(uniques) - set(self.labels)))
        position = {text: code for code, text in enumerate(self.labels + unseen)}
        codes = np.array([position[text] for text in uniques], dtype=np.intp)
        return (codes[texts] if codes.size else np.zeros(0, dtype=np.intp)), unseen


def _no_sites(column: str, distinct: int, rows: int) -> str:
    return (
        f"batch column '{column}' has {distinct} distinct values in {rows} rows, so it does not hold sites: name the "
        "column that does"
    )


def _sound(label: str) -> str:
    return "".join(label.casefold().split()).lstrip("0")


def _texts(values: pd.Series, column: str) -> tuple[IntArray, list[str]]:
    """Factorize by canonical text: codes (n,) into the list of distinct texts."""
    blank = [label for label in values.unique() if isinstance(label, str) and not label.strip()]
    missing = (values.isna() | values.isin(blank)).to_numpy()
    if missing.any():
        raise DataError(
            f"batch column '{column}' has missing values in {rows_named(values.index[missing])}: every row "
            "needs a batch; fill them in or remove those rows"
        )
    raw_codes, raw = pd.factorize(values)
    kinds: dict[str, object] = {}
    for label in raw:
        text = canonical(label)
        if text in kinds and kinds[text] != label:
            plain = len({str(other) for other in raw}) == len({canonical(other) for other in raw})
            all_text = f" (table['{column}'].astype(str) makes all of them text)" if plain else ""
            raise DataError(
                f"batch column '{column}' spells one batch two ways, {kinds[text]!r} and {label!r}: use one of "
                f"them{all_text}"
            )
        kinds[text] = label
    texts = list(kinds)
    position = {text: code for code, text in enumerate(texts)}
    lookup = np.array([position[canonical(label)] for label in raw], dtype=np.intp)
    return (lookup[raw_codes] if lookup.size else np.zeros(0, dtype=np.intp)), texts


def _all_numbers(values: pd.Series) -> bool:
    if pd.api.types.is_numeric_dtype(values.dtype) and not pd.api.types.is_bool_dtype(values.dtype):
        return True
    return values.dtype == object and all(
        isinstance(v, int | float | np.number) and not isinstance(v, bool) for v in pd.unique(values)
    )
