"""Resizing by the triangle filter: bilinear or trilinear where an image grows, antialiased where it shrinks.

The filter is Pillow's ``BILINEAR`` (torch: ``interpolate(mode="bilinear", antialias=True)``) in floating point, along
each axis in turn. Where an image shrinks by a factor f, a triangle of f pixels to either side averages it, so that
detail finer than the new grid does not turn into noise. Where it grows, this is linear interpolation between pixel
centres, with edge pixels extended.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import sparse


def resized(image: NDArray[np.float32], size: tuple[int, ...]) -> NDArray[np.float32]:
    """Resize the axes after the first.

    Parameters
    ----------
    image : (c, h, w) or (c, d, h, w).
    size : new lengths of these axes.
    """
    for axis, length in enumerate(size, start=1):
        if image.shape[axis] == length:
            continue
        front = np.moveaxis(image, axis, 0)
        mixed = _weights(image.shape[axis], length) @ front.reshape(len(front), -1)
        image = np.moveaxis(mixed.reshape(length, *front.shape[1:]), 0, axis)
    return np.ascontiguousarray(image)


@lru_cache(maxsize=64)
def _weights(old: int, new: int) -> sparse.csr_array:
    """Return what each new pixel takes of each old one, (new, old); rows sum to one."""
    scale = old / new
    reach = max(scale, 1.0)
    centre = (np.arange(new) + 0.5) * scale
    start = np.floor(centre - reach).astype(np.intp)
    old_pixels = start[:, None] + np.arange(int(np.ceil(2 * reach)) + 1)
    weight = np.maximum(1.0 - np.abs(old_pixels + 0.5 - centre[:, None]) / reach, 0.0)
    weight[(old_pixels < 0) | (old_pixels >= old)] = 0.0
    weight /= weight.sum(axis=1, keepdims=True)
    rows, columns = np.nonzero(weight)
    cells = weight[rows, columns].astype(np.float32)
    return sparse.csr_array((cells, (rows, old_pixels[rows, columns])), shape=(new, old))
