"""The states in which a table is looked at."""

BEFORE, AFTER, HELD_OUT = "before", "after", "held out"
STATES = (BEFORE, AFTER, HELD_OUT)
"""In the order of time; held out are rows harmonized by a model that did not see them."""
