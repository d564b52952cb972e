"""The sections of a report, a function each: in a notebook any of them shows itself.

`reproduce` has a file of its own.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from pycombat_gam.account.papers import bibtex
from pycombat_gam.report.cells import MISSING
from pycombat_gam.report.legend import EFFECTS, SHRINKAGE, UNKNOWN_SITE, of_comparison, of_summary, of_tests
from pycombat_gam.report.methods import diagnosis_text, methods_text, references
from pycombat_gam.report.parts import (
    MOST_ROWS,
    P_VALUES,
    Code,
    Figure,
    Finding,
    Findings,
    Items,
    Part,
    References,
    Section,
    Sentences,
    Table,
    slug,
)
from pycombat_gam.study.harmonizer import Harmonizer
from pycombat_gam.study.origin import Origin
from pycombat_gam.study.states import BEFORE, HELD_OUT, STATES

if TYPE_CHECKING:
    from pycombat_gam.audit import Audit
    from pycombat_gam.diagnose import Diagnosis

SEVERITIES = ("problem", "caution", "note")
AUDIT_CAPTIONS = {
    "sites": "Sites: who was measured there",
    "covariates": "Covariates by site",
    "overlap": "Overlap of covariates between sites",
    "confounding": "Which terms are confounded with which sites",
    "canonical": "Canonical correlations of covariates and sites",
    "carriers": "Which sites cause a term's confounding, and which its estimate rests on",
    "imbalance": "Imbalance of the terms kept, and what it costs later tests",
    "missing": "Missing cells",
    "features": "Features",
}
ASPECT_CAPTIONS = {
    "covariance": "Covariance of the features, compared between sites",
    "distribution": "Joint distribution of the features, compared between sites",
    "site prediction": "How well sites are predicted from the features (balanced accuracy)",
    "effect change": "Effects after harmonization, without site, as a multiple of those before",
    "covariate prediction": "Covariates predicted from the features, leaving out one site at a time",
}


def methods(
    model: Harmonizer,
    diagnosis: Diagnosis | None = None,
    *,
    to: str | None = None,
    origin: Origin | None = None,
) -> Section:
    """Write what was done, as in a paper's supplement, with references."""
    text = methods_text(model, to=to, origin=origin)
    texts = [Sentences(text, id="methods-text", lead="Harmonization, for a paper's supplement")]
    adjusted = diagnosis is not None and "p_adjusted" in diagnosis.table and diagnosis.table["p_adjusted"].notna().any()
    if diagnosis is not None:
        texts.append(Sentences(diagnosis_text(diagnosis, origin), id="evaluation-text", lead="Evaluation"))
    decided = diagnosis is not None and len(diagnosis.overall) > 0
    used = references(model, adjusted=bool(adjusted), overall=decided)
    return Section(
        "methods",
        "Methods",
        (
            *texts,
            References(tuple(paper.text for paper in used)),
            Code("bibtex", "BibTeX", bibtex(used), "bibtex"),
        ),
    )


def design_audit(audit: Audit) -> Section:
    """Show what the audit of the design found, and its tables."""
    tables = {name: table for name, table in audit.tables.items() if name != "findings"}
    findings = sorted(audit.findings.to_dict("records"), key=lambda row: SEVERITIES.index(str(row["severity"])))
    parts: list[Part] = []
    if findings:
        parts.append(Findings(tuple(_finding(row, tables) for row in findings)))
    else:
        parts.append(Sentences("Nothing was found that stands in the way of harmonization."))
    for name, table in tables.items():
        caption = AUDIT_CAPTIONS.get(name, name)
        legend = audit.legend.get(name, {})
        parts.append(_any_table(f"audit-{slug(name)}", caption, table, f"pcg.audit(…).{name}", legend))
    return Section("audit", "Design audit", tuple(parts))


def before_and_after(diagnosis: Diagnosis, figures: Sequence[Figure | Sentences] = ()) -> Section:
    """Show what is left of the sites: in brief, feature by feature, and in all features at once."""
    summary = diagnosis.summary
    shown = Table.of("summary", "Before and after, in brief", summary, where="diagnosis.summary")
    legend = of_summary(summary["quantity"].tolist(), diagnosis.states)
    parts: list[Part] = [replace(shown, legend=legend), *figures]
    for aspect, caption in (
        ("location", "Location: does the mean of a feature differ between sites?"),
        ("scale", "Scale: does the spread of a feature differ between sites?"),
    ):
        parts += feature_table(diagnosis, aspect, "measure", caption)
    for aspect in ("distribution", "covariance", "site prediction"):
        parts += _compared(diagnosis, aspect, ASPECT_CAPTIONS[aspect])
    return Section("before-after", "Sites before and after", tuple(parts))


def biology(diagnosis: Diagnosis, figures: Sequence[Figure] = ()) -> Section:
    """Show what became of the associations with the covariates."""
    parts: list[Part] = [*figures]
    parts += feature_table(
        diagnosis,
        "association",
        "covariate",
        "Associations of the features with each term of the formula, at equal sites",
    )
    parts += _compared(diagnosis, "effect change", ASPECT_CAPTIONS["effect change"])
    parts += _compared(diagnosis, "covariate prediction", ASPECT_CAPTIONS["covariate prediction"])
    if HELD_OUT in set(diagnosis.table.loc[diagnosis.table["aspect"] == "covariate prediction", "state"]):
        parts.append(Sentences(UNKNOWN_SITE))
    if not parts:
        parts = [Sentences("No association with a covariate was tested.")]
    return Section("biology", "Biology kept", tuple(parts))


def shrinkage(diagnosis: Diagnosis, figures: Sequence[Figure] = ()) -> Section:
    """Show how much empirical Bayes took from the effects of each site."""
    rows = diagnosis.of("shrinkage")
    if not len(rows):
        text = "Site effects were not shrunk, or the model does not report by how much."
        return Section("shrinkage", "Shrinkage", (Sentences(text), *figures))
    sites = list(dict.fromkeys(rows["site"]))
    wide = rows.pivot(index="site", columns="measure", values="value")
    frame = wide.reindex(sites)[list(dict.fromkeys(rows["measure"]))].rename_axis(columns=None)
    frame.insert(0, "n", rows.groupby("site", sort=False)["n"].first())
    table = Table.of(
        "shrinkage-sites",
        "How much of each site's effects is kept",
        frame,
        where="diagnosis.of('shrinkage')",
        legend=SHRINKAGE,
    )
    return Section("shrinkage", "Shrinkage", (table, *figures))


def estimates(model: Harmonizer, figures: Sequence[Figure] = ()) -> Section:
    """Show what was estimated of each site."""
    parts: list[Part] = [
        Table.of(f"estimates-{table.name}", table.caption, table.frame, where=table.where) for table in model.tables()
    ]
    effects = model.account().effects
    return Section("estimates", "Estimates", (*figures, *parts, *([Sentences(effects)] if effects else [])))


def notes(
    model: Harmonizer, diagnosis: Diagnosis | None = None, more: Sequence[str] = (), audit: Audit | None = None
) -> Section:
    """List everything out of the ordinary, except what the audit of the design found."""
    texts = [*model.summary().notes, *more, *(diagnosis.notes if diagnosis is not None else ())]
    none = "None." if audit is None or not len(audit.findings) else "None beyond those of the design audit."
    parts: tuple[Part, ...] = (Items(tuple(dict.fromkeys(texts))),) if texts else (Sentences(none),)
    return Section("notes", "Warnings and notes", parts)


def feature_table(diagnosis: Diagnosis, aspect: str, by: str, caption: str) -> list[Part]:
    """Return the tests of every feature, one row per feature: effect and adjusted p for each measure (or covariate).

    If there are more features than a table shows, it has those with the smallest p before harmonization.
    """
    rows = diagnosis.table[diagnosis.table["aspect"] == aspect]
    if not len(rows):
        return []
    features = list(dict.fromkeys(rows["feature"]))
    note = ""
    if len(features) > MOST_ROWS:
        smallest = rows[rows["state"] == BEFORE].groupby("feature", sort=False)["p"].min().reindex(features)
        chosen = set(smallest.sort_values(kind="stable").index[:MOST_ROWS])
        note = (
            f"The {MOST_ROWS:,} features with the smallest p before harmonization, of {len(features):,}; all of them: "
            f"diagnosis.of('{aspect}')"
        )
        features = [name for name in features if name in chosen]
    untested = False
    columns = {"feature": pd.Series(features, dtype=object)}
    short, groups, p_values = ["feature"], [("", 1)], []
    for group, part in rows.groupby(by, sort=False):
        width = len(columns)
        effect, _ = EFFECTS.get(str(part["measure"].iloc[0]), ("effect", ""))
        for value, words in (("value", effect), ("p_adjusted", "adjusted p")):
            for state in STATES:
                if not (part["state"] == state).any():
                    continue
                here = part[part["state"] == state].set_index("feature")[value].reindex(features)
                untested |= value == "p_adjusted" and bool(here.isna().any())
                if value == "p_adjusted":
                    p_values.append(len(columns))
                short.append(f"{words} {state}")
                columns[f"{group}, {words} {state}"] = pd.Series(here.to_numpy(dtype=np.float64))
        groups.append((str(group), len(columns) - width))
    if untested:
        note = " ".join([note, f"{MISSING} means: not tested; the notes say why."]).strip()
    return [
        Table(
            f"tests-{slug(aspect)}",
            caption,
            pd.DataFrame(columns),
            p_values=frozenset(p_values),
            short=tuple(short),
            groups=tuple(groups),
            note=note,
            legend=of_tests(aspect, list(dict.fromkeys(rows["measure"])), _states(rows)),
        )
    ]


def _compared(diagnosis: Diagnosis, aspect: str, caption: str) -> list[Part]:
    """Return the rows of an aspect with its states side by side."""
    rows = diagnosis.of(aspect)
    if not len(rows):
        return []
    keys = [name for name in ("measure", "site", "covariate", "chance") if name in rows]
    values = [name for name in ("value", "lower", "upper", "p", "p_adjusted") if name in rows]
    frame = rows[keys].drop_duplicates().reset_index(drop=True)
    labels = len([name for name in keys if name != "chance"])
    short, groups, p_values = [*keys], [("", len(keys))], []
    for state in STATES:
        here = rows.loc[rows["state"] == state, [*keys, *values]]
        if not len(here):
            continue
        p_values += [len(short) + at for at, name in enumerate(values) if name in P_VALUES]
        short += [name.replace("p_adjusted", "adjusted p") for name in values]
        groups.append((state, len(values)))
        frame = frame.merge(here.rename(columns={name: f"{name} {state}" for name in values}), on=keys, how="left")
    if "site" in frame:
        frame["site"] = frame["site"].replace("", "all sites")
    return [
        Table(
            f"tests-{slug(aspect)}",
            caption,
            frame,
            labels=labels,
            p_values=frozenset(p_values),
            short=tuple(short),
            groups=tuple(groups),
            legend=of_comparison(aspect, short, _states(rows), diagnosis.level),
        )
    ]


def _states(rows: pd.DataFrame) -> list[str]:
    present = set(rows["state"])
    return [state for state in STATES if state in present]


def _any_table(id: str, caption: str, frame: pd.DataFrame, where: str, legend: Mapping[str, str]) -> Part:
    if not len(frame):
        return Sentences("none.", lead=f"{caption}:")
    return Table.of(id, caption, frame, where=where, legend=legend)


def _finding(row: Mapping[Hashable, Any], tables: dict[str, pd.DataFrame]) -> Finding:
    table, label = str(row["table"]), str(row["row"])
    place = f"audit-{slug(table)}" if table in tables and len(tables[table]) else ""
    rests_on = f"table {table}{f', row {label}' if label else ''}" if table else ""
    return Finding(str(row["severity"]), str(row["verdict"]), rests_on, place)
