"""Mechanisms of the features: noise becomes a value, given covariates and site, and a value noise again."""
