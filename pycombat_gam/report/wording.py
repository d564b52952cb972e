"""Numbers as sentences have them."""

from __future__ import annotations

from pycombat_gam.report.cells import number_text, p_text


def three(value: float) -> str:
    """Write a number with three digits."""
    return number_text(float(value), 3)


def equals_p(value: float) -> str:
    """Write a p-value as part of a sentence.

    >>> equals_p(0.0421), equals_p(1e-9)
    ('p = 0.042', 'p < 0.001')
    """
    text = p_text(float(value))
    return f"p {text[0]} {text[1:]}" if text.startswith("<") else f"p = {text}"
