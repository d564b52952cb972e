"""What goes wrong with R, and what it warns of."""

from __future__ import annotations

from pycombat_gam.errors import PcgError, PcgWarning


class RError(PcgError):
    """R stopped with an error; the message is R's."""


class RMissingError(PcgError):
    """R, rpy2 or an R package is not installed; the message says how to get it."""


class RWarning(PcgWarning):
    """R warned; the message is R's."""
