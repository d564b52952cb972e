"""What a formula says, as frozen data: parametric terms, smooths, random effects (see `terms`)."""

from __future__ import annotations

from dataclasses import dataclass, field

from pycombat_gam.formula.functions import Literal, literal
from pycombat_gam.formula.nodes import Call, Node, deparse

RANDOM_BASES = ("re", "fs")
"""Values of `bs=` that make a smooth a random effect: numbers, or whole curves, of the levels of a factor."""


@dataclass(frozen=True)
class Term:
    """A parametric term: one factor, or an interaction of several.

    Attributes
    ----------
    factors : tuple of Node
        In R's order: that of first appearance in the formula.
    """

    factors: tuple[Node, ...]

    @property
    def label(self) -> str:
        """R's term label, such as ``sex:poly(age, 2)``."""
        return ":".join(deparse(factor) for factor in self.factors)


@dataclass(frozen=True)
class SmoothTerm:
    """A smooth, ``s(age, by=sex, k=10)``, as mgcv's constructors take it.

    Attributes
    ----------
    kind : str
        ``"s"``, ``"te"``, ``"ti"`` or ``"t2"``.
    args : tuple of Node
        The expressions it is a smooth of.
    by : Node or None
        The by-variable.
    options : tuple of (str, Node)
        The other named arguments, as written; `option` reads one.
    """

    kind: str
    args: tuple[Node, ...]
    by: Node | None = None
    options: tuple[tuple[str, Node], ...] = ()

    @property
    def call(self) -> Call:
        """The term as a call."""
        by = () if self.by is None else (("by", self.by),)
        return Call(self.kind, self.args, by + self.options)

    @property
    def label(self) -> str:
        """Mgcv's label, ``te(age,icv)`` or ``s(age):sex``; a factor by-variable's levels come later."""
        label = f"{self.kind}({','.join(deparse(arg) for arg in self.args)})"
        return label if self.by is None else f"{label}:{deparse(self.by)}"

    @property
    def random(self) -> bool:
        """Whether it is a random effect: ``bs="re"``, or curves of groups, ``bs="fs"``."""
        return self.option("bs") in RANDOM_BASES

    def option(self, name: str, default: Literal = None) -> Literal:
        """Read an option as plain data, ``c(5, 5)`` as ``[5, 5]``."""
        options = dict(self.options)
        return literal(options[name], self.call) if name in options else default


@dataclass(frozen=True)
class RandomTerm:
    """A random effect as lme4 writes it, ``(1 + x || group)``.

    Attributes
    ----------
    intercept : bool
        Whether it holds a random intercept.
    slopes : tuple of Term
        What varies by group besides.
    group : Term
        The grouping factor, or an interaction of several.
    bar : str
        ``"|"`` or ``"||"``.
    """

    intercept: bool
    slopes: tuple[Term, ...]
    group: Term
    bar: str = "|"

    @property
    def correlated(self) -> bool:
        """Whether ``|`` asks for correlations between several effects."""
        return self.bar == "|" and self.intercept + len(self.slopes) > 1

    @property
    def label(self) -> str:
        """The term as text, without its parentheses: ``1 | site``."""
        head = [] if self.intercept and self.slopes else ["1" if self.intercept else "0"]
        left = " + ".join([*head, *(term.label for term in self.slopes)])
        return f"{left} {self.bar} {self.group.label}"


@dataclass(frozen=True)
class Formula:
    """A parsed formula.

    Attributes
    ----------
    response : Node or None
        What stands left of the tilde.
    intercept : bool
        Whether the formula has one.
    parametric : tuple of Term
        In R's order: by number of factors, then by appearance.
    smooths : tuple of SmoothTerm
    random : tuple of RandomTerm
    variables : tuple of str
        Every column used, in order of appearance.
    text : str
        R code for the formula; parses back to an equal formula.
    idle_powers : tuple of str
        Powers without effect, as in R: ``age^2`` outside ``I()`` means ``age``.
    offsets : tuple of Node
        What ``offset()`` was written around; their sum is part of the mean with coefficient one.
    """

    response: Node | None
    intercept: bool
    parametric: tuple[Term, ...]
    smooths: tuple[SmoothTerm, ...]
    random: tuple[RandomTerm, ...]
    variables: tuple[str, ...] = field(compare=False, default=())
    text: str = field(compare=False, default="")
    idle_powers: tuple[str, ...] = field(compare=False, default=())
    offsets: tuple[Node, ...] = ()

    @property
    def penalised(self) -> bool:
        """Whether any of its terms has a penalty to be chosen: smooths and random effects, however written."""
        return bool(self.smooths or self.random)

    @property
    def right(self) -> str:
        """The text from the tilde on."""
        return self.text if self.response is None else self.text.removeprefix(f"{deparse(self.response)} ")

    def __str__(self) -> str:
        return self.text
