"""What is looked at before a table is harmonized: the checks that a fit and the audit share, and their sentences."""
