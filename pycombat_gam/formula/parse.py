"""R formula text → syntax tree: a tokenizer and a recursive-descent parser with R's precedences.

The text is never evaluated. It is limited in length and in depth, so that a hostile one raises
`FormulaError` instead of exhausting the stack or the memory.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from pycombat_gam.errors import FormulaError
from pycombat_gam.formula.nodes import (
    CONSTANTS,
    PRECEDENCE,
    UNARY_PRECEDENCE,
    Binary,
    Call,
    Constant,
    Name,
    Node,
    Number,
    Paren,
    String,
    Unary,
)

MAX_CHARACTERS = 50_000
MAX_DEPTH = 40
"""How deep calls and parentheses may nest."""
MAX_HEIGHT = 100
"""How deep the tree may get; a chain of operators inside a call counts one for each."""

_TOKEN = re.compile(
    r"""(?P<space>\s+)
      | (?P<number>(?:0[xX][0-9a-fA-F]+ | (?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)L?)
      | (?P<name>(?:[^\W\d]|\.(?!\d))[\w.]*)
      | (?P<quoted>`(?:[^`\\]|\\.)*`)
      | (?P<string>"(?:[^"\\]|\\.)*" | '(?:[^'\\]|\\.)*')
      | (?P<op>:::|::|\*\*|%%|%/%|%in%|\|\||&&|<=|>=|==|!=|[-+*/^:()~|&<>!,=])""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "0": "\0"}
_PACKAGE = (
    "'::' stands before a function that is called, as in splines::ns(age, df = 4); write the name alone otherwise"
)
_NOT_ALLOWED = {
    "[": "indexing with '[' is not allowed; put the values wanted in a column of their own",
    "]": "indexing with ']' is not allowed; put the values wanted in a column of their own",
    "$": "'$' is not allowed; name the column alone",
    "@": "'@' is not allowed; name the column alone",
    "{": "code blocks are not allowed; only names, numbers, operators and allowed functions are",
    "}": "code blocks are not allowed; only names, numbers, operators and allowed functions are",
    ";": "';' is not allowed; a formula is one expression",
    "#": "comments are not allowed; a name that holds '#' goes in backticks",
    "`": "a backtick is not closed; write `name`",
    '"': "a string is not closed; close it with the quote that opens it",
    "'": "a string is not closed; close it with the quote that opens it",
}


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    at: int


def parse(text: str) -> Node:
    """Parse R formula text into a syntax tree.

    Parameters
    ----------
    text : str
        An R expression or formula.

    Returns
    -------
    Node
        The tree; a formula is ``Binary("~", …)``, or ``Unary("~", …)`` when one-sided.

    Raises
    ------
    FormulaError
        If the text is not an R expression of the kind a formula allows, is too long or too deep.

    Notes
    -----
    Follows R's `str2lang`.

    Examples
    --------
    >>> parse("poly(age, 2)")
    Call(name='poly', args=(Name(name='age'), Number(value=2.0)), kwargs=(), package='')
    """
    if not isinstance(text, str):
        raise FormulaError(f"the formula is a {type(text).__name__}; give it as text, for example '~ age + sex'")
    if len(text) > MAX_CHARACTERS:
        raise FormulaError(
            f"the formula has {len(text):,} characters; at most {MAX_CHARACTERS:,} are allowed, so shorten it"
        )
    parser = _Parser(text, _tokenize(text))
    node, _ = parser.expression(0, 0)
    parser.finish()
    return node


def quoted(text: str, limit: int = 80) -> str:
    """Quote text for a message, on one line and at most `limit` characters of it.

    >>> quoted("~ age")
    "'~ age'"
    """
    flat = " ".join(text.split())
    return repr(flat if len(flat) <= limit else flat[: limit - 1] + "…")


def _tokenize(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None or match.lastgroup is None:
            raise _bad_character(text, at)
        if match.lastgroup != "space":
            tokens.append(_Token(match.lastgroup, match.group(), at))
        at = match.end()
    tokens.append(_Token("end", "", len(text)))
    return tokens


def _bad_character(text: str, at: int) -> FormulaError:
    character = text[at]
    why = _NOT_ALLOWED.get(character)
    if why is None:
        why = f"{character!r} is not allowed; put a name that holds it in backticks: `my {character}name`"
    return FormulaError(f"the formula {quoted(text)} cannot be read at character {at + 1}: {why}")


class _Parser:
    """Precedence climbing; every method returns a node and its height."""

    def __init__(self, text: str, tokens: list[_Token]) -> None:
        self.text = text
        self.tokens = tokens
        self.position = 0
        self.calls = 0

    @property
    def token(self) -> _Token:
        return self.tokens[self.position]

    def take(self) -> _Token:
        token = self.token
        self.position += 1
        return token

    def is_op(self, text: str) -> bool:
        return self.token.kind == "op" and self.token.text == text

    def error(self, why: str) -> FormulaError:
        return FormulaError(f"the formula {quoted(self.text)} cannot be read at character {self.token.at + 1}: {why}")

    def finish(self) -> None:
        if self.token.kind == "end":
            return
        if self.is_op(")"):
            raise self.error("')' closes nothing; remove it or open a '(' before it")
        if self.token.text in ("::", ":::"):
            raise self.error(_PACKAGE)
        if self.token.kind == "op":
            raise self.error(f"{self.token.text!r} is not expected here; join terms with + - * : / or ^")
        raise self.error(
            f"{quoted(self.token.text, 40)} follows a complete term; join terms with + - * : / or ^, "
            "and put a name with blanks or odd characters in backticks"
        )

    def expression(self, floor: int, depth: int) -> tuple[Node, int]:
        """Parse operators that bind at least as strongly as `floor`."""
        if depth > MAX_DEPTH:
            raise self.error(f"it is nested deeper than {MAX_DEPTH} levels; simplify it")
        node, height = self.prefix(depth)
        while (op := self.operator()) is not None and (strength := PRECEDENCE[op]) >= floor:
            self.take()
            right, below = self.expression(strength if op == "^" else strength + 1, depth + 1)
            if 40 <= strength < 50 and isinstance(node, Binary) and PRECEDENCE[node.op] == strength:
                raise self.error("comparisons cannot be chained; join two of them with &")
            node = Binary(op, node, right)
            # A chain of summands costs no depth (see `spine`); arithmetic inside a call does.
            height = max(height + (self.calls > 0 or strength != 50), below + 1)
            if height > MAX_HEIGHT:
                raise self.error(f"an expression in it joins more than {MAX_HEIGHT} parts; simplify it")
        return node, height

    def operator(self) -> str | None:
        if self.token.kind != "op":
            return None
        op = "^" if self.token.text == "**" else self.token.text
        return op if op in PRECEDENCE else None

    def prefix(self, depth: int) -> tuple[Node, int]:
        token = self.token
        if token.kind == "op" and token.text in ("-", "+", "!", "~"):
            self.take()
            floor = UNARY_PRECEDENCE[token.text]
            operand, height = self.expression(floor + (token.text == "~"), depth + 1)
            return Unary(token.text, operand), height + 1
        if self.is_op("("):
            self.take()
            inner, height = self.expression(PRECEDENCE["~"] + 1, depth + 1)
            self.close()
            return Paren(inner), height + 1
        return self.atom(depth)

    def close(self) -> None:
        if not self.is_op(")"):
            if self.token.kind == "end":
                raise self.error("a '(' is not closed; add ')'")
            raise self.error(f"{quoted(self.token.text, 40)} stands where an operator or ')' should")
        self.take()

    def atom(self, depth: int) -> tuple[Node, int]:
        token = self.token
        if token.kind == "number":
            self.take()
            return Number(self.number(token)), 1
        if token.kind == "string":
            self.take()
            return String(_unescape(token.text)), 1
        if token.kind in ("name", "quoted"):
            self.take()
            bare = token.kind == "name"
            name = token.text if bare else _unescape(token.text)
            package = ""
            if self.is_op("::"):
                package, name = name, self.of_package()
            if not name:
                raise self.error("a name in backticks is empty; write the column's name between them")
            if self.is_op("("):
                return self.call(name, depth, package)
            return (Constant(name) if bare and name in CONSTANTS else Name(name)), 1
        if token.kind == "end":
            raise self.error("it ends where a term should follow; write for example '~ age + sex' or '~ 1'")
        raise self.error(f"{token.text!r} stands where a name, a number or '(' should")

    def number(self, token: _Token) -> float:
        digits = token.text.removesuffix("L")
        try:
            value = float(int(digits, 16)) if digits[:2] in ("0x", "0X") else float(digits)
        except OverflowError:
            value = float("inf")
        if value == float("inf"):
            raise FormulaError(f"the number {quoted(token.text, 40)} is too large; write a finite one")
        return value

    def of_package(self) -> str:
        """Read the function's name after ``package::``; a call has to follow."""
        self.take()
        name = self.token
        if name.kind not in ("name", "quoted") or self.tokens[self.position + 1].text != "(":
            raise self.error(_PACKAGE)
        self.take()
        return name.text if name.kind == "name" else _unescape(name.text)

    def call(self, name: str, depth: int, package: str) -> tuple[Node, int]:
        self.take()
        self.calls += 1
        args: list[Node] = []
        kwargs: dict[str, Node] = {}
        height = 1
        while not self.is_op(")"):
            keyword = self.keyword()
            value, below = self.expression(PRECEDENCE["~"] + 1, depth + 1)
            height = max(height, below + 1)
            if keyword is None:
                args.append(value)
            elif keyword in kwargs:
                raise self.error(f"the argument '{keyword}' of {name}() is given twice; keep one")
            else:
                kwargs[keyword] = value
            if not self.is_op(","):
                break
            self.take()
            if self.is_op(")"):
                raise self.error(f"an argument of {name}() is missing after ','; add it or remove the comma")
        self.close()
        self.calls -= 1
        return Call(name, tuple(args), tuple(kwargs.items()), package), height

    def keyword(self) -> str | None:
        following = self.tokens[min(self.position + 1, len(self.tokens) - 1)]
        if self.token.kind in ("name", "quoted", "string") and (following.kind, following.text) == (
            "op",
            "=",
        ):
            token = self.take()
            self.take()
            return token.text if token.kind == "name" else _unescape(token.text)
        return None


def _unescape(text: str) -> str:
    """Drop the quotes and resolve backslashes as R does for the plain escapes."""
    return re.sub(r"\\(.)", lambda m: _ESCAPES.get(m.group(1), m.group(1)), text[1:-1], flags=re.DOTALL)
