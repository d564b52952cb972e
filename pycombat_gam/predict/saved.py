"""The plain-data form of a fitted predictor: JSON, and every number in arrays. Reading trusts nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from pycombat_gam.batch.levels import BatchLevels
from pycombat_gam.combat.estimator import ComBat
from pycombat_gam.design.design import Design
from pycombat_gam.errors import flow_requirements
from pycombat_gam.formula import parse_formula
from pycombat_gam.predict.arguments import check_arguments, check_harmonizer
from pycombat_gam.predict.bags import SIZES
from pycombat_gam.predict.fitted import FittedPredictor, scores_of
from pycombat_gam.predict.fold import CovariateColumns, Fold
from pycombat_gam.predict.horizons import FittedHazards
from pycombat_gam.predict.learners import FittedLearner, Linear
from pycombat_gam.predict.left_out import Evidence
from pycombat_gam.predict.node_scores import NodeScores
from pycombat_gam.predict.nodes import FittedNodes
from pycombat_gam.predict.outcome import Label, Outcome
from pycombat_gam.predict.rows import Layout
from pycombat_gam.predict.taxonomy import Taxonomy, Tree, as_taxonomy
from pycombat_gam.saving.container import Container
from pycombat_gam.saving.reader import Reader
from pycombat_gam.types import BoolArray, JsonDict

KIND = "predictor"
PLAIN = ("formula", "batch", "id", "features", "level", "per_class", "sites", "guarantee", "case", "horizons", "seed")
"""Arguments that are plain data."""


def to_container(fit: FittedPredictor, params: dict[str, Any]) -> Container:
    """Return the plain-data form; `params` are the constructor's arguments.

    Raises
    ------
    ModelFileError
        For an estimator of scikit-learn: it is code, and a file never holds code.
    """
    arrays: dict[str, np.ndarray] = {
        "features": np.array(fit.layout.features, dtype=np.str_),
        "site_rows": fit.site_rows,
    }
    folds = []
    for number, fold in enumerate((fit.full, *fit.without)):
        about, parts = _fold(fold)
        folds.append(about)
        arrays |= {f"fold{number}.{name}": array for name, array in parts.items()}
    arrays |= _evidence("evidence", fit.evidence)
    arrays |= {} if fit.raw is None else _evidence("raw", fit.raw)
    arrays |= {f"bags.{m}": truth for m, truth in fit.bags.items()}
    arrays |= {f"units.{name}": fit.units[name].to_numpy(dtype=str) for name in fit.units if name != "site"}
    outcome = fit.outcome
    model: JsonDict = {
        "params": {name: _plain(params[name]) for name in PLAIN},
        "taxonomy": None if params["taxonomy"] is None else as_taxonomy(params["taxonomy"]).to_dict(),
        "outcome": {
            "name": outcome.name,
            "kind": outcome.kind,
            "classes": list(outcome.classes),
            "numbered": outcome.numbered,
            "horizons": list(outcome.horizons),
        },
        "batch": {"column": fit.levels.column, "labels": list(fit.levels.labels)},
        "folds": folds,
        "units": [str(name) for name in fit.units if name != "site"],
        "notes": list(map(str, fit.notes)),
    }
    return Container(KIND, model, arrays)


def _plain(value: object) -> object:
    if isinstance(value, tuple | np.ndarray | pd.Index):
        return [_plain(part) for part in value]
    return value.item() if isinstance(value, np.generic) else value


def _fold(fold: Fold) -> tuple[JsonDict, dict[str, np.ndarray]]:
    arrays = {f"learner.{name}": array for name, array in fold.learner.arrays().items()}
    about: JsonDict = {"design": fold.columns.design.to_dict(), "harmonizer": None}
    if fold.harmonizer is not None:
        container = fold.harmonizer.to_container()
        about["harmonizer"] = {"kind": container.kind, "version": container.version, "model": container.model}
        arrays |= {f"harmonizer.{name}": array for name, array in container.arrays.items()}
    return about, arrays


def _evidence(name: str, evidence: Evidence) -> dict[str, np.ndarray]:
    return {f"{name}.{part}": np.asarray(array) for part, array in vars(evidence).items()}


def from_container(container: Container) -> tuple[dict[str, Any], FittedPredictor]:
    """Rebuild the constructor's arguments and the fit.

    Raises
    ------
    ModelFileError
        If anything is absent, of another shape or type, or does not fit together.
    """
    saved = Reader(container.model, "the saved predictor")
    with saved.guard():
        saved.exactly("params", "taxonomy", "outcome", "batch", "folds", "units", "notes")
        return _rebuilt(saved, container.arrays)


def _rebuilt(saved: Reader, arrays: dict[str, np.ndarray]) -> tuple[dict[str, Any], FittedPredictor]:
    held = Reader(arrays, "the saved predictor")
    params = _params(saved)
    about = saved.child("batch").exactly("column", "labels")
    levels = BatchLevels(about.text("column"), about.texts("labels", distinct=True, least=3))
    outcome = _outcome(saved.child("outcome"))
    taxonomy = None if saved.value("taxonomy") is None else Taxonomy.from_dict(saved.value("taxonomy"))
    tree = _tree(saved, taxonomy, outcome)
    features = tuple(held.array("features", (None,), "U", distinct=True).tolist())
    K = len(levels)
    records = saved.children("folds", least=K + 1, most=K + 1)
    folds = [
        _read_fold(record, _under(arrays, f"fold{number}."), features, outcome, tree)
        for number, record in enumerate(records)
    ]
    first = folds[0].harmonizer
    params |= {"harmonizer": None if first is None else type(first)(**first.get_params()), "estimator": None}
    params |= {"taxonomy": taxonomy}
    question, _ = check_arguments(params)
    harmonizer = check_harmonizer(params["harmonizer"], question, params["batch"])
    covariates = () if harmonizer is None else parse_formula(harmonizer.formula).variables
    layout = Layout(question, params["batch"], params["id"], params["case"], tuple(covariates), features)
    saved.require(levels.column == layout.batch, "have one batch column")
    saved.require(question.name == outcome.name, "have one outcome")
    right = str(question.right)
    saved.require(all(str(fold.columns.design.formula) == right for fold in folds), "have one formula")
    evidence = _read_evidence(held, "evidence", folds, outcome, layout)
    raw = _read_evidence(held, "raw", folds, outcome, layout) if first is not None else None
    U = len(evidence.y)
    names = saved.texts("units", distinct=True)
    site = np.array(levels.labels, dtype=object)[evidence.site]
    units = pd.DataFrame(
        {"site": site, **{name: held.array(f"units.{name}", (U,), "U").astype(object) for name in names}}
    )
    bags = {m: held.array(f"bags.{m}", (U,)) for m in SIZES if held.has(f"bags.{m}")}
    fit = FittedPredictor(
        layout, outcome, levels, folds[0], tuple(folds[1:]), evidence, raw, bags, units,
        held.array("site_rows", (K,), "i", least=3), saved.texts("notes"),
    )  # fmt: skip
    return params, fit


def _params(saved: Reader) -> dict[str, Any]:
    reader = saved.child("params").exactly(*PLAIN)
    return {name: reader.value(name) for name in PLAIN}


def _outcome(saved: Reader) -> Outcome:
    saved.exactly("name", "kind", "classes", "numbered", "horizons")
    kind = saved.choice("kind", ("classes", "number", "survival"))
    horizons = saved.array("horizons", (None,), positive=True, ascending=True)
    saved.require((horizons.size > 0) == (kind == "survival"), "have horizons where its outcome is a time")
    classes: list[Label] = saved.value("classes")
    sound = isinstance(classes, list) and all(isinstance(label, str | bool | int | float) for label in classes)
    saved.require(sound and len({str(label) for label in classes}) == len(classes), "have different classes")
    saved.require((len(classes) >= 2) == (kind == "classes"), "have classes where its outcome has")
    name, numbered = saved.text("name"), saved.flag("numbered")
    return Outcome(name, kind, tuple(classes), numbered, tuple(horizons.tolist()))  # type: ignore[arg-type]  # `choice` gives one of the kinds


def _tree(saved: Reader, taxonomy: Taxonomy | None, outcome: Outcome) -> Tree | None:
    if taxonomy is None:
        return None
    saved.require(len(outcome.classes) > 0, "have classes where it has a taxonomy")
    saved.require(set(outcome.labels) <= set(taxonomy.leaves), "have its classes at leaves of its taxonomy")
    return Tree.of(taxonomy, outcome.classes)


def _read_fold(
    record: Reader, arrays: dict[str, np.ndarray], features: tuple[str, ...], outcome: Outcome, tree: Tree | None
) -> Fold:
    record.exactly("design", "harmonizer")
    design = Design.from_dict(record.value("design"))
    harmonizer: Any = None
    if record.value("harmonizer") is not None:
        about = record.child("harmonizer").exactly("kind", "version", "model")
        inner = Container(
            about.choice("kind", ("combat", "flow")),
            about.value("model"),
            _under(arrays, "harmonizer."),
            about.whole("version", least=1, most=2),
        )
        harmonizer = _harmonizer(inner)
        same = tuple(harmonizer.get_feature_names_out().tolist()) == features
        record.require(same, "harmonize the features that predict")
    parts = Reader(_under(arrays, "learner."), "the saved learner")
    learner = _learner(parts, len(design.columns) + len(features), outcome, tree)
    return Fold(harmonizer, CovariateColumns(design, None), features, learner)


def _harmonizer(container: Container) -> Any:
    if container.kind == "combat":
        return ComBat.from_container(container)
    flow_requirements()
    from pycombat_gam.flow.estimator import FlowSCM

    return FlowSCM.from_container(container)


def _learner(saved: Reader, columns: int, outcome: Outcome, tree: Tree | None) -> FittedLearner:
    if tree is not None:
        return FittedNodes.read(saved, columns, tree)
    if outcome.kind == "survival":
        return FittedHazards.read(saved, columns, len(outcome.horizons))
    classes = outcome.kind == "classes"
    return Linear.read(saved, columns, outcome.n_classes if classes else 1, classes=classes)


def _read_evidence(held: Reader, name: str, folds: list[Fold], outcome: Outcome, layout: Layout) -> Evidence:
    K = len(folds) - 1
    site = held.array(f"{name}.site", (None,), "i", least=K)
    U = len(site)
    held.require(set(np.unique(site).tolist()) == set(range(K)), "have rows of every site")
    scores = scores_of(outcome, layout, folds[0].learner, per_class=False)
    if scores is None:
        y = held.array(f"{name}.y", (U, 2))
        held.require(bool((y[:, 0] > 0).all() and np.isin(y[:, 1], [0.0, 1.0]).all()), "have times and events")
        left_out = held.array(f"{name}.left_out", (U, len(outcome.horizons)))
        nothing = [held.array(f"{name}.{part}", (U, 0)) for part in ("pair_truth", "pair_extremes")]
        return Evidence(site, y, left_out, *nothing)
    y = held.array(f"{name}.y", (U,))
    if outcome.classes:
        held.require(set(np.unique(y).tolist()) <= set(range(outcome.n_classes)), "have outcomes among its classes")
    if isinstance(scores, NodeScores):
        known = np.array([_known(fold.learner) for fold in folds[1:]])
        left_out = held.array(f"{name}.left_out", (U, len(scores.tree)), finite=False)
        held.require(np.array_equal(np.isfinite(left_out), known[site]), "have probabilities down to its partitions")
    else:
        left_out = held.array(f"{name}.left_out", (U, outcome.n_classes or 1))
    truth = held.array(f"{name}.pair_truth", (U, K), finite=False)
    extremes = held.array(f"{name}.pair_extremes", scores.extremes(left_out).shape)
    return Evidence(site, y, left_out, truth, extremes)


def _known(learner: FittedLearner) -> BoolArray:
    assert isinstance(learner, FittedNodes)
    return learner.tree.known(learner.merged)


def _under(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """Return the arrays whose name starts so, by the rest of it."""
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
