"""How to reproduce the harmonization: the call, the data's hash, versions."""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from pycombat_gam.errors import DataError
from pycombat_gam.predict.taxonomy import Taxonomy
from pycombat_gam.report.cells import visible_lines
from pycombat_gam.report.methods import versions
from pycombat_gam.report.parts import Code, Part, Section, Sentences, Table
from pycombat_gam.study.harmonizer import Harmonizer, is_harmonizer
from pycombat_gam.study.origin import FITTED, OTHER, Origin
from pycombat_gam.tables.files import file_sha256
from pycombat_gam.types import JsonDict

REPORTING = ("statsmodels", "scikit-learn", "matplotlib")
"""Packages whose versions matter to a report."""


def reproduce(
    model: Harmonizer,
    *,
    command: str | Sequence[str] | None = None,
    data: str | Path | None = None,
    seed: int = 0,
    to: str | None = None,
    origin: Origin | None = None,
) -> Section:
    """Say how to reproduce the harmonization.

    Parameters
    ----------
    model : fitted.
    command : line of the shell, or its words; None: the Python call.
    data : file that the table was read from; None: what the fit saw of the table is hashed instead.
    seed : of everything random in diagnosis and report; to : of a flow, the site that rows were taken to.
    origin : how the rows of the report relate to those of the fit; None: they are the same.
    """
    profile = model.profile
    parts: list[Part] = [command_code(command, python_call(model, seed, to, origin))]
    other = origin is not None and origin.kind == OTHER
    if other and origin is not None and command is None:
        parts.append(
            Sentences(
                f"table_of_fit is the table that the model was fitted to ({origin.chosen}); table holds the rows here."
            )
        )
    if data is None or other:
        what = "what the fit saw of the table (labels, design and sufficient statistics)"
        parts.append(Sentences(f"SHA-256 of {what}: {profile['sha256']}."))
    if data is not None:
        parts.append(data_file(data, "Data file of these rows" if other else "Data file"))
    parts.append(Sentences(f"Seed: {seed}."))
    if command is None and _masked(profile, origin):
        parts.append(
            Sentences(f"fit_mask chose the {profile['rows']:,} rows that estimate; it is not stored in the model.")
        )
    parts.append(version_table(versions(model, REPORTING)))
    return Section("reproduce", "How to reproduce", tuple(parts))


def command_code(command: str | Sequence[str] | None, python: str) -> Code:
    """Show the line of the shell, or its words; without one, the Python call."""
    if command is None:
        return Code("command", "Python", python, "python")
    return Code("command", "Command", command if isinstance(command, str) else shlex.join(command), "sh")


def data_file(data: str | Path, rows: str) -> Sentences:
    """Name the file that rows were read from, with its hash."""
    path = Path(data)
    if not path.is_file():
        raise DataError(f"data='{path}': there is no such file to hash; give the file the table was read from")
    return Sentences(f"{rows}: {path.name}, SHA-256 {file_sha256(path)}.")


def version_table(software: dict[str, str]) -> Table:
    """Show versions."""
    table = pd.DataFrame({"software": list(software), "version": list(software.values())})
    return Table("versions", "Versions of the software.", table)


def python_call(model: Harmonizer, seed: int, to: str | None, origin: Origin | None = None) -> str:
    """Return the code that fits the same model to the same table, every argument in full, and transforms these rows."""
    other = origin is not None and origin.kind == OTHER
    mask = ", fit_mask=fit_mask" if _masked(model.profile, origin) else ""
    again = "" if other else mask
    target = "" if to is None else f", to={to!r}"
    if other:
        calls = f"model.fit(table_of_fit{mask})\nharmonized = model.transform(table{target})"
    else:
        calls = f"harmonized = model.fit_transform(table{mask}{target})"
    report = f"report = pcg.report(model, table, harmonized{again}, seed={seed})"
    return visible_lines(f"import pycombat_gam as pcg\n\nmodel = {constructor(model)}\n{calls}\n{report}")


def constructor(model: Any, indent: str = "") -> str:
    """Return the code that makes the same model unfitted, every argument in full; harmonizers within as well."""
    defaults = inspect.signature(type(model).__init__).parameters
    passed = [f"{model.formula!r}", f"batch={model.batch!r}"]
    for name, value in model.get_params().items():
        default = defaults[name].default
        if name not in ("formula", "batch") and not (
            value is default or (type(value) is type(default) and value == default)
        ):
            passed.append(f"{name}={_code(value, indent)}")
    lines = "".join(f"{indent}    {argument},\n" for argument in passed)
    return f"pcg.{type(model).__name__}(\n{lines}{indent})"


def _code(value: object, indent: str) -> str:
    if isinstance(value, Taxonomy):
        return f"pcg.Taxonomy({value.parents!r}, max_size={value.max_size!r})"
    return constructor(value, f"{indent}    ") if is_harmonizer(value) else repr(value)


def _masked(profile: JsonDict, origin: Origin | None) -> bool:
    """Tell whether a mask chose among the rows of the fit: where these are the rows it chose, none is needed."""
    chosen = bool(profile["rows"] != profile["rows_given"])
    return chosen and (origin is None or origin.kind != FITTED)
