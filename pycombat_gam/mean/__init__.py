"""Mean models: what the covariates explain, for all features at once.

A mean model has ``fit(table, Y, batch, formula=…) → MeanFit``, ``predict(MeanFit, table)`` and ``describe(formula)``; a
MeanFit is plain arrays over our Design.
"""
