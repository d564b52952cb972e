"""Networks of covariates and site that give the parameters of a conditional transform, step by step."""
