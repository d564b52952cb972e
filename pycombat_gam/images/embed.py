"""Embed images: a row of numbers for each, from a backbone of the user's."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pycombat_gam.errors import OptionError, PcgWarning, image_requirements
from pycombat_gam.images.backbone import Run, rows_of, running
from pycombat_gam.images.cache import Cache, image_keys, made, probe_image
from pycombat_gam.images.paths import listed, quoted
from pycombat_gam.images.read import Reader
from pycombat_gam.progress import progress_bar
from pycombat_gam.types import FloatArray
from pycombat_gam.words import count


def embed(
    paths: Sequence[str | Path] | pd.Series[Any] | pd.Index[Any] | NDArray[Any],
    backbone: Callable[[Any], object],
    *,
    size: tuple[int, int] | tuple[int, int, int] | None = (224, 224),
    mean: float | Sequence[float] | None = None,
    sd: float | Sequence[float] | None = None,
    batch_size: int = 32,
    device: str | None = None,
    cache: str | Path | None = None,
) -> pd.DataFrame:
    r"""Turn images into a table: a row for each image, with the numbers that a backbone of yours gives.

    The package has no weights, downloads none and trains nothing. It reads, resizes and standardizes images, calls the
    backbone and checks what it returns. ``table.join(pcg.embed(table["image"], backbone))`` puts the numbers beside
    covariates, and ``features=r"^e\d+$"`` chooses them in a model.

    Parameters
    ----------
    paths : list of str or Path, or a column of a table
        Pictures (``.png``, ``.jpg``, ``.jpeg``) or volumes (``.nii``, ``.nii.gz``), not both. A path may
        occur more than once.
    backbone : callable, or torch.nn.Module
        Takes (n, 3, h, w) for pictures, (n, 1, d, h, w) for volumes, and returns (n, d): numbers of float32 or float64.
        Further axes of length 1, as in (n, d, 1, 1), are dropped; half precision becomes float32.
        A module gets tensors in the precision of its parameters, in evaluation mode without gradients; afterwards its
        mode and device are as before. Any other callable gets float32 arrays.
    size : (h, w) or (d, h, w), optional
        Pixels of a picture, or voxels of a volume, to resize to; the aspect ratio is not kept. None: no resizing, and
        all images must have the same shape.
    mean, sd : float, or one for each channel, optional
        The backbone sees (x − mean) / sd; by default 0 and 1. Networks trained on ImageNet usually want
        ``mean=(0.485, 0.456, 0.406)`` and ``sd=(0.229, 0.224, 0.225)``.
    batch_size : int
        Images in a call of the backbone.
    device : str, optional
        Where a torch module computes: ``"auto"`` (a CUDA GPU if there is one), ``"cpu"``, ``"cuda"``, ``"cuda:1"``,
        ``"mps"``; None: where its parameters are. Not for other callables.
    cache : str or Path, optional
        Folder that keeps the rows of every finished batch (made if absent). A later run with the same backbone reads
        the rows of images that it finds there, by their content, and computes the others only.

    Returns
    -------
    DataFrame
        ``path`` as given, then ``e0``, ``e1``, … of the backbone's precision. Names have leading zeros so that they
        sort: ``e0000`` to ``e1279`` for 1,280 numbers. Rows are in the order of the paths; a Series' index is kept.

    Raises
    ------
    OptionError
        For arguments of a wrong kind, a device for a callable that is no torch module, and a cache that another
        backbone filled.
    DataError
        For no path, missing files, unknown suffixes, files that are no images, and images that would lose something
        (transparency, 16-bit colour, CMYK, animations, several volumes in a file). For what the backbone returns: NaN
        or infinite numbers, another shape, or another width than before; the message has the path.
    OutputError
        If the cache cannot be written.
    MissingPackageError
        If Pillow (pictures) or nibabel (volumes) is not installed.

    Warns
    -----
    PcgWarning
        If files of the cache are damaged: their rows are computed again. If volumes state no orientation.

    Notes
    -----
    *Pictures* are turned as their EXIF orientation says; values are scaled to [0, 1] by the range of their type, also
    for 16-bit grey; grey fills three equal channels. An opaque alpha channel says nothing and is left out; transparent
    pixels are refused. Colour profiles are ignored. Of a JPEG with several frames (MPO) the first is read.

    *Volumes* keep their values. Their axes are brought into RAS+ order as by `nibabel.as_closest_canonical`: d runs
    from left to right, h from posterior to anterior, w from inferior to superior. For a network trained on axial slices
    first, give ``lambda x: net(x.transpose(0, 1, 4, 3, 2))``. Voxel sizes are not taken into account. A fourth axis of
    length 1 is dropped.

    *Resizing* is bilinear or trilinear, and antialiased where an image shrinks (Pillow's ``BILINEAR``, in floating
    point).

    *The cache* cannot know a callable by name. So the backbone first answers a fixed test image, and every file of the
    cache has that answer: a backbone that gives another one is refused. The same backbone in another precision may be,
    too.

    Examples
    --------
    The mean colour as a toy backbone:

    >>> import tempfile
    >>> from pathlib import Path
    >>> import pycombat_gam as pcg
    >>> from PIL import Image
    >>> folder = Path(tempfile.mkdtemp())
    >>> Image.new("RGB", (40, 30), (255, 0, 51)).save(folder / "red.png")
    >>> Image.new("L", (20, 20), 102).save(folder / "grey.png")
    >>> table = pcg.embed(sorted(folder.glob("*.png")), lambda x: x.mean(axis=(2, 3)))
    >>> table.assign(path=[Path(path).name for path in table["path"]]).round(3)
           path   e0   e1   e2
    0  grey.png  0.4  0.4  0.4
    1   red.png  1.0  0.0  0.2
    """
    images = listed(paths)
    channels = 1 if images.volumes else 3
    reader = Reader(
        images.volumes,
        _size(size, images.volumes),
        _per_channel(mean, "mean", 0.0, channels),
        _per_channel(sd, "sd", 1.0, channels),
    )
    if isinstance(batch_size, bool) or not isinstance(batch_size, int | np.integer) or batch_size < 1:
        raise OptionError(f"batch_size={batch_size!r}: give a whole number, 1 or more")
    if cache is not None and not isinstance(cache, str | Path):
        raise OptionError(f"cache={cache!r}: give a folder, or None")
    image_requirements("nibabel" if images.volumes else "PIL")
    files = list(dict.fromkeys(images.files))
    with running(backbone, device) as run:
        if cache is None:
            keys = {file: str(file) for file in files}
            rows = _computed(keys, {}, reader, run, int(batch_size), None)
        else:
            folder, shape = made(cache), reader.shape(files[0])
            keys = image_keys(files, shape, reader.mean, reader.sd)
            (answer,) = rows_of(run(probe_image(shape)[None]), [None])
            kept = Cache(folder, shape, answer)
            rows, damaged = kept.read(keys.values())
            if damaged:
                warnings.warn(
                    f"{count(len(damaged), 'file')} of the cache damaged, {quoted(damaged)}: not used, the rows are "
                    "computed again; delete what a next run still names",
                    PcgWarning,
                    stacklevel=2,
                )
            rows = _computed(keys, rows, reader, run, int(batch_size), kept)
    if reader.unoriented:
        warnings.warn(
            f"{count(len(reader.unoriented), 'volume')} without orientation (qform_code and sform_code are 0), "
            f"{quoted(reader.unoriented)}: axes are taken as nibabel assumes, which may swap left and right",
            PcgWarning,
            stacklevel=2,
        )
    values = np.stack([rows[keys[file]] for file in images.files])
    digits = len(str(values.shape[1] - 1))
    table = pd.DataFrame(values, index=images.index, columns=[f"e{j:0{digits}d}" for j in range(values.shape[1])])
    table.insert(0, "path", images.names)
    return table


def _computed(
    keys: dict[Path, str],
    rows: dict[str, NDArray[Any]],
    reader: Reader,
    run: Run,
    batch_size: int,
    cache: Cache | None,
) -> dict[str, NDArray[Any]]:
    """Return rows by key: those that are there, and the others, computed in batches in the files' order.

    Parameters
    ----------
    keys : of each file; files of the same key have the same row.
    cache : keeps every finished batch.
    """
    absent: dict[str, Path] = {}
    for file, key in keys.items():
        if key not in rows:
            absent.setdefault(key, file)
    fresh: dict[str, NDArray[Any]] = {}
    pending = list(absent.items())
    width = None if cache is None else len(cache.answer)
    with progress_bar("embedding images", len(pending)) as advance:
        for start in range(0, len(pending), batch_size):
            batch = dict(pending[start : start + batch_size])
            files = list(batch.values())
            values = rows_of(run(np.stack([reader.read(file) for file in files])), files, width)
            width = values.shape[1]
            if cache is not None:
                cache.write(list(batch), values)
            fresh |= zip(batch, values, strict=True)
            advance(len(files))
    return rows | fresh


def _size(size: object, volumes: bool) -> tuple[int, ...] | None:
    """Return the size to resize to, of as many numbers as the images have axes."""
    if size is None:
        return None
    advised = "(d, h, w), such as size=(96, 96, 96)" if volumes else "(h, w), such as size=(224, 224)"
    if (
        not isinstance(size, tuple | list)
        or len(size) != (3 if volumes else 2)
        or any(isinstance(each, bool) or not isinstance(each, int | np.integer) or each < 1 for each in size)
    ):
        raise OptionError(f"size={size!r}: {'volumes' if volumes else 'pictures'} need {advised}, or None")
    return tuple(int(each) for each in size)


def _per_channel(value: object, name: str, default: float, channels: int) -> FloatArray:
    """Return a number for each channel."""
    try:
        numbers = np.asarray(default if value is None else value, dtype=np.float64)
    except (TypeError, ValueError):
        numbers = np.full(0, np.nan)
    wrong = numbers.shape not in ((), (1,), (channels,)) or not np.isfinite(numbers).all()
    if wrong or (name == "sd" and (numbers <= 0).any()):
        more = "" if channels == 1 else f", or {channels}, one for each channel"
        raise OptionError(f"{name}={value!r}: give a {'positive ' if name == 'sd' else ''}number{more}")
    return np.broadcast_to(numbers, channels).copy()
