"""The names that a contrast may give to the columns of a design: R's, and ``factor[level]``.

R's label of a factor's column runs factor and level together, ``dxASD``; ``dx[ASD]`` names the same column, and
``age:dx[ASD]`` that of an interaction, its parts in any order.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np

from pycombat_gam.design.design import Design
from pycombat_gam.errors import OptionError
from pycombat_gam.formula.contrasts import FactorSpec
from pycombat_gam.types import FloatArray
from pycombat_gam.words import did_you_mean, listing


def contrast_row(design: Design, contrast: Mapping[str, float]) -> FloatArray:
    """Return a contrast as a row (1, p) over the design's columns.

    Raises
    ------
    OptionError
        For an empty contrast, an unknown or penalised column, a weight that is no number.
    """
    if not isinstance(contrast, Mapping) or not contrast:
        raise OptionError(
            f"contrast={contrast!r}: give a weight to each coefficient, such as {{'{_example(design)}': 1}}"
        )
    places = parametric_columns(design)
    row = np.zeros((1, len(design.columns)))
    for name, weight in contrast.items():
        if name not in places:
            known = list(dict.fromkeys(design.columns[place] for place in places.values()))
            hint = did_you_mean(str(name), list(places))
            raise OptionError(f"'{name}' is no coefficient of this model{hint}; these are {listing(known, 20)}")
        if isinstance(weight, bool) or not isinstance(weight, int | float | np.number) or not np.isfinite(weight):
            raise OptionError(f"the weight of '{name}' is {weight!r}: give a finite number")
        row[0, places[name]] += float(weight)
    if not row.any():
        raise OptionError("the contrast has weights of zero only: give one that is not zero")
    return row


def parametric_columns(design: Design) -> dict[str, int]:
    """Return where each parametric column stands, under all of its names."""
    places: dict[str, int] = {}
    specs = design.parametric.specs
    at = 0
    for coding in design.parametric.codings:
        parts = [_names(specs[i], full=full) for i, full in zip(coding.factors, coding.full, strict=True)]
        for combination in itertools.product(*reversed(parts)):
            for order in itertools.permutations(combination):
                for names in itertools.product(*order):
                    places.setdefault(":".join(names), at)
            at += 1
    places.update({name: place for place, name in enumerate(design.columns[:at])})
    return places


def _names(spec: FactorSpec, *, full: bool) -> list[tuple[str, ...]]:
    """Return the names of a factor's columns: R's, and with the level in brackets."""
    bracketed = [
        spec.label if not suffix and not spec.categorical else f"{spec.label}[{suffix}]"
        for suffix in spec.suffixes(full=full)
    ]
    plain = [f"{spec.label}{suffix}" for suffix in spec.suffixes(full=full)]
    return list(zip(plain, bracketed, strict=True))


def _example(design: Design) -> str:
    return next(iter(parametric_columns(design)), "age")
