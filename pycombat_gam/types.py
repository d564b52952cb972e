"""Names for the arrays that the package passes around."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

FloatArray: TypeAlias = NDArray[np.float64]
IntArray: TypeAlias = NDArray[np.intp]
BoolArray: TypeAlias = NDArray[np.bool_]
JsonDict: TypeAlias = dict[str, Any]
"""Plain data: what `json.dumps` takes and `json.loads` returns."""
Advance: TypeAlias = Callable[..., None]
"""``advance(steps=1, note="")``: what a long computation calls; whoever started it shows the steps, or nothing."""
Bar: TypeAlias = Callable[[str, int], AbstractContextManager[Advance]]
"""``bar(what, total)``: what opens a bar for one part of a computation."""
