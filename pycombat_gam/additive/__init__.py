"""Gaussian additive models of one response or of many, as mgcv fits them.

`gam` is the entry; `responses` sorts out what it is given; `model` holds what it returns. `factor` has the one
decomposition that the inference reads: `covariance`, with `score_hessian`, gives covariances and degrees of freedom,
`wald` the tests, with their reference distribution in `chisquare_mixture`; `check` looks at the smooths.
"""
