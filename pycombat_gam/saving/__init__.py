"""Saved models: the container, its safe writing, and reading that trusts nothing."""
