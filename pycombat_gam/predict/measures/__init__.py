"""How well predictions do at one site, and over sites: pure functions of arrays.

`auc` discriminates, `calibration` and `kaplan_meier` compare observed with expected, `net_benefit` weighs decisions,
`pooling` puts sites together. A measure that does not exist for the given rows is NaN.
"""
