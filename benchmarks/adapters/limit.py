"""The limit: one copy of the array and two `X.T @ Y`, the least that any implementation must do to it."""

import numpy as np

PACKAGE = None


def prepare(covariates):
    """Design of ``~ age + sex`` with one column per site: what the two products multiply by."""
    sites = np.unique(covariates["site"])
    indicators = (covariates["site"].to_numpy()[:, None] == sites).astype(float)
    return np.column_stack([indicators, covariates["age"], covariates["sex"] == "M"])


def harmonize(Y, covariates, prior, design):
    copied = Y.copy()
    design.T @ copied
    design.T @ copied
