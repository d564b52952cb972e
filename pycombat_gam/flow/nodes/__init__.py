"""Covariates and site: the graph, actions on its nodes, and the mechanism of each node."""
