"""One checked reader of what a saved model holds: it gives a value of the stated kind or raises `ModelFileError`.

A `Reader` wraps plain data (what JSON gives) or the named arrays of a file. All parts of a model are read through it,
so refusals have one form: "the saved X must …; fit the model again".

>>> saved = Reader({"degree": 3, "knots": [1, 2.5], "parts": [{"on": True}]}, "the saved basis")
>>> saved.exactly("degree", "knots", "parts").whole("degree", least=1, most=20)
3
>>> saved.array("knots", (None,), ascending=True)
array([1. , 2.5])
>>> [part.flag("on") for part in saved.children("parts", least=1)]
[True]
>>> saved.require(saved.whole("degree") < 3, "have a degree below 3")
Traceback (most recent call last):
pycombat_gam.errors.ModelFileError: the saved basis must have a degree below 3; fit the model again

- `exactly` checks the names and returns the reader; `has` and `names` tell which are there.
- `text`, `choice`, `flag`, `whole` and `number` read one value; `texts`, `flags` and `wholes` a list of them.
- `array` reads a named array, or nested lists of numbers, of a shape in which None stands for any length.
- `child` reads an object inside, `children` a list of objects; `value` gives whatever stands there.
- `require` and `refuse` word what no single value shows; `guard` turns what a block raises into a refusal.

Nothing is allocated beyond a small multiple of what the file itself holds, and no value of a file enters a message.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeAlias, TypeVar

import numpy as np

from pycombat_gam.errors import ModelFileError
from pycombat_gam.types import FloatArray
from pycombat_gam.words import Worded, listing

if TYPE_CHECKING:  # Python 3.10 has no typing.Self
    from typing_extensions import Self

MAX_ITEMS = 10_000
"""A list of numbers in plain data is no longer; longer ones are saved as arrays."""
T = TypeVar("T", bound="str | int | float | None")
Shape: TypeAlias = "tuple[int | None, ...]"
Kind: TypeAlias = Literal["f", "i", "b", "U"]
_NOUNS: dict[Kind, str] = {"f": "numbers", "i": "whole numbers", "b": "truth values", "U": "texts"}
_TYPES: dict[Kind, Any] = {"f": np.float64, "i": np.intp, "b": np.bool_, "U": np.str_}
_DEMANDS: dict[str, Callable[[np.ndarray[Any, Any]], bool]] = {
    "positive": lambda array: bool((array > 0).all()),
    "finite": lambda array: bool(np.isfinite(array).all()),
    "ascending": lambda array: bool((array[1:] > array[:-1]).all()),
    "different": lambda array: len(set(array.ravel().tolist())) == array.size,
}
_BROKEN = (
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
    RuntimeError,
    AssertionError,
    ArithmeticError,
    np.linalg.LinAlgError,
)
"""What Python, numpy and torch raise on values that do not fit together; our own errors are among them."""


class Reader:
    """Reads the named values of a saved model; see the module.

    Parameters
    ----------
    data : object
        Plain data or named arrays. Anything but a mapping is refused when the first value is read.
    what : str
        What messages call it, such as ``"the saved design"``.
    remedy : str
        How messages end.
    """

    def __init__(self, data: object, what: str, remedy: str = "fit the model again") -> None:
        self.what = " ".join(what.split())[:200]
        self.remedy = remedy
        self._data: Mapping[Any, Any] | None = data if isinstance(data, Mapping) else None

    def refuse(self, must: str) -> NoReturn:
        """Raise `ModelFileError`; `must` says what is required, such as ``"have a degree below 3"``."""
        raise ModelFileError(Worded(f"{self.what} must {must}; ", self.remedy))

    def require(self, condition: bool | np.bool_, must: str) -> None:
        """Refuse unless a condition holds."""
        if not condition:
            self.refuse(must)

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Turn the error that a block raises on broken values into a refusal that quotes it."""
        try:
            yield
        except ModelFileError:
            raise
        except _BROKEN as error:
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            raise ModelFileError(Worded(f"{self.what} cannot be rebuilt: {reason}; ", self.remedy)) from error

    def exactly(self, *names: str, optional: Iterable[str] = ()) -> Self:
        """Require these names and no others, but for optional ones; return the reader."""
        held = None if self._data is None else set(self._data)
        if held is None or not set(names) <= held <= {*names, *optional}:
            self.refuse(f"hold exactly {listing(names, 12)}" if names else "hold no values")
        return self

    def has(self, name: str) -> bool:
        """Tell whether a name is there."""
        return self._data is not None and name in self._data

    def names(self) -> tuple[str, ...]:
        """Return the names, in the order of the file."""
        if self._data is None or not all(isinstance(name, str) for name in self._data):
            self.refuse("hold values by name")
        return tuple(self._data)

    def value(self, name: str) -> Any:
        """Return whatever stands there."""
        if self._data is None or name not in self._data:
            self.refuse(f"hold '{name}'")
        return self._data[name]

    def text(self, name: str) -> str:
        """Read a text."""
        text: str = self._checked(name, lambda value: isinstance(value, str), "a text")
        return text

    def choice(self, name: str, allowed: Iterable[T]) -> T:
        """Read one of some plain values."""
        options, value = list(allowed), self.value(name)
        equal = [option for option in options if type(option) is type(value) and option == value]
        if not equal:
            self._refuse(name, f"{'one of ' if len(options) > 1 else ''}{listing(map(repr, options), 12) or 'nothing'}")
        return equal[0]

    def flag(self, name: str) -> bool:
        """Read true or false."""
        flag: bool = self._checked(name, lambda value: isinstance(value, bool), "true or false")
        return flag

    def whole(self, name: str, *, least: int = 0, most: int | None = None) -> int:
        """Read a whole number between two ends, which are allowed too."""
        whole: int = self._checked(name, _whole(least, most), f"a whole number {_between(least, most)}")
        return whole

    def number(self, name: str, *, positive: bool = False) -> float:
        """Read a finite number."""
        words = f"a {'positive' if positive else 'finite'} number"
        return float(self._checked(name, lambda value: _finite(value) and not (positive and value <= 0), words))

    def texts(self, name: str, *, distinct: bool = False, least: int = 0) -> tuple[str, ...]:
        """Read a list of texts."""
        words = f"{f'at least {least}' if least else 'a list of'} {'different ' if distinct else ''}texts"
        texts: tuple[str, ...] = self._list(name, None, lambda value: isinstance(value, str), words)
        if len(texts) < least or (distinct and len(set(texts)) < len(texts)):
            self._refuse(name, words)
        return texts

    def flags(self, name: str, size: int | None = None) -> tuple[bool, ...]:
        """Read a list of true and false; `size` says how many."""
        return self._list(name, size, lambda value: isinstance(value, bool), f"{_many(size)} of true or false")

    def wholes(self, name: str, size: int | None = None, *, least: int = 0, most: int | None = None) -> tuple[int, ...]:
        """Read a list of whole numbers between two ends; `size` says how many."""
        words = f"{_many(size)} of whole numbers {_between(least, most)}"
        return self._list(name, size, _whole(least, most), words)

    def array(
        self,
        name: str,
        shape: Shape,
        kind: Kind = "f",
        *,
        least: int = 0,
        within: float | None = None,
        finite: bool = True,
        positive: bool = False,
        ascending: bool = False,
        distinct: bool = False,
    ) -> np.ndarray[Any, Any]:
        """Read a named array, or nested lists of finite numbers, as float64, intp, bool or str.

        Parameters
        ----------
        name : str
            Its name.
        shape : tuple of int or None
            Its shape; None stands for any length.
        kind : str
            ``"f"`` for float64, ``"i"`` for signed integers, ``"b"`` for truth values, ``"U"`` for texts.
        least : int
            Smallest length of the first axis.
        within : float or None
            Largest absolute value.
        finite, positive, ascending, distinct : bool
            Whether all values must be so; ascending is strict, along the first axis.
        """
        value = self.value(name)
        array: Any = _of_lists(value, shape) if kind == "f" and isinstance(value, list) else value
        asked = {"positive": positive, "finite": finite and kind == "f", "ascending": ascending, "different": distinct}
        demands = [word for word, wanted in asked.items() if wanted]
        sound = isinstance(array, np.ndarray) and _is_kind(array, kind) and _has_shape(array, shape, least)
        if not sound or not all(_DEMANDS[word](array) for word in demands) or not _is_within(array, within):
            words = f"{' '.join([*demands, _NOUNS[kind]])} of shape ({', '.join(_length(length) for length in shape)})"
            words += f", at least {least} of them" if least else ""
            self._refuse(name, words + ("" if within is None else f", none beyond {within:g}"))
        read: np.ndarray[Any, Any] = array.astype(_TYPES[kind], copy=False)
        return read

    def child(self, name: str, what: str | None = None) -> Reader:
        """Return a reader of the object that stands there; `what` is what messages call it."""
        data = self._checked(name, lambda value: isinstance(value, Mapping), "an object")
        return Reader(data, what or f"'{name}' of {self.what}", self.remedy)

    def children(self, name: str, *, least: int = 0, most: int | None = None) -> list[Reader]:
        """Return a reader for each object of a list."""
        words = f"a list of objects, {_between(least, most)} of them"
        items = self._list(name, None, lambda value: isinstance(value, Mapping), words)
        if not least <= len(items) or not (most is None or len(items) <= most):
            self._refuse(name, words)
        return [
            Reader(item, f"number {place} in '{name}' of {self.what}", self.remedy)
            for place, item in enumerate(items, start=1)
        ]

    def _refuse(self, name: str, words: str) -> NoReturn:
        self.refuse(f"hold {words} as '{name}'")

    def _checked(self, name: str, sound: Callable[[Any], bool], words: str) -> Any:
        value = self.value(name)
        if not sound(value):
            self._refuse(name, words)
        return value

    def _list(self, name: str, size: int | None, sound: Callable[[Any], bool], words: str) -> tuple[Any, ...]:
        items = self.value(name)
        if not isinstance(items, list) or not (size is None or len(items) == size) or not all(map(sound, items)):
            self._refuse(name, words)
        return tuple(items)


def _finite(value: object) -> bool:
    # Compared, not converted: a whole number too large for a float is no error then, and NaN is not within.
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _whole(least: int, most: int | None) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and least <= value and (most is None or value <= most)


def _between(least: int, most: int | None) -> str:
    return f"{least} or more" if most is None else f"from {least} to {most}"


def _many(size: int | None) -> str:
    return "a list" if size is None else f"a list of length {size}"


def _of_lists(value: list[Any], shape: Shape) -> FloatArray | None:
    """Return nested lists of finite numbers as an array; None where they are not, or have no such shape."""
    items: list[Any] = [value]
    lengths = []
    for wanted in shape:
        if not all(isinstance(item, list) and len(item) <= MAX_ITEMS for item in items):
            return None
        sizes = {len(item) for item in items}
        if len(sizes) > 1 or (wanted is not None and sizes - {wanted}):
            return None
        lengths.append(sizes.pop() if sizes else wanted or 0)
        items = [inner for item in items for inner in item]
    return np.array([float(item) for item in items]).reshape(lengths) if all(map(_finite, items)) else None


def _is_kind(array: np.ndarray[Any, Any], kind: Kind) -> bool:
    return array.dtype.kind == kind and (kind != "f" or array.dtype == np.float64)


def _has_shape(array: np.ndarray[Any, Any], shape: Shape, least: int) -> bool:
    fits = len(shape) == array.ndim and all(a is None or a == b for a, b in zip(shape, array.shape, strict=True))
    return fits and (not shape or len(array) >= least)


def _is_within(array: np.ndarray[Any, Any], within: float | None) -> bool:
    return within is None or bool((np.abs(array) <= within).all())


def _length(length: int | None) -> str:
    return "any" if length is None else str(length)
