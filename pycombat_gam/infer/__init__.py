"""Inference from sufficient statistics: tests that keep their level, and draws of what harmonization estimates."""
