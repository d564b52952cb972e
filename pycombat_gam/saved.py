"""Read a saved model of any kind."""

from __future__ import annotations

from pathlib import Path

from pycombat_gam.combat import ComBat
from pycombat_gam.container import read_container
from pycombat_gam.errors import ModelFileError, PcgError, listing

_KINDS = {"combat": ComBat.from_container}


def load(path: str | Path) -> ComBat:
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
        return _KINDS[container.kind](container)
    except PcgError as error:
        raise ModelFileError(f"'{path}': {error}") from error
