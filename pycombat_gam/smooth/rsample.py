"""R's `sample()` after `set.seed()`, so that thin plate splines of many points get the knots that mgcv draws.

Mersenne Twister (Matsumoto & Nishimura 1998), seeded as R does, with rejection sampling (R ≥ 3.6).
"""

from __future__ import annotations

import numpy as np

from pycombat_gam.types import IntArray


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
