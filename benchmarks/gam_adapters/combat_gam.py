"""ComBat-GAM of this package: fit and transform."""

import pycombat_gam as pcg

PACKAGE = "pycombat-gam"


def prepare(covariates):
    return None


def harmonize(Y, covariates, formula, prepared):
    return pcg.ComBat(formula, batch="site").fit_transform(Y, covariates)
