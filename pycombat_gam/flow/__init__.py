"""A structural causal model of sites: sex, age and site are causes, the features their effect.

Each node has a mechanism x = F(noise; parents) that can be inverted. Harmonization is a counterfactual: abduction of
the noise, the action do(site), and prediction (Wang, Chaudhari & Davatzikos, MICCAI 2021, arXiv:2106.06845). `graph`
says who causes whom (with `kinds` and `action`); `covariates` holds the mechanisms of covariates, given their `causes`;
`structured` and `conditional` those of the features; `train` fits any of them; `scm` puts them together; `harmonizer`
is `FlowSCM`, what users call. Mechanisms need torch, which is imported with the first of them and not before.
"""
