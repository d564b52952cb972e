"""ComBat: mean model, site effects, priors, adjustment; what users call, and what a fit leaves."""
