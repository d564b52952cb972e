"""What the columns of a report's tables of tests hold, in a phrase each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pycombat_gam.study.states import AFTER, BEFORE, HELD_OUT

MEANINGS = {
    BEFORE: "as measured",
    AFTER: "harmonized",
    HELD_OUT: "harmonized by models that did not see the row (site prediction), or neither the row's site nor the "
    "covariate (covariate prediction)",
}
BY_CONSTRUCTION = "The harmonization used these covariates, so {} after it are partly by construction."
"""Why a prediction, or a test that does not undo the harmonization, does not prove that an effect was kept."""
TO_GO_BY = "Among the predictions, rely on those held out: that harmonization did not use the covariate."
BY_ASPECT = {
    AFTER: {
        "association": "harmonized; of ComBat's table the test undoes the harmonization, so p is the same as before. "
        "Other tables are tested as they are",
        "covariate prediction": "harmonized by a model that used the covariate, so partly by construction; rely "
        "on the held-out figure",
    },
    HELD_OUT: {
        "site prediction": "harmonized by models that did not see the row",
        "covariate prediction": "harmonized by models that saw neither the row's site nor the covariate",
    },
}
"""What the states mean for some aspects in particular."""
UNKNOWN_SITE = (
    "For the held-out predictions, a model fitted without the site and without the covariate's terms harmonizes that "
    "site. Such a model takes the new site's mean of the covariate for part of the site effect, and removes it. The "
    "prediction may therefore be worse than before harmonization; this does not count as weakened."
)
"""Why a covariate may be predicted worse where neither it nor the site was known."""
EFFECTS = {
    "ANOVA": ("partial R²", "share of the residual variance, given the covariates, that sites explain"),
    "Kruskal-Wallis": ("ε²", "share of the variance of the ranks that lies between sites, H/(n − 1)"),
    "Levene": ("sd ratio", "ratio of the largest to the smallest residual standard deviation of a site; 1 means equal"),
    "Fligner-Killeen": ("X²/(n − 1)", "share of the variance of the deviations' scores that lies between sites"),
    "partial R2": (
        "partial R²",
        "share of the residual variance, given sites and other terms, that the term explains",
    ),
}
"""What the value of each test of a feature is."""
ADJUSTED = (
    "p-value adjusted for the number of features (Benjamini & Hochberg), to be compared with the false discovery rate"
)
PERMUTED = {
    "value": "statistic at equal covariates divided by its mean over permutations of the rows; 1 where sites are alike",
    "p": "p-value: the share of permutations with a statistic at least as large",
    "adjusted p": "p-value adjusted for the number of sites (Benjamini & Hochberg)",
}
COMPARED = {
    "distribution": PERMUTED,
    "covariance": PERMUTED,
    "site prediction": {
        "chance": "balanced accuracy of guessing",
        "value": "balanced accuracy at equal covariates: the share of a site's rows that are assigned to it, averaged "
        "over sites",
        "lower, upper": "its {interval}",
        "p": "p-value, one-sided, against chance",
    },
    "covariate prediction": {
        "chance": "what guessing without features gives",
        "value": "the measure named on the left: smaller is better for the mean absolute error, larger for the others",
        "lower, upper": "its {interval}, resampling sites",
    },
    "effect change": {
        "chance": "no change",
        "value": "effects in the harmonized table, by a model without site, as a multiple of those before, by a model "
        "with site; over the features in which the test finds the term",
        "lower, upper": "its {interval}",
    },
}
SUMMARY = {
    "median partial R2 of the site": "half of the features have a larger share of variance explained by sites",
    "median ratio of the largest to the smallest site sd": "of residual standard deviations; 1 means equal",
    "statistic, times chance": "statistic at equal covariates divided by its mean over permutations of the rows; 1 "
    "where sites are alike",
    "median partial R2": "half of the features have a larger share of variance explained by the term",
}
TESTED = {
    "estimate": "coefficient, in the feature's unit per unit of the covariate; of terms with one degree of freedom",
    "se": "its standard error",
    "lower": "lower end of its interval",
    "upper": "upper end of its interval",
    "statistic": "t with one degree of freedom, F with several and for smooths",
    "df": "degrees of freedom of the term",
    "df_residual": "degrees of freedom of its variance (Satterthwaite)",
    "p": "p-value, two-sided",
    "p_adjusted": "adjusted for the number of features (Benjamini & Hochberg)",
    "within_share": "part of the information on the term that lies within sites",
    "n": "rows used",
}
SHRINKAGE = {
    "n": "rows",
    "location kept": "slope of the shrunken effects on the estimated ones over features: 1 is no shrinkage, 0 is the "
    "site's mean for all features",
    "scale kept": "the same for the logarithm of the variance",
    "location, root mean square": "over features, in pooled standard deviations",
    "scale, geometric mean": "over features, as a ratio of standard deviations; 1 means equal",
}


def of_tests(aspect: str, measures: Sequence[str], states: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Say what a table of features has: the effects of its tests, adjusted p, states."""
    effects = dict(EFFECTS[measure] for measure in measures if measure in EFFECTS)
    return (*effects.items(), ("adjusted p", ADJUSTED), *_states(states, aspect))


def of_comparison(
    aspect: str, columns: Sequence[str], states: Sequence[str], level: float
) -> tuple[tuple[str, str], ...]:
    """Explain those columns of a table of all features together that are there; its intervals have level 1 − level."""
    meanings: Mapping[str, str] = COMPARED[aspect]
    interval = f"{100 * (1 - level):.10g} % interval"
    known = [
        (name, words.format(interval=interval)) for name, words in meanings.items() if name.split(", ")[0] in columns
    ]
    return (*known, *_states(states, aspect))


def of_summary(quantities: Sequence[str], states: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Explain the quantities of the summary whose names are not enough."""
    return (*((name, words) for name, words in SUMMARY.items() if name in set(quantities)), *_states(states))


def _states(states: Sequence[str], aspect: str = "") -> list[tuple[str, str]]:
    return [
        (state, BY_ASPECT.get(state, {}).get(aspect, words)) for state, words in MEANINGS.items() if state in states
    ]
