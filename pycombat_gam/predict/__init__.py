"""Outcomes predicted at sites never seen, by sets that hold the truth as often as they say."""
