"""Harmonize data measured at many sites: remove site effects, keep the biology, and check every number against R."""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pycombat_gam import datasets, plot
    from pycombat_gam.additive.gam import gam
    from pycombat_gam.additive.many import GamFits
    from pycombat_gam.additive.model import GamFit
    from pycombat_gam.audit import Audit, audit
    from pycombat_gam.combat.estimator import ComBat
    from pycombat_gam.combat.later import later_test
    from pycombat_gam.diagnose import Diagnosis, diagnose
    from pycombat_gam.errors import PcgError, PcgWarning
    from pycombat_gam.flow.estimator import FlowSCM
    from pycombat_gam.images.embed import embed
    from pycombat_gam.infer.effects import Effects
    from pycombat_gam.infer.pooling import pool
    from pycombat_gam.load import load
    from pycombat_gam.predict.predictor import Predictor
    from pycombat_gam.predict.prior_exam import prior_exam
    from pycombat_gam.predict.taxonomy import Taxonomy
    from pycombat_gam.report import Report, report

__version__ = "0.1.0"
__all__ = [
    "Audit",
    "ComBat",
    "Diagnosis",
    "Effects",
    "FlowSCM",
    "GamFit",
    "GamFits",
    "PcgError",
    "PcgWarning",
    "Predictor",
    "Report",
    "Taxonomy",
    "audit",
    "datasets",
    "diagnose",
    "embed",
    "gam",
    "later_test",
    "load",
    "plot",
    "pool",
    "prior_exam",
    "report",
]

_HOMES = {
    "Audit": "audit",
    "ComBat": "combat.estimator",
    "Diagnosis": "diagnose",
    "Effects": "infer.effects",
    "FlowSCM": "flow.estimator",
    "GamFit": "additive.model",
    "GamFits": "additive.many",
    "PcgError": "errors",
    "PcgWarning": "errors",
    "Predictor": "predict.predictor",
    "Report": "report",
    "Taxonomy": "predict.taxonomy",
    "audit": "audit",
    "diagnose": "diagnose",
    "embed": "images.embed",
    "gam": "additive.gam",
    "later_test": "combat.later",
    "load": "load",
    "pool": "infer.pooling",
    "prior_exam": "predict.prior_exam",
    "report": "report",
}
"""Where each name lives: imported with its first use, so that the command line starts at once."""


class _Package(ModuleType):
    """The package; `audit`, `diagnose` and `report` are its functions, though folders have these names too."""

    def __setattr__(self, name: str, value: object) -> None:
        if isinstance(value, ModuleType) and name in _HOMES:
            return  # the import system hangs every folder up here
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    """Import a name with its first use, torch with that of `FlowSCM`."""
    if name in ("datasets", "plot"):
        return import_module(f"{__name__}.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    if name == "FlowSCM":
        from pycombat_gam.errors import flow_requirements

        flow_requirements()
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
