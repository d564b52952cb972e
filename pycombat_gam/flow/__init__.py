"""A structural causal model of sites: sex, age and site are causes, the features their effect.

Each node has an invertible mechanism x = F(noise; parents). Harmonization is a counterfactual: abduction of the noise,
the action do(site), and prediction (Wang, Chaudhari & Davatzikos, MICCAI 2021, arXiv:2106.06845). `nodes` has the
graph and the mechanisms of covariates and site. `mechanisms` and `networks` have those of the features, which
`training` fits. `model` puts them together, and `estimator` has `FlowSCM`, the class that users call. The room needs
torch, which is imported with the first use of `FlowSCM`.
"""
