"""Networks of covariates and site that set the parameters of a conditional transform, step by step."""
