"""The options of a smooth, read from its call, and the basis that follows from them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from pycombat_gam.errors import FormulaError
from pycombat_gam.formula.formula import SmoothTerm
from pycombat_gam.formula.nodes import deparse
from pycombat_gam.smooth.bases import NAMES, check_name, learn_margin
from pycombat_gam.smooth.basis import Basis, BasisOptions, Values
from pycombat_gam.smooth.margins import learn_margins
from pycombat_gam.smooth.random import FactorSmoothBasis
from pycombat_gam.smooth.tensor import SplitTensorBasis, TensorBasis
from pycombat_gam.types import FloatArray
from pycombat_gam.words import listing

MARGIN_K = 5
"""Default dimension of a margin of one variable."""
WITHOUT_ORDER = ("cr", "cs", "cc", "re")
"""Bases that take no `m`."""
OF_ONE_VARIABLE = ("cr", "cs", "ps", "cp")
"""Bases for which mgcv puts a thin plate spline in a margin of several variables."""


@dataclass(frozen=True)
class TermOptions:
    """Options of one term that every kind of smooth has.

    Attributes
    ----------
    where : the call, for messages; fixed : fx=TRUE; id, sp : of the smoothing parameters.
    pc : the point at which the smooth is zero, by variable; None for a sum of zero.
    interaction : it is a ti(), whose main effects are left out.
    """

    where: str
    fixed: bool
    id: str | None
    sp: tuple[float, ...] | None
    pc: dict[str, float] | None
    interaction: bool


def read_options(term: SmoothTerm) -> TermOptions:
    """Read what does not depend on the data."""
    where = deparse(term.call)
    variables = [deparse(node) for node in term.args]
    fx = _list(term.option("fx", False))
    if not all(isinstance(flag, bool) for flag in fx):
        raise FormulaError(f"{where}: fx must be TRUE or FALSE")
    label = term.option("id")
    sp = None if term.option("sp") is None else tuple(_numbers(term.option("sp"), "sp", where))
    pc = term.option("pc")
    point: dict[str, float] | None = None
    if pc is not None:
        at = _numbers(pc if not isinstance(pc, dict) else list(pc.values()), "pc", where)
        if len(at) != len(variables):
            raise FormulaError(f"{where}: pc holds {len(at)} numbers; give one for each of {listing(variables)}")
        names = list(pc) if isinstance(pc, dict) and set(pc) == set(variables) else variables
        point = dict(zip(names, at, strict=True))
    return TermOptions(
        where,
        all(fx),
        None if label is None else str(label),
        sp,
        point,
        term.kind == "ti",
    )


def linked(terms: Iterable[SmoothTerm]) -> Iterator[SmoothTerm]:
    """Give terms of one `id` the options of the first of them, as mgcv does; variables and `by` stay their own.

    So does `pc`, which mgcv drops: it only moves a constant between smooth and intercept.

    Raises
    ------
    FormulaError
        If terms of one id differ in kind or in number of variables.
    """
    first: dict[str, SmoothTerm] = {}
    for term in terms:
        label = term.option("id")
        base = term if label is None else first.setdefault(str(label), term)
        if base is term:
            yield term
            continue
        if (term.kind, len(term.args)) != (base.kind, len(base.args)):
            raise FormulaError(
                f"smooths of id={label} must share their kind and number of variables: {base.label}, {term.label}"
            )
        pc = tuple(option for option in term.options if option[0] == "pc")
        yield replace(term, options=(*(option for option in base.options if option[0] != "pc"), *pc))


def build_basis(
    term: SmoothTerm, options: TermOptions, values: Values, knots: Mapping[str, FloatArray], copies: int = 1
) -> Basis:
    """Learn the basis of a term, whose columns come for each of `copies` levels of a by-variable."""
    variables = tuple(deparse(node) for node in term.args)
    if len(set(variables)) < len(variables):
        raise FormulaError(f"{options.where} names a variable twice")
    at = {**knots, **_own_knots(term, variables, options.where)}
    if term.kind == "s":
        return _simple(term, options, variables, values, at, copies)
    return _product(term, options, variables, values, at, copies)


def _simple(
    term: SmoothTerm,
    options: TermOptions,
    variables: tuple[str, ...],
    values: Values,
    knots: Mapping[str, FloatArray],
    copies: int,
) -> Basis:
    name = check_name(term.option("bs", "tp"), options.where, NAMES)
    k = _whole_or_none(term.option("k"), "k", options.where)
    m = term.option("m")
    xt = term.option("xt")
    asked = BasisOptions(
        k,
        None if m is None else tuple(_numbers(m, "m", options.where)),
        knots,
        options.where,
        _extra(xt, options.where),
        copies,
    )
    if name == FactorSmoothBasis.name:
        return FactorSmoothBasis.learn(variables, values, asked, learn_margin)
    return learn_margin(name, variables, values, asked)


def _product(
    term: SmoothTerm,
    options: TermOptions,
    variables: tuple[str, ...],
    values: Values,
    knots: Mapping[str, FloatArray],
    copies: int,
) -> Basis:
    where = options.where
    d = [1] * len(variables)
    if term.option("d") is not None:
        d = [int(x) for x in _numbers(term.option("d"), "d", where)]
        if sum(d) != len(variables) or min(d) < 1:
            raise FormulaError(f"{where}: d={d} must add up to the {len(variables)} variables")
    ends = np.cumsum([0, *d])
    groups = [variables[a:b] for a, b in pairwise(ends.tolist())]
    names = [check_name(x, where, NAMES[:-1]) for x in _recycled(term.option("bs", "cr"), len(d), "bs", where)]
    names = ["tp" if name in OF_ONE_VARIABLE and size > 1 else name for name, size in zip(names, d, strict=True)]
    given_k = term.option("k")
    ks = (
        [MARGIN_K**size for size in d]
        if given_k is None
        else [_whole(x, "k", where) for x in _recycled(given_k, len(d), "k", where)]
    )
    ms = _orders(term.option("m"), len(d), where)
    if not set(names) <= set(WITHOUT_ORDER):
        # Of several margins some have an order; mgcv passes over the others.
        ms = [None if name in WITHOUT_ORDER else m for name, m in zip(names, ms, strict=True)]
    xt = _extra(term.option("xt"), where)
    asked_of = [BasisOptions(k, m, knots, where, xt, copies) for k, m in zip(ks, ms, strict=True)]
    bases = learn_margins(names, groups, values, asked_of)
    asked = BasisOptions(None, None, knots, where)
    if term.kind == "t2":
        return SplitTensorBasis.learn(
            bases,
            values,
            asked,
            full=_flag(term.option("full", False), "full", where),
            orders=_ord(term, len(d), where),
        )
    constrained = (False,) * len(d)
    if term.kind == "ti":
        flags = _recycled(term.option("mc", True), len(d), "mc", where)
        if not all(flag in (True, False) for flag in flags):
            raise FormulaError(f"{where}: mc must be TRUE or FALSE for each margin")
        constrained = tuple(bool(flag) for flag in flags)
    fx = _recycled(term.option("fx", False), len(d), "fx", where)
    return TensorBasis.learn(
        bases,
        values,
        asked,
        function_values=_flag(term.option("np", True), "np", where),
        constrained=constrained,
        fixed=tuple(bool(flag) for flag in fx),
    )


def _own_knots(term: SmoothTerm, variables: tuple[str, ...], where: str) -> dict[str, FloatArray]:
    """Knots given with the term: numbers for one variable, a list by name for several."""
    knots = term.option("knots")
    if knots is None:
        return {}
    if isinstance(knots, dict):
        if not set(knots) <= set(variables):
            raise FormulaError(f"{where}: knots are given for {listing(knots)}; the smooth is of {listing(variables)}")
        return {name: np.array(_numbers(at, "knots", where)) for name, at in knots.items()}
    if len(variables) != 1:
        raise FormulaError(f"{where}: give knots by name, as in knots=list({variables[0]}=c(…), …)")
    return {variables[0]: np.array(_numbers(knots, "knots", where))}


def _orders(m: Any, margins: int, where: str) -> list[tuple[float, ...] | None]:
    """Each margin's order argument: one for all, one number each, or a list of vectors; NA for the default."""
    items = _list(m)
    if len(items) == 1 and not isinstance(items[0], list):
        items = items * margins
    if len(items) != margins:
        noun = "lists {} orders" if any(isinstance(item, list) for item in items) else "holds {} numbers"
        raise FormulaError(f"{where}: m {noun.format(len(items))}; give one for each of the {margins} margins")
    return [None if item is None else tuple(_numbers(item, "m", where)) for item in items]


def _ord(term: SmoothTerm, margins: int, where: str) -> tuple[int, ...] | None:
    value = term.option("ord")
    if value is None:
        return None
    orders = [int(x) for x in _numbers(value, "ord", where)]
    if not set(orders) <= set(range(margins + 1)):
        raise FormulaError(f"{where}: ord must hold numbers from 0 to {margins}")
    if set(orders) <= {0}:
        raise FormulaError(f"{where}: ord=0 leaves nothing to penalise; use parametric terms")
    return tuple(orders)


def _extra(xt: Any, where: str) -> dict[str, Any]:
    if xt is None:
        return {}
    if isinstance(xt, str):
        return {"bs": xt}
    known = {"bs", "max.knots", "seed"}
    if not isinstance(xt, dict) or not set(xt) <= known:
        raise FormulaError(f'{where}: xt may hold {listing(sorted(known))}, as in xt=list(bs="cr")')
    return dict(xt)


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list) else [value]


def _recycled(value: Any, count: int, name: str, where: str) -> list[Any]:
    items = _list(value)
    if len(items) == 1:
        return items * count
    if len(items) != count:
        raise FormulaError(
            f"{where}: {name} holds {len(items)} values; give one, or one for each of the {count} margins"
        )
    return items


def _numbers(value: Any, name: str, where: str) -> list[float]:
    items = _list(value)
    if not items or not all(isinstance(x, int | float) and not isinstance(x, bool) and np.isfinite(x) for x in items):
        raise FormulaError(f"{where}: {name} must be numbers")
    return [float(x) for x in items]


def _whole(value: Any, name: str, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or not float(value).is_integer():
        raise FormulaError(f"{where}: {name} must be a whole number, as in {name}=5")
    return int(value)


def _whole_or_none(value: Any, name: str, where: str) -> int | None:
    if value is None or value == -1:
        return None
    return _whole(value, name, where)


def _flag(value: Any, name: str, where: str) -> bool:
    if not isinstance(value, bool):
        raise FormulaError(f"{where}: {name} must be TRUE or FALSE")
    return value
