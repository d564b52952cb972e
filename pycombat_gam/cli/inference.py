"""Commands on a saved ComBat: tests after harmonization, and intervals of harmonized values."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pycombat_gam.cli.models import check_free, load_combat, put
from pycombat_gam.cli.shell import Force, Unseen, plainly, progress
from pycombat_gam.errors import OptionError

if TYPE_CHECKING:
    from pycombat_gam.infer.effects import Effects


class Weights(str, Enum):
    """How sites are weighted."""

    site = "site"
    equal = "equal"


class Variance(str, Enum):
    """Where variances come from."""

    site = "site"
    pooled = "pooled"
    hc3 = "hc3"


class State(str, Enum):
    """What the features of a table are."""

    harmonized = "harmonized"
    raw = "raw"


def test(
    model: Annotated[Path, typer.Argument(help="Model file of a ComBat (.pcg).")],
    terms: Annotated[
        list[str] | None, typer.Option(help="Term to test, as in the formula; repeat for several.", show_default="all")
    ] = None,
    contrast: Annotated[
        str | None, typer.Option(help="Weights of coefficients, such as 'dx[ASD]=1, age:dx[ASD]=30'; tested instead.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Rows, for another formula or for --variance hc3; a CSV, TSV or Parquet table.")
    ] = None,
    formula: Annotated[str | None, typer.Option(help="With --data: what to test.", show_default="the model's")] = None,
    state: Annotated[State, typer.Option(help="With --data: what its features are.")] = State.harmonized,
    weights: Annotated[
        Weights, typer.Option(help="Weigh sites by the inverse of their variances, or all alike.")
    ] = Weights.site,
    variance: Annotated[
        Variance,
        typer.Option(help="A variance at each site, at all sites one, or from each row's residual (with --data)."),
    ] = Variance.site,
    level: Annotated[float, typer.Option(help="Coverage of the intervals.")] = 0.95,
    out: Annotated[Path | None, typer.Option(help="File for the table of all features.")] = None,
    force: Force = False,
) -> None:
    """Test terms in every feature after harmonization, with site effects accounted for."""
    with plainly():
        from pycombat_gam.tables.files import suffix_of, table_writer

        fitted = load_combat(model, "test")
        if data is None and (formula is not None or state is not State.harmonized):
            raise OptionError("--formula and --state are of the rows that --data names: give it")
        if contrast is not None and (terms or data is not None):
            raise OptionError("--contrast takes the place of --terms and --data: leave these out")
        suffix = None if out is None else suffix_of(out)
        if out is not None:
            check_free(out, force=force)
        options: dict[str, Any] = {
            "weights": None if weights is Weights.equal else weights.value,
            "variance": variance.value,
            "level": level,
        }
        effects: Effects
        if data is not None:
            from pycombat_gam.combat.later import later_test
            from pycombat_gam.tables.files import read_table

            ids = [fitted.id] if isinstance(fitted.id, str) else list(fitted.id or [])
            table = read_table(data, [fitted.batch, *ids]).table
            effects = later_test(
                fitted, formula or fitted.formula, table, state.value, terms=list(terms or ()), **options
            )
        elif contrast is not None:
            effects = fitted.contrast(_weights_of(contrast), **options)
        else:
            effects = fitted.test(*(terms or ()), **options)
        typer.echo(str(effects))
        if out is not None and suffix is not None:
            put(out, table_writer(effects.table, suffix), force=force)
            progress.print(f"table of effects: {out}", markup=False)


def interval(
    model: Annotated[Path, typer.Argument(help="Model file of a ComBat (.pcg).")],
    data: Annotated[Path, typer.Argument(help="Rows to harmonize, in the columns of the fit.")],
    out: Annotated[Path, typer.Option(help="File for the table of intervals, a row for each value.")],
    level: Annotated[float, typer.Option(help="Probability that an interval covers.")] = 0.95,
    draws: Annotated[int, typer.Option(help="Draws of the parameters.")] = 400,
    on_unseen: Annotated[
        Unseen | None, typer.Option(help="New sites: stop, or estimate them from these rows; else as the model says.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the draws.")] = 0,
    force: Force = False,
) -> None:
    """Harmonize rows and say how sure each harmonized value is.

    The table names rows by the model's id columns; without any, `row` is the line in the file.
    """
    with plainly():
        from pycombat_gam.tables.files import read_table, suffix_of, table_writer

        fitted = load_combat(model, "interval")
        suffix = suffix_of(out)
        check_free(out, force=force)
        ids = [fitted.id] if isinstance(fitted.id, str) else list(fitted.id or [])
        if on_unseen is not None:
            fitted.set_params(on_unseen=on_unseen.value)
        table = read_table(data, [fitted.batch, *ids]).table
        put(out, table_writer(fitted.interval(table, level, draws, seed), suffix), force=force)
        progress.print(f"table of intervals: {out}", markup=False)


def _weights_of(contrast: str) -> dict[str, float]:
    """Read ``name=weight, name=weight``.

    >>> _weights_of("dx[ASD]=1, age:dx[ASD]=30")
    {'dx[ASD]': 1.0, 'age:dx[ASD]': 30.0}
    """
    weights: dict[str, float] = {}
    for part in contrast.split(","):
        name, equals, weight = part.rpartition("=")
        try:
            value = float(weight)
        except ValueError:
            equals = ""
        if not equals or not name.strip():
            raise OptionError(f"--contrast has '{part.strip()}': give weights such as 'dx[ASD]=1, age:dx[ASD]=30'")
        weights[name.strip()] = value
    return weights
