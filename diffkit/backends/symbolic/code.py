"""Scalar programs as straight-line Python functions over NumPy, with generated names only.

No name, text or number of the user's reaches the source: symbols are called x0, b0, t0 and v0,
and numbers that a Python literal would not hold exactly are passed in as values.

This module imports SymPy; import it inside functions.
"""

# SymPy looks printing methods up by the names of its classes.
# ruff: noqa: N802, N815

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
import sympy as sp
from sympy.printing.codeprinter import PrintMethodNotImplementedError
from sympy.printing.numpy import NumPyPrinter

from diffkit.backends.symbolic.special import Special, SpecialFunctions
from diffkit.errors import UnsupportedOperation
from diffkit.tracing.shared_expressions import Expression, Symbol, tree_operations

LARGEST_LITERAL: Final = 2**53
DIGITS: Final = 30


Program = tuple[Mapping[Symbol, Expression], Sequence[Expression]]


@dataclass(frozen=True)
class Code:
    """A compiled program.

    Attributes:
        source: the Python source.
        operations: how many operations it does.
        run: from the values of each group of symbols and of the numbers to the results.
        numbers: the numbers that the source refers to.
    """

    source: str
    operations: int
    run: Callable[..., tuple[Any, ...]]
    numbers: tuple[Expression, ...]

    def __call__(self, dtype: np.dtype[Any], *groups: Sequence[Any]) -> tuple[Any, ...]:
        """The results in a floating dtype, the values of the symbols given group by group."""
        return self.run(*groups, [number_in(number, dtype) for number in self.numbers])


def compiled(
    definitions: Mapping[Symbol, Expression],
    groups: Mapping[str, Sequence[Symbol]],
    results: Sequence[Expression],
    counted: Program | None = None,
) -> Code:
    """Return the function from the symbols in `groups` (by letter) to the results.

    Each definition comes after those that it refers to. The operations of `counted` are what
    is counted, by default those of the program itself.

    Raises:
        UnsupportedOperation: an expression has no counterpart in NumPy.
    """
    names = generated_names(definitions, groups, results)
    printer = NumPyCode({**names.read, **names.defined})
    lines = [f"    {name} = {name[0]}[{name[1:]}]" for name in names.read.values()]
    lines += [f"    {names.defined[s]} = {printer.code(e)}" for s, e in definitions.items()]
    returned = "".join(f"{printer.code(e)}, " for e in results)
    source = "\n".join(
        [f"def program({', '.join(groups)}, k):", *lines, f"    return ({returned})"]
    )
    steps, made = counted or (definitions, results)
    operations = sum(tree_operations(e, {}) for e in (*steps.values(), *made))
    return Code(source, operations, _function(source), tuple(printer.numbers))


@dataclass(frozen=True)
class GeneratedNames:
    """Names for the symbols that a program reads, and for those that it defines."""

    read: dict[Symbol, str]
    defined: dict[Symbol, str]


def generated_names(
    definitions: Mapping[Symbol, Expression],
    groups: Mapping[str, Sequence[Symbol]],
    results: Sequence[Expression],
) -> GeneratedNames:
    """Return x0, b3 for the symbols of the groups in use, and v0, v1 for what is defined."""
    used = set().union(*(e.free_symbols for e in (*definitions.values(), *results)))
    read = {
        symbol: f"{letter}{i}"
        for letter, symbols in groups.items()
        for i, symbol in enumerate(symbols)
        if symbol in used
    }
    return GeneratedNames(read, {symbol: f"v{i}" for i, symbol in enumerate(definitions)})


def _function(source: str) -> Callable[..., tuple[Any, ...]]:
    namespace: dict[str, Any] = {"numpy": np, "impulse": impulse, "special": Special()}
    exec(compile(source, "<diffkit symbolic>", "exec"), namespace)
    program: Callable[..., tuple[Any, ...]] = namespace["program"]
    return program


def impulse(u: Any) -> Any:
    """Dirac's delta and its derivatives: 0 away from the jump, not a number at it."""
    u = np.asarray(u)
    kind = u.dtype.type
    return np.where(u == 0, kind(np.nan), kind(0))[()]


def number_in(number: Expression, dtype: np.dtype[Any]) -> Any:
    if dtype == np.longdouble:
        return np.longdouble(str(number.evalf(DIGITS)))
    return float(number.evalf(DIGITS))


class NumPyCode(SpecialFunctions, NumPyPrinter):  # type: ignore[misc]
    """SymPy's printer for NumPy, with generated names and exact numbers."""

    _default_settings: ClassVar[dict[str, Any]] = {
        **NumPyPrinter._default_settings,
        "strict": True,
    }

    def __init__(self, names: Mapping[Symbol, str]) -> None:
        super().__init__()
        self._names = names
        self.numbers: dict[Expression, None] = {}

    def code(self, expression: Expression) -> str:
        """The source of an expression.

        Raises:
            UnsupportedOperation: it has no counterpart in NumPy.
        """
        try:
            return str(self._print(expression))
        except PrintMethodNotImplementedError as error:
            raise UnsupportedOperation(
                f"the derivative contains {type(expression).__name__}({expression}), which NumPy "
                "cannot compute; use backend='tape'"
            ) from error

    def _bound(self, number: Expression) -> str:
        self.numbers.setdefault(number)
        return f"k[{list(self.numbers).index(number)}]"

    def _print_Symbol(self, expr: Expression) -> str:
        return self._names[expr]

    _print_Dummy = _print_Symbol

    def _print_Integer(self, expr: Expression) -> str:
        return str(expr.p) if is_literal(expr) else self._bound(expr)

    def _print_Rational(self, expr: Expression) -> str:
        return repr(float(expr)) if is_literal(expr) else self._bound(expr)

    def _print_NumberSymbol(self, expr: Expression) -> str:
        return self._bound(expr)

    _print_Pi = _print_Exp1 = _print_EulerGamma = _print_NumberSymbol
    _print_Half = _print_Rational

    def _print_Pow(self, expr: Expression, rational: bool = False) -> str:
        if expr.is_number:
            return self._bound(expr)
        base, exponent = expr.args
        if abs(exponent) == sp.Rational(1, 2) and are_two_squares(base):
            legs = ", ".join(self._print(sp.sqrt(leg)) for leg in base.args)
            return f"numpy.hypot({legs})" if exponent > 0 else f"(1/numpy.hypot({legs}))"
        return str(super()._print_Pow(expr, rational=rational))

    def _print_log(self, expr: Expression) -> str:
        if expr.is_number:
            return self._bound(expr)
        inside = inner_of_log1p(expr)
        if inside is not None:
            return f"numpy.log1p({self._print(inside)})"
        return f"numpy.log({self._print(expr.args[0])})"

    def _print_Add(self, expr: Expression, order: Any = None) -> str:
        tail, inside = lower_tail(expr), inner_of_expm1(expr)
        if tail is not None:
            scale, argument = map(self._print, tail)
            return f"({scale}*special.erfc({argument}))"
        if inside is not None:
            return f"numpy.expm1({self._print(inside)})"
        return str(super()._print_Add(expr, order=order))

    def _print_sech(self, expr: Expression) -> str:
        return f"(1/numpy.cosh({self._print(expr.args[0])}))"

    def _print_Heaviside(self, expr: Expression) -> str:
        return f"numpy.heaviside({self._print(expr.args[0])}, 0.5)"

    def _print_DiracDelta(self, expr: Expression) -> str:
        return f"impulse({self._print(expr.args[0])})"

    def _print_Piecewise(self, expr: Expression) -> str:
        code = "numpy.nan"
        for value, condition in reversed(expr.args):
            chosen = self._print(value)
            if condition != True:  # noqa: E712
                chosen = f"numpy.where({self._print(condition)}, {chosen}, {code})[()]"
            code = chosen
        return code

    def _print_ITE(self, expr: Expression) -> str:
        return f"numpy.where({', '.join(map(self._print, expr.args))})[()]"

    def _print_Max(self, expr: Expression) -> str:
        return self._nested("numpy.maximum", expr)

    def _print_Min(self, expr: Expression) -> str:
        return self._nested("numpy.minimum", expr)

    def _print_And(self, expr: Expression) -> str:
        return self._nested("numpy.logical_and", expr)

    def _print_Or(self, expr: Expression) -> str:
        return self._nested("numpy.logical_or", expr)

    def _print_Xor(self, expr: Expression) -> str:
        return self._nested("numpy.logical_xor", expr)

    def _nested(self, function: str, expr: Expression) -> str:
        first, *others = (str(self._print(argument)) for argument in expr.args)
        for other in others:
            first = f"{function}({first}, {other})"
        return first


def lower_tail(total: Expression) -> tuple[Expression, Expression] | None:
    """`c` and `z` if the sum is c erfc(z), of which SymPy makes 2 c - c erfc(-z), which cancels."""
    constant, *others = total.args
    if len(others) != 1 or not constant.is_Rational:
        return None
    factor, function = others[0].as_coeff_Mul()
    if not isinstance(function, sp.erfc) or constant != -2 * factor:
        return None
    return -factor, -function.args[0]


def inner_of_log1p(logarithm: Expression) -> Expression | None:
    """`a` if it is log(1 + a), which is computed as one function."""
    inner = logarithm.args[0]
    if inner.is_Add and inner.args[0] == 1 and lower_tail(inner) is None:
        return inner - 1
    return None


def inner_of_expm1(total: Expression) -> Expression | None:
    """`a` if it is exp(a) - 1, which is computed as one function."""
    constant, *others = total.args
    if constant == -1 and len(others) == 1 and isinstance(others[0], sp.exp):
        return others[0].args[0]
    return None


def is_literal(number: Expression) -> bool:
    """Whether a Python literal holds a number exactly."""
    return (
        bool(number.is_Rational)
        and number.q & (number.q - 1) == 0
        and abs(number.p) <= LARGEST_LITERAL
    )


def are_two_squares(base: Expression) -> bool:
    """Whether it is the square of a hypotenuse, whose root is computed as one function."""
    return (
        base.is_Add
        and len(base.args) == 2
        and all(leg.is_Pow and leg.exp == 2 and leg.base.is_Symbol for leg in base.args)
    )
