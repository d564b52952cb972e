"""R's engines: which to ask, and one quantity beside theirs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from pycombat_gam.errors import OptionError
from pycombat_gam.types import FloatArray
from pycombat_gam.words import Worded, in_one, listing
from r_bridge import session, sources
from r_bridge.agreement.compared import Compared
from r_bridge.agreement.known import Known
from r_bridge.agreement.ours import Quantity
from r_bridge.agreement.report import Row
from r_bridge.errors import RError

FILES = ("combat", "mgcv", "lme4", "packages", "tests", "prediction", "agreement")
"""The files of `R/` that an engine needs, in order."""


def choose(
    every: Sequence[str], inapplicable: Mapping[str, str], engines: Sequence[str] | None, *, needed: Sequence[str] = ()
) -> tuple[list[str], dict[str, str]]:
    """Return the engines to ask, and why others are left out.

    Parameters
    ----------
    every : engines of this kind of model; inapplicable : why some cannot be asked.
    engines : asked for by name, or None for all; needed : R packages without which there is no comparison.

    Raises
    ------
    OptionError
        For an engine that is unknown or does not apply.
    RMissingError
        Without R, what is needed, or an engine that was asked for by name.
    """
    left_out = dict(inapplicable)
    asked = [engine for engine in every if engine not in left_out] if engines is None else list(engines)
    if unknown := [engine for engine in asked if engine not in every]:
        raise OptionError(f"engines={unknown!r}: allowed are {listing(every)}")
    if engines is not None and (refused := [engine for engine in asked if engine in left_out]):
        raise OptionError(in_one(Worded(f"{engine} ", left_out[engine]) for engine in refused))
    session.require(*needed)
    installed = [engine for engine in asked if _installed(engine)]
    left_out |= {engine: "is not installed in this R" for engine in asked if engine not in installed}
    if engines is not None:
        session.require(*asked)
    return installed, left_out


def check_any(engines: Sequence[str], left_out: Mapping[str, str]) -> None:
    """Stop if no engine is left."""
    if not engines:
        reasons = in_one(Worded(f"{engine} ", reason) for engine, reason in left_out.items())
        raise OptionError(Worded("there is no engine to compare with: ", reasons))


def _installed(engine: str) -> bool:
    return bool(session.call("function(name) requireNamespace(name, quietly = TRUE)", name=engine)[0])


def versions(engines: Sequence[str]) -> dict[str, str]:
    """Return the versions of R and of engines."""
    names = list(dict.fromkeys(engines))
    version = "function(x) as.character(utils::packageVersion(x))"
    code = f"function(names) c(as.character(getRversion()), vapply(names, {version}, ''))"
    answer = session.call(code, names=names)
    return dict(zip(["R", *names], map(str, np.asarray(answer)), strict=True))


def source(function: str) -> str:
    """Return the text of a function of `R/agreement.R`, with all that it needs."""
    return sources.function(function, *FILES)


def compare(engine: str, ours: Quantity, theirs: FloatArray, differences: Sequence[Known], compared: Compared) -> Row:
    """Let R compare one quantity, by the code that `agreement.R` runs again."""
    sites = compared.labels(ours.rows)
    best: Row | None = None
    for difference in (None, *differences):
        variant = None if difference is None else difference.quantities.get(ours.name)
        if difference is not None and variant is None:
            continue
        verdict = session.call(
            source("verdict"),
            ours=ours.values,
            theirs=theirs,
            variant=None if variant is None else variant.values,
            unit=ours.unit,
            tolerance=ours.tolerance,
            features=list(compared.features),
            sites=sites,
        )
        row = Row(
            engine=engine,
            quantity=ours,
            largest=float(verdict["largest"][0]),
            median=float(verdict["median"][0]),
            feature=str(verdict["feature"][0]),
            site=str(verdict["site"][0] or ""),
            verdict=str(verdict["verdict"][0]),
            explanation="",
            variant=None,
            blame=None,
        )
        if difference is not None and row.verdict == "explained" and variant is not None:
            return Row(**{**vars(row), "explanation": difference.explanation, "variant": variant,
                          "blame": difference.blame})  # fmt: skip
        if best is None:
            best = row
        if best.verdict == "agrees":
            break
    if best is None:
        raise RError(f"nothing to compare for {ours.name}; please report this")
    return best
