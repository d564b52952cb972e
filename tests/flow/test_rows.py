"""Rows in an order of their own, split by site; and the bar that shows how training goes."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.conditional_cases import guest, study
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from pycombat_gam.flow.training.progress import training_progress
from pycombat_gam.flow.training.rows import canonical_order, split


@pytest.fixture(autouse=True)
def _guest() -> Iterator[None]:
    with guest():
        yield


@given(seed=st.integers(0, 10**6), n=st.integers(1, 30), levels=st.integers(1, 3))
def test_order_depends_on_content_only(seed: int, n: int, levels: int) -> None:
    """Few levels make many ties, whole duplicate rows among them."""
    rng = np.random.default_rng(seed)
    x, design, site = rng.integers(0, levels, (n, 2)) * 1.0, rng.integers(0, 2, (n, 1)) * 1.0, rng.integers(0, 2, n)
    content = np.column_stack([x, design, site])
    order, shuffled = canonical_order(x, design, site), rng.permutation(n)
    assert sorted(order) == list(range(n))
    assert [tuple(row) for row in content[order]] == sorted(tuple(row) for row in content)
    again = canonical_order(x[shuffled], design[shuffled], site[shuffled])
    np.testing.assert_array_equal(content[shuffled][again], content[order])


def test_order_of_a_memory_map(tmp_path: Path) -> None:
    rows = study()
    np.save(tmp_path / "x.npy", rows.x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    np.testing.assert_array_equal(
        canonical_order(mapped, rows.design, rows.site), canonical_order(rows.x, rows.design, rows.site)
    )


def test_take_keeps_the_order_asked_for() -> None:
    rows, index = study(), np.array([7, 3, 200, 3])
    x, parents, weight = replace(rows, weight=np.arange(240.0)).take(index)
    np.testing.assert_allclose(x, (rows.x[index] - rows.location) / rows.scale, atol=1e-15)  # the same operations
    np.testing.assert_array_equal(parents.design, rows.design[index])
    np.testing.assert_array_equal(parents.site, rows.site[index])
    np.testing.assert_array_equal(weight, index)
    assert x.dtype == weight.dtype == parents.design.dtype == torch.float64


def test_split_is_by_site_and_spares_small_ones() -> None:
    site = np.repeat([0, 1, 2, 3], [100, 20, 4, 1])
    order = np.random.default_rng(0).permutation(len(site))
    inside, outside = split(site, order, 0.15, seed=3)
    assert sorted([*inside, *outside]) == list(range(len(site)))
    np.testing.assert_array_equal(np.bincount(site[outside], minlength=4), [15, 3, 0, 0])
    place = np.argsort(order)
    assert (np.diff(place[inside]) > 0).all() and (np.diff(place[outside]) > 0).all()  # both in canonical order
    assert not np.array_equal(outside, split(site, order, 0.15, seed=4)[1])
    assert len(split(site, order, 0.0, seed=3)[1]) == 0


def test_split_depends_neither_on_row_order_nor_on_labels() -> None:
    rows, shuffled = study(), np.random.default_rng(1).permutation(240)
    order = canonical_order(rows.x, rows.design, rows.site)
    first = split(rows.site, order, 0.2, seed=0)
    x, design, site = rows.x[shuffled], rows.design[shuffled], rows.site[shuffled]
    second = split(site, canonical_order(x, design, site), 0.2, seed=0)
    renamed = split(np.array([2, 0, 3, 1])[rows.site], order, 0.2, seed=0)
    for a, b, c in zip(first, second, renamed, strict=True):
        np.testing.assert_array_equal(a, shuffled[b])
        np.testing.assert_array_equal(a, c)


def test_the_bar_says_how_the_training_goes(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pycombat_gam.progress.PATIENCE", 0.0)
    with training_progress() as hook:
        hook("age", 1, 10, -1.5)
    assert capfd.readouterr() == ("", "")
    screen = io.StringIO()
    with training_progress(Console(file=screen, force_terminal=True, width=120)) as hook:
        hook("age", 1, 10, float("nan"))
        hook("features", 7, 10, -152.25)
    assert "held-out log p -152.250" in screen.getvalue() and "7/10" in screen.getvalue()
    assert "nan" not in screen.getvalue()
