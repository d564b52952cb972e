"""Studies of many sites with known truth: one that comes with the package, and as many as are simulated."""

from pycombat_gam.datasets.multisite import MultisiteStudy, load_multisite, packaged_study, simulate_multisite

__all__ = ["MultisiteStudy", "load_multisite", "packaged_study", "simulate_multisite"]
