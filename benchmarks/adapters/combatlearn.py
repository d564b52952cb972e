"""combatlearn, its `method="fortin"` being ComBat with covariates (neuroCombat's)."""

from combatlearn import ComBat

PACKAGE = "combatlearn"


def prepare(covariates):
    return None


def harmonize(Y, covariates, prior, _):
    model = ComBat(
        covariates["site"],
        discrete_covariates=covariates[["sex"]],
        continuous_covariates=covariates[["age"]],
        method="fortin",
        parametric=prior == "parametric",
    )
    return model.fit_transform(Y)
