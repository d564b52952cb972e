"""How to get the same harmonization again: the call, the data's hash, versions."""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from pycombat_gam.combat import ComBat
from pycombat_gam.errors import DataError
from pycombat_gam.io import file_sha256
from pycombat_gam.report.cells import visible_lines
from pycombat_gam.report.methods import versions
from pycombat_gam.report.parts import Code, Part, Section, Sentences, Table

if TYPE_CHECKING:
    from pycombat_gam.flow.harmonizer import FlowSCM


def reproduce(
    model: ComBat | FlowSCM,
    *,
    command: str | Sequence[str] | None = None,
    data: str | Path | None = None,
    seed: int = 0,
    to: str | None = None,
) -> Section:
    """Say how to reproduce the harmonization.

    Parameters
    ----------
    model : fitted.
    command : line of the shell, or its words; None: the Python call.
    data : file that the table was read from; None: what the fit saw of the table is hashed instead.
    seed : of everything random in diagnosis and report; to : of a flow, the site that rows were taken to.
    """
    profile = model.summary().profile
    if command is None:
        code = Code("command", "Python", python_call(model, seed, to), "python")
    else:
        line = command if isinstance(command, str) else shlex.join(command)
        code = Code("command", "Command", line, "sh")
    parts: list[Part] = [code]
    if data is None:
        what = "what the fit saw of the table (labels, design and sufficient statistics)"
        parts.append(Sentences(f"SHA-256 of {what}: {profile['sha256']}. Seed: {seed}."))
    else:
        path = Path(data)
        if not path.is_file():
            raise DataError(f"data='{path}': there is no such file to hash; give the file the table was read from")
        parts.append(Sentences(f"Data file: {path.name}, SHA-256 {file_sha256(path)}. Seed: {seed}."))
    if profile["rows"] != profile["rows_given"] and command is None:
        parts.append(
            Sentences(f"fit_mask chose the {profile['rows']:,} rows that estimate; it is not stored in the model.")
        )
    found = versions(model, ("statsmodels", "scikit-learn", "matplotlib"))
    table = pd.DataFrame({"software": list(found), "version": list(found.values())})
    parts.append(Table("versions", "Versions of what computed.", table))
    return Section("reproduce", "How to reproduce", tuple(parts))


def python_call(model: ComBat | FlowSCM, seed: int, to: str | None) -> str:
    """Return the code that fits the same model to the same table, every argument in full."""
    kind = type(model).__name__
    defaults = inspect.signature(type(model).__init__).parameters
    given = [f"    {model.formula!r}", f"    batch={model.batch!r}"]
    for name, value in model.get_params().items():
        default = defaults[name].default
        if name not in ("formula", "batch") and not (
            value is default or (type(value) is type(default) and value == default)
        ):
            given.append(f"    {name}={value!r}")
    arguments = ",\n".join(given)
    masked = isinstance(model, ComBat) and _masked(model)
    call = f"model.fit_transform(table{', fit_mask=fit_mask' if masked else ''}{'' if to is None else f', to={to!r}'})"
    return visible_lines(
        f"import pycombat_gam as pcg\n\nmodel = pcg.{kind}(\n{arguments},\n)\n"
        f"harmonized = {call}\nreport = pcg.report(model, table, harmonized, seed={seed})"
    )


def _masked(model: ComBat) -> bool:
    profile = model.summary().profile
    return bool(profile["rows"] != profile["rows_given"])
