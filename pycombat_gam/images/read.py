"""Image files as arrays: PNG and JPEG through Pillow, NIfTI through nibabel. What would be lost is refused."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pycombat_gam.errors import DataError
from pycombat_gam.images.resize import resized
from pycombat_gam.types import FloatArray
from pycombat_gam.words import count

if TYPE_CHECKING:
    from PIL import Image

_PNG = b"\x89PNG\r\n\x1a\n"
_DEPTH, _COLOUR = 24, 25
"""Where a PNG keeps the bits of a channel, and its kind of colour (0: grey)."""
_GREY_16 = ("I", "I;16", "I;16B", "I;16L")
"""Pillow's modes of a 16-bit grey PNG, which differ between its releases."""


@dataclass(eq=False)
class Reader:
    """Reads images of one kind, resizes and standardizes them.

    Attributes
    ----------
    volumes : NIfTI; otherwise pictures.
    size : (h, w) or (d, h, w); None: as in the first image read.
    mean, sd : one for each channel.
    unoriented : volumes read so far whose header states no orientation.
    """

    volumes: bool
    size: tuple[int, ...] | None
    mean: FloatArray
    sd: FloatArray
    unoriented: list[Path] = field(default_factory=list)
    _first: tuple[Path, tuple[int, ...]] | None = None

    def shape(self, first: Path) -> tuple[int, ...]:
        """Return the shape of one image for the backbone, (3, h, w) or (1, d, h, w); may read the first one."""
        return (len(self.mean), *(self.size or self.read(first).shape[1:]))

    def read(self, path: Path) -> NDArray[np.float32]:
        """Return an image as the backbone takes it."""
        image = self._volume(path) if self.volumes else picture(path)
        if self.size is not None:
            image = resized(image, self.size)
        else:
            self._agree(path, image.shape[1:])
        mean, sd = (numbers.astype(np.float32).reshape(-1, *[1] * (image.ndim - 1)) for numbers in (self.mean, self.sd))
        return (image - mean) / sd

    def _volume(self, path: Path) -> NDArray[np.float32]:
        image, oriented = volume(path)
        if not oriented and path not in self.unoriented:
            self.unoriented.append(path)
        return image

    def _agree(self, path: Path, shape: tuple[int, ...]) -> None:
        """Stop if this image's shape is not that of the first."""
        self._first = self._first or (path, shape)
        if shape != self._first[1]:
            advised = "size=(96, 96, 96)" if self.volumes else "size=(224, 224)"
            raise DataError(
                f"'{path}' has shape {shape}, '{self._first[0]}' has {self._first[1]}: with size=None all images must "
                f"agree; give a size, such as {advised}"
            )


def picture(path: Path) -> NDArray[np.float32]:
    """Read a PNG or JPEG as (3, h, w), values in [0, 1], turned as its EXIF orientation says."""
    from PIL import Image, ImageOps

    with _decoding(path, Image.DecompressionBombError):
        _refuse_deep_colour(path)
        with Image.open(path, formats=("PNG", "JPEG")) as image:
            if image.format == "PNG" and getattr(image, "is_animated", False):
                raise DataError(f"'{path}' is an animation: save the frame that is meant as a PNG")
            image.load()
            return _channels(ImageOps.exif_transpose(image), path)


def _channels(image: Image.Image, path: Path) -> NDArray[np.float32]:
    """Return red, green and blue, three equal channels for grey."""
    mode = image.mode
    if mode not in ("1", "L", "LA", "P", "PA", "RGB", "RGBA", *_GREY_16):
        raise DataError(f"'{path}' has colours of mode {mode}: convert it to RGB or grey")
    if "A" in image.getbands() or "transparency" in image.info:
        if mode in _GREY_16 or image.convert("RGBA").getchannel("A").getextrema()[0] != 255:
            raise DataError(
                f"'{path}' has transparent pixels: put it on a background first, for example with Pillow's "
                "Image.alpha_composite, and save it as RGB"
            )
        image.info.pop("transparency", None)
    if mode in _GREY_16:
        grey = np.asarray(image).astype(np.float32) / np.float32(65535)
        return np.repeat(grey[None], 3, axis=0)
    colours = np.asarray(image.convert("RGB"))
    return np.moveaxis(colours, 2, 0).astype(np.float32) / np.float32(255)


def _refuse_deep_colour(path: Path) -> None:
    """Stop for a PNG of 16-bit colour: Pillow would drop the lower 8 bits of each channel."""
    with path.open("rb") as stream:
        head = stream.read(_COLOUR + 1)
    if head.startswith(_PNG) and len(head) > _COLOUR and head[_DEPTH] == 16 and head[_COLOUR] != 0:
        raise DataError(f"'{path}' has 16 bits per colour channel, of which 8 would be lost: convert it to 8 bits")


def volume(path: Path) -> tuple[NDArray[np.float32], bool]:
    """Read a NIfTI volume as (1, d, h, w), axes in RAS+ order, and whether its header states an orientation."""
    import nibabel
    from nibabel.filebasedimages import ImageFileError
    from nibabel.orientations import OrientationError
    from nibabel.spatialimages import HeaderDataError

    with _decoding(path, ImageFileError, HeaderDataError, OrientationError):
        image = nibabel.load(path)
        if not isinstance(image, nibabel.Nifti1Image):  # NIfTI-2 is a subclass
            raise DataError(f"'{path}' is a {type(image).__name__}: convert it to a NIfTI volume")
        shape, kind = image.shape, image.get_data_dtype()
        if len(shape) > 3 and any(length != 1 for length in shape[3:]):
            raise DataError(
                f"'{path}' is {len(shape)}-D, of shape {shape}: embed single volumes, for example what "
                "nibabel.four_to_three(image)[0] returns"
            )
        if len(shape) < 3 or 0 in shape:
            raise DataError(f"'{path}' has shape {shape}: give a volume of three dimensions")
        if kind.kind not in "iuf":
            raise DataError(f"'{path}' has voxels of type {kind}: convert them to real numbers")
        with np.errstate(over="ignore"):  # voxels beyond float32 become infinite, and are refused below
            values = nibabel.as_closest_canonical(image).get_fdata(dtype=np.float32, caching="unchanged")
        values = values.reshape(1, *values.shape[:3])
        oriented = bool(image.header["qform_code"] > 0 or image.header["sform_code"] > 0)
    wrong = int(np.count_nonzero(~np.isfinite(values)))
    if wrong:
        raise DataError(
            f"'{path}' has NaN or infinite numbers in {count(wrong, 'voxel')}: replace them, for example by 0"
        )
    return values, oriented


@contextmanager
def _decoding(path: Path, *others: type[Exception]) -> Iterator[None]:
    """Turn what decoders raise for a broken file into an error that names it."""
    broken: tuple[type[Exception], ...]
    broken = (OSError, EOFError, SyntaxError, ValueError, OverflowError, struct.error, zlib.error)
    try:
        yield
    except DataError:
        raise
    except broken + others as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"'{path}' cannot be read as an image: {reason}") from error
