"""What goes with a harmonized table: the audit of its design, and the report.

The audit comes last: bad input ends in one line, which says what is wrong with it.
"""

from __future__ import annotations

import shlex
import sys
import warnings
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import pandas as pd

from pycombat_gam.audit.compose import audit_model
from pycombat_gam.cli.run import Writer
from pycombat_gam.cli.shell import in_options, progress
from pycombat_gam.errors import PcgError, PcgWarning
from pycombat_gam.report import FILES, Report, report
from pycombat_gam.tables.files import TableFile
from pycombat_gam.words import printable

if TYPE_CHECKING:
    from pycombat_gam.audit import Audit
    from pycombat_gam.predict.predictor import Predictor
    from pycombat_gam.study.harmonizer import Harmonizer

COLOURS = {"problem": "red", "caution": "yellow"}


def audited(model: Harmonizer, table: pd.DataFrame) -> Audit:
    """Look at the design of a table."""
    return audit_model(model, table)


def say_audit(checked: Audit) -> None:
    """Say on stderr what is a problem or asks for caution."""
    for severity, colour in COLOURS.items():
        for finding in checked.found:
            if finding.severity == severity:
                verdict = printable(in_options(finding.verdict))
                progress.print(f"Audit, {severity}: {verdict}", markup=False, style=colour)


def reported(
    model: Harmonizer,
    before: pd.DataFrame,
    after: pd.DataFrame,
    checked: Audit,
    *,
    seed: int,
    source: TableFile | None = None,
) -> dict[str, Writer]:
    """Return what writes the report's files, by name; none, and a note, where no report can be made of the table.

    Parameters
    ----------
    before, after : the table before and after harmonization; checked : its audit.
    source : the file it came from; None for the packaged example.
    """
    path = None if source is None else source.path
    return _made(partial(report, model, before, after, audit=checked, data=path, seed=seed))


def reported_prediction(model: Predictor, source: TableFile) -> dict[str, Writer]:
    """Return what writes the report's files of a prediction, by name; as `reported`."""
    return _made(partial(report, model, source.table, data=source.path))


def _made(make: Callable[..., Report]) -> dict[str, Writer]:
    command = shlex.join(["pycombat-gam", *sys.argv[1:]])
    try:
        with warnings.catch_warnings():
            # Said at the fit, and part of the report.
            warnings.simplefilter("ignore", PcgWarning)
            return make(command=command).writers()
    except PcgError as error:
        progress.print(f"Note: no report was made: {error}", markup=False, style="yellow")
        return {}


def say_report(files: dict[str, Writer]) -> dict[str, str]:
    """Return the names of the report's files that there are, and what they are."""
    return {name: what for name, what in FILES.items() if name in files}
