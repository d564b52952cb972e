"""Names for the arrays that the package passes around."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

FloatArray: TypeAlias = NDArray[np.float64]
IntArray: TypeAlias = NDArray[np.intp]
BoolArray: TypeAlias = NDArray[np.bool_]
JsonDict: TypeAlias = dict[str, Any]
"""Plain data: what `json.dumps` takes and `json.loads` returns."""
