"""The backbone: any callable, or a torch module in evaluation mode; and what it returns, checked."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pycombat_gam.errors import DataError, OptionError
from pycombat_gam.tables.remedies import kind_of
from pycombat_gam.words import Setting, Worded, count, listing

if TYPE_CHECKING:
    import torch

Batch = NDArray[np.float32]
Run = Callable[[Batch], object]


@contextmanager
def running(backbone: Callable[[Any], object], device: str | None) -> Iterator[Run]:
    """Give what calls the backbone on a batch; a torch module is afterwards as it was before.

    Parameters
    ----------
    backbone : callable of arrays, or a `torch.nn.Module`.
    device : where a module computes; None: where its parameters are.

    Raises
    ------
    OptionError
        If the backbone cannot be called, the device is not available, or the backbone is no torch module to be moved.
    """
    if not callable(backbone):
        raise OptionError(f"backbone is {kind_of(backbone)}: give a callable that takes a batch of images")
    module = _module(backbone)
    if module is None:
        if device is not None:
            raise OptionError(
                f"device={device!r} is for a torch.nn.Module: this backbone moves its own arrays; leave device out"
            )
        yield backbone
        return
    modes = {part: part.training for part in module.modules()}
    homes = {tensor.device for tensor in _tensors(module)}
    target = None if device is None else _device(device)
    if target is not None and len(homes) > 1:
        raise OptionError(
            f"device={device!r}: the backbone's parameters are on {listing(sorted(map(str, homes)))}; leave device out"
        )
    try:
        module.eval()
        if target is not None:
            module.to(target)
        yield _on_tensors(module, target)
    finally:
        if target is not None and homes:
            module.to(homes.pop())
        for part, training in modes.items():
            part.training = training


def _module(backbone: object) -> torch.nn.Module | None:
    """Return it if it is a torch module; without torch imported it cannot be."""
    torch = sys.modules.get("torch")
    return backbone if torch is not None and isinstance(backbone, torch.nn.Module) else None


def _tensors(module: torch.nn.Module) -> list[torch.Tensor]:
    return [*module.parameters(), *module.buffers()]


def _device(name: str) -> torch.device:
    """Return the device of this name; Apple's GPU is allowed here, since single precision suffices."""
    import torch

    from pycombat_gam.flow.device import choose_device

    if name == "mps" and torch.backends.mps.is_available():
        return torch.device(name)
    if name == "mps":
        raise OptionError(Worded(Setting("device", name), " is not available: use 'cpu'"))
    return choose_device(name)


def _on_tensors(module: torch.nn.Module, target: torch.device | None) -> Run:
    """Return what calls a module on a batch, given in the precision and on the device of its parameters."""
    import torch

    tensors = _tensors(module)
    place = target or (tensors[0].device if tensors else torch.device("cpu"))
    precision = next((tensor.dtype for tensor in tensors if tensor.is_floating_point()), torch.float32)

    def run(batch: Batch) -> object:
        with torch.inference_mode():
            return module(torch.from_numpy(batch).to(place, precision))

    return run


def rows_of(output: object, files: Sequence[Path | None], width: int | None = None) -> NDArray[Any]:
    """Check what a backbone returned for a batch, and return it as (n, d), float32 or float64.

    Parameters
    ----------
    output : array, tensor or nested lists, (n, d); further axes of length 1 are dropped.
    files : the images of the batch; None for the cache's test image.
    width : d of the images before, if there were any.

    Raises
    ------
    DataError
        For another shape or type, a changed width, and numbers that are NaN or infinite.
    """
    names = ["the cache's test image" if file is None else f"'{file}'" for file in files]
    span = names[0] if len(names) == 1 else f"{len(names)} images from {names[0]} to {names[-1]}"
    values = _array(output, span)
    if values.ndim > 2 and all(length == 1 for length in values.shape[2:]):
        values = values.reshape(values.shape[:2])
    if values.ndim > 2:
        raise DataError(
            f"backbone gave an array of shape {values.shape} for {span}: pool it to (n, d), for example by its mean "
            f"over axes {tuple(range(2, values.ndim))}"
        )
    if values.ndim != 2 or len(values) != len(files) or not values.shape[1]:
        raise DataError(
            f"backbone gave an array of shape {values.shape} for {span}: give ({len(files)}, d), a row for each image"
        )
    if width is not None and values.shape[1] != width:
        raise DataError(
            f"backbone gave {count(values.shape[1], 'number')} an image for {span}, but {width:,} before: "
            "it must give the same for every image"
        )
    wrong = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(wrong) and files != [None]:
        raise DataError(
            f"backbone gave NaN or infinite numbers for {listing([names[row] for row in wrong], 3)}: "
            "look at these images, or leave them out"
        )
    return values


def _array(output: object, span: str) -> NDArray[Any]:
    """Return floats as they are, half precision as single precision."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(output, torch.Tensor):
        tensor = output.detach().cpu()
        output = (tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor).numpy()
    try:
        values = np.asarray(output)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"backbone gave {kind_of(output)} for {span}, of which no array can be made: give (n, d) numbers"
        ) from error
    kind = values.dtype.type
    if kind is np.float16:
        return values.astype(np.float32)
    if kind is np.float32 or kind is np.float64:
        return values.astype(kind, copy=False)
    what = kind_of(output) if values.dtype == object else f"numbers of type {values.dtype}"
    raise DataError(f"backbone gave {what} for {span}: give an (n, d) array or tensor of float32 or float64")
