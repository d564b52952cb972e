"""What a formula keeps, in words: fixed covariates and, apart from them, random effects."""

from __future__ import annotations

from pycombat_gam.formula import Formula
from pycombat_gam.formula.roles import fixed_columns, random_groups
from pycombat_gam.words import joined


def fixed_covariates(formula: Formula) -> list[str]:
    """Return the columns of fixed effects in order of appearance.

    >>> from pycombat_gam.formula import parse_formula
    >>> fixed_covariates(parse_formula("~ s(age) + sex + (visit | subject)"))
    ['age', 'sex']
    """
    used = set(fixed_columns(formula))
    return [name for name in formula.variables if name in used]


def random_effects(formula: Formula) -> str:
    """Name the random effects, or return nothing where there are none.

    >>> from pycombat_gam.formula import parse_formula
    >>> random_effects(parse_formula("~ age + (1 | subject)")), random_effects(parse_formula("~ (visit | subject)"))
    ('random effects of subject', 'random effects of subject (intercept and visit)')
    """
    effects = []
    for term in formula.random:
        slopes = [slope.label for slope in term.slopes]
        what = f" ({joined([*(['intercept'] if term.intercept else []), *slopes])})" if slopes else ""
        effects.append(f"{term.group.label}{what}")
    effects += [" by ".join(columns) for columns in random_groups(formula)[len(formula.random) :]]
    return f"random effects of {joined(effects)}" if effects else ""
