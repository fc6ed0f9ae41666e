"""The first look at a text: every token, bracket and name is checked before Python parses it.

What passes holds only numbers, known names, brackets and the operators of arithmetic and
comparison, within limits that keep Python's own parser fast and far from its recursion limit.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from keyword import iskeyword

from diffkit.errors import ParseError
from diffkit.expressions.functions import CONSTANTS, FUNCTION_NAMES

MAX_LENGTH = 10_000
MAX_NESTING = 100
MAX_OPERATORS = 1_000
MAX_DIGITS = 400
MAX_NAME = 60

WORDS = frozenset({"if", "else", "and", "or", "not"})

_COMPARISONS = frozenset({"<", "<=", ">", ">=", "==", "!="})
_TOKEN = re.compile(
    r"(?P<space>[ \t\r\n]+)"
    r"|(?P<number>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)"
    r"|(?P<name>[A-Za-z_][A-Za-z0-9_]*)"
    r"|(?P<operator>\*\*|<=|>=|==|!=|[-+*/%(),<>])"
)
_INSTEAD = {
    "^": "use ** for a power",
    "=": "use == to compare",
    "\N{MULTIPLICATION SIGN}": "use * to multiply",
    "·": "use * to multiply",
    "÷": "use / to divide",
    "\N{MINUS SIGN}": "use - (the hyphen) for minus",
    "²": "use **2",
    "³": "use **3",
    "√": "use sqrt(...)",
    "π": "use pi",
    "|": "use abs(...), or `or` between conditions",
    "&": "use `and` between conditions",
    "[": "use round brackets",
    "{": "use round brackets",
}


@dataclass(frozen=True)
class Token:
    """A piece of the text: what it is, what it says, where it starts and ends."""

    kind: str
    text: str
    start: int
    end: int

    @property
    def ends_operand(self) -> bool:
        return self.kind in ("number", "name") or self.text == ")"

    @property
    def starts_operand(self) -> bool:
        return self.kind in ("number", "name") or self.text == "("


@dataclass
class _Level:
    """What stands open since a bracket: operators that nest to the right, and conditions."""

    start: int
    call: bool = False
    pending: int = 0
    conditionals: int = 0


def parse_error(text: str, position: int, message: str) -> ParseError:
    """Return an error whose first line says what and where, with a caret beneath."""
    start, end = max(0, position - 30), position + 30
    shown = "".join(c if c.isprintable() else " " for c in text[start:end])
    head = "..." if start else ""
    tail = "..." if end < len(text) else ""
    caret = " " * (len(head) + position - start) + "^"
    return ParseError(
        f"{message}, at character {position + 1}\n    {head}{shown}{tail}\n    {caret}"
    )


def scan(text: str) -> list[Token]:
    """Return the names of variables in `text` as tokens, in order, once it passed all checks.

    Raises:
        ParseError: the text is too long, nested too deeply, or holds anything but arithmetic.
    """
    if len(text) > MAX_LENGTH:
        raise ParseError(
            f"the text has {len(text):,} characters; an expression may have {MAX_LENGTH:,}"
        )
    scanner = _Scanner(text)
    for token in _tokens(text):
        scanner.take(token)
    scanner.finish()
    return scanner.variables


def _tokens(text: str) -> Iterator[Token]:
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            character = text[position]
            hint = f"; {_INSTEAD[character]}" if character in _INSTEAD else ""
            raise parse_error(text, position, f"{character!r} is not part of an expression{hint}")
        kind, start, position = match.lastgroup or "", position, match.end()
        if kind == "space":
            continue
        word = match.group()
        yield Token("word" if word in WORDS else kind, word, start, position)


class _Scanner:
    """Checks tokens one by one, with the last token and the open brackets in view."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.variables: list[Token] = []
        self.last: Token | None = None
        self.levels = [_Level(0)]
        self.operators = 0

    def take(self, token: Token) -> None:
        self._adjacency(token)
        getattr(self, f"_{token.kind}")(token)
        depth = len(self.levels) - 1 + sum(v.pending + v.conditionals for v in self.levels)
        if depth > MAX_NESTING:
            raise self._error(token, f"nested more than {MAX_NESTING} deep")
        if self.operators > MAX_OPERATORS:
            raise self._error(token, f"more than {MAX_OPERATORS:,} operators")
        self.last = token

    def finish(self) -> None:
        if self.last is None:
            raise ParseError("the text is empty; an expression such as sin(x) is needed")
        if len(self.levels) > 1:
            raise parse_error(self.text, self.levels[-1].start, "this bracket is never closed")
        if not self.last.ends_operand:
            raise parse_error(self.text, self.last.end, "the expression ends where a value is due")
        self._call_of(self.last, None)

    def _error(self, token: Token, message: str) -> ParseError:
        return parse_error(self.text, token.start, message)

    def _adjacency(self, token: Token) -> None:
        """Refuse two values side by side, a missing value, and a function without its bracket."""
        last = self.last
        after_value = last is not None and last.ends_operand
        if last is not None:
            self._call_of(last, token)
        if after_value and token.starts_operand and not self._opens_call(token):
            raise self._error(token, "an operator is missing before this (2*x, not 2x)")
        touching = last is not None and last.kind == "number" and token.start == last.end
        if touching and token.kind == "word":
            raise self._error(token, "a space is missing before this")
        prefix = token.text in ("+", "-", "not")
        if not after_value and not token.starts_operand and not prefix:
            raise self._error(token, f"a value is missing before {token.text!r}")

    def _opens_call(self, token: Token) -> bool:
        return token.text == "(" and self.last is not None and self.last.text in FUNCTION_NAMES

    def _call_of(self, last: Token, token: Token | None) -> None:
        """Check that a name is a function just where a bracket follows."""
        if last.kind != "name":
            return
        called = token is not None and token.text == "("
        if called and last.text not in FUNCTION_NAMES:
            raise self._error(last, f"{last.text!r} is not a known function{self._nearest(last)}")
        if not called and last.text in FUNCTION_NAMES:
            raise self._error(last, f"the function {last.text} needs its argument in brackets")

    def _nearest(self, token: Token) -> str:
        if len(token.text) > 20:
            return ""
        near = get_close_matches(token.text.lower(), sorted(FUNCTION_NAMES), 1)
        return f" (did you mean {near[0]}?)" if near else ""

    def _number(self, token: Token) -> None:
        if len(token.text) > MAX_DIGITS:
            raise self._error(token, f"a number of more than {MAX_DIGITS} characters")

    def _name(self, token: Token) -> None:
        if token.text in FUNCTION_NAMES or token.text in CONSTANTS:
            return
        if reason := unusable(token.text):
            raise self._error(token, reason)
        self.variables.append(token)

    def _word(self, token: Token) -> None:
        self.operators += 1
        level = self.levels[-1]
        if token.text == "not":
            level.pending += 1
        else:
            level.pending = 0
            level.conditionals += token.text != "else"

    def _operator(self, token: Token) -> None:
        level = self.levels[-1]
        if token.text == "(":
            self.levels.append(_Level(token.start, self._opens_call(token)))
        elif token.text == ")":
            if len(self.levels) == 1:
                raise self._error(token, "this bracket was never opened")
            self.levels.pop()
        elif token.text == ",":
            if not level.call:
                raise self._error(token, "a comma belongs between a function's arguments only")
            level.pending = level.conditionals = 0
        else:
            self.operators += 1
            nests = token.text == "**" or self.last is None or not self.last.ends_operand
            level.pending = level.pending + 1 if nests else 0
            level.conditionals += token.text in _COMPARISONS


def unusable(name: str) -> str:
    """Return why `name` cannot be a variable, or an empty text if it can."""
    if name in FUNCTION_NAMES:
        return f"{name!r} is the name of a function"
    if name in CONSTANTS:
        return f"{name!r} is the name of a constant"
    if iskeyword(name):
        return f"{name!r} has a meaning in Python and cannot be a variable"
    if len(name) > MAX_NAME:
        return f"a name of more than {MAX_NAME} characters"
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name) or "__" in name:
        return f"{name!r} cannot be a variable: letters, digits and single underscores only"
    return ""
