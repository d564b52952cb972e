"""Read a saved model of any kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pycombat_gam.combat import ComBat
from pycombat_gam.container import Container, read_container
from pycombat_gam.errors import ModelFileError, PcgError, flow_requirements, listing

if TYPE_CHECKING:
    from pycombat_gam.flow.harmonizer import FlowSCM


def _flow(container: Container) -> FlowSCM:
    """Rebuild a flow; torch is imported here."""
    flow_requirements()
    from pycombat_gam.flow.harmonizer import FlowSCM

    return FlowSCM.from_container(container)


_KINDS: dict[str, Callable[[Container], ComBat | FlowSCM]] = {"combat": ComBat.from_container, "flow": _flow}


def load(path: str | Path) -> ComBat | FlowSCM:
    """Load a fitted model from a `.pcg` file.

    The file is data only: nothing in it is executed, and a broken, altered or hostile one is refused.

    Parameters
    ----------
    path : the file that `save` wrote.

    Raises
    ------
    ModelFileError
        If the file is not a model, is truncated or altered, or holds anything unexpected.
    """
    container = read_container(path)
    if container.kind not in _KINDS:
        raise ModelFileError(f"'{path}' holds a model of kind '{container.kind}'; this release knows {listing(_KINDS)}")
    try:
        model = _KINDS[container.kind](container)
    except PcgError as error:
        raise ModelFileError(f"'{path}': {error}") from error
    if not _same(model.to_container(), container):
        raise ModelFileError(f"'{path}' is refused: it holds more, or other, than the model it describes")
    return model


def _same(ours: Container, theirs: Container) -> bool:
    """Tell whether the model read is all that the file holds: saved again, it would be the same."""
    return (
        ours.model == theirs.model
        and ours.version == theirs.version
        and set(ours.arrays) == set(theirs.arrays)
        and all(_equal(array, theirs.arrays[name]) for name, array in ours.arrays.items())
    )


def _equal(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype.kind == b.dtype.kind and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
