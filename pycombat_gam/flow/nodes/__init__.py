"""Covariates and site: who causes whom, what an action may say, and the mechanism of each node."""
