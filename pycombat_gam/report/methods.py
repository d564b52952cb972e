"""The methods paragraph for a paper's supplement: what was done, sentence by sentence."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING

from pycombat_gam.account.account import Account
from pycombat_gam.account.papers import BENJAMINI, HOLM, SIMES, Reference
from pycombat_gam.formula import Formula, parse_formula
from pycombat_gam.report.kept import fixed_covariates, random_effects
from pycombat_gam.study.harmonizer import Harmonizer
from pycombat_gam.study.origin import FITTED, MASKED, OTHER, Origin
from pycombat_gam.study.states import HELD_OUT
from pycombat_gam.types import JsonDict
from pycombat_gam.words import count, joined

if TYPE_CHECKING:
    import pandas as pd

    from pycombat_gam.diagnose import Diagnosis

PACKAGES = ("numpy", "scipy", "pandas")


def methods_text(model: Harmonizer, *, to: str | None = None, origin: Origin | None = None) -> str:
    """Say in a paragraph how the table was harmonized.

    Parameters
    ----------
    model : fitted.
    to : of a flow, the site that rows were taken to; None for the average over sites.
    origin : how the rows that were harmonized relate to those of the fit; None: they are the same.
    """
    formula = parse_formula(model.formula)
    profile = model.profile
    other = origin if origin is not None and origin.kind == OTHER else None
    account = model.account(to=to, elsewhere=other is not None)
    sentences = [
        _what(model, account, profile, origin) if other is None else _what_other(model, account, profile, other),
        _kept(formula),
        *account.sentences,
    ]
    if model.untouched:
        sentences.append(f"{count(model.untouched, 'feature')} without residual variance passed through untouched.")
    sentences.append(_computed(model))
    return " ".join(sentences)


def references(model: Harmonizer, *, adjusted: bool, overall: bool = False) -> tuple[Reference, ...]:
    """Return the papers that a harmonization and its evaluation rest on, by author and year.

    Parameters
    ----------
    model : fitted.
    adjusted : whether p-values are adjusted for the number of features; overall : also for that of the tests.
    """
    used = [*([BENJAMINI] if adjusted else []), *([SIMES, HOLM] if overall else []), *model.account().papers]
    return tuple(sorted(used, key=lambda paper: (paper.fields["author"].split(",")[0], paper.fields["year"])))


def diagnosis_text(diagnosis: Diagnosis, origin: Origin | None = None) -> str:
    """Say in a paragraph how the harmonization was checked."""
    table = diagnosis.table
    # A row without a number was not computed.
    table = table[table["p"].notna() | table["value"].notna()]
    by_aspect = {aspect: list(dict.fromkeys(rows["measure"])) for aspect, rows in table.groupby("aspect", sort=False)}

    def of(*aspects: str) -> str:
        return joined([str(measure) for aspect in aspects for measure in by_aspect.get(aspect, [])])

    sentences = []
    if "location" in by_aspect or "scale" in by_aspect:
        sentences.append(
            f"Differences between sites were tested feature by feature ({of('location', 'scale')}). P-values were "
            f"adjusted for the number of features by the false discovery rate ({BENJAMINI.cited}) and compared with "
            f"{diagnosis.level:g}."
        )
    if "covariance" in by_aspect or "distribution" in by_aspect:
        sentences.append(
            f"All features were compared jointly by {of('covariance', 'distribution')}, with "
            f"{count(diagnosis.permutations, 'permutation')} where a null distribution was needed "
            f"(seed {diagnosis.seed})."
        )
    if "site prediction" in by_aspect:
        sentences.append(
            "How well sites are predicted from the features at equal covariates was measured by cross-validated "
            f"balanced accuracy ({of('site prediction')})."
        )
    if len(diagnosis.overall):
        sentences.append(
            "Whether sites differ at all was decided from one p-value of each of these tests, adjusted for the number "
            f"of tests by Holm's method ({HOLM.cited}). Where a test has a p-value for every feature, this is Simes' p "
            f"({SIMES.cited})."
        )
    if "association" in by_aspect:
        sentences.append(
            "Associations with each term were tested in one weighted fit with site intercepts and site variances. "
            "Their size was measured by partial R² within sites."
        )
    if "effect change" in by_aspect:
        sentences.append(
            "Over the features in which a term is found, effects in the harmonized table, estimated without site, were "
            "compared with those before, estimated with site. Intervals rest on the rows' influence on these features."
        )
    if "covariate prediction" in by_aspect:
        sentences.append("Covariates were predicted from the features of sites left out of the training.")
    sentences += _held_out(table, origin)
    return " ".join(sentences)


def _held_out(table: pd.DataFrame, origin: Origin | None) -> list[str]:
    """Say what "held out" and "after" mean; each of the two questions has its own scheme."""
    unseen = set(table.loc[table["state"] == HELD_OUT, "aspect"])
    kind = FITTED if origin is None else origin.kind
    schemes = []
    if "site prediction" in unseen:
        schemes.append(
            "For the prediction of sites, held-out rows are harmonized by models fitted without them, in 5 folds of "
            "the rows."
        )
    if "covariate prediction" in unseen:
        schemes.append(
            "For the prediction of a covariate, each held-out site is harmonized by a model fitted without that site "
            "and without the covariate's terms."
        )
    if not schemes:
        return []
    again = {
        FITTED: [],
        MASKED: ["All these models were fitted to rows of fit_mask only."],
        OTHER: ["All these models were fitted to rows of this table."],
    }[kind]
    after = {
        FITTED: "the rows that estimated the site effects",
        MASKED: "all rows, those that estimated the site effects among them",
        OTHER: "rows harmonized by a model that was fitted to another table",
    }[kind]
    return [*schemes, *again, f"Figures called after are of {after}."]


def versions(model: Harmonizer, extra: Sequence[str] = ()) -> dict[str, str]:
    """Return the versions of the software that computed, by name."""
    return software([*model.packages, *extra])


def software(extra: Sequence[str]) -> dict[str, str]:
    """Return the versions of Python, of this package and its basis, and of further packages, by name."""
    return {
        "pycombat_gam": version("pycombat-gam"),
        "python": platform.python_version(),
        **{name: version(name) for name in dict.fromkeys([*PACKAGES, *extra])},
    }


def _what(model: Harmonizer, account: Account, profile: JsonDict, origin: Origin | None) -> str:
    rows, chosen = profile["rows"], ""
    # If the rows are just those that fit_mask chose, there are no others.
    if profile["rows"] != profile["rows_given"] and (origin is None or origin.kind == MASKED):
        rows = profile["rows_given"]
        chosen = (
            f" Site effects and mean model were estimated from {profile['rows']:,} of the {rows:,} rows (fit_mask), "
            "and all rows were adjusted."
        )
    size = (
        f"{count(profile['features'], 'feature')} of {count(rows, 'row')} at {count(len(profile['batches']), 'site')}"
    )
    return f"Effects of site (column '{model.batch}') on {size} were removed with {account.method}.{chosen}"


def _what_other(model: Harmonizer, account: Account, profile: JsonDict, origin: Origin) -> str:
    size = f"{count(profile['features'], 'feature')} of {count(origin.rows, 'row')} at {count(origin.sites, 'site')}"
    fit = f"{count(origin.fit_given, 'row')} at {count(origin.fit_sites, 'site')}"
    chosen = "" if origin.fit_rows == origin.fit_given else f", {origin.fit_rows:,} of which estimated (fit_mask)"
    new = ""
    if origin.unseen:
        new = f" The effects of {count(len(origin.unseen), 'site')} not in that table were estimated from these rows."
    return (
        f"Effects of site (column '{model.batch}') on {size} were removed with {account.method}. The model "
        f"was fitted to another table, of {fit}{chosen}.{new}"
    )


def _kept(formula: Formula) -> str:
    fixed, random = fixed_covariates(formula), random_effects(formula)
    if not fixed and not random:
        return (
            "No covariate was kept: with the formula ~ 1 all differences between sites count as site effects, "
            "including differences in who was measured there."
        )
    if not random:
        return (
            f"The effects of {joined(fixed)} were modelled together with those of site, and kept (formula {formula})."
        )
    if not fixed:
        return (
            f"{random.capitalize()} were modelled together with the effects of site, and kept (formula {formula}). No "
            "fixed covariate was kept."
        )
    return (
        f"The effects of {joined(fixed)}, as fixed effects, and {random} were modelled together with those of site, "
        f"and kept (formula {formula})."
    )


def _computed(model: Harmonizer) -> str:
    return computations(versions(model))


def computations(versions: dict[str, str]) -> str:
    """Say in a sentence what computed, by its versions."""
    numbers = dict(versions)
    ours, python = numbers.pop("pycombat_gam"), numbers.pop("python")
    with_ = joined([f"{name} {number}" for name, number in numbers.items()])
    return f"Computations: pycombat_gam {ours}, Python {python}, {with_}."
