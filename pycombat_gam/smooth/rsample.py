"""R's `sample()` after `set.seed()`, so that thin plate splines of many points get the knots that mgcv draws.

Mersenne Twister (Matsumoto & Nishimura 1998), seeded as R does, with rejection sampling (R ≥ 3.6). What is drawn are
numbers of points, so the points must stand in mgcv's order too: of several variables, that of their text.
"""

from __future__ import annotations

import numpy as np

from pycombat_gam.types import FloatArray, IntArray


def r_sample(population: int, size: int, seed: int) -> IntArray:
    """Draw `size` of 0 … population − 1 without replacement: ``set.seed(seed); sample(population, size) - 1`` in R."""
    state = np.empty(625, dtype=np.uint32)
    word = seed & 0xFFFFFFFF
    for _ in range(50):
        word = (69069 * word + 1) & 0xFFFFFFFF
    for i in range(625):
        word = (69069 * word + 1) & 0xFFFFFFFF
        state[i] = word
    generator = np.random.MT19937()
    generator.state = {"bit_generator": "MT19937", "state": {"key": state[1:], "pos": 624}}

    def uniform() -> float:
        return float(generator.random_raw() * 2.3283064365386963e-10)

    def below(n: int) -> int:
        bits = int(np.ceil(np.log2(n)))
        while True:
            value = 0
            for _ in range(0, bits + 1, 16):
                value = 65536 * value + int(uniform() * 65536)
            value &= (1 << bits) - 1
            if value < n:
                return value

    left = np.arange(population, dtype=np.intp)
    drawn = np.empty(size, dtype=np.intp)
    for i in range(size):
        j = below(population - i)
        drawn[i] = left[j]
        left[j] = left[population - i - 1]
    return drawn


def text_order(points: FloatArray) -> IntArray:
    """Rows of points (N, d) in the order of mgcv's `uniquecombs`: of the bytes of ``paste0(x, "*", z, "*")``.

    Of points that are the same to R's 15 digits, the first.
    """
    rows: dict[str, int] = {}
    for i, row in enumerate(points.tolist()):
        rows.setdefault("".join(f"{r_text(number)}*" for number in row), i)
    return np.array([rows[text] for text in sorted(rows)], dtype=np.intp)


def r_text(number: float) -> str:
    """Write a number as R's `as.character`: 15 digits at most, scientific where that is shorter.

    >>> r_text(0.1), r_text(100000.0), r_text(-1 / 3)
    ('0.1', '1e+05', '-0.333333333333333')
    """
    mantissa, _, exponent = f"{abs(number):.14e}".partition("e")
    digits, power = mantissa.replace(".", "").rstrip("0") or "0", int(exponent)
    decimals = max(0, len(digits) - 1 - power)
    fixed = f"{abs(number):.{decimals}f}"
    scientific = f"{digits[0]}{'.' if digits[1:] else ''}{digits[1:]}e{power:+03d}"
    return ("-" if number < 0 else "") + (fixed if len(fixed) <= len(scientific) else scientific)
