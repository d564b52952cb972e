"""The parts that `datasets` puts together: who the subjects are, what their features look like, how sites differ."""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib import resources

import numpy as np
import pandas as pd

from pycombat_gam.errors import OptionError
from pycombat_gam.types import FloatArray, IntArray
from pycombat_gam.words import count, listing

SIGNAL = ["intercept", "age_linear", "age_arch", "age_late", "sex_M", "dx_patient", "icv"]
SITES = ["Aarhus", "Bergen", "Cork", "Delft", "Evora", "Fargo", "Ghent", "Hobart", "Izmir", "Jena"]
DATA = resources.files("pycombat_gam.datasets")


def stream(seed: int, purpose: str) -> np.random.Generator:
    """One random stream per purpose, so that one option's draws never move another's."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=tuple(purpose.encode())))


def check_whole(name: str, value: object, least: int) -> None:
    """Stop for anything but a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise OptionError(f"{name}={value!r} is not allowed: give a whole number of at least {least}")


def check_number(name: str, value: object, below: float = math.inf) -> None:
    """Stop for anything but a finite number of at least 0."""
    usable = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    if not usable or not 0 <= float(value) < below:  # type: ignore[arg-type]  # `usable` has seen to it
        limit = f" and below {below:g}" if math.isfinite(below) else ""
        raise OptionError(f"{name}={value!r} is not allowed: give a finite number of at least 0{limit}")


def site_labels(sites: int | Sequence[str]) -> list[str]:
    """Labels of the sites: those given, or towns."""
    if not isinstance(sites, Sequence) or isinstance(sites, (str, bytes)):
        check_whole("sites", sites, 1)
        return [SITES[j] if j < len(SITES) else f"site{j + 1}" for j in range(int(sites))]
    if not sites or not all(isinstance(label, str) and label for label in sites):
        raise OptionError(f"sites={sites!r} is not allowed: give a number of sites, or a list of labels")
    if twice := sorted({label for label in sites if sites.count(label) > 1}):
        raise OptionError(f"site labels must differ; given twice: {listing(twice)}")
    return list(sites)


def site_sizes(subjects: int | Sequence[int], number: int, rng: np.random.Generator) -> IntArray:
    """Subjects per site; a total is shared out in geometric steps, about 5 to 1, in random order."""
    if isinstance(subjects, Sequence) and not isinstance(subjects, (str, bytes)):
        for value in subjects:
            check_whole("a count in subjects", value, 1)
        if len(subjects) != number:
            counts = count(len(subjects), "count")
            raise OptionError(f"subjects has {counts} for {count(number, 'site')}: one per site, or the total")
        return np.array(subjects, dtype=np.intp)
    check_whole("subjects", subjects, 1)
    if (spare := int(subjects) - 2 * number) < 0:
        few = f"subjects={int(subjects)} is too few for {count(number, 'site')}"
        raise OptionError(f"{few}: give at least {2 * number}, or one count per site")
    weight = rng.permutation(5.0 ** np.linspace(0.0, 1.0, number))
    cuts = np.rint(spare * np.cumsum(weight) / weight.sum())
    sizes: IntArray = np.diff(cuts, prepend=0.0).astype(np.intp) + 2
    return sizes


def make_people(
    sizes: IntArray, labels: list[str], visits: int, rng: np.random.Generator
) -> tuple[pd.DataFrame, IntArray]:
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


def feature_catalogue(number: int, rng: np.random.Generator) -> tuple[list[str], FloatArray, FloatArray]:
    """Names, means and standard deviations: both sides of ``regions.csv``, then numbered vertices.

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


def signal_columns(covariates: pd.DataFrame) -> FloatArray:
    """The n × q columns of f; see `SIGNAL`."""
    age = (covariates["age"].to_numpy() - 40.0) / 20.0
    late = np.logaddexp(0.0, 5.0 * age - 3.75) / 4.0
    male, patient = (covariates["sex"] == "M").to_numpy(), (covariates["dx"] == "patient").to_numpy()
    head = (covariates["icv"].to_numpy() - 1500.0) / 150.0
    return np.column_stack([np.ones(len(age)), age, -(age**2), late, male, patient, head]).astype(np.float64)


def signal_weights(names: list[str], mean: FloatArray, spread: FloatArray, rng: np.random.Generator) -> FloatArray:
    """The q × V weights of `signal_columns`, in the features' units: volumes follow head size, thickness little."""
    centre = np.array([-0.35, 0.35, -0.8, 0.1, -0.3, 0.05])
    wobble = np.array([0.2, 0.15, 0.3, 0.15, 0.2, 0.05])
    weights = centre[:, None] + wobble[:, None] * rng.standard_normal((len(centre), len(names)))
    weights[-1] += np.array([0.5 if name.endswith("volume") else 0.0 for name in names])
    return np.vstack([mean, weights * spread])


def site_pattern(sites: int, features: int, rng: np.random.Generator) -> FloatArray:
    """Standard normal numbers, sites × features; half of their variance is common to a site's features."""
    common = rng.standard_normal((sites, 1))
    return math.sqrt(0.5) * (common + rng.standard_normal((sites, features)))


def bend(z: FloatArray, shape: FloatArray) -> None:
    """Give standard normal numbers the shape h of the module docstring, in place."""
    c = 1.3545308064813155  # E√(1+z²) = e^¼ (K₀(¼) + K₁(¼)) / √(8π) for a standard normal z
    tail = np.sqrt(1.0 + z**2) - c
    tail *= np.sinh(shape)
    z *= np.cosh(shape)
    z += tail
    z /= np.sqrt(np.cosh(shape) ** 2 + (2.0 - c * c) * np.sinh(shape) ** 2)


def distort(
    reading: FloatArray,
    location: FloatArray,
    scale: FloatArray,
    curve: FloatArray,
    centre: FloatArray,
    sd: FloatArray,
) -> None:
    """Turn what a scanner reads, T̃ (n, V), into what its site measures, in place; see the docstring of `datasets`."""
    reading -= centre
    reading /= sd
    reading += curve * np.tanh(reading)
    reading *= scale * sd
    reading += location + centre
