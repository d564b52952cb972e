"""What holds for the bases of one and of several variables whatever R says: laws, messages, saved forms, R's sample."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pycombat_gam.errors import DesignError, FormulaError, ModelFileError, PcgError
from pycombat_gam.formula.columns import Factor
from pycombat_gam.saving.reader import Reader
from pycombat_gam.smooth.bases import MARGINS, read_basis, read_margin
from pycombat_gam.smooth.basis import BasisOptions
from pycombat_gam.smooth.radial import radial
from pycombat_gam.smooth.rsample import r_sample, r_text, text_order
from pycombat_gam.smooth.tensor import TensorBasis
from pycombat_gam.smooth.thinplate import powers

GENERATOR = np.random.default_rng(11)
DATA = {
    "x": np.round(GENERATOR.gamma(2, 10, 90) + 5, 1),
    "z": GENERATOR.normal(100, 10, 90),
    "w": GENERATOR.uniform(-1, 1, 90),
}
GRID = {"x": np.linspace(-60, 180, 97), "z": np.linspace(40, 160, 97), "w": np.linspace(-4, 4, 97)}
INSIDE = {"x": np.linspace(DATA["x"].min(), DATA["x"].max(), 4001)}
ROUNDING = 1e-9
"""Sums of a dozen columns and solutions of their equations, relative to the largest entry; 1e-12 measured."""


def learn(name: str, *variables: str, data: Any = None, **options: Any) -> Any:
    variables = variables or ("x",)
    where = f"s({', '.join(variables)}, bs = '{name}')"
    given = {"k": None, "m": None, "knots": {}, **options}
    return MARGINS[name].learn(variables, DATA if data is None else data, BasisOptions(where=where, **given))


BASES = {
    "cr": learn("cr", k=8),
    "cs": learn("cs", k=6),
    "cc": learn("cc", k=8),
    "ps": learn("ps", k=9),
    "ps of order 1": learn("ps", k=9, m=(2, 1)),
    "ps of order 3": learn("ps", k=9, m=(3, 3)),
    "broken lines": learn("ps", k=9, m=(0, 1)),
    "cp": learn("cp", k=9),
    "bs": learn("bs", k=9),
    "bs of three penalties": learn("bs", k=9, m=(3, 2, 1, 0)),
    "bs of four knots": learn("bs", k=9, knots={"x": np.array([0.0, 10.0, 60.0, 90.0])}),
    "tp": learn("tp", k=9),
    "tp of order 1": learn("tp", k=9, m=(1,)),
    "tp of order 3": learn("tp", k=9, m=(3,)),
    "tp without lines": learn("tp", k=9, m=(2, 0)),
    "tp of knots": learn("tp", k=5, knots={"x": np.array([6.0, 12.0, 20.0, 30.0, 60.0])}),
    "ts": learn("ts", k=9),
    "tp of two": learn("tp", "x", "z", k=20),
    "tp of two, order 3": learn("tp", "x", "z", k=20, m=(3,)),
    "tp of three": learn("tp", "x", "z", "w", k=25),
    "ts of two": learn("ts", "x", "w", k=20),
}
by_basis = pytest.mark.parametrize("basis", BASES.values(), ids=list(BASES))


@by_basis
def test_shapes_ranks_and_definiteness(basis: Any) -> None:
    X = basis.on(DATA)
    K = X.shape[1]
    total = np.zeros((K, K))
    assert np.linalg.matrix_rank(X) == K
    for S, rank in zip(basis.penalties, basis.ranks, strict=True):
        assert S.shape == (K, K)
        assert (S == S.T).all()
        values = np.linalg.eigvalsh(S)
        assert values[0] > -1e-10 * values[-1]
        assert (values > 1e-10 * values[-1]).sum() == rank
        total += S / np.linalg.norm(S)
    values = np.linalg.eigvalsh(total)
    # What rounding leaves of an eigenvalue of zero.
    assert (values <= 1e-10 * values[-1]).sum() == basis.null_dim


@pytest.mark.parametrize("name", ["cr", "cs", "cc", "ps", "ps of order 1", "cp", "bs", "bs of four knots"])
def test_columns_sum_to_one_everywhere(name: str) -> None:
    # Rounding of some ten terms; outside, of tangents that cancel over ten times the range.
    np.testing.assert_allclose(BASES[name].on(GRID).sum(axis=1), 1.0, atol=1e-11)
    np.testing.assert_allclose(BASES[name].on(DATA).sum(axis=1), 1.0, atol=1e-13)


@by_basis
def test_the_null_space_is_polynomials_reproduced_everywhere_and_free(basis: Any) -> None:
    """As many polynomials as `null_dim` are fitted exactly, cost nothing, and go on outside the data."""
    d, free = len(basis.variables), basis.null_dim
    if basis.name in ("cc", "cp"):
        exponents: list[tuple[int, ...]] = [(0,)]
    else:
        degree = next((m for m in range(5) if len(powers(m, d)) == free), None)
        assert degree is not None
        exponents = powers(degree, d)
    assert len(exponents) == free
    X, outside = basis.on(DATA), basis.on(GRID)
    for exponent in exponents:
        y, y_outside = (
            np.prod([((table[v] - 30) / 30) ** e for v, e in zip(basis.variables, exponent, strict=True)], axis=0)
            for table in (DATA, GRID)
        )
        beta = np.linalg.lstsq(X, y, rcond=None)[0]
        np.testing.assert_allclose(X @ beta, y, atol=ROUNDING * np.abs(y).max())
        for S in basis.penalties:
            if np.linalg.eigvalsh(S)[0] < 1e-10 * np.linalg.norm(S):  # not the ridge of "bs of three penalties"
                assert abs(beta @ S @ beta) < ROUNDING * np.linalg.norm(S) * (beta @ beta)
        if sum(exponent) < 2 or basis.name == "tp":  # cubic pieces go on as lines
            np.testing.assert_allclose(outside @ beta, y_outside, atol=1e-7 * np.abs(y_outside).max())


@pytest.mark.parametrize(("name", "order"), [("cr", 2), ("cc", 2), ("bs", 2), ("tp", 2), ("tp of knots", 2)])
def test_the_penalty_is_the_integral_it_claims(name: str, order: int) -> None:
    """β'Sβ = ∫f''², the integral taken between neighbouring points where second differences are exact enough."""
    basis = BASES[name]
    ends = (basis.knots[3], basis.knots[-4]) if name == "bs" else (INSIDE["x"][0] - 1, INSIDE["x"][-1] + 1)
    if name == "cc":
        ends = INSIDE["x"][0], INSIDE["x"][-1]
    step = (ends[1] - ends[0]) / 20000
    at = np.linspace(ends[0] + step, ends[1] - step, 20000 - 1)
    second = sum(c * basis.on({"x": at + s * step}) for s, c in ((-1, 1), (0, -2), (1, 1))) / step**2
    integral = second.T @ second * step
    # The differences' own error: O(step) where third derivatives jump, and rounding over step².
    assert np.abs(integral - basis.penalties[0]).max() < 3e-3 * np.abs(integral).max()


@pytest.mark.parametrize("name", ["cc", "cp"])
def test_ends_of_a_cycle_meet(name: str) -> None:
    basis = BASES[name]
    low, high = basis.knots[0], basis.knots[-1]
    for turns in (-3, 1, 2):
        np.testing.assert_allclose(
            # Rounding of x + turns · period; of cp also in the knots.
            basis.on({"x": INSIDE["x"] + turns * (high - low)}),
            basis.on(INSIDE),
            atol=1e-11 if name == "cp" else 1e-10,
        )
    h = 1e-3 * (high - low)
    before, at, after = (basis.on({"x": np.array([x])})[0] for x in (high - h, high, low + h))
    np.testing.assert_allclose(basis.on({"x": np.array([low])})[0], at, atol=1e-14)
    # A jump of the slope would show as O(h), of the second derivative as O(h²); what is left is O(h³).
    inner = [basis.on({"x": np.array([high - i * h])})[0] for i in range(3)]
    outer = [basis.on({"x": np.array([low + i * h])})[0] for i in range(3)]
    assert np.abs((after - at) - (at - before)).max() < 1e-2 * np.abs(after - before).max() + 1e-4
    curvature = [(part[0] - 2 * part[1] + part[2]) / h**2 for part in (inner, outer)]
    assert np.abs(curvature[0] - curvature[1]).max() < 0.05 * np.abs(curvature).max()


@pytest.mark.parametrize("name", ["cr", "cs", "ps", "ps of order 3", "bs", "tp", "ts"])
def test_straight_lines_outside_that_join(name: str) -> None:
    basis = BASES[name]
    margin = 0.001 * np.ptp(DATA["x"])
    low, high = DATA["x"].min() - margin, DATA["x"].max() + margin
    for end, away in ((low, -1.0), (high, 1.0)):
        X = basis.on({"x": end + away * np.array([0.0, 1.0, 10.0, 11.0, 100.0, 101.0])})
        slope = X[1] - X[0]
        # Here: differences of columns that grow by a hundred: rounding; below: a step of 1e-5 of a curve.
        np.testing.assert_allclose(X[3] - X[2], slope, atol=1e-9)
        np.testing.assert_allclose(X[5] - X[4], slope, atol=1e-9)
        step = 1e-5
        near = basis.on({"x": end + np.array([-step, step])})
        # A secant over 2e-5 of a curve.
        np.testing.assert_allclose((near[1] - near[0]) / (2 * step), away * slope, atol=1e-4)


@by_basis
def test_rows_are_evaluated_one_by_one_and_in_any_order(basis: Any) -> None:
    whole = basis.on(GRID)
    order = np.random.default_rng(0).permutation(97)
    shuffled = basis.on({label: values[order] for label, values in GRID.items()})
    # Both: products in another order.
    np.testing.assert_allclose(shuffled, whole[order], rtol=0, atol=1e-12 * np.abs(whole).max())
    one = basis.on({label: values[5:6] for label, values in GRID.items()})
    np.testing.assert_allclose(one, whole[5:6], rtol=0, atol=1e-12 * np.abs(whole).max())
    assert basis.on({label: values[:0] for label, values in GRID.items()}).shape == (0, whole.shape[1])


@pytest.mark.parametrize("name", ["tp", "ts"])
@pytest.mark.parametrize("variables", [("x",), ("x", "z")])
def test_thin_plates_do_not_depend_on_the_order_of_rows(name: str, variables: tuple[str, ...]) -> None:
    order = np.random.default_rng(1).permutation(90)
    one = learn(name, *variables, k=15)
    other = learn(name, *variables, k=15, data={label: values[order] for label, values in DATA.items()})
    X, Y = one.on(DATA), other.on(DATA)
    # Means over another order differ in the last digit.
    assert np.abs(X - Y).max() < 1e-9 * np.abs(X).max()
    assert np.abs(one.penalties[0] - other.penalties[0]).max() < 1e-9 * np.abs(one.penalties[0]).max()


@pytest.mark.parametrize(("N", "k"), [(400, 20), (2000, 10)])
def test_iterated_eigenvectors_are_those_of_the_whole_matrix(N: int, k: int) -> None:
    x = np.random.default_rng(2).normal(size=N)
    basis = learn("tp", data={"x": x}, k=k)
    E = radial((basis.points - basis.points.T) ** 2, 2, 1)
    values, vectors = np.linalg.eigh(E)
    U = vectors[:, np.argsort(-np.abs(values))[:k]]
    # The truncated space: what the radial coefficients span lies in that of the k largest eigenvectors.
    W = np.linalg.qr(basis.weights)[0]
    assert np.abs(W - U @ (U.T @ W)).max() < 1e-9


@by_basis
def test_saved_and_rebuilt_to_the_bit(basis: Any) -> None:
    data = json.loads(json.dumps(basis.to_dict()))
    again = read_margin(Reader(data, "the saved basis"))
    assert type(again) is type(basis)
    assert (again.on(GRID) == basis.on(GRID)).all()
    assert all((S == T).all() for S, T in zip(again.penalties, basis.penalties, strict=True))
    assert (again.ranks, again.null_dim, again.variables) == (basis.ranks, basis.null_dim, basis.variables)
    assert json.dumps(again.to_dict()) == json.dumps(basis.to_dict())


HOSTILE = (None, "x", True, -1, 0.5, 10**9, 10**400, float("nan"), float("inf"), [], {}, [[]], [[1.0], [1.0, 2.0]], "…")


@by_basis
def test_hostile_dicts_are_refused_or_harmless(basis: Any) -> None:
    whole = basis.to_dict()
    refused = 0
    for key in [*whole, "extra"]:
        for value in (*HOSTILE, "delete", "in a list"):
            data = copy.deepcopy(whole)
            if isinstance(value, str) and value == "delete":
                data.pop(key, None)
            elif isinstance(value, str) and value == "in a list" and isinstance(data.get(key), list):
                data[key][0] = 10**400
            else:
                data[key] = value
            try:
                built = read_margin(Reader(data, "the saved basis"))
            except ModelFileError as error:
                assert "\n" not in str(error)
                refused += 1
            else:  # another kind that reads the same keys, or another order that is as good
                assert np.isfinite(built.on(DATA)).all()
    assert refused > 12 * len(whole)


def test_a_saved_basis_must_be_a_dict_of_a_known_kind() -> None:
    for data in (None, [], "cr", {}, {"basis": []}, {"basis": {}}, {"basis": "gp"}, {"basis": "cr", 1: 2}):
        with pytest.raises(ModelFileError):
            read_margin(Reader(data, "the saved basis"))


def test_more_coefficients_than_a_penalty_has_rows_are_refused_before_a_matrix_is_made() -> None:
    """Each of these files is small, and its penalties would take from 5 GB to 50 PB."""
    curve = BASES["cr"].to_dict()
    k = len(curve["knots"])
    P = np.eye(k).tolist()
    labels = [str(i) for i in range(5_000)]
    random = {"basis": "re", "variables": ["x", "g"], "levels": [9_000, 9_000]}
    by_group = {"basis": "fs", "variables": ["x", "g"], "factor": "g", "levels": labels, "curve": curve, "P": P}
    product = {"basis": "te", "margins": [{"basis": curve, "map": P}] * 9, "ranks": [1] * 9, "used": [True] * 9}
    files: list[tuple[dict[str, Any], Callable[[Reader], Any]]] = [
        (random, read_margin),
        ({**by_group, "rank": k - 2}, read_basis),
        (product, lambda saved: TensorBasis.read(saved, read_margin)),
    ]
    for data, read in files:
        with pytest.raises(ModelFileError, match="must have at most 10,000 coefficients"):
            read(Reader(data, "the saved basis"))


FACTOR = Factor(np.arange(90) % 3, ("a", "b", "c"))
REFUSED: list[tuple[str, dict[str, Any], type[PcgError], str]] = [
    ("cr", {"k": 200}, DesignError, r"k=200, but x has \d+ distinct values; use k=\d+ or fewer"),
    ("tp", {"k": 200}, DesignError, r"k=200, but x has \d+ distinct values; use k=\d+ or fewer"),
    ("cr", {"k": 2}, FormulaError, "k=2 is too small; this basis needs at least 3"),
    ("cc", {"k": 3}, FormulaError, "k=3 is too small; this basis needs at least 4"),
    ("tp", {"k": 2}, FormulaError, "k=2 is too small; this basis needs at least 3"),
    ("ps", {"k": 3}, FormulaError, "k=3 is too small; this basis needs at least 4"),
    ("cp", {"k": 2}, FormulaError, "k=2 is too small; this basis needs at least 3"),
    ("bs", {"k": 3}, FormulaError, "k=3 is too small; this basis needs at least 4"),
    ("cr", {"knots": {"x": np.arange(4.0)}}, FormulaError, "4 knots given for x; give 10"),
    ("cr", {"k": 3, "knots": {"x": np.array([1.0, 1.0, 2.0])}}, FormulaError, "different finite numbers"),
    ("cc", {"k": 5, "knots": {"x": np.array([20.0, 30.0])}}, FormulaError, "outside the cycle from 20 to 30"),
    ("cp", {"k": 5, "knots": {"x": np.array([20.0, 30.0])}}, FormulaError, "outside the cycle from 20 to 30"),
    ("ps", {"k": 5, "knots": {"x": np.array([20.0, 30.0])}}, FormulaError, "outside the inner knots"),
    ("bs", {"k": 9, "knots": {"x": np.array([20.0, 21.0, 29.0, 30.0])}}, FormulaError, "outside the knots from 20"),
    ("cp", {"k": 5, "knots": {"x": np.arange(4.0)}}, FormulaError, "give 2 or 6"),
    ("ps", {"m": (2.5, 2.0)}, FormulaError, "whole numbers"),
    ("ps", {"m": (2, 2, 2)}, FormulaError, "at most 2 whole numbers"),
    ("bs", {"m": (3, 4)}, FormulaError, "the degree, then different derivative orders up to it"),
    ("bs", {"m": (3, 2, 2)}, FormulaError, "the degree, then different derivative orders up to it"),
    ("tp", {"m": (2, 1)}, FormulaError, r"c\(m, 0\)"),
    ("ts", {"m": (2, 0)}, FormulaError, "penalises the polynomials"),
    ("tp", {"k": 5, "knots": {"x": np.arange(4.0)}}, FormulaError, "needs at least 5 different knots; 4 given"),
    ("tp", {"k": 5, "knots": {"x": np.arange(91.0)}}, FormulaError, "91 knots are given for 90 rows"),
    ("tp", {"xt": {"max.knots": 5}}, FormulaError, "max.knots"),
]


@pytest.mark.parametrize(("name", "options", "error", "says"), REFUSED)
def test_messages(name: str, options: dict[str, Any], error: type[PcgError], says: str) -> None:
    with pytest.raises(error, match=says) as caught:
        learn(name, **options)
    assert "\n" not in str(caught.value)
    assert f"bs = '{name}'" in str(caught.value)


@pytest.mark.parametrize("name", ["cr", "cs", "cc", "ps", "cp", "bs"])
def test_one_variable_only(name: str) -> None:
    with pytest.raises(FormulaError, match=r"takes one variable, not 2; use bs='tp' or te\(\)"):
        learn(name, "x", "z")


@pytest.mark.parametrize("name", ["tp", "ts", "cr", "cs", "cc", "ps", "cp", "bs"])
def test_numbers_only(name: str) -> None:
    with pytest.raises(FormulaError, match="x is a factor") as caught:
        learn(name, data={"x": FACTOR})
    assert "bs='re'" in str(caught.value)
    with pytest.raises(DesignError):
        learn(name, data={"x": np.full(90, 3.0)})


def test_sample_is_that_of_r() -> None:
    """R 4.2.2's own output: a short one, a long one, one of more than 16 bits, one after a negative seed."""
    assert (r_sample(10, 10, 1) + 1).tolist() == [9, 4, 7, 1, 2, 5, 3, 10, 6, 8]
    many = r_sample(3000, 2000, 1) + 1
    assert many[-5:].tolist() == [1448, 2945, 2694, 2568, 1897]
    assert (many * np.arange(1, 2001)).sum() == 2983210108
    assert (r_sample(70000, 6, 7) + 1).tolist() == [4572, 51906, 63706, 66107, 19348, 4303]
    assert (r_sample(65536, 5, -3) + 1).tolist() == [51252, 25416, 22141, 60910, 36085]
    assert r_sample(1, 1, 2).tolist() == [0]


def test_numbers_are_written_as_r_writes_them() -> None:
    """R 4.2.2's `paste0` of the same numbers."""
    numbers = [0.1 + 0.2, 1e5, 123456.0, 1e-4, 1e15, -2 / 3e5, 0.0, 1e5 + 0.1, 1e-300]
    texts = "0.3 1e+05 123456 1e-04 1e+15 -6.66666666666667e-06 0 100000.1 1e-300"
    assert [r_text(number) for number in numbers] == texts.split()
    points = np.array([[10.0, 1.0], [2.0, 1.0], [-1.0, 5.0], [10.0, -1.0], [2.0 + 1e-15, 1.0]])
    assert text_order(points).tolist() == [2, 3, 0, 1]  # bytes of "-1*5*", "10*-1*", "10*1*", "2*1*" (twice)
