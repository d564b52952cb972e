"""The arguments of `FlowSCM`: their allowed values, their plain form, and the training that they request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pycombat_gam.batch.levels import canonical
from pycombat_gam.design.design import check_supported
from pycombat_gam.errors import NotYetError, OptionError
from pycombat_gam.flow.mechanisms.density import BASES
from pycombat_gam.flow.mechanisms.structured import VARIANTS
from pycombat_gam.flow.training.descent import Training
from pycombat_gam.formula import Formula, parse_formula
from pycombat_gam.tables.arguments import check_choices, check_texts, names
from pycombat_gam.types import JsonDict
from pycombat_gam.words import did_you_mean, listing

FLOWS = ("structured", "affine", "spline", "autoregressive", "coupling")
ALLOWED = {"flow": FLOWS, "base": BASES, "ensemble": ("bootstrap", "seed"), "output": ("table", "features")}
DEFAULTS: dict[str, dict[str, Any]] = {
    # Parameters are in units of their standard errors; 1e-5 of the objective is far below what separates two variants.
    "structured": {"max_epochs": 15, "tolerance": 1e-5, "learning_rate": 0.2},
    # At the default rate, training ends before the sites' splines have bent far.
    "spline": {"learning_rate": 3e-3},
}
"""Settings that differ from the defaults of `Training`, by flow."""


@dataclass(frozen=True)
class Recipe:
    """Which flow to train, and how.

    Attributes
    ----------
    flow : one of `FLOWS`; base : distribution of the noise.
    options : ``variant`` of the structured flow; ``hidden``, ``transforms``, ``spline`` and ``bins`` of the others.
    training : fields of `Training`.
    members : size of the ensemble, 1 for none; bootstrap : whether members differ by resampled rows, or by seed only.
    seed : seed of everything random.
    """

    flow: str
    base: str
    options: Mapping[str, Any]
    training: Mapping[str, Any]
    members: int
    bootstrap: bool
    seed: int

    def settings(self) -> Training:
        """Return the training settings."""
        known = Training.__dataclass_fields__
        for name in self.training:
            if name not in known:
                raise OptionError(
                    f"training has no '{name}'; allowed are {listing(known, 20)}{did_you_mean(name, list(known))}"
                )
        return Training(**{**DEFAULTS.get(self.flow, {}), **self.training})

    def check(self) -> None:
        """Check the options of the flow.

        Raises
        ------
        OptionError
            If an option is unknown or has a value that is not allowed.
        """
        allowed = ("variant",) if self.flow == "structured" else ("hidden", "transforms", "spline", "bins")
        for name in self.options:
            if name not in allowed:
                raise OptionError(f"flow_options: '{self.flow}' has no '{name}'; allowed are {listing(allowed)}")
        hidden = self.options.get("hidden", [])
        if not isinstance(hidden, list | tuple):
            raise OptionError(f"hidden is {hidden!r}; give a list of layer sizes, such as [64, 64]")
        variant = self.options.get("variant", "auto")
        if variant not in ("auto", *VARIANTS):
            raise OptionError(f"variant is {variant!r}; allowed are 'auto', {listing(map(repr, VARIANTS))}")
        self.settings()


def check_arguments(params: Mapping[str, Any]) -> tuple[Recipe, Formula]:
    """Validate the arguments; return the recipe and the parsed formula.

    Raises
    ------
    OptionError
        If an argument has a value that is not allowed.
    FormulaError, NotYetError
        If the formula cannot be read or fitted.
    """
    formula, batch = params["formula"], params["batch"]
    check_texts(formula, batch)
    check_choices(params, ALLOWED)
    for name, least in (("n_members", 1), ("seed", 0)):
        value = params[name]
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
            raise OptionError(f"{name}={value!r}: give a whole number, at least {least}")
    for name in ("flow_options", "training", "graph"):
        if not isinstance(params[name], Mapping | None):
            raise OptionError(f"{name}={params[name]!r}: give a dictionary, or None")
    if params["flow"] == "structured" and params["ensemble"] == "seed" and params["n_members"] > 1:
        raise OptionError("ensemble='seed': the structured flow has no random start; use ensemble='bootstrap'")
    names(params["id"], "id")
    if not isinstance(params["features"], str):
        names(params["features"], "features")
    parsed = parse_formula(formula)
    check_supported(parsed, absorb_intercept=True)
    if parsed.offsets:
        raise OptionError(
            f"the formula '{parsed}' has an offset, which FlowSCM does not fit: subtract it from the features"
        )
    if parsed.random:
        raise NotYetError(
            f"the formula '{parsed}' has random effects, which FlowSCM does not fit yet: leave them out, or use ComBat"
        )
    if batch in parsed.variables:
        raise OptionError(f"batch column '{batch}' is in the formula: FlowSCM adds it by itself, remove it there")
    recipe = Recipe(
        params["flow"],
        params["base"],
        dict(params["flow_options"] or {}),
        dict(params["training"] or {}),
        int(params["n_members"]),
        params["ensemble"] == "bootstrap",
        int(params["seed"]),
    )
    recipe.check()
    return recipe, parsed


def plain_arguments(params: Mapping[str, Any]) -> JsonDict:
    """Return the arguments as plain data."""
    plain = dict(params)
    for name in ("features", "id"):
        if plain[name] is not None and not isinstance(plain[name], str):
            plain[name] = names(plain[name], name)
    for name in ("flow_options", "training"):
        if plain[name] is not None:
            plain[name] = {
                str(key): list(value) if isinstance(value, tuple) else value for key, value in plain[name].items()
            }
    if plain["graph"] is not None:
        plain["graph"] = {str(node): list(causes) for node, causes in plain["graph"].items()}
    if plain["ref_batch"] is not None:
        plain["ref_batch"] = canonical(plain["ref_batch"])
    for name in ("n_members", "seed"):
        plain[name] = int(plain[name])
    return plain
