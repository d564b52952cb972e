"""How to reproduce the harmonization: the call, the data's hash, versions."""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from pycombat_gam.errors import DataError
from pycombat_gam.report.cells import visible_lines
from pycombat_gam.report.methods import versions
from pycombat_gam.report.parts import Code, Part, Section, Sentences, Table
from pycombat_gam.study.harmonizer import Harmonizer
from pycombat_gam.study.origin import FITTED, OTHER, Origin
from pycombat_gam.tables.files import file_sha256
from pycombat_gam.types import JsonDict


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
    if command is None:
        code = Code("command", "Python", python_call(model, seed, to, origin), "python")
    else:
        line = command if isinstance(command, str) else shlex.join(command)
        code = Code("command", "Command", line, "sh")
    parts: list[Part] = [code]
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
        path = Path(data)
        if not path.is_file():
            raise DataError(f"data='{path}': there is no such file to hash; give the file the table was read from")
        rows = "Data file of these rows" if other else "Data file"
        parts.append(Sentences(f"{rows}: {path.name}, SHA-256 {file_sha256(path)}."))
    parts.append(Sentences(f"Seed: {seed}."))
    if command is None and _masked(profile, origin):
        parts.append(
            Sentences(f"fit_mask chose the {profile['rows']:,} rows that estimate; it is not stored in the model.")
        )
    software = versions(model, ("statsmodels", "scikit-learn", "matplotlib"))
    table = pd.DataFrame({"software": list(software), "version": list(software.values())})
    parts.append(Table("versions", "Versions of the software.", table))
    return Section("reproduce", "How to reproduce", tuple(parts))


def python_call(model: Harmonizer, seed: int, to: str | None, origin: Origin | None = None) -> str:
    """Return the code that fits the same model to the same table, every argument in full, and transforms these rows."""
    kind = type(model).__name__
    defaults = inspect.signature(type(model).__init__).parameters
    passed = [f"    {model.formula!r}", f"    batch={model.batch!r}"]
    for name, value in model.get_params().items():
        default = defaults[name].default
        if name not in ("formula", "batch") and not (
            value is default or (type(value) is type(default) and value == default)
        ):
            passed.append(f"    {name}={value!r}")
    arguments = ",\n".join(passed)
    other = origin is not None and origin.kind == OTHER
    mask = ", fit_mask=fit_mask" if _masked(model.profile, origin) else ""
    again = "" if other else mask
    target = "" if to is None else f", to={to!r}"
    if other:
        calls = f"model.fit(table_of_fit{mask})\nharmonized = model.transform(table{target})"
    else:
        calls = f"harmonized = model.fit_transform(table{mask}{target})"
    return visible_lines(
        f"import pycombat_gam as pcg\n\nmodel = pcg.{kind}(\n{arguments},\n)\n"
        f"{calls}\nreport = pcg.report(model, table, harmonized{again}, seed={seed})"
    )


def _masked(profile: JsonDict, origin: Origin | None) -> bool:
    """Tell whether a mask chose among the rows of the fit: where these are the rows it chose, none is needed."""
    chosen = bool(profile["rows"] != profile["rows_given"])
    return chosen and (origin is None or origin.kind != FITTED)
