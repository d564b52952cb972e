"""InMoose's pycombat_norm (a port of sva): features are rows."""

from inmoose.pycombat import pycombat_norm

PACKAGE = "inmoose"


def prepare(covariates):
    return covariates[["age", "sex"]]


def harmonize(Y, covariates, prior, biology):
    batch = covariates["site"].tolist()
    return pycombat_norm(Y.T, batch, covar_mod=biology, par_prior=prior == "parametric").T
