"""Counterfactuals of one feature over a grid of one covariate, by the model and by each member of its ensemble."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from pycombat_gam.errors import OptionError
from pycombat_gam.flow.queries import Queries
from pycombat_gam.progress import progress_bar
from pycombat_gam.types import FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class Fan:
    """The counterfactual values of n rows.

    Attributes
    ----------
    grid : (G,) values of the covariate.
    values : (G, n) the feature; members : (M, G, n) the feature by each member, M = 0 without an ensemble.
    here : (n,) the feature at each row's own value of the covariate; codes : (n,) their own sites.
    """

    grid: FloatArray
    values: FloatArray
    members: FloatArray
    here: FloatArray
    codes: IntArray


def fan_of(scm: Queries, table: pd.DataFrame, feature: str, over: str, *, to: object, points: int) -> Fan:
    """Set a covariate to a grid over the range of the fit, and the site to `to` (None: each row's own).

    Everything else follows as in `Queries.counterfactual`, effects in the graph included.
    """
    fitted, taken, codes = scm._rows(table, None)
    model, rows = fitted.model, taken.covariates
    kind = model.graph.kinds.get(over)
    if kind != "numeric":
        numeric = [name for name in model.graph.nodes if model.graph.kinds[name] == "numeric"]
        raise OptionError(
            f"over={over!r} is not a column of numbers in the formula; allowed are: {', '.join(numeric) or 'none'}"
        )
    ends = fitted.profile["covariates"][over]
    grid = np.linspace(ends["min"], ends["max"], points)
    k = taken.features.index(feature)
    coded, observed = model.code(rows, codes), model.parents(rows, codes)
    values = np.empty((points, len(rows)))
    members = np.empty((len(model.members), points, len(rows)))
    with progress_bar("counterfactuals", points * (1 + len(members))) as advance:
        for g, value in enumerate(grid):
            do = {over: float(value)} if to is None else {over: float(value), scm.batch: to}
            action = model.graph.check_do(do, len(rows), rows.index)
            changed = model.act(coded, action)
            decoded = model.decode(changed, rows.index)
            moved = [*action, *model.graph.descendants(list(action))]
            acted = rows.assign(**{str(name): decoded[name] for name in moved})
            parents = model.parents(acted, np.asarray(changed[scm.batch], dtype=np.intp))
            values[g] = model.counterfactual(taken.Y, observed, parents)[:, k]
            advance()
            for m, member in enumerate(model.members):
                members[m, g] = model.counterfactual(taken.Y, observed, parents, member)[:, k]
                advance()
    here = np.array(taken.Y[:, k], dtype=np.float64)
    if to is not None:
        target = model.levels.index(to, "to")
        moved_site = model.counterfactual(taken.Y, observed, observed.at(target))[:, k]
        here = np.where(codes == target, here, moved_site)
    return Fan(grid, values, members, here, codes)
