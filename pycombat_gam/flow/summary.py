"""The summary of a fitted flow, printed and as data."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from pycombat_gam.flow.mechanisms.site_map import PARAMETERS
from pycombat_gam.flow.mechanisms.structured import StructuredFlow
from pycombat_gam.flow.model.scm import StructuralModel
from pycombat_gam.flow.nodes.graph import FEATURES
from pycombat_gam.types import JsonDict
from pycombat_gam.words import count, covariate_line, plain_table, printable


@dataclass(frozen=True, eq=False)
class FlowSummary:
    """Summary of a fitted `FlowSCM`; `str()` prints it, `to_dict()` gives plain data.

    Attributes
    ----------
    call : str
        The model as it was called.
    graph : DataFrame
        A row per node and one for the features: kind, causes.
    sites : DataFrame
        A row per site: rows, and for the structured flow the mean and range of its parameters over features.
    variant : str or None
        Variant of the structured flow; None for others.
    choice : DataFrame or None
        A row per variant tried: held-out log-probability, distance from the chosen variant, standard error.
    training : DataFrame
        A row per stage: epochs, last held-out log-probability.
    notes : tuple of str
        What was out of the ordinary.
    profile : dict
        Hash and summary of the fitted table.
    """

    call: str
    graph: pd.DataFrame
    sites: pd.DataFrame
    variant: str | None
    choice: pd.DataFrame | None
    training: pd.DataFrame
    notes: tuple[str, ...]
    profile: JsonDict

    def to_dict(self) -> JsonDict:
        """Return everything as plain data (JSON-able; a missing number is None)."""
        return {
            "call": self.call,
            "graph": plain_table(self.graph),
            "sites": plain_table(self.sites),
            "variant": self.variant,
            "choice": None if self.choice is None else plain_table(self.choice),
            "training": plain_table(self.training),
            "notes": list(self.notes),
            "table": self.profile,
        }

    def __str__(self) -> str:
        def shown(table: pd.DataFrame) -> str:
            return str(table.to_string(float_format=lambda value: f"{value:.4g}", na_rep="—"))

        profile = self.profile
        lines = [
            f"Call:  {self.call}",
            "",
            f"{count(profile['rows'], 'row')}, {count(profile['features'], 'feature')}, "
            f"{count(len(self.sites), 'site')}",
            "",
            "Graph:",
            shown(self.graph),
            "",
            "Sites (location in units of the pooled sd):",
            shown(self.sites),
        ]
        if self.choice is not None:
            lines += ["", f"Variants (held-out log-probability per row), '{self.variant}' chosen:", shown(self.choice)]
        lines += ["", "Training:", shown(self.training)]
        if profile["covariates"]:
            lines += ["", "Covariates:", *(covariate_line(name, of) for name, of in profile["covariates"].items())]
        lines += ["", "Notes:", *(f"  - {note}" for note in self.notes)] if self.notes else ["", "Notes: none"]
        return printable("\n".join(lines))

    __repr__ = __str__


def summarize(
    call: str,
    model: StructuralModel,
    choice: pd.DataFrame | None,
    notes: tuple[str, ...],
    profile: JsonDict,
    history: pd.DataFrame,
) -> FlowSummary:
    """Collect the tables of a summary."""
    graph = pd.DataFrame(
        {
            "kind": [
                *(model.graph.kinds[name] for name in model.graph.nodes),
                count(len(model.frame.features), "number"),
            ],
            "causes": [
                *(", ".join(model.graph.parents[name]) or "none" for name in model.graph.nodes),
                ", ".join(model.graph.nodes),
            ],
        },
        index=pd.Index([*model.graph.nodes, FEATURES], name="node"),
    )
    index = pd.Index(model.levels.labels, name=model.levels.column)
    sites = pd.DataFrame({"n": [profile["batches"].get(label, 0) for label in model.levels.labels]}, index=index)
    if isinstance(model.features, StructuredFlow):
        for name, table in effect_tables(model).items():
            sites[f"{name} mean"] = table.mean(axis=1)
            if name in PARAMETERS[:2]:
                sites[f"{name} min"], sites[f"{name} max"] = table.min(axis=1), table.max(axis=1)
    training = history.groupby("stage", sort=False).agg(epochs=("epoch", "max"), held_out=("held_out", "last"))
    variant = model.features.variant if isinstance(model.features, StructuredFlow) else None
    return FlowSummary(call, graph, sites, variant, choice, training, notes, profile)


def effect_tables(model: StructuralModel) -> dict[str, pd.DataFrame]:
    """Return the parameters of the structured flow's site maps, sites × modelled features, by name."""
    assert isinstance(model.features, StructuredFlow)
    index = pd.Index(model.levels.labels, name=model.levels.column)
    names = [name for name, kept in zip(model.frame.features, model.frame.modelled, strict=True) if kept]
    effects = model.features.effects.detach().cpu().numpy()
    return {
        name: pd.DataFrame(values, index=index, columns=names)
        for name, values in zip(PARAMETERS, effects, strict=False)
    }
