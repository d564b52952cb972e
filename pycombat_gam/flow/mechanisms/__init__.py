"""Mechanisms of the features: invertible maps from noise to values, given covariates and site."""
