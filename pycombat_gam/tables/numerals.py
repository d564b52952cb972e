"""Numbers that people write and software does not read: ``1 234,5``, ``１２``, ``5 mm``, ``0x1A``.

Such a cell turns its column into text: never a feature, and a factor in a formula. It is recognised here so that the
column can be refused by name. Its value is never guessed: ``1,234`` has two.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

PLAIN = re.compile(r"\s*[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?\s*\Z", re.ASCII)
"""What every reader takes for a number."""

DECIMAL_COMMAS = "decimal commas"
THOUSANDS = "thousands separators"
ONE_COMMA = f"{DECIMAL_COMMAS} or {THOUSANDS}"
"""``1,234`` is either; other cells of its column decide."""
UNITS = "units"
COMPARISONS = "comparison signs"
LABEL_LIKE = {UNITS, COMPARISONS}
"""Spellings that labels have too ("3 T", "<18"): a few such values are groups, only many of them are numbers."""

_AS_ASCII = {code: chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)}
"""The full-width forms, several signs for a minus, and the Arabic decimal and thousands marks."""
_AS_ASCII |= dict.fromkeys(map(ord, "−–‒﹣"), "-") | {ord("٫"): ".", ord("٬"): ","}
_EXPONENT = re.compile(r"(?<=[\d.])\s*(?:[dD]|[x×·*]\s*10\s*(?:\^|\*\*))\s*(?=[-+]?\d+\Z)")
_UNDERSCORE = re.compile(r"(?<=\d)_(?=\d)")
_BASED = re.compile(r"[-+]?0(?:[xX][0-9a-fA-F]+|[bB][01]+|[oO][0-7]+)\Z")
_COMMA = re.compile(r"[-+]?(?:0|[1-9]\d*|0\d+)?,\d+(?:[eE][-+]?\d+)?\Z")
_GROUPED = re.compile(r"[-+]?[1-9]\d{0,2}(?:(?P<mark>[\s.,'’`])(?:\d{2,3}(?P=mark))*\d{3})(?P<rest>(?:[.,]\d*)?)\Z")
_UNIT = re.compile(
    r"(?P<number>.*\d[.,]?)(?:\s+[^\W\d_][^\W\d_]{0,9}(?:[/^²³]\S{0,8})?"
    r"|\s*(?:[mcµμu]?m[23²³]?|[mcµμu]?m\^[23]|[mµμuk]?[gGlL]|[mµμ]?[sSVT]|sec|min|hr?s?|d|days?|w(?:ee)?ks?|mo(?:nths?)?"
    r"|y|yrs?|years?|[kM]?Hz|bpm|mmHg|k?Pa|°[CF]?|n?mol/[lL]|mmol/[lL]|mg/d?[lL]|ng/m[lL]|pg/m[lL]|I?U(?:/[lL])?))\s*\Z"
)


def spelling(text: str) -> tuple[str, ...] | None:
    """Say what keeps a number from being read: nothing in a plain number; ``None`` if the text is not a number.

    >>> spelling("1 234,5"), spelling("5 mm"), spelling("1e3 "), spelling("12:30")
    (('thousands separators', 'decimal commas'), ('units',), (), None)
    """
    if PLAIN.match(text):
        return ()
    kinds: list[str] = []
    bare = _unwrapped(text, kinds)
    bare = _affixes_off(_ascii(bare, kinds), kinds)
    whole = _body(bare, kinds)
    if not whole:
        unit = _UNIT.match(bare)
        if unit is None or re.match(r"[-+]?0\d", bare) or not _body(unit["number"].strip(), kinds):
            return None
        kinds.append(UNITS)
    return tuple(kinds) if kinds else ("spaces inside",)


def kinds_named(spellings: Iterable[tuple[str, ...] | None]) -> str:
    """Join the spellings of several cells, each once.

    >>> kinds_named([("decimal commas or thousands separators",), ("decimal commas",), (), None])
    'decimal commas'
    """
    kinds = dict.fromkeys(kind for cell in spellings for kind in cell or ())
    if not {DECIMAL_COMMAS, THOUSANDS}.isdisjoint(kinds):
        kinds.pop(ONE_COMMA, None)
    return ", ".join(kinds)


def _unwrapped(text: str, kinds: list[str]) -> str:
    """Take off what spreadsheets and copied pages wrap around a number."""
    bare = "".join(char for char in text if unicodedata.category(char) not in ("Cf", "Cc")).strip()
    if len(bare) < len(text.strip(" \t\r\n")):
        kinds.append("invisible characters")
    quoted = re.fullmatch(r"=?\"(.*)\"|'(.*?)'?", bare)
    if quoted is None:
        return bare
    kinds.append("quotation marks")
    return (quoted[1] if quoted[1] is not None else quoted[2]).strip()


def _ascii(text: str, kinds: list[str]) -> str:
    """Write digits, signs and marks of other scripts as ASCII."""
    plain = text.translate(_AS_ASCII)
    plain = "".join(str(unicodedata.decimal(char)) if char.isdecimal() else char for char in plain)
    if plain != text:
        kinds.append("other digits or signs than 0-9, - and +")
    return plain


def _affixes_off(text: str, kinds: list[str]) -> str:
    """Take off percent, currency and comparison signs, and the bookkeeper's ways to write a minus."""
    bare = text
    for kind, signs in (
        (COMPARISONS, r"\A[<>≤≥~≈=]+|(?<=\d)\+\Z"),
        ("percent signs", r"[%‰]\Z"),
        ("a minus behind the number", r"(?<=\d)-\Z"),
    ):
        shorter = re.sub(signs, "", bare).strip()
        if shorter != bare:
            kinds.append(kind)
            bare = shorter
    money = "".join(char for char in bare if unicodedata.category(char) != "Sc").strip()
    if money != bare and (unicodedata.category(bare[0]) == "Sc" or unicodedata.category(bare[-1]) == "Sc"):
        kinds.append("currency signs")
        bare = money
    if re.fullmatch(r"\([^()]*\d[^()]*\)", bare):
        kinds.append("parentheses for a minus")
        bare = bare[1:-1].strip()
    return re.sub(r"\A([-+])\s+", r"\1", bare)


def _body(text: str, kinds: list[str]) -> bool:
    """Tell whether a text is a number in some spelling; its kinds are added."""
    if PLAIN.match(text):
        return True
    if _BASED.match(text):
        kinds.append("hexadecimal, octal or binary digits")
        return True
    shorter = _UNDERSCORE.sub("", text)
    if shorter != text:
        kinds.append("underscores")
    powered = _EXPONENT.sub("e", shorter)
    if powered != shorter:
        kinds.append("exponents other than e")
    if PLAIN.match(powered):
        return True
    grouped = _GROUPED.match(powered)
    if grouped is not None and not grouped["rest"].startswith(grouped["mark"]):
        one_comma = grouped["mark"] == "," and powered.count(",") == 1 and not grouped["rest"]
        kinds.append(ONE_COMMA if one_comma else THOUSANDS)
        if grouped["rest"].startswith(","):
            kinds.append(DECIMAL_COMMAS)
        return True
    if _COMMA.match(powered):
        kinds.append(DECIMAL_COMMAS)
        return True
    return False
