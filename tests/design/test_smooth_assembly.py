"""Smooths by themselves: the laws of constraint and penalty, labels, random effects, errors, and the saved form."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from pycombat_gam.design.side import side_conditions
from pycombat_gam.errors import FormulaError, ModelFileError, NotYetError, PcgError
from pycombat_gam.formula import parse_formula
from pycombat_gam.formula.columns import Factor
from pycombat_gam.smooth.assemble import Smooth, add_null_penalty, learn_smooth
from pycombat_gam.smooth.basis import Values
from pycombat_gam.smooth.options import linked


def values(n: int = 90, seed: int = 3) -> dict[str, Any]:
    generator = np.random.default_rng(seed)
    return {
        "x": generator.uniform(0, 10, n),
        "z": generator.uniform(-2, 2, n),
        "w": generator.uniform(0, 1, n),
        "v": generator.normal(1, 1, n),
        "one": np.full(n, 3.0),
        "f": Factor(np.arange(n) % 3, ("a", "b", "c")),
        "h": Factor(np.arange(n) % 2, ("u", "v")),
    }


def learn(text: str, at: Values | None = None, **options: Any) -> list[Smooth]:
    learned = learn_smooth(parse_formula(f"~ {text}").smooths[0], values() if at is None else at, **options)
    assert learned  # tests go over them
    return learned


KINDS = (
    "s(x, k=6)",
    "s(x, bs='cr', k=6, by=v)",
    "s(x, bs='ps', by=f, k=6)",
    "s(x, bs='cc', k=6, pc=4)",
    "s(f, x, h, bs='re')",
    "s(x, f, bs='fs', k=5, xt='cr')",
    "te(x, z, k=c(5, 4))",
    "te(x, z, w, d=c(2, 1), k=c(7, 4), fx=c(TRUE, FALSE))",
    "te(x, f, bs=c('cr', 're'), k=5)",
    "ti(x, z, k=4, mc=c(1, 0))",
    "t2(x, z, k=4)",
    "t2(x, z, k=4, full=TRUE, ord=c(0, 2))",
)
by_kind = pytest.mark.parametrize("text", KINDS)


@by_kind
def test_saved_and_read_again_it_gives_the_same_bits(text: str) -> None:
    new = values(25, seed=9)
    for smooth in learn(text):
        for one in (smooth, smooth.dropping([1])):
            again = Smooth.from_dict(json.loads(json.dumps(one.to_dict())), one.term)
            assert (again.on(new) == one.on(new)).all()
            assert all((S == T).all() for S, T in zip(again.penalties, one.penalties, strict=True))
            assert again.to_dict() == one.to_dict()
            for name in ("label", "by", "by_level", "keep", "ranks", "null_dim", "fixed", "random", "id", "sp"):
                assert getattr(again, name) == getattr(one, name)
            assert (again.side_constrain, again.penalty_scale) == (one.side_constrain, one.penalty_scale)


@by_kind
def test_another_terms_state_or_a_spoiled_one_is_refused(text: str) -> None:
    smooth = learn(text)[0]
    other = parse_formula("~ s(q)").smooths[0]
    with pytest.raises(ModelFileError):
        Smooth.from_dict(smooth.to_dict(), other)
    for spoil in ({}, {**smooth.to_dict(), "extra": 1}, {**smooth.to_dict(), "by": "q"}, None, []):
        with pytest.raises(ModelFileError):
            Smooth.from_dict(spoil, smooth.term)


@by_kind
def test_penalties_are_semidefinite_of_the_stated_rank(text: str) -> None:
    for smooth in learn(text):
        total = np.zeros((smooth.df, smooth.df))
        for S, rank in zip(smooth.penalties, smooth.ranks, strict=True):
            eigenvalues = np.linalg.eigvalsh(S)
            # Rounding of matrices of some dozens of columns.
            assert eigenvalues[0] > -1e-10 * eigenvalues[-1]
            assert (eigenvalues > 1e-9 * eigenvalues[-1]).sum() == rank
            total += S / np.linalg.norm(S)
        eigenvalues = np.linalg.eigvalsh(total)
        assert (eigenvalues > 1e-9 * eigenvalues[-1]).sum() == smooth.df - smooth.null_dim


@by_kind
def test_select_leaves_nothing_free_and_touches_only_what_was(text: str) -> None:
    for smooth in learn(text):
        more = add_null_penalty(smooth)
        if smooth.null_dim == 0:
            assert more is smooth
            continue
        extra = more.penalties[-1]
        # A projection, and what it projects away: rounding of eigenvectors.
        np.testing.assert_allclose(extra @ extra, extra, atol=1e-12)
        for S in smooth.penalties:
            assert np.abs(extra @ S).max() < 1e-9 * np.abs(S).max()
        assert (more.ranks[-1], more.null_dim) == (smooth.null_dim, 0)
        assert np.linalg.matrix_rank(sum(S / np.linalg.norm(S) for S in more.penalties)) == smooth.df


@pytest.mark.parametrize(
    "text",
    ["s(x)", "s(x, bs='cr')", "s(x, by=one)", "te(x, z)", "t2(x, z, k=4)", "t2(x, z, w, k=3, full=TRUE)"],
)
def test_columns_of_a_constrained_smooth_sum_to_zero(text: str) -> None:
    """Not those of ti: its margins are centred, not their products."""
    (smooth,) = learn(text)
    X = smooth.on(values())
    if "by" in text:
        X = X / 3.0
    # Rounding of a mean of 90 numbers.
    np.testing.assert_allclose(X.mean(axis=0), 0, atol=1e-12 * np.abs(X).max())


def test_ti_holds_no_main_effect() -> None:
    """On a full grid the products of centred margins sum to zero over each margin."""
    grid_x, grid_z = (part.ravel() for part in np.meshgrid(np.linspace(0, 1, 9), np.linspace(0, 2, 7)))
    at = {"x": grid_x, "z": grid_z}
    X = learn("ti(x, z, k=4)", at)[0].on(at).reshape(7, 9, -1)
    # Here and below: rounding of sums of products of size one.
    np.testing.assert_allclose(X.sum(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(X.sum(axis=1), 0, atol=1e-12)


@pytest.mark.parametrize(
    "text", ["s(x, pc=4)", "s(x, pc=4, by=v)", "te(x, z, pc=c(4, 1))", "t2(x, z, k=4, pc=c(4, 1))"]
)
def test_a_point_constraint_is_zero_there(text: str) -> None:
    (smooth,) = learn(text)
    there = {"x": np.array([4.0]), "z": np.array([1.0]), "v": np.array([2.0])}
    # At the point of the constraint: rounding.
    np.testing.assert_allclose(smooth.on(there), 0, atol=1e-12)
    assert smooth.df == smooth.basis.on(there).shape[1] - 1


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("s(x)", ["s(x)"]),
        ("s(x, by=v)", ["s(x):v"]),
        ("s(x, by=f)", ["s(x):fa", "s(x):fb", "s(x):fc"]),
        ("te(x, z, by=h, k=4)", ["te(x,z):hu", "te(x,z):hv"]),
        ("t2(x, z, k=4)", ["t2(x,z)"]),
    ],
)
def test_labels(text: str, labels: list[str]) -> None:
    assert [smooth.label for smooth in learn(text)] == labels


def test_an_ordered_factors_first_level_has_no_curve() -> None:
    assert [smooth.by_level for smooth in learn("s(x, by=f)", ordered=("f",))] == ["b", "c"]


def test_a_level_has_the_columns_of_its_rows_only() -> None:
    plain, by = learn("s(x)")[0].on(values()), [smooth.on(values()) for smooth in learn("s(x, by=f)")]
    assert (sum(by) == plain).all()


def test_a_level_unknown_to_the_fit_has_no_random_effect() -> None:
    at = {**values(4), "f": Factor(np.array([0, -1, 2, -1]), ("a", "b", "c"))}
    for text in ("s(f, bs='re')", "s(f, x, bs='re')", "s(x, f, bs='fs', k=5)", "te(x, f, bs=c('cr', 're'), k=5)"):
        X = learn(text)[0].on(at)
        assert not X[[1, 3]].any()
        assert X[[0, 2]].any(axis=1).all()


def test_re_is_the_product_of_its_columns_with_an_identity_penalty() -> None:
    (smooth,) = learn("s(f, x, bs='re')")
    at = values()
    assert (smooth.on(at) == np.eye(3)[at["f"].codes] * at["x"][:, None]).all()
    assert smooth.random
    assert (smooth.Z, smooth.side_constrain, smooth.null_dim) == (None, False, 0)
    (S,) = smooth.penalties
    assert (S[0, 0] * np.eye(3) == S).all()


def test_penalties_are_scaled_by_the_columns() -> None:
    plain, scaled = learn("te(x, z)", rescale=False)[0], learn("te(x, z)")[0]
    for S, T, scale in zip(plain.penalties, scaled.penalties, scaled.penalty_scale, strict=True):
        np.testing.assert_allclose(S, T * scale, atol=1e-12)
    stretched = values()
    stretched["x"] = stretched["x"] * 1000
    # The unit of a covariate does not matter to te.
    for S, T in zip(scaled.penalties, learn("te(x, z)", stretched)[0].penalties, strict=True):
        np.testing.assert_allclose(S, T, atol=1e-8 * np.abs(S).max())


def test_side_conditions_leave_full_rank_and_the_same_space() -> None:
    at = values()
    for formula in (
        "s(x) + s(z) + te(x, z)",
        "te(x, z) + te(x, w)",
        "s(x) + s(z) + s(x, z)",
        "s(x) + te(x, z, w, k=3)",
    ):
        smooths = [learn_smooth(term, at)[0] for term in parse_formula(f"~ {formula}").smooths]
        done = side_conditions(smooths, at, intercept=True)
        one = np.ones((90, 1))
        before, after = (np.hstack([one, *(smooth.on(at) for smooth in group)]) for group in (smooths, done))
        assert np.linalg.matrix_rank(before) == np.linalg.matrix_rank(after) == after.shape[1] < before.shape[1]


def test_terms_of_one_id_take_the_options_of_the_first() -> None:
    terms = parse_formula("~ s(x, k=5, bs='cr', id=1) + s(w, k=9, id='1', by=v) + s(z)").smooths
    first, second, third = linked(terms)
    assert first is terms[0]
    assert third is terms[2]
    assert (second.option("k"), second.option("bs"), second.label) == (5, "cr", "s(w):v")


@pytest.mark.parametrize(
    ("text", "error", "says"),
    [
        ("s(x, bs='gp')", NotYetError, "not here yet"),
        ("s(x, bs='mrf')", NotYetError, "not here yet"),
        ("s(x, bs='pss')", FormulaError, "did you mean 'ps'"),
        ("te(x, f)", FormulaError, "f is a factor"),
        ("te(x, z, k=c(3, 4, 5))", FormulaError, "k holds 3"),
        ("te(x, z, m=c(1, 2, 3), bs='ps')", FormulaError, "m holds 3"),
        ("te(x, z, m=list(c(2, 1)), bs='ps')", FormulaError, "m lists 1"),
        ("te(x, z, d=c(1, 2))", FormulaError, "d=[1, 2]"),
        ("te(x, z, bs='fs')", FormulaError, "'fs'"),
        ("t2(x, z, ord=0)", FormulaError, "ord=0"),
        ("t2(x, z, ord=5)", FormulaError, "ord must hold"),
        ("ti(x, z, mc='yes')", FormulaError, "mc must be"),
        ("s(x, z, bs='fs')", FormulaError, "one factor"),
        ("s(x, pc=c(1, 2))", FormulaError, "pc holds 2"),
        ("s(x, sp=c(1, 2))", FormulaError, "sp holds 2"),
        ("s(x, fx=1)", FormulaError, "fx must be"),
    ],
)
def test_what_is_refused_says_why(text: str, error: type[PcgError], says: str) -> None:
    with pytest.raises(error) as caught:
        learn(text)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
