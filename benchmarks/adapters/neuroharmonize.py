"""neuroHarmonize (Pomponio et al., 2020): covariates must be numbers, and the site column is called SITE."""

import pandas as pd
from neuroHarmonize import harmonizationLearn

PACKAGE = "neuroHarmonize"


def prepare(covariates):
    return pd.DataFrame(
        {
            "SITE": covariates["site"],
            "age": covariates["age"],
            "sex": (covariates["sex"] == "M").astype(float),
        }
    )


def harmonize(Y, covariates, prior, numeric):
    return harmonizationLearn(Y, numeric)[1]
