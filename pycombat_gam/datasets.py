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

Each part draws from a random stream of its own: switching a site effect on leaves the truth and the other
effects as they were.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
import pandas as pd

from pycombat_gam.errors import OptionError, count, listing
from pycombat_gam.types import FloatArray, IntArray

__all__ = ["MultisiteStudy", "load_multisite", "packaged_study", "simulate_multisite"]

SIGNAL = ["intercept", "age_linear", "age_arch", "age_late", "sex_M", "dx_patient", "icv"]
SITES = ["Aarhus", "Bergen", "Cork", "Delft", "Evora", "Fargo", "Ghent", "Hobart", "Izmir", "Jena"]
DATA = resources.files("pycombat_gam") / "data"


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

    `location`, `scale`, `shape` and `factor_scale` have one row per site, in the order of the labels.
    """

    table: pd.DataFrame
    truth: pd.DataFrame
    location: pd.DataFrame
    scale: pd.DataFrame
    shape: pd.DataFrame
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
    covariance: float = 0.0,
    covariance_spread: float = 0.5,
    visits: int = 1,
    subject_sd: float = 1.0,
    seed: int = 0,
) -> MultisiteStudy:
    """Simulate brain measures of one study at many sites, and return them with the truth.

    Sites differ in size, ages and proportion of patients, as they do in life: a difference between site
    means is partly biology. The model stands in this module's docstring.

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
    _whole("features", features, 1)
    _whole("visits", visits, 1)
    _whole("seed", seed, 0)
    sds = {"location": location, "scale": scale, "skew": skew, "covariance_spread": covariance_spread}
    for name, value in {**sds, "subject_sd": subject_sd}.items():
        _number(name, value)
    _number("covariance", covariance, below=1.0)
    labels = _site_labels(sites)
    sizes = _site_sizes(subjects, len(labels), _stream(seed, "sizes"))
    covariates, site = _people(sizes, labels, visits, _stream(seed, "people"))
    names, mean, spread = _feature_catalogue(features, _stream(seed, "features"))
    signal = _signal(covariates)
    effects = _effects(names, mean, spread, _stream(seed, "effects"))
    gamma = location * spread * _site_pattern(len(labels), features, _stream(seed, "location"))
    delta = np.exp(scale * _site_pattern(len(labels), features, _stream(seed, "scale")))
    shape = skew * _site_pattern(len(labels), features, _stream(seed, "shape"))

    n, m = len(covariates), min(5, features) if covariance > 0 else 0
    factors = _stream(seed, "factors").standard_normal((n, m))
    loadings = _stream(seed, "loadings").standard_normal((m, features))
    loadings *= math.sqrt(covariance) / np.sqrt((loadings**2).sum(axis=0)) if m else 1.0
    multiplier = np.exp(covariance_spread * _stream(seed, "factor_scale").standard_normal((len(labels), m)))

    subject = covariates["subject"].unique() if visits > 1 else np.array([], dtype=object)
    eta = subject_sd * spread * _stream(seed, "intercepts").standard_normal((len(subject), features))

    truth = _stream(seed, "noise").standard_normal((n, features))
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
            _bend(measured, shape[at])
        expected = signal[rows] @ effects
        if visits > 1:
            expected += eta[np.arange(n)[rows] // visits]
        z *= spread
        z += expected
        measured *= multiple[at]
        measured += gamma[at]
        measured += expected

    by_site, factor = pd.Index(labels, name="site"), [f"factor{j + 1}" for j in range(m)]
    return MultisiteStudy(
        table=pd.concat([covariates, _frame(table, names)], axis=1),
        truth=_frame(truth, names),
        location=_frame(gamma, names, by_site),
        scale=_frame(delta, names, by_site),
        shape=_frame(shape, names, by_site),
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


def _stream(seed: int, purpose: str) -> np.random.Generator:
    """One random stream per purpose, so that one option's draws never move another's."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=tuple(purpose.encode())))


def _whole(name: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise OptionError(f"{name}={value!r} is not allowed: give a whole number of at least {least}")


def _number(name: str, value: object, below: float = math.inf) -> None:
    usable = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    if not usable or not 0 <= float(value) < below:  # type: ignore[arg-type]  # `usable` has seen to it
        limit = f" and below {below:g}" if math.isfinite(below) else ""
        raise OptionError(f"{name}={value!r} is not allowed: give a finite number of at least 0{limit}")


def _site_labels(sites: int | Sequence[str]) -> list[str]:
    if not isinstance(sites, Sequence) or isinstance(sites, (str, bytes)):
        _whole("sites", sites, 1)
        return [SITES[j] if j < len(SITES) else f"site{j + 1}" for j in range(int(sites))]
    if not sites or not all(isinstance(label, str) and label for label in sites):
        raise OptionError(f"sites={sites!r} is not allowed: give a number of sites, or a list of labels")
    if twice := sorted({label for label in sites if sites.count(label) > 1}):
        raise OptionError(f"site labels must differ; given twice: {listing(twice)}")
    return list(sites)


def _site_sizes(subjects: int | Sequence[int], number: int, rng: np.random.Generator) -> IntArray:
    """Subjects per site; a total is shared out in geometric steps, about 5 to 1, in random order."""
    if isinstance(subjects, Sequence) and not isinstance(subjects, (str, bytes)):
        for value in subjects:
            _whole("a count in subjects", value, 1)
        if len(subjects) != number:
            given = count(len(subjects), "count")
            raise OptionError(f"subjects has {given} for {count(number, 'site')}: one per site, or the total")
        return np.array(subjects, dtype=np.intp)
    _whole("subjects", subjects, 1)
    if (spare := int(subjects) - 2 * number) < 0:
        few = f"subjects={int(subjects)} is too few for {count(number, 'site')}"
        raise OptionError(f"{few}: give at least {2 * number}, or one count per site")
    weight = rng.permutation(5.0 ** np.linspace(0.0, 1.0, number))
    cuts = np.rint(spare * np.cumsum(weight) / weight.sum())
    sizes: IntArray = np.diff(cuts, prepend=0.0).astype(np.intp) + 2
    return sizes


def _people(sizes: IntArray, labels: list[str], visits: int, rng: np.random.Generator) -> tuple[pd.DataFrame, IntArray]:
    """Covariates, visits of a subject in a row, and site numbers; a site's ages fill a window of its own."""
    number, total = len(labels), int(sizes.sum())
    width = 30.0 + 20.0 * rng.random(number)
    youngest = 8.0 + (72.0 - width) * rng.random(number)
    patients = 0.15 + 0.55 * rng.random(number)
    males = 0.35 + 0.3 * rng.random(number)

    site = rng.permutation(np.repeat(np.arange(number), sizes))
    age = youngest[site] + width[site] * rng.random((2, total)).mean(axis=0)
    male = rng.random(total) < males[site]
    patient = rng.random(total) < patients[site]
    icv = 1440.0 + 150.0 * male + 115.0 * rng.standard_normal(total)

    gaps = 1.0 + rng.random((total, visits))
    gaps[:, 0] = 0.0
    label = [f"sub-{i:0{max(4, len(str(total)))}}" for i in range(1, total + 1)]
    people = pd.DataFrame({"subject": np.repeat(label, visits)})
    if visits > 1:
        people["visit"] = np.tile(np.arange(1, visits + 1), total)
    people["site"] = np.repeat(np.array(labels)[site], visits)
    people["age"] = (age[:, None] + gaps.cumsum(axis=1)).round(2).ravel()
    people["sex"] = np.repeat(np.where(male, "M", "F"), visits)
    people["dx"] = np.repeat(np.where(patient, "patient", "control"), visits)
    people["icv"] = np.repeat(icv.round(1), visits)
    return people, np.repeat(site, visits)


def _feature_catalogue(number: int, rng: np.random.Generator) -> tuple[list[str], FloatArray, FloatArray]:
    """Names, means and standard deviations: both sides of ``data/regions.csv``, then numbered vertices.

    The regions' figures are round ones of the right size, thickness in mm and volume in mm³.
    """
    with (DATA / "regions.csv").open(encoding="utf-8") as lines:
        regions = pd.read_csv(lines)
    regions = regions.loc[regions.index.repeat(2)].head(number)
    sides = ("lh", "rh") * len(regions)
    names = [f"{s}_{r}_{m}" for s, r, m in zip(sides, regions["region"], regions["measure"], strict=False)]
    extra = number - len(names)
    names += [f"vertex_{j + 1:0{len(str(number))}}" for j in range(extra)]
    mean = np.append(regions["mean"], 2.5 + 0.35 * rng.standard_normal(extra).clip(-2.5, 2.5))
    spread = np.append(regions["sd"], 0.10 + 0.20 * rng.random(extra))
    return names, mean, spread


def _signal(covariates: pd.DataFrame) -> FloatArray:
    """The n × q columns of f; see `SIGNAL`."""
    age = (covariates["age"].to_numpy() - 40.0) / 20.0
    late = np.logaddexp(0.0, 5.0 * age - 3.75) / 4.0
    male, patient = (covariates["sex"] == "M").to_numpy(), (covariates["dx"] == "patient").to_numpy()
    head = (covariates["icv"].to_numpy() - 1500.0) / 150.0
    return np.column_stack([np.ones(len(age)), age, -(age**2), late, male, patient, head]).astype(np.float64)


def _effects(names: list[str], mean: FloatArray, spread: FloatArray, rng: np.random.Generator) -> FloatArray:
    """The q × V weights of `_signal`, in the features' units: volumes follow head size, thickness little."""
    centre = np.array([-0.35, 0.35, -0.8, 0.1, -0.3, 0.05])
    wobble = np.array([0.2, 0.15, 0.3, 0.15, 0.2, 0.05])
    weights = centre[:, None] + wobble[:, None] * rng.standard_normal((len(centre), len(names)))
    weights[-1] += np.array([0.5 if name.endswith("volume") else 0.0 for name in names])
    return np.vstack([mean, weights * spread])


def _site_pattern(sites: int, features: int, rng: np.random.Generator) -> FloatArray:
    """Standard normal numbers, sites × features; half of their variance is common to a site's features."""
    common = rng.standard_normal((sites, 1))
    return math.sqrt(0.5) * (common + rng.standard_normal((sites, features)))


def _bend(z: FloatArray, shape: FloatArray) -> None:
    """Give standard normal numbers the shape h of the module docstring, in place."""
    c = 1.3545308064813155  # E√(1+z²) = e^¼ (K₀(¼) + K₁(¼)) / √(8π) for a standard normal z
    tail = np.sqrt(1.0 + z**2) - c
    tail *= np.sinh(shape)
    z *= np.cosh(shape)
    z += tail
    z /= np.sqrt(np.cosh(shape) ** 2 + (2.0 - c * c) * np.sinh(shape) ** 2)


def write_packaged(path: str | Path) -> None:
    """Write the packaged table; ``python -m pycombat_gam.datasets`` does so in the source tree."""
    packaged_study().table.to_csv(path, index=False, float_format="%.6g", lineterminator="\n")


if __name__ == "__main__":
    write_packaged(Path(__file__).parent / "data" / "multisite.csv")
