"""The device of tensors, and the number of threads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from threadpoolctl import threadpool_limits

from pycombat_gam.errors import OptionError
from pycombat_gam.words import Setting, Worded

SMALL = 1_000_000
ALLOWED = ": allowed are 'auto', 'cpu', 'cuda', and a numbered GPU such as 'cuda:1'"


def choose_device(name: str) -> torch.device:
    """Return the device of this name; ``"auto"`` is a CUDA GPU if there is one, otherwise the CPU.

    Raises
    ------
    OptionError
        If the device is not available, or lacks the double precision that inversion to 1e-6 sd needs (Apple's MPS).
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    asked = Setting("device", name)
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError):
        raise OptionError(Worded(asked, ALLOWED)) from None
    if device.type == "mps":
        raise OptionError(
            Worded(
                Setting("device", "mps"),
                " has no double precision, which invertibility needs: use ",
                Setting("device", "cpu"),
            )
        )
    if device.type not in ("cpu", "cuda"):
        raise OptionError(Worded(asked, ALLOWED))
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise OptionError(
            Worded(asked, f" is not available: torch sees {torch.cuda.device_count()} CUDA devices; use 'cpu'")
        )
    return device


@contextmanager
def threads_for(values: int) -> Iterator[None]:
    """Limit torch and BLAS to one thread on a table of few feature values, and restore their settings afterwards.

    On small tables threads mostly wait for each other, and longest on a busy machine.
    """
    if values >= SMALL:
        yield
        return
    held = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(limits=1):
            yield
    finally:
        torch.set_num_threads(held)
