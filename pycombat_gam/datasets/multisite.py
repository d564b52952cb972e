r"""Example data: a simulator of multi-site studies with known truth, and the table in the package.

What a subject *is* never depends on the site: the truth of row i (subject s, site b) in feature k is

.. math:: T_{ik} = f_k(x_i) + \eta_{sk} + \sigma_k z_{ik},

with f a nonlinear curve of age plus effects of sex, diagnosis and head size, η a random intercept of the
subject (only with several visits) and z standard normal. What site b *measures* is

.. math:: Y_{ik} = f_k(x_i) + \eta_{sk} + \gamma_{bk} + \delta_{bk}\, \sigma_k\, h_{bk}(\tilde z_{ik}),

where γ is the site's location, δ > 0 its scale (a ratio of standard deviations: the root of ComBat's δ²),
z̃ = z unless sites differ in covariance, and h the identity unless they differ in shape. z̃ and h(z̃) have
mean 0 and variance 1 whatever the options, so γ and δ keep their meaning. A perfect harmonization returns T.

- Covariance: z = Σ_j f_j L_jk + u with common factors f (variance one); site b multiplies factor j by its own
  d_bj: z̃ = (z + Σ_j (d_bj − 1) f_j L_jk) / v_bk, with v² = 1 + Σ_j (d_bj² − 1) L_jk².
- Shape: h(z) = (z cosh a + (√(1+z²) − c) sinh a) / √(cosh² a + (2 − c²) sinh² a), with c = E√(1+z²): the
  sinh-arcsinh family (Jones and Pewsey, 2009, Biometrika 96:761), standardized; a > 0 skews to the right.

With nonlinear distortion a site's scanner bends everything it reads, biology included. It reads
T̃ = f + η + σ h(z̃) (T itself unless sites differ in shape or covariance), and with m_k and s_k the mean and the
standard deviation of the truth T over all rows, and v = (T̃ − m_k) / s_k, measures

.. math:: Y_{ik} = m_k + \gamma_{bk} + \delta_{bk}\, s_k\, (v_{ik} + c_{bk} \tanh v_{ik}), \qquad c_{bk} \ge 0.

This increases strictly in T̃. So scale acts on biology too as soon as there is distortion, and on the residual alone, as
in ComBat's model, while there is none. As every c ≥ 0, all scanners widen the middle of a feature, and no method can
tell their common part from biology: compare what is harmonized to a site with `MultisiteStudy.measured_at`, or what is
harmonized to no site with its mean over sites, rather than with T.

Each part draws from a random stream of its own: switching a site effect on leaves the truth and the other
effects as they were.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from pycombat_gam.datasets.simulate import (
    DATA,
    SIGNAL,
    bend,
    check_number,
    check_whole,
    distort,
    feature_catalogue,
    make_people,
    signal_columns,
    signal_weights,
    site_labels,
    site_pattern,
    site_sizes,
    stream,
)
from pycombat_gam.errors import OptionError
from pycombat_gam.types import FloatArray
from pycombat_gam.words import count, did_you_mean, listing

__all__ = ["MultisiteStudy", "load_multisite", "packaged_study", "simulate_multisite"]


_SITE_PARTS = ("location", "scale", "shape", "distortion", "factor_scale")


@dataclass(frozen=True, eq=False, repr=False)
class MultisiteStudy:
    """A simulated study together with everything that made it.

    Attributes
    ----------
    table : DataFrame (n rows)
        What the sites measured: `subject`, (`visit`,) `site`, `age`, `sex`, `dx`, `icv`, then the features.
    truth : DataFrame (n × V)
        What a perfect harmonization of the features would return.
    location, scale : DataFrame (sites × V)
        What each site adds, in the feature's units, and by how much it multiplies the standard deviation.
    shape : DataFrame (sites × V)
        The sinh-arcsinh parameter a of each site; 0 is the normal shape.
    distortion : DataFrame (sites × V)
        c of each site; 0 is a linear scanner.
    features : tuple of str
        Names of the feature columns.
    batch : str
        Name of the site column.
    spread : Series (V)
        σ, the standard deviation of the truth around its mean, within subject and site.
    signal, effects : DataFrame (n × q) and (q × V)
        f = signal @ effects.
    intercepts : DataFrame (subjects × V)
        η, the random intercepts; no rows when every subject has one visit.
    factors, loadings, factor_scale : DataFrame (n × m), (m × V) and (sites × m)
        f_j, L and d; m is 0 without covariance.

    `location`, `scale`, `shape`, `distortion` and `factor_scale` have one row per site, in the order of the labels.
    """

    table: pd.DataFrame
    truth: pd.DataFrame
    location: pd.DataFrame
    scale: pd.DataFrame
    shape: pd.DataFrame
    distortion: pd.DataFrame
    features: tuple[str, ...]
    batch: str
    spread: pd.Series[float]
    signal: pd.DataFrame
    effects: pd.DataFrame
    intercepts: pd.DataFrame
    factors: pd.DataFrame
    loadings: pd.DataFrame
    factor_scale: pd.DataFrame

    @property
    def covariates(self) -> pd.DataFrame:
        """The columns of the table that are not features."""
        return self.table.iloc[:, : -len(self.features)]

    def measured_at(self, site: str) -> pd.DataFrame:
        """Return what a site would have measured of every row's subject, had all traveled there: (n × V).

        It is what a perfect harmonization to that site returns. The rows of that site are the table's own.

        >>> study = simulate_multisite(sites=3, subjects=30, features=2, seed=1)
        >>> bias = study.measured_at("Cork") - study.measured_at("Bergen")
        >>> bias.shape
        (30, 2)
        """
        if site not in self.location.index:
            labels = list(map(str, self.location.index))
            raise OptionError(
                f"there is no site {site!r} in this study; its sites are: {listing(labels, 30)}"
                f"{did_you_mean(str(site), labels)}"
            )
        spread = np.asarray(self.spread, dtype=np.float64)
        loadings = self.loadings.to_numpy()
        expected = self.signal.to_numpy() @ self.effects.to_numpy()
        if len(self.intercepts):
            expected += self.intercepts.loc[self.table["subject"]].to_numpy()
        here = {part: getattr(self, part).loc[site].to_numpy() for part in _SITE_PARTS}
        values = (self.truth.to_numpy() - expected) / spread
        values += (self.factors.to_numpy() * (here["factor_scale"] - 1.0)) @ loadings
        values /= np.sqrt(1.0 + (here["factor_scale"] ** 2 - 1.0) @ loadings**2)
        if here["shape"].any():
            bend(values, here["shape"])
        if here["distortion"].any():
            values = values * spread + expected
            distort(
                values, here["location"], here["scale"], here["distortion"], *_centre(self.truth.to_numpy(), spread)
            )
        else:
            values = here["location"] + here["scale"] * spread * values + expected
        at_site = (self.table[self.batch] == site).to_numpy()
        values[at_site] = self.table.loc[at_site, list(self.features)].to_numpy()
        return _frame(values, list(self.features), self.table.index)

    def __repr__(self) -> str:
        sizes = self.table[self.batch].value_counts()
        visits = self.table["visit"].max() if "visit" in self.table else 1
        return (
            f"MultisiteStudy({count(len(self.table), 'row')}, "
            f"{count(self.table['subject'].nunique(), 'subject')} with {count(int(visits), 'visit')} each, "
            f"{count(len(sizes), 'site')} of {sizes.min()} to {sizes.max()} rows, "
            f"{count(len(self.features), 'feature')})"
        )


def simulate_multisite(
    sites: int | Sequence[str] = 8,
    subjects: int | Sequence[int] = 400,
    features: int = 40,
    *,
    location: float = 0.6,
    scale: float = 0.2,
    skew: float = 0.0,
    distortion: float = 0.0,
    covariance: float = 0.0,
    covariance_spread: float = 0.5,
    visits: int = 1,
    subject_sd: float = 1.0,
    seed: int = 0,
) -> MultisiteStudy:
    """Simulate brain measures of one study at many sites, and return them with the truth.

    Sites differ in size, ages and proportion of patients, as they do in life: a difference between site
    means is partly biology. This module's docstring has the model.

    Parameters
    ----------
    sites : int or sequence of str
        How many sites, or their labels.
    subjects : int or sequence of int
        How many in all, shared out unequally (about 5 to 1, at least two per site), or one count per site.
    features : int
        How many features: thickness and volume of named regions first, then numbered vertices.
    location : float
        Standard deviation of the site locations, in units of each feature's σ; half of the variance is common
        to the features of a site. 0: no such effect.
    scale : float
        Standard deviation of the logarithm of the site scales, half of its variance common likewise.
    skew : float
        Standard deviation of the sinh-arcsinh shape over sites and features, likewise.
    distortion : float
        Root mean square of the sites' nonlinear distortions c over sites and features: absolute values of normal
        numbers, half of their variance common likewise. Above 0, `scale` multiplies biology too (see the module).
    covariance : float
        Share of each feature's variance that comes from (at most five) common factors, below 1.
    covariance_spread : float
        Standard deviation of the logarithm of the sites' factor multipliers; 0: equal correlations.
    visits : int
        Visits of each subject, about 1.5 years apart, at the same site. Above 1, there is a column `visit`.
    subject_sd : float
        Standard deviation of the random intercepts in units of σ. It acts only where `visits` is above 1.
    seed : int
        The same seed gives the same study.

    Returns
    -------
    MultisiteStudy

    Examples
    --------
    >>> study = simulate_multisite(sites=3, subjects=[20, 9, 4], features=5, seed=1)
    >>> study
    MultisiteStudy(33 rows, 33 subjects with 1 visit each, 3 sites of 4 to 20 rows, 5 features)
    >>> list(study.table.columns[:7])
    ['subject', 'site', 'age', 'sex', 'dx', 'icv', 'lh_precuneus_thickness']
    >>> list(study.location.index)
    ['Aarhus', 'Bergen', 'Cork']
    >>> simulate_multisite(sites=3, subjects=4)
    Traceback (most recent call last):
    ...
    pycombat_gam.errors.OptionError: subjects=4 is too few for 3 sites: give at least 6, or one count per site
    """
    check_whole("features", features, 1)
    check_whole("visits", visits, 1)
    check_whole("seed", seed, 0)
    sds = {
        "location": location,
        "scale": scale,
        "skew": skew,
        "distortion": distortion,
        "covariance_spread": covariance_spread,
    }
    for name, value in {**sds, "subject_sd": subject_sd}.items():
        check_number(name, value)
    check_number("covariance", covariance, below=1.0)
    labels = site_labels(sites)
    sizes = site_sizes(subjects, len(labels), stream(seed, "sizes"))
    covariates, site = make_people(sizes, labels, visits, stream(seed, "people"))
    names, mean, spread = feature_catalogue(features, stream(seed, "features"))
    signal = signal_columns(covariates)
    effects = signal_weights(names, mean, spread, stream(seed, "effects"))
    gamma = location * spread * site_pattern(len(labels), features, stream(seed, "location"))
    delta = np.exp(scale * site_pattern(len(labels), features, stream(seed, "scale")))
    shape = skew * site_pattern(len(labels), features, stream(seed, "shape"))
    curve = distortion * np.abs(site_pattern(len(labels), features, stream(seed, "distortion")))

    n, m = len(covariates), min(5, features) if covariance > 0 else 0
    factors = stream(seed, "factors").standard_normal((n, m))
    loadings = stream(seed, "loadings").standard_normal((m, features))
    loadings *= math.sqrt(covariance) / np.sqrt((loadings**2).sum(axis=0)) if m else 1.0
    multiplier = np.exp(covariance_spread * stream(seed, "factor_scale").standard_normal((len(labels), m)))

    subject = covariates["subject"].unique() if visits > 1 else np.array([], dtype=object)
    eta = subject_sd * spread * stream(seed, "intercepts").standard_normal((len(subject), features))

    truth = stream(seed, "noise").standard_normal((n, features))
    table = np.empty_like(truth)
    unit, multiple = np.sqrt(1.0 + (multiplier**2 - 1.0) @ loadings**2), delta * spread
    step = max(1, 2**18 // features)  # rows at a time, so that the temporary arrays stay small
    for start in range(0, n, step):
        rows = slice(start, start + step)
        at, z, measured = site[rows], truth[rows], table[rows]
        if m:
            z *= math.sqrt(1.0 - covariance)
            np.add(z, (factors[rows] * multiplier[at]) @ loadings, out=measured)
            measured /= unit[at]
            z += factors[rows] @ loadings
        else:
            measured[:] = z
        if skew:
            bend(measured, shape[at])
        expected = signal[rows] @ effects
        if visits > 1:
            expected += eta[np.arange(n)[rows] // visits]
        z *= spread
        z += expected
        if distortion:
            measured *= spread
        else:
            measured *= multiple[at]
            measured += gamma[at]
        measured += expected
    if distortion:
        centre, sd = _centre(truth, spread)
        for start in range(0, n, step):
            rows = slice(start, start + step)
            at = site[rows]
            distort(table[rows], gamma[at], delta[at], curve[at], centre, sd)

    by_site, factor = pd.Index(labels, name="site"), [f"factor{j + 1}" for j in range(m)]
    return MultisiteStudy(
        table=pd.concat([covariates, _frame(table, names)], axis=1),
        truth=_frame(truth, names),
        location=_frame(gamma, names, by_site),
        scale=_frame(delta, names, by_site),
        shape=_frame(shape, names, by_site),
        distortion=_frame(curve, names, by_site),
        features=tuple(names),
        batch="site",
        spread=pd.Series(spread, index=names, name="spread"),
        signal=_frame(signal, SIGNAL),
        effects=_frame(effects, names, SIGNAL),
        intercepts=_frame(eta, names, pd.Index(subject, name="subject")),
        factors=_frame(factors, factor),
        loadings=_frame(loadings, names, factor),
        factor_scale=_frame(multiplier, factor, by_site),
    )


def packaged_study() -> MultisiteStudy:
    """Simulate the study whose table ships with the package, truth included.

    >>> packaged_study()
    MultisiteStudy(403 rows, 403 subjects with 1 visit each, 8 sites of 18 to 95 rows, 40 features)
    """
    return simulate_multisite(sites=8, subjects=(42, 95, 18, 61, 78, 34, 50, 25), features=40, seed=0)


def load_multisite() -> pd.DataFrame:
    """Read the packaged table, whose truth is ``packaged_study().truth``; its features have six digits.

    >>> table = load_multisite()
    >>> table.shape, table["site"].nunique()
    ((403, 46), 8)
    """
    with (DATA / "multisite.csv").open(encoding="utf-8") as lines:
        return pd.read_csv(lines)


def _frame(values: FloatArray, columns: list[str], index: pd.Index | list[str] | None = None) -> pd.DataFrame:
    """Label an array without copying it."""
    return pd.DataFrame(values, index=index, columns=columns, copy=False)


def _centre(truth: FloatArray, spread: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return m and s of the module docstring; the truth of a single row has no spread, and takes σ for it."""
    sd = truth.std(axis=0)
    return truth.mean(axis=0), np.where(sd > 0, sd, spread)


def write_packaged(path: str | Path) -> None:
    """Write the packaged table; ``python -m pycombat_gam.datasets.multisite`` does so in the source tree."""
    packaged_study().table.to_csv(path, index=False, float_format="%.6g", lineterminator="\n")


if __name__ == "__main__":
    write_packaged(Path(__file__).with_name("multisite.csv"))
