"""Outcomes predicted at sites never seen."""
