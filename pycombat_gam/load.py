"""Read a saved model of any kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from pycombat_gam.batch.model import BatchModel
from pycombat_gam.combat.estimator import ComBat
from pycombat_gam.errors import ModelFileError, OptionError, PcgError, flow_requirements
from pycombat_gam.predict.predictor import Predictor
from pycombat_gam.saving.container import Container, read_container, same
from pycombat_gam.words import listing

if TYPE_CHECKING:
    from pycombat_gam.flow.estimator import FlowSCM


def _flow(container: Container, batch_model: BatchModel | None) -> FlowSCM:
    """Rebuild a flow; torch is imported here."""
    if batch_model is not None:
        raise OptionError("batch_model is for a ComBat; this model is a flow")
    flow_requirements()
    from pycombat_gam.flow.estimator import FlowSCM

    return FlowSCM.from_container(container)


def _combat(container: Container, batch_model: BatchModel | None) -> ComBat:
    return ComBat.from_container(container, batch_model)


def _predictor(container: Container, batch_model: BatchModel | None) -> Predictor:
    if batch_model is not None:
        raise OptionError("batch_model is for a ComBat; this model is a predictor")
    return Predictor.from_container(container)


_KINDS: dict[str, Callable[[Container, BatchModel | None], ComBat | FlowSCM | Predictor]] = {
    "combat": _combat,
    "flow": _flow,
    "predictor": _predictor,
}


def load(path: str | Path, *, batch_model: BatchModel | None = None) -> ComBat | FlowSCM | Predictor:
    """Load a fitted model from a `.pcg` file.

    The file is data only: nothing in it is executed, and a broken, altered or hostile one is refused.

    Parameters
    ----------
    path : str or Path
        The file that `save` wrote.
    batch_model : BatchModel, optional
        The `batch_model` that a ComBat was fitted with, if it had one: a file never names code to run.

    Returns
    -------
    ComBat, FlowSCM or Predictor
        The fitted model.

    Raises
    ------
    ModelFileError
        If the file is not a model, is truncated or altered, or holds anything unexpected.
    """
    container = read_container(path)
    if container.kind not in _KINDS:
        raise ModelFileError(f"'{path}' holds a model of kind '{container.kind}'; this release knows {listing(_KINDS)}")
    try:
        model = _KINDS[container.kind](container, batch_model)
    except PcgError as error:
        raise ModelFileError(f"'{path}': {error}") from error
    if not same(model.to_container(), container):
        raise ModelFileError(f"'{path}' is refused: its content differs from the model it describes")
    return model
