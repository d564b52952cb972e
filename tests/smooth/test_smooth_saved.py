"""Saved smooths: the same bits again, and nothing worse than a refusal from a spoiled or hostile file."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pycombat_gam.design.design import Design
from pycombat_gam.errors import PcgError

FORMULAS = (
    "~ sex + s(age) + s(icv, bs='cr', k=5)",
    "~ s(age, bs='ps', by=sex) + sex + s(icv, bs='cc', k=6)",
    "~ s(age, icv, k=8) + s(icv, bs='bs', k=6, m=c(3, 2, 0))",
    "~ s(age, k=5) + te(age, icv, k=c(4, 3)) + (1|site) + (0 + age|site)",
    "~ t2(age, icv, k=4) + s(age, site, bs='fs', k=4)",
    "~ ti(age, icv, k=4, bs='cp') + s(log(age), bs='ts', k=6, pc=3)",
)
HOSTILE = (None, "x", -1, 10**9, 1e308, float("nan"), [], {}, [[1.0, "a"]], True)


def table() -> pd.DataFrame:
    generator = np.random.default_rng(2)
    n = 80
    return pd.DataFrame(
        {
            "age": generator.uniform(5, 60, n),
            "icv": generator.normal(1500, 100, n),
            "sex": np.array(["F", "M"])[np.arange(n) % 2],
            "site": np.array(["a", "b", "c"])[np.arange(n) % 3],
        }
    )


def saved(formula: str) -> dict[str, Any]:
    return json.loads(json.dumps(Design.learn(formula, table(), absorb_intercept=True).to_dict()))


@pytest.mark.parametrize("formula", FORMULAS)
def test_the_same_bits_again(formula: str) -> None:
    design = Design.learn(formula, table(), absorb_intercept=True)
    again = Design.from_dict(saved(formula))
    new = table().sample(11, random_state=0).assign(age=lambda d: d["age"] + 20)
    assert (again.on(new) == design.on(new)).all()
    assert again.columns == design.columns
    assert json.dumps(again.to_dict()) == json.dumps(design.to_dict())
    for one, other in zip(design.smooth.smooths, again.smooth.smooths, strict=True):
        assert all((S == T).all() for S, T in zip(one.penalties, other.penalties, strict=True))
        assert (one.ranks, one.null_dim, one.random) == (other.ranks, other.null_dim, other.random)


def places(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in nested plain data; of long lists the ends."""
    if isinstance(data, dict):
        for key, value in data.items():
            yield (*path, key)
            yield from places(value, (*path, key))
    elif isinstance(data, list):
        for i in sorted({0, len(data) - 1} & set(range(len(data)))):
            yield (*path, i)
            yield from places(data[i], (*path, i))


@pytest.mark.parametrize("formula", FORMULAS)
def test_spoiled_designs_are_refused_or_usable(formula: str) -> None:
    """Whatever stands at any place: an error of ours, or a design that still builds its columns."""
    whole = saved(formula)
    new = table().head(3)
    refused = 0
    for path in places(whole["smooth"]):
        for value in (*HOSTILE, "delete"):
            data = copy.deepcopy(whole)
            place = data["smooth"]
            for key in path[:-1]:
                place = place[key]
            if isinstance(value, str) and value == "delete":
                del place[path[-1]]
            else:
                place[path[-1]] = value
            try:
                built = Design.from_dict(data).on(new)
            except PcgError as error:
                assert "\n" not in str(error)
                refused += 1
                continue
            assert built.shape == (3, len(whole["columns"]))
    assert refused > 100
