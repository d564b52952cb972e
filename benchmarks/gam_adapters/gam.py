"""`pcg.gam` of all features at once, the site a factor of the formula: the fitted values."""

import numpy as np
import pandas as pd

import pycombat_gam as pcg

PACKAGE = "pycombat-gam"


def prepare(covariates):
    return None


def harmonize(Y, covariates, formula, prepared):
    names = [f"y{k}" for k in range(Y.shape[1])]
    table = pd.concat([covariates, pd.DataFrame(Y, columns=names)], axis=1)
    fits = pcg.gam(f"{formula} + site", table, responses=names)
    return np.column_stack([fit.fitted for fit in fits.values()])
