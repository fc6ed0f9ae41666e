"""Programs as source in several languages, by SymPy's printers, with generated names only.

A program is a list of assignments and a matrix of results. Of the user's function nothing reaches
the source but its operations: what it reads is called x, b and t, what it defines v.

This module imports SymPy; import it inside functions.
"""

# SymPy looks printing methods up by the names of its classes.
# ruff: noqa: N802, N815

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final

import sympy as sp
from sympy.printing.c import C99CodePrinter
from sympy.printing.codeprinter import PrintMethodNotImplementedError
from sympy.printing.latex import LatexPrinter
from sympy.printing.mathematica import MCodePrinter
from sympy.printing.pycode import MpmathPrinter

from diffkit.backends.symbolic.code import (
    NumPyCode,
    generated_names,
    inner_of_expm1,
    inner_of_log1p,
    lower_tail,
)
from diffkit.errors import InvalidInput, UnsupportedOperation
from diffkit.tracing.shared_expressions import Expression, Symbol

DIGITS: Final = 17


@dataclass(frozen=True)
class Listing:
    """What is printed: definitions, and the entries of a matrix that are not zero."""

    definitions: Mapping[Symbol, Expression]
    entries: Mapping[tuple[int, int], Expression]
    groups: Mapping[str, Sequence[Symbol]]
    shape: tuple[int, int]

    def pruned(self) -> Listing:
        """Without the definitions that no entry needs."""
        needed = set().union(*(entry.free_symbols for entry in self.entries.values()))
        kept = {}
        for symbol, definition in reversed(list(self.definitions.items())):
            if symbol in needed:
                kept[symbol] = definition
                needed |= definition.free_symbols
        definitions = dict(reversed(list(kept.items())))
        return replace(self, definitions=definitions)

    @property
    def letters(self) -> list[str]:
        """The groups that are read."""
        names = generated_names(self.definitions, self.groups, list(self.entries.values()))
        return [g for g in self.groups if g == "x" or any(n[0] == g for n in names.read.values())]

    def names(self, read: Callable[[str, int], str], defined: str) -> dict[Symbol, str]:
        """A name for every symbol: `read` of its group and place, or `defined` with a number."""
        names = {
            symbol: read(letter, i)
            for letter, symbols in self.groups.items()
            for i, symbol in enumerate(symbols)
        }
        return names | {s: defined.format(i) for i, s in enumerate(self.definitions)}


def source(listing: Listing, language: str) -> str:
    """Return the program in `python`, `mpmath`, `c`, `latex` or `mathematica`.

    Raises:
        InvalidInput: there is no such language.
        UnsupportedOperation: the language has no counterpart of an operation.
    """
    if language not in _LANGUAGES:
        raise InvalidInput(f"language={language!r} must be one of {', '.join(_LANGUAGES)}")
    return _LANGUAGES[language](listing.pruned())


def _python(listing: Listing) -> str:
    printer = NumPyCode(listing.names(lambda letter, i: f"{letter}[{i}]", "v{}"))
    lines = [
        f"v{i} = {printer.code(e)}" for i, e in enumerate(map(_plain, listing.definitions.values()))
    ]
    lines.append(f"result = numpy.zeros({listing.shape})")
    lines += [
        f"result[{i}, {j}] = {printer.code(_plain(e))}" for (i, j), e in listing.entries.items()
    ]
    numbers = [repr(float(number.evalf(30))) for number in printer.numbers]
    bound = [f"k = [{', '.join(numbers)}]"] if numbers else []
    body = "\n    ".join([*bound, *lines, "return result"])
    special = "from scipy import special\n" if "special." in body else ""
    header = f"import numpy\n{special}"
    return f"{header}\n\ndef derivative({', '.join(listing.letters)}):\n    {body}\n"


def _mpmath(listing: Listing) -> str:
    printer = MpmathCode(listing.names(lambda letter, i: f"{letter}[{i}]", "v{}"))
    lines = [f"v{i} = {printer.code(e)}" for i, e in enumerate(listing.definitions.values())]
    lines.append("result = mpmath.matrix({}, {})".format(*listing.shape))
    lines += [f"result[{i}, {j}] = {printer.code(e)}" for (i, j), e in listing.entries.items()]
    body = "\n    ".join([*lines, "return result"])
    return f"import mpmath\n\n\ndef derivative({', '.join(listing.letters)}):\n    {body}\n"


def _c(listing: Listing) -> str:
    printer = _CCode(listing.names(lambda letter, i: f"{letter}[{i}]", "v{}"))
    rows, columns = listing.shape
    lines = [
        f"const double v{i} = {printer.code(e)};"
        for i, e in enumerate(listing.definitions.values())
    ]
    lines.append(f"for (int i = 0; i < {rows * columns}; i++) result[i] = 0.0;")
    lines += [
        f"result[{i * columns + j}] = {printer.code(e)};" for (i, j), e in listing.entries.items()
    ]
    read = "".join(f"const double *{letter}, " for letter in listing.letters)
    body = "\n    ".join(lines)
    return f"#include <math.h>\n\nvoid derivative({read}double *result)\n{{\n    {body}\n}}\n"


def _latex(listing: Listing) -> str:
    names = listing.names(lambda letter, i: f"{letter}_{{{i}}}", "v_{{{}}}")
    printer = LatexPrinter({"symbol_names": names})
    lines = [
        rf"v_{{{i}}} &= {printer.doprint(e)}" for i, e in enumerate(listing.definitions.values())
    ]
    lines += [
        rf"\partial_{{{j}}} f_{{{i}}} &= {printer.doprint(e)}"
        for (i, j), e in listing.entries.items()
    ]
    return "\n".join([r"\begin{aligned}", " \\\\\n".join(lines), r"\end{aligned}"])


def _mathematica(listing: Listing) -> str:
    printer = _MathematicaCode(listing.names(lambda letter, i: f"{letter}[[{i + 1}]]", "v{}"))
    names = ", ".join(f"v{i}" for i in range(len(listing.definitions)))
    lines = [f"v{i} = {printer.code(e)};" for i, e in enumerate(listing.definitions.values())]
    rows, columns = listing.shape
    matrix = [
        ", ".join(printer.code(listing.entries.get((i, j), sp.Integer(0))) for j in range(columns))
        for i in range(rows)
    ]
    lines.append(f"{{{', '.join(f'{{{row}}}' for row in matrix)}}}")
    read = ", ".join(f"{letter}_List" for letter in listing.letters)
    body = "\n    ".join(lines)
    return f"derivative[{read}] := Module[{{{names}}},\n    {body}\n]\n"


_LANGUAGES: Final[Mapping[str, Callable[[Listing], str]]] = {
    "python": _python,
    "mpmath": _mpmath,
    "c": _c,
    "latex": _latex,
    "mathematica": _mathematica,
}


def _plain(expression: Expression) -> Expression:
    """The same by branches: steps, their slopes, and choices between conditions."""
    expression = expression.replace(
        sp.DiracDelta, lambda u, *_: sp.Piecewise((sp.nan, sp.Eq(u, 0)), (0, True))
    )
    expression = expression.replace(
        sp.Heaviside,
        lambda u, *_: sp.Piecewise((0, u < 0), (1, u > 0), (sp.Rational(1, 2), True)),
    )
    return expression.replace(sp.ITE, lambda c, a, b: sp.Or(sp.And(c, a), sp.And(sp.Not(c), b)))


class _Generated:
    """The printing of symbols by generated names, and the refusal of what has no counterpart."""

    language: ClassVar[str]
    generated: Mapping[Symbol, str]

    def code(self, expression: Expression) -> str:
        """The source of an expression.

        Raises:
            UnsupportedOperation: it has no counterpart in the language.
        """
        try:
            printed = self._print(self.prepared(expression))  # type: ignore[attr-defined]
            return " ".join(str(printed).split())
        except PrintMethodNotImplementedError as error:
            raise UnsupportedOperation(
                f"{type(expression).__name__} in the derivative has no counterpart in "
                f"{self.language}; use language='python'"
            ) from error

    def prepared(self, expression: Expression) -> Expression:
        return _plain(expression)

    def _print_Symbol(self, expr: Expression) -> str:
        return self.generated[expr]

    _print_Dummy = _print_Symbol


class _Careful(_Generated):
    """Prints what cancels near 0 as the one function that does not: log1p, expm1, erfc."""

    def _print_log(self, expr: Expression) -> str:
        inside = inner_of_log1p(expr)
        if inside is not None:
            return self._called("log1p", inside)
        return str(super()._print_log(expr))  # type: ignore[misc]

    def _print_Add(self, expr: Expression, order: Any = None) -> str:
        tail, inside = lower_tail(expr), inner_of_expm1(expr)
        if tail is not None:
            scale = self._print(tail[0])  # type: ignore[attr-defined]
            return f"({scale}*{self._called('erfc', tail[1])})"
        if inside is not None:
            return self._called("expm1", inside)
        return str(super()._print_Add(expr, order=order))  # type: ignore[misc]

    def _called(self, name: str, *arguments: Expression) -> str:
        raise NotImplementedError


class MpmathCode(_Careful, MpmathPrinter):  # type: ignore[misc]
    language = "mpmath"

    def __init__(self, generated: Mapping[Symbol, str]) -> None:
        super().__init__({"strict": True})
        self.generated = generated

    def prepared(self, expression: Expression) -> Expression:
        """Remainders and extrema by comparisons: mpmath has none, and Python's drop a NaN."""
        plain = _plain(expression).replace(sp.Mod, lambda a, b: a - b * sp.floor(a / b))
        return plain.rewrite(sp.Piecewise) if plain.has(sp.Max, sp.Min) else plain

    def _print_Integer(self, expr: Expression) -> str:
        return f"mpmath.mpf({expr.p})"

    def _called(self, name: str, *arguments: Expression) -> str:
        return f"mpmath.{name}({', '.join(map(self._print, arguments))})"

    def _print_erfi(self, expr: Expression) -> str:
        return self._called("erfi", *expr.args)

    def _print_erfinv(self, expr: Expression) -> str:
        return self._called("erfinv", *expr.args)

    def _print_erfcinv(self, expr: Expression) -> str:
        return self._called("erfinv", 1 - expr.args[0])

    def _print_polygamma(self, expr: Expression) -> str:
        return self._called("polygamma", *expr.args)

    def _print_Ei(self, expr: Expression) -> str:
        return self._called("ei", *expr.args)

    def _print_expint(self, expr: Expression) -> str:
        return self._called("expint", *expr.args)

    def _print_zeta(self, expr: Expression) -> str:
        return self._called("zeta", *expr.args)


class _CCode(_Careful, C99CodePrinter):  # type: ignore[misc]
    language = "C"

    def __init__(self, generated: Mapping[Symbol, str]) -> None:
        super().__init__({"strict": True, "precision": DIGITS})
        self.generated = generated

    def prepared(self, expression: Expression) -> Expression:
        """C's fmod takes the sign of the dividend, NumPy's of the divisor."""
        floored = _plain(expression).replace(sp.Mod, lambda a, b: a - b * sp.floor(a / b))
        return floored.replace(sp.sech, lambda u: 1 / sp.cosh(u))

    def _called(self, name: str, *arguments: Expression) -> str:
        return f"{name}({', '.join(map(self._print, arguments))})"

    def _print_Integer(self, expr: Expression) -> str:
        return repr(float(expr))  # a quotient of C's integers would be cut off

    def _print_Rational(self, expr: Expression) -> str:
        return f"({float(expr.p)!r}/{float(expr.q)!r})"

    _print_Half = _print_Rational


_PRINTED: Final = (sp.Piecewise, sp.Mod)


class _MathematicaCode(_Generated, MCodePrinter):  # type: ignore[misc]
    language = "Mathematica"
    _OTHERS: ClassVar[Mapping[str, str]] = {
        "Abs": "Abs",
        "ceiling": "Ceiling",
        "floor": "Floor",
        "sign": "Sign",
    }

    def __init__(self, generated: Mapping[Symbol, str]) -> None:
        super().__init__({"strict": True, "user_functions": dict(self._OTHERS)})
        self.generated = generated

    def prepared(self, expression: Expression) -> Expression:
        plain = _plain(expression)
        for function in plain.atoms(sp.Function):
            if not (
                function.func.__name__ in self.known_functions or isinstance(function, _PRINTED)
            ):
                raise UnsupportedOperation(
                    f"{function.func.__name__} in the derivative has no counterpart in "
                    f"{self.language}; use language='python'"
                )
        return plain

    def _print_Add(self, expr: Expression, order: Any = None) -> str:
        tail = lower_tail(expr)
        if tail is not None:  # in machine numbers the difference would cancel
            return f"{self._print(tail[0])}*Erfc[{self._print(tail[1])}]"
        return str(super()._print_Add(expr, order=order))

    def _print_Relational(self, expr: Expression) -> str:
        operator = {sp.Eq: "==", sp.Ne: "!="}.get(expr.func, expr.rel_op)
        return f"{self._print(expr.lhs)} {operator} {self._print(expr.rhs)}"

    def _print_NaN(self, expr: Any) -> str:
        return "Indeterminate"

    def _print_Mod(self, expr: Any) -> str:
        return f"Mod[{', '.join(map(self._print, expr.args))}]"

    def _print_Piecewise(self, expr: Any) -> str:
        branches = (f"{{{self._print(v)}, {self._print(c)}}}" for v, c in expr.args)
        return f"Piecewise[{{{', '.join(branches)}}}]"

    def _print_Xor(self, expr: Any) -> str:
        return f"Xor[{', '.join(map(self._print, expr.args))}]"
