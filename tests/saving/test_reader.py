"""The checked reader: any plain data gives a value of the stated kind, or `ModelFileError` on one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pycombat_gam.errors import DesignError, ModelFileError
from pycombat_gam.saving.reader import MAX_ITEMS, Reader

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**400, -(10**400), 2**63])
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["line\nbreak", "a"])
)
plain = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=12,
)
numbers = st.lists(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-5, 5), max_size=5)
matrices = st.lists(numbers, max_size=3)
documents = plain | st.fixed_dictionaries({"x": plain | numbers | matrices | st.lists(st.text(max_size=2), max_size=4)})

Kind = tuple[Callable[[Reader], Any], Callable[[Any], bool]]
KINDS: dict[str, Kind] = {
    "text": (lambda r: r.text("x"), lambda v: type(v) is str),
    "choice": (lambda r: r.choice("x", ("a", 1, None)), lambda v: v is None or v == "a" or type(v) is int),
    "flag": (lambda r: r.flag("x"), lambda v: type(v) is bool),
    "whole": (lambda r: r.whole("x", least=-2, most=9), lambda v: type(v) is int and -2 <= v <= 9),
    "whole, no end": (lambda r: r.whole("x"), lambda v: type(v) is int and v >= 0),
    "number": (lambda r: r.number("x"), lambda v: type(v) is float and bool(np.isfinite(v))),
    "number positive": (lambda r: r.number("x", positive=True), lambda v: type(v) is float and 0 < v < np.inf),
    "texts": (lambda r: r.texts("x"), lambda v: type(v) is tuple and all(type(t) is str for t in v)),
    "texts distinct": (lambda r: r.texts("x", distinct=True, least=2), lambda v: len(set(v)) == len(v) >= 2),
    "flags": (lambda r: r.flags("x", 2), lambda v: len(v) == 2 and all(type(f) is bool for f in v)),
    "wholes": (lambda r: r.wholes("x", most=3), lambda v: all(type(i) is int and 0 <= i <= 3 for i in v)),
    "vector": (
        lambda r: r.array("x", (None,), least=1),
        lambda v: v.dtype == np.float64 and v.ndim == 1 and v.size >= 1 and bool(np.isfinite(v).all()),
    ),
    "vector of 3": (lambda r: r.array("x", (3,)), lambda v: v.shape == (3,)),
    "ascending": (lambda r: r.array("x", (None,), ascending=True), lambda v: bool((np.diff(v) > 0).all())),
    "positive": (lambda r: r.array("x", (None,), positive=True), lambda v: bool((v > 0).all())),
    "within": (lambda r: r.array("x", (None,), within=2.0), lambda v: bool((abs(v) <= 2).all())),
    "matrix": (lambda r: r.array("x", (None, None)), lambda v: v.ndim == 2 and bool(np.isfinite(v).all())),
    "matrix of 2": (lambda r: r.array("x", (None, 2)), lambda v: v.ndim == 2 and v.shape[1] == 2),
    "array of texts": (lambda r: r.array("x", (None,), "U"), lambda v: False),  # lists are no array of texts
    "child": (lambda r: r.child("x").names(), lambda v: all(type(name) is str for name in v)),
    "children": (lambda r: r.children("x", most=2), lambda v: len(v) <= 2 and all(type(c) is Reader for c in v)),
    "names": (lambda r: r.names(), lambda v: all(type(name) is str for name in v)),
    "exactly": (lambda r: r.exactly("x").names(), lambda v: v == ("x",)),
}


@pytest.mark.parametrize("kind", KINDS)
@given(data=documents)
@settings(max_examples=60, deadline=None)
def test_plain_data_gives_the_stated_kind_or_a_refusal(kind: str, data: object) -> None:
    read, sound = KINDS[kind]
    try:
        value = read(Reader(data, "the saved thing"))
    except ModelFileError as error:
        assert "\n" not in str(error)
        assert str(error).startswith(("the saved thing must ", "'x' of the saved thing must "))
        assert str(error).endswith("; fit the model again")
    else:
        assert sound(value)


ARRAYS: dict[str, np.ndarray] = {
    "float32": np.zeros(3, dtype=np.float32),
    "big-endian": np.zeros(3, dtype=">f8"),
    "complex": np.zeros(3, dtype=complex),
    "integers": np.zeros(3, dtype=np.int64),
    "truth values": np.zeros(3, dtype=bool),
    "texts": np.array(["a", "b", "c"]),
    "dates": np.zeros(3, dtype="datetime64[s]"),
    "records": np.zeros(3, dtype=[("x", "f8")]),
    "NaN": np.array([0.0, np.nan, 1.0]),
    "infinite": np.array([0.0, 1.0, np.inf]),
    "long": np.zeros(4),
    "flat": np.array(0.0),
    "deep": np.zeros((3, 1)),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_an_array_of_another_kind_or_shape_is_refused(name: str) -> None:
    with pytest.raises(ModelFileError, match=r"must hold finite numbers of shape \(3\) as 'x'"):
        Reader({"x": ARRAYS[name]}, "the saved thing").array("x", (3,))


def test_arrays_come_back_as_they_are() -> None:
    arrays = {
        "f": np.array([[1.0, np.nan]]),
        "i": np.array([3, 1], dtype=np.int32),
        "b": np.array([True]),
        "U": np.array(["b", "a"]),
    }
    reader = Reader(arrays, "the saved thing")
    assert reader.array("f", (1, None), finite=False) is arrays["f"]
    assert reader.array("i", (2,), "i", positive=True).dtype == np.intp
    assert reader.array("b", (1,), "b").tolist() == [True]
    assert reader.array("U", (None,), "U", distinct=True).tolist() == ["b", "a"]
    refused: list[Callable[[], object]] = [
        lambda: reader.array("f", (1, 2)),
        lambda: reader.array("i", (2,), "i", ascending=True),
        lambda: reader.array("U", (None,), "U", least=3),
        lambda: Reader({"U": np.array(["a", "a"])}, "x").array("U", (2,), "U", distinct=True),
        lambda: reader.array("i", (2,), "b"),
        lambda: reader.array("U", (2,)),
    ]
    for read in refused:
        with pytest.raises(ModelFileError):
            read()


def test_numbers_keep_their_bits() -> None:
    values = [0.1, -0.0, 5e-324, 1.7976931348623157e308]
    again = Reader(json.loads(json.dumps({"x": values})), "the saved thing").array("x", (4,))
    assert again.tobytes() == np.array(values).tobytes()


def test_lists_of_numbers_are_not_too_long() -> None:
    reader = Reader({"x": [0.0] * (MAX_ITEMS + 1)}, "the saved thing")
    with pytest.raises(ModelFileError):
        reader.array("x", (None,))


def test_no_rows_have_the_columns_that_are_asked_for() -> None:
    assert Reader({"x": []}, "the saved thing").array("x", (0, 3)).shape == (0, 3)
    assert Reader({"x": []}, "the saved thing").array("x", (None, None)).shape == (0, 0)


def test_the_wording() -> None:
    reader = Reader({"a": {"b": [{}]}, "c": 1}, "the saved thing", "remove it")
    cases: list[tuple[Callable[[], object], str]] = [
        (lambda: reader.exactly("a"), "the saved thing must hold exactly a; remove it"),
        (lambda: reader.exactly("a", "b", "c"), "the saved thing must hold exactly a, b, c; remove it"),
        (lambda: reader.text("gone"), "the saved thing must hold 'gone'; remove it"),
        (lambda: reader.whole("c", least=2, most=4), "must hold a whole number from 2 to 4 as 'c'; remove it"),
        (lambda: reader.choice("c", ("x", "y")), "must hold one of 'x', 'y' as 'c'; remove it"),
        (lambda: reader.choice("c", (None,)), "must hold None as 'c'; remove it"),
        (lambda: reader.child("a").flag("b"), "'a' of the saved thing must hold true or false as 'b'; remove it"),
        (
            lambda: reader.child("a").children("b")[0].text("x"),
            "number 1 in 'b' of 'a' of the saved thing must",
        ),
        (lambda: reader.child("a", "the inner one").text("x"), "the inner one must hold 'x'; remove it"),
        (lambda: reader.require(False, "agree"), "the saved thing must agree; remove it"),
    ]
    for read, says in cases:
        with pytest.raises(ModelFileError) as caught:
            read()
        assert says in str(caught.value)
    assert reader.exactly("a", optional=("c", "d")) is reader
    assert reader.has("a")
    assert not reader.has("b")


@pytest.mark.parametrize("error", [KeyError("x"), TypeError(), ZeroDivisionError("by\nzero"), DesignError("no rank")])
def test_a_guarded_block_only_refuses(error: Exception) -> None:
    reader, says = Reader({}, "the saved thing"), r"^the saved thing cannot be rebuilt: [^\n]+; fit the model again$"
    with pytest.raises(ModelFileError, match=says), reader.guard():
        raise error
    with pytest.raises(ModelFileError, match=r"^the saved thing must agree; fit"), reader.guard():
        reader.refuse("agree")
    with pytest.raises(KeyboardInterrupt), reader.guard():
        raise KeyboardInterrupt
