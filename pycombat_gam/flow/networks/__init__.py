"""The paper's family of flows: conditional transforms whose parameters networks of covariates and site give."""
