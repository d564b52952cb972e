"""A design: what a formula learned from a table, its columns on any rows, its penalties, and its rank."""
