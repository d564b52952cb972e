"""Read a saved model of any kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from pycombat_gam.combat.estimator import ComBat
from pycombat_gam.errors import ModelFileError, PcgError, flow_requirements
from pycombat_gam.saving.container import Container, read_container, same
from pycombat_gam.words import listing

if TYPE_CHECKING:
    from pycombat_gam.flow.estimator import FlowSCM


def _flow(container: Container) -> FlowSCM:
    """Rebuild a flow; torch is imported here."""
    flow_requirements()
    from pycombat_gam.flow.estimator import FlowSCM

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
    if not same(model.to_container(), container):
        raise ModelFileError(f"'{path}' is refused: it holds more, or other, than the model it describes")
    return model
