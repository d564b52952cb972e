"""A structural causal model of sites: sex, age and site are causes, the features their effect.

Each node has a mechanism x = F(noise; parents) that can be inverted. Harmonization is a counterfactual: abduction of
the noise, the action do(site), and prediction (Wang, Chaudhari & Davatzikos, MICCAI 2021, arXiv:2106.06845). `nodes`
says who causes whom and holds the mechanisms of covariates and site; `structured` and `networks` those of the features,
which `training` fits; `scm` puts all of them together, and `harmonizer` is `FlowSCM`, what users call. All of it needs
torch, which is imported with the first use of `FlowSCM` and not before.
"""
