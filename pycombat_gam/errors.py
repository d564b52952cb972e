"""Errors and warnings: what was given, what is allowed, how to fix it. Every message is one line.

The classes say *where* the trouble lies (formula, data, model file, usage); the messages name features, sites,
columns and rows. All errors are `ValueError` subclasses, so that a caller who knows nothing of this package can
still catch them.
"""

from __future__ import annotations

from importlib.util import find_spec

from pycombat_gam.words import Setting, listing


class PcgError(ValueError):
    """Base of every error that this package raises on purpose."""

    @property
    def settings(self) -> tuple[Setting, ...]:
        """The arguments that the message names, each with the value that was given or is advised."""
        message = self.args[0] if self.args else ""
        return tuple(part for part in getattr(message, "parts", ()) if isinstance(part, Setting))


class FormulaError(PcgError):
    """The formula cannot be read, or names something that is not allowed in one."""


class DataError(PcgError):
    """The table cannot be used as given: missing, infinite, non-numeric, duplicated, unseen."""


class DesignError(DataError):
    """The design cannot be estimated from these rows: confounded, collinear, constant or saturated."""


class OptionError(PcgError):
    """An argument has a value that is not allowed."""


class ModelFileError(PcgError):
    """A saved model is broken, was altered, or was not written by this package."""


class OutputError(PcgError):
    """A result cannot be written where it was asked to go."""


class NotFittedError(PcgError, AttributeError):
    """The model was used before `fit`."""


class TrainingError(PcgError, ArithmeticError):
    """A model's training cannot go on: its objective stays non-finite."""


class NotYetError(PcgError, NotImplementedError):
    """The request is understood and planned, but this version cannot do it yet."""


class MissingPackageError(PcgError, ImportError):
    """A package that this part needs is not installed; the message has the command that installs it."""


class PcgWarning(UserWarning):
    """Something was handled rather than stopped; the message names the features and sites concerned."""


FLOW = "pip install 'torch>=2.2' 'zuko>=1.2'"
"""What the extra `flow` installs. These names work wherever this package itself came from."""


def flow_requirements() -> None:
    """Raise `MissingPackageError` unless what the flow needs is installed."""
    missing = [name for name in ("torch", "zuko", "sklearn") if not _installed(name)]
    if missing:
        raise MissingPackageError(f"the flow needs {listing(missing)}: {FLOW}")


IMAGES = "pip install 'pillow>=10' 'nibabel>=5'"
"""What the extra `images` installs."""


def image_requirements(module: str) -> None:
    """Raise `MissingPackageError` unless the reader of these images, PIL or nibabel, is installed."""
    if not _installed(module):
        raise MissingPackageError(f"images of this kind need {module}: {IMAGES}")


def _installed(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ImportError:
        return False
