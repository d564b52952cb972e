"""What a validation prints: the guarantee first, then how predictions and sets did at sites left out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from pycombat_gam.predict.guarantee import promise
from pycombat_gam.predict.horizons import shown as horizon_text
from pycombat_gam.predict.thresholds import ceiling, reachable
from pycombat_gam.words import count, percent

if TYPE_CHECKING:
    from pycombat_gam.predict.validation import Validation


def validation_text(validation: Validation) -> str:
    """Return the summary as text."""
    fitted = validation.fitted
    unit = "row" if fitted.layout.case is None else "case"
    head = (
        f"Prediction of {fitted.outcome.name} at sites never seen: {count(len(fitted.units), unit)}, "
        f"{count(len(fitted.levels), 'site')}, each left out in turn"
    )
    harmonizer = fitted.full.harmonizer
    inside = "raw features" if harmonizer is None else f"{type(harmonizer).__name__} inside every fold"
    parts = [f"{head}; {inside}."]
    scores = validation.scores
    if scores is not None:
        promised = promise(fitted, validation.demand, scores)
        parts.append("\n".join([promised.lead, *promised.beyond, *promised.details]))
        parts.append("\n".join(["Not guaranteed:", *(f"  - {limit}" for limit in promised.limits)]))
        parts += _full(validation)
        parts.append(f"Sets at level {validation.demand.level:g}, each site left out\n{_sets(validation)}")
    else:
        parts.append(
            "Nothing is guaranteed: risks come without sets. How they did at sites left out is all that is known."
        )
    parts.append(f"Measures, pooled over sites by random effects (95 %)\n{_overall(validation)}")
    if len(validation.comparison):
        parts.append(f"Harmonized beside raw features, paired by site (95 %)\n{_comparison(validation)}")
    if fitted.notes:
        parts.append("\n".join(["Notes:", *(f"  - {note}" for note in fitted.notes)]))
    return "\n\n".join(parts)


def _full(validation: Validation) -> list[str]:
    """Say that sets at sites left out are full, where one site less cannot guarantee the level."""
    demand, scores, fitted = validation.demand, validation.scores, validation.fitted
    K = len(fitted.levels)
    if scores is None or not demand.guarantee or not reachable(demand.asked, ceiling(K)):
        return []
    if reachable(demand.asked, ceiling(K - 1)):
        return []
    what = "hold every class" if fitted.outcome.classes else "are unbounded"
    return [
        f"At sites left out, {K - 1} sites calibrate, which guarantee {percent(ceiling(K - 1), '.1f')} at most. "
        f"Guaranteed sets {what} there: what they held says nothing."
    ]


def _sets(validation: Validation) -> str:
    table = validation.sets
    size = "size" if validation.fitted.outcome.classes else "width"
    shown = pd.DataFrame(
        {
            **_features(validation, table),
            "sets": table["sets"],
            "class": table["class"],
            "held (mean of sites)": table["coverage"].map(lambda x: percent(x, ".1f")),
            "worst site": [
                f"{percent(x, '.0f')} ({site})" for x, site in zip(table["worst"], table["worst_site"], strict=True)
            ],
            "sites at level": table["sites_at_level"].map(lambda x: percent(x, ".0f")),
            size: table["size"].map(lambda x: f"{x:.3g}"),
        }
    )
    if not validation.fitted.outcome.classes:
        shown = shown.drop(columns="class")
    return _printed(shown)


def _overall(validation: Validation) -> str:
    table = validation.overall
    shown = pd.DataFrame(
        {
            **_features(validation, table),
            **({"horizon": table["horizon"].map(horizon_text)} if "horizon" in table else {}),
            **({"class": table["class"]} if "class" in table else {}),
            "measure": table["measure"],
            "mean of sites": table["estimate"].map(_number),
            "interval": _intervals(table, "lower", "upper"),
            "at a new site": _intervals(table, "new_lower", "new_upper"),
            "sites": table["sites"],
        }
    )
    if not validation.fitted.outcome.classes:
        shown = shown.drop(columns="class", errors="ignore")
    return _printed(shown)


def _comparison(validation: Validation) -> str:
    table = validation.comparison
    which = "horizon" if "horizon" in table else "class"
    shown = pd.DataFrame(
        {
            "measure": table["measure"],
            which: table[which].map(horizon_text) if which == "horizon" else table[which],
            "harmonized": table["harmonized"].map(_number),
            "raw": table["raw"].map(_number),
            "difference": table["difference"].map(lambda x: f"{x:+.3f}"),
            "interval": [f"{a:+.3f} to {b:+.3f}" for a, b in zip(table["lower"], table["upper"], strict=True)],
        }
    )
    return _printed(shown)


def _features(validation: Validation, table: pd.DataFrame) -> dict[str, pd.Series]:
    """The column of features, where there are two kinds."""
    return {} if validation.fitted.raw is None else {"features": table["features"]}


def _intervals(table: pd.DataFrame, lower: str, upper: str) -> list[str]:
    ends = zip(table[lower].astype(float), table[upper].astype(float), strict=True)
    return ["" if np.isnan(a) else f"{_number(a)} to {_number(b)}" for a, b in ends]


def _number(x: float) -> str:
    return "" if np.isnan(x) else f"{x:.3f}" if abs(x) < 100 else f"{x:.4g}"


def _printed(table: pd.DataFrame) -> str:
    text = table.to_string(index=False)
    return "\n".join(f"  {line}" for line in text.splitlines())
