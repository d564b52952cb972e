"""The bases by their names in mgcv, and mgcv's bases that are missing here."""

from __future__ import annotations

from pycombat_gam.errors import FormulaError, NotYetError
from pycombat_gam.saving.reader import Reader
from pycombat_gam.smooth.basis import Basis, BasisOptions, Values
from pycombat_gam.smooth.cubic import CubicBasis, CyclicBasis, ShrunkenCubicBasis
from pycombat_gam.smooth.pspline import BSplineBasis, CyclicPSplineBasis, PSplineBasis
from pycombat_gam.smooth.random import FactorSmoothBasis, RandomBasis
from pycombat_gam.smooth.thinplate import ShrunkenThinPlateBasis, ThinPlateBasis
from pycombat_gam.words import did_you_mean, listing

MARGINS = {
    basis.name: basis
    for basis in (
        ThinPlateBasis,
        ShrunkenThinPlateBasis,
        CubicBasis,
        ShrunkenCubicBasis,
        CyclicBasis,
        PSplineBasis,
        CyclicPSplineBasis,
        BSplineBasis,
        RandomBasis,
    )
}
"""What may be a margin of a tensor product, or the curve of a factor-smooth interaction."""
NAMES = (*MARGINS, FactorSmoothBasis.name)
ELSEWHERE = ("ad", "ds", "gp", "mrf", "so", "sos", "sw", "sf", "sz", "ms", "fz")
"""mgcv's other bases."""


def check_name(name: object, where: str, allowed: tuple[str, ...]) -> str:
    """Stop for a basis that is not here."""
    if name in ELSEWHERE:
        raise NotYetError(f"{where}: mgcv's basis '{name}' is not here yet; available are {listing(allowed, 12)}")
    if not isinstance(name, str) or name not in allowed:
        hint = did_you_mean(name, allowed) if isinstance(name, str) else ""
        raise FormulaError(f"{where}: there is no basis {name!r} here{hint}; available are {listing(allowed, 12)}")
    return name


def learn_margin(name: str, variables: tuple[str, ...], values: Values, options: BasisOptions) -> Basis:
    """Learn a basis that may be a margin."""
    return MARGINS[check_name(name, options.where, tuple(MARGINS))].learn(variables, values, options)


def read_margin(saved: Reader) -> Basis:
    """Rebuild a basis that may be a margin."""
    return MARGINS[saved.choice("basis", MARGINS)].read(saved)


def read_basis(saved: Reader) -> Basis:
    """Rebuild any basis but a tensor product."""
    name = saved.choice("basis", NAMES)
    return FactorSmoothBasis.read(saved, read_margin) if name == FactorSmoothBasis.name else read_margin(saved)
