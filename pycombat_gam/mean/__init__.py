"""Mean models: what the covariates explain, for all features at once.

A mean model has ``fit(table, Y, batch) → MeanFit``, ``predict(MeanFit, table)`` and ``describe()``; a MeanFit is plain
arrays over our Design.
"""
