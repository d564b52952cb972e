"""`report`: a harmonization and all its evidence on one page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import pandas as pd

from pycombat_gam.errors import OptionError, OutputError
from pycombat_gam.formula import parse_formula
from pycombat_gam.predict.predictor import Predictor
from pycombat_gam.progress import tracked
from pycombat_gam.report.effects import effects_section
from pycombat_gam.report.page import html_page, markdown_page
from pycombat_gam.report.parts import Section, Sentences
from pycombat_gam.report.reproduce import reproduce
from pycombat_gam.report.sections import (
    before_and_after,
    biology,
    design_audit,
    estimates,
    methods,
    notes,
    shrinkage,
)
from pycombat_gam.report.study import Study
from pycombat_gam.report.verdict import verdict
from pycombat_gam.saving.atomic import write_files
from pycombat_gam.study.harmonizer import Harmonizer
from pycombat_gam.study.origin import OTHER
from pycombat_gam.words import count, listing

if TYPE_CHECKING:
    from collections.abc import Callable

    from pycombat_gam.audit import Audit
    from pycombat_gam.diagnose import Diagnosis

TITLE = "Harmonization report"
HTML, MARKDOWN = "report.html", "report.md"
FILES = {HTML: "report", MARKDOWN: "report, Markdown"}
"""The files of a report, and what each is."""


@dataclass(frozen=True, eq=False)
class Report:
    """A harmonization or a prediction and its evidence, for a paper's supplement.

    Attributes
    ----------
    about : str
        The model and the size of the table, in a line.
    verdict : tuple of Sentences
        Was there a site effect, is it gone, is the biology still there? Of a prediction: what is guaranteed, to whom,
        at what level, and what is not.
    sections : tuple of Section
        Methods, audit, before and after, biology, effects, shrinkage, estimates, notes, how to reproduce. Of a
        prediction: how it did at sites left out, TRIPOD-Cluster, methods, notes, how to reproduce.
    title : str
        Of the page.
    """

    about: str
    verdict: tuple[Sentences, ...]
    sections: tuple[Section, ...]
    title: str = TITLE

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """Every table as it is shown, by name."""
        return {name: table for section in self.sections for name, table in section.tables.items()}

    def to_html(self) -> str:
        """Return one page that needs no other file and no network."""
        return html_page(self.title, self.verdict, self.sections, self.about)

    def to_markdown(self) -> str:
        """Return the same as Markdown, for pasting; figures by their captions only."""
        return markdown_page(self.title, self.verdict, self.sections, self.about)

    def writers(self) -> dict[str, Callable[[BinaryIO], None]]:
        """Return what writes each file of the report, by name."""
        return {HTML: _writer(self.to_html()), MARKDOWN: _writer(self.to_markdown())}

    def write(self, folder: str | Path, *, force: bool = False) -> list[Path]:
        """Write `report.html` and `report.md`, both or neither.

        Parameters
        ----------
        folder : str or Path
            Created if it does not exist.
        force : bool
            Replace an earlier report.

        Returns
        -------
        list of Path
            The files written.

        Raises
        ------
        OutputError
            If a report is there already and not `force`, or the folder cannot be written to.
        """
        place = Path(folder)
        present = [name for name in FILES if (place / name).exists()]
        if present and not force:
            raise OutputError(f"'{place}' has {listing(present)} already: use force=True to overwrite")
        try:
            place.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot create folder '{place}': {error.strerror}") from error
        write_files(place, self.writers())
        return [place / name for name in FILES]

    def __repr__(self) -> str:
        names = ", ".join(section.id for section in self.sections)
        return f"Report({self.about}: {names})"


def report(
    model: Harmonizer | Predictor,
    before: Any,
    after: Any = None,
    *,
    covariates: pd.DataFrame | None = None,
    audit: Audit | None = None,
    diagnosis: Diagnosis | None = None,
    fit_mask: object = None,
    command: str | Sequence[str] | None = None,
    data: str | Path | None = None,
    seed: int = 0,
) -> Report:
    """Report on a harmonization or a prediction: what was done, whether it worked, and how to repeat it.

    Parameters
    ----------
    model : ComBat, FlowSCM or Predictor
        Fitted. A Predictor takes `before`, `command` and `data` only.
    before : DataFrame or array of shape (n, V)
        The table that was harmonized, wide, or features only beside `covariates`. Of a Predictor: the rows of the fit,
        or other rows with outcomes, which are then predicted and compared.
    after : DataFrame or array of shape (n, V), optional
        The harmonized table. Without it, the model's `transform` of `before`.
    covariates : DataFrame, optional
        Batch, id and formula columns, when `before` holds features only.
    audit : Audit, optional
        As `pycombat_gam.audit` returns it; made here if not given.
    diagnosis : Diagnosis, optional
        As `pycombat_gam.diagnose` returns it; made here if not given.
    fit_mask : array of bool, shape (n,), optional
        The rows that the model was fitted to, if not all.
    command : str or list of str, optional
        The shell command that did it, whole or in words. Without it, the report shows the Python call.
    data : str or Path, optional
        The file that the table was read from, for its hash. Without it, the report gives the hash of what the fit saw.
    seed : int
        For everything random in the diagnosis.

    Returns
    -------
    Report
        The page, and its tables.

    Examples
    --------
    >>> import pycombat_gam as pcg
    >>> table = pcg.datasets.load_multisite()
    >>> model = pcg.ComBat("~ age + sex", batch="site", id="subject", features="_thickness$").fit(table)
    >>> pcg.report(model, table).write("report")  # doctest: +SKIP
    """
    if isinstance(model, Predictor):
        others = {
            "after": after, "covariates": covariates, "audit": audit, "diagnosis": diagnosis, "fit_mask": fit_mask,
        }  # fmt: skip
        return _prediction(model, before, others, command, data)
    study = Study.of(model, before, after, covariates, fit_mask)
    audit = audit if audit is not None else _audited(study)
    diagnosis = diagnosis if diagnosis is not None else _diagnosed(study, fit_mask, seed)
    return _harmonization(study, audit, diagnosis, command, data, seed)


def _prediction(
    model: Predictor,
    table: Any,
    others: dict[str, object],
    command: str | Sequence[str] | None,
    data: str | Path | None,
) -> Report:
    """Report on a prediction; `others` are arguments that only a harmonization has."""
    from pycombat_gam.report.prediction import TITLE as PREDICTION
    from pycombat_gam.report.prediction import about, sections
    from pycombat_gam.report.prediction_verdict import verdict as guarantee

    if unused := [name for name, value in others.items() if value is not None]:
        raise OptionError(f"{listing(unused)} is for a harmonizer; the report of a Predictor takes its table alone")
    parts = sections(model, table, command=command, data=data)
    return Report(about(model), guarantee(model), parts, PREDICTION)


def _harmonization(
    study: Study,
    audit: Audit,
    diagnosis: Diagnosis,
    command: str | Sequence[str] | None,
    data: str | Path | None,
    seed: int,
) -> Report:
    """Report on a harmonization."""
    from pycombat_gam.report.figures import (
        before_after_figures,
        biology_figures,
        effect_figures,
        estimate_figures,
        shrinkage_figures,
    )

    model = study.model
    tested = model.tested()
    draw: tuple[Callable[[], list[Any]], ...] = (
        partial(before_after_figures, study, diagnosis),
        partial(biology_figures, study, diagnosis),
        partial(effect_figures, tested),
        partial(shrinkage_figures, study),
        partial(estimate_figures, study),
    )
    sites, curves, tests, shrunken, effects = [each() for each in tracked(draw, "drawing the report", len(draw))]
    sections = (
        methods(model, diagnosis, to=study.to, origin=study.origin),
        design_audit(audit),
        before_and_after(diagnosis, sites),
        biology(diagnosis, curves),
        effects_section(tested, audit, study.origin, tests),
        shrinkage(diagnosis, shrunken),
        estimates(model, effects),
        notes(model, diagnosis, study.notes, audit),
        reproduce(model, command=command, data=data, seed=seed, to=study.to, origin=study.origin),
    )
    return Report(_about(study), verdict(diagnosis, parse_formula(model.formula), study.origin), sections)


def _about(study: Study) -> str:
    size = f"{count(len(study.before), 'row')}, {count(study.sites, 'site')}, {count(len(study.features), 'feature')}"
    origin = study.origin
    fit = f"; fitted to another table, of {count(origin.fit_given, 'row')}" if origin.kind == OTHER else ""
    return f"{type(study.model).__name__}, formula {study.model.formula}; {size}{fit}"


def _audited(study: Study) -> Audit:
    from pycombat_gam.audit.compose import audit_model

    return audit_model(study.model, study.before)


def _diagnosed(study: Study, fit_mask: object, seed: int) -> Diagnosis:
    from pycombat_gam.diagnose import diagnose

    return diagnose(study.before, study.after, model=study.model, fit_mask=fit_mask, seed=seed)


def _writer(text: str) -> Callable[[BinaryIO], None]:
    def write(stream: BinaryIO) -> None:
        stream.write(text.encode())

    return write
