"""`GamFits`: fitted additive models of many responses that share a formula."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pandas as pd

from pycombat_gam.additive.model import GamFit
from pycombat_gam.words import count, did_you_mean, listing


class GamFits(Mapping[str, GamFit]):
    """Fitted additive models of V responses that share a formula; ``fits["name"]`` is one of them.

    Attributes
    ----------
    coef, edf : DataFrame
        Coefficients × responses.
    sp : DataFrame
        Smoothing parameters × responses.
    score, scale : Series
        By response.
    """

    def __init__(self, fits: Mapping[str, GamFit]) -> None:
        self._fits = dict(fits)

    def __getitem__(self, name: str) -> GamFit:
        if name not in self._fits:
            raise KeyError(f"there is no response {name!r}{did_you_mean(str(name), list(self._fits))}")
        return self._fits[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._fits)

    def __len__(self) -> int:
        return len(self._fits)

    @property
    def coef(self) -> pd.DataFrame:
        """Coefficients × responses."""
        return pd.DataFrame({name: fit.coef for name, fit in self._fits.items()})

    @property
    def edf(self) -> pd.DataFrame:
        """Effective degrees of freedom, coefficients × responses."""
        return pd.DataFrame({name: fit.edf for name, fit in self._fits.items()})

    @property
    def sp(self) -> pd.DataFrame:
        """Smoothing parameters × responses."""
        return pd.DataFrame({name: fit.sp for name, fit in self._fits.items()})

    @property
    def score(self) -> pd.Series:
        """Score of each response."""
        return pd.Series({name: fit.score for name, fit in self._fits.items()}, dtype=float)

    @property
    def scale(self) -> pd.Series:
        """Residual variance of each response."""
        return pd.Series({name: fit.scale for name, fit in self._fits.items()}, dtype=float)

    def predict(self, newdata: pd.DataFrame | None = None) -> pd.DataFrame:
        """Expected responses, rows × responses; see `GamFit.predict` for more of each."""
        return pd.DataFrame({name: fit.predict(newdata) for name, fit in self._fits.items()})

    def summary(self) -> pd.DataFrame:
        """One row per response: rows, edf of each smooth, R-sq.(adj), deviance explained, score, scale."""
        rows = {}
        for name, fit in self._fits.items():
            smooths = zip(fit.design.smooth.smooths, fit.design.smooth_slices, strict=True)
            rows[name] = {
                "n": fit.n,
                **{f"edf {smooth.label}": float(fit.edf.iloc[columns].sum()) for smooth, columns in smooths},
                "R-sq.(adj)": fit.r_squared,
                "deviance explained": fit.deviance_explained,
                "score": fit.score,
                "scale": fit.scale,
            }
        return pd.DataFrame.from_dict(rows, orient="index")

    def __repr__(self) -> str:
        return f"GamFits of {count(len(self), 'response')}: {listing(self._fits)}"
