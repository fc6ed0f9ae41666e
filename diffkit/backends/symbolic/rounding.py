"""How far rounding may have taken the values of a scalar program, as a part of the program.

Running error analysis (Wilkinson; Higham, "Accuracy and Stability of Numerical Algorithms", 2002,
section 3.3): beside a value goes a first-order estimate of its error, in units of the last place
of 1. What arises without sums of different signs keeps its digits, and its relative error is a
number known beforehand; what cancels, and all that it flows into, gets a line of its own.

This module imports SymPy; import it inside functions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import sympy as sp

from diffkit.backends.symbolic.code import (
    are_two_squares,
    inner_of_expm1,
    inner_of_log1p,
    is_literal,
    lower_tail,
)
from diffkit.tracing.shared_expressions import Expression, Symbol

Error = Any  # a float: relative; a symbol: absolute. Both in units of the last place of 1
Slope = Callable[[Expression, Expression], Expression]

LIBRARY: Final = 2.0  # units in the last place that elementary functions may be off
SPECIAL: Final = 8.0  # and SciPy's
LARGEST: Final = 2.0**20  # relative errors beyond it are looked at when the program runs

_EXACT: Final = (sp.sign, sp.Heaviside, sp.floor, sp.ceiling, sp.DiracDelta, sp.ITE)
_TAME: Final = (sp.tanh, sp.atan, sp.asinh, sp.erf)  # |x f'(x)| <= |f(x)|
_ODD: Final = (*_TAME, sp.sinh)
_POSITIVE: Final = (sp.exp, sp.cosh, sp.sech, sp.Abs, sp.erfc, sp.Heaviside)
_ABSOLUTE: Final = (sp.besselj, sp.bessely, sp.loggamma, sp.polygamma, sp.zeta, sp.Ei)
"""Functions with zeros, near which a library keeps absolute, not relative accuracy."""

# |f'(a)| in terms of a and v = f(a).
_SLOPES: Final[Mapping[Any, Slope]] = {
    sp.exp: lambda a, v: sp.Abs(v),
    sp.log: lambda a, v: 1 / sp.Abs(a),
    sp.sin: lambda a, v: sp.Integer(1),
    sp.cos: lambda a, v: sp.Integer(1),
    sp.tan: lambda a, v: 1 + v**2,
    sp.asin: lambda a, v: 1 / sp.sqrt((1 - a) * (1 + a)),
    sp.acos: lambda a, v: 1 / sp.sqrt((1 - a) * (1 + a)),
    sp.atan: lambda a, v: sp.Integer(1),
    sp.sinh: lambda a, v: 1 + sp.Abs(v),
    sp.cosh: lambda a, v: sp.Abs(v),
    sp.tanh: lambda a, v: sp.Integer(1),
    sp.sech: lambda a, v: sp.Abs(v),
    sp.asinh: lambda a, v: sp.Integer(1),
    sp.acosh: lambda a, v: 1 / sp.sqrt((a - 1) * (a + 1)),
    sp.atanh: lambda a, v: 1 / _size((1 - a) * (1 + a)),
    sp.erf: lambda a, v: sp.Integer(2),
    sp.erfc: lambda a, v: 2 * sp.Abs(v) * (1 + sp.Abs(a)),
    sp.Abs: lambda a, v: sp.Integer(1),
}


@dataclass(frozen=True)
class Followed:
    """A program with the errors of its results.

    Attributes:
        definitions: of the values, cut into single operations where they may cancel, and of the
            errors.
        auxiliary: the symbols among them that stand for errors.
        values: the results.
        errors: of each, absolute, in units of the last place of 1; 0 where it is of no concern.
    """

    definitions: dict[Symbol, Expression]
    auxiliary: set[Symbol]
    values: list[Expression]
    errors: list[Expression]


def followed(definitions: Mapping[Symbol, Expression], results: Iterable[Expression]) -> Followed:
    """Return a program with the errors of its results."""
    bounded = _Bounded(definitions)
    pairs = [bounded.result(result) for result in results]
    return Followed(
        bounded.definitions, bounded.auxiliary, [v for v, _ in pairs], [e for _, e in pairs]
    )


def last_sums(definitions: Mapping[Symbol, Expression], results: Iterable[Expression]) -> Followed:
    """Return a program with errors that tell of cancellation in the last sum of each result alone.

    That costs a fraction of following all rounding.
    """
    lines: dict[Symbol, Expression] = {}
    sums: dict[Symbol, list[Expression]] = {}
    wanted = list(results)
    ends = {result for result in wanted if result.is_Symbol}
    for symbol, definition in definitions.items():
        if symbol in ends and definition.is_Add:
            sums[symbol] = _terms(definition, lines)
            definition = sp.Add(*sums[symbol])
        lines[symbol] = definition
    errors, values = [], []
    for result in wanted:
        terms = sums.get(result, [])
        if result.is_Add:
            terms = _terms(result, lines)
        values.append(sp.Add(*terms) if result.is_Add else result)
        errors.append(sp.Float(SPECIAL) * sp.Add(*map(_size, terms)) if terms else sp.Integer(0))
    return Followed(lines, set(), values, errors)


def _terms(total: Expression, lines: dict[Symbol, Expression]) -> list[Expression]:
    """The terms of a sum, those that are no symbols or numbers defined by lines that are added."""
    terms = []
    for term in total.args:
        name = term if term.is_Symbol or term.is_number else sp.Dummy(real=True)
        if name is not term:
            lines[name] = term
        terms.append(name)
    return terms


class _Bounded:
    """A program to which errors are added, definition by definition."""

    def __init__(self, definitions: Mapping[Symbol, Expression]) -> None:
        self.definitions: dict[Symbol, Expression] = {}
        self.auxiliary: set[Symbol] = set()
        self._errors: dict[Symbol, Error] = {}
        self._signs: dict[Symbol, int | None] = {}
        self._names: dict[Expression, Symbol] = {}
        for symbol, definition in definitions.items():
            self._define(symbol, definition)

    def result(self, result: Expression) -> tuple[Expression, Expression]:
        """A result in terms of what is defined, and its error."""
        static = self._static(result)
        if static is not None and static <= LARGEST:
            return result, sp.Integer(0)
        value = self._named(result)
        return value, self._absolute(value)

    # ------------------------------------------------------------------ names

    def _define(self, symbol: Symbol, expression: Expression) -> None:
        """Add a value, and its error if it is not known beforehand."""
        static = self._static(expression)
        self._signs[symbol] = self._sign(expression)
        if static is not None:
            self.definitions[symbol] = expression
            self._errors[symbol] = static
            return
        value, error = self._dynamic(symbol, expression)
        self.definitions[symbol] = value
        name = sp.Dummy(real=True)
        self.auxiliary.add(name)
        self.definitions[name] = error
        self._errors[symbol] = name

    def _named(self, expression: Expression) -> Expression:
        """A symbol or number for an expression."""
        if not expression.args or expression.is_number:
            return expression
        if expression not in self._names:
            symbol = self._names[expression] = sp.Dummy(real=True)
            self._define(symbol, expression)
        return self._names[expression]

    def _absolute(self, value: Expression) -> Expression:
        """The absolute error of what is defined, or is known beforehand."""
        error = self._static(value)
        return self._errors[value] if error is None else _times(error, _size(value))

    # ------------------------------------------------------------------ known beforehand

    def _static(self, expression: Expression) -> float | None:
        """The relative error where it is known beforehand, else None."""
        if expression.is_Symbol:
            error = self._errors.get(expression, 0.0)
            return error if isinstance(error, float) else None
        if isinstance(expression, _EXACT) or not isinstance(expression, sp.Expr):
            return 0.0
        if expression.is_number:
            return 0.0 if is_literal(expression) else 1.0
        if isinstance(expression, sp.Piecewise):
            return self._largest(value for value, _ in expression.args)
        if isinstance(expression, (sp.Max, sp.Min, sp.Abs)):
            return self._largest(expression.args)
        if isinstance(expression, sp.Add):
            return self._static_sum(expression)
        if isinstance(expression, sp.Mul):
            return self._static_product(expression)
        if isinstance(expression, sp.Pow):
            return self._static_power(expression)
        return self._static_function(expression)

    def _largest(self, parts: Iterable[Expression]) -> float | None:
        errors = [self._static(part) for part in parts]
        return None if None in errors else max(e for e in errors if e is not None)

    def _static_sum(self, total: Expression) -> float | None:
        inside = _inside(total)
        if inside is not None:
            return SPECIAL if self._static(inside) == 0 else None
        largest = self._largest(total.args)
        signs = {self._sign(term) for term in total.args}
        if largest is None or len(signs) > 1 or None in signs:
            return 1.0 if largest == 0 and len(total.args) == 2 else None
        return largest + len(total.args) - 1

    def _static_product(self, product: Expression) -> float | None:
        total = -1.0
        for factor in product.args:
            error = self._static(factor)
            if error is None:
                return None
            total += error + (not _is_power_of_two(factor))
        return max(total, 0.0)

    def _static_power(self, power: Expression) -> float | None:
        base, exponent = power.args
        error = self._static(base)
        if error is None:
            return None
        if exponent.is_number:
            count = abs(float(exponent))
            return count * error + (count if exponent.is_Integer else LIBRARY)
        return LIBRARY if error == 0 and self._static(exponent) == 0 else None

    def _static_function(self, function: Expression) -> float | None:
        errors = [self._static(part) for part in function.args]
        if isinstance(function, _ABSOLUTE) or None in errors:
            return None
        largest = max(e for e in errors if e is not None)
        if largest == 0:
            return _own(function)
        inside = _inside(function)
        tame = isinstance(function, _TAME) or (inside is not None and self._sign(inside) == 1)
        return largest + _own(function) if tame else None

    # ------------------------------------------------------------------ signs

    def _sign(self, expression: Expression) -> int | None:
        """1 where it is never negative, -1 where it is never positive, else None."""
        if expression.is_Symbol:
            return self._signs.get(expression)
        if isinstance(expression, _POSITIVE):
            return 1
        if not isinstance(expression, sp.Expr):
            return None
        if expression.is_number:
            return -1 if expression.is_negative else 1
        if isinstance(expression, _ODD):
            return self._sign(expression.args[0])
        if isinstance(expression, sp.Pow):
            base, exponent = expression.args
            return self._sign(base) if exponent.is_odd or not exponent.is_number else 1
        if isinstance(expression, sp.Mul):
            signs = [self._sign(factor) for factor in expression.args]
            return None if None in signs else math.prod(s for s in signs if s is not None)
        parts = expression.args
        if isinstance(expression, sp.Piecewise):
            parts = [value for value, _ in parts]
        elif not isinstance(expression, (sp.Add, sp.Max, sp.Min)):
            return None
        found = {self._sign(part) for part in parts}
        return found.pop() if len(found) == 1 else None

    # ------------------------------------------------------------------ known when it runs

    def _dynamic(self, v: Symbol, expression: Expression) -> tuple[Expression, Expression]:
        """The value `v` as one operation on what is defined, and its error."""
        if isinstance(expression, sp.Add):
            return self._sum(v, expression)
        if isinstance(expression, sp.Mul):
            return self._product(v, expression)
        if isinstance(expression, sp.Pow):
            return self._power(v, expression)
        if isinstance(expression, sp.Piecewise):
            return self._pieces(expression)
        if isinstance(expression, (sp.Max, sp.Min)):
            parts = [self._named(part) for part in expression.args]
            return expression.func(*parts), sp.Add(*map(self._absolute, parts))
        return self._function(v, expression)

    def _sum(self, v: Symbol, total: Expression) -> tuple[Expression, Expression]:
        inside = _inside(total)
        if inside is not None:
            a = self._named(inside)
            if lower_tail(total) is None:
                return sp.exp(a) - 1, self._absolute(a) * (1 + sp.Abs(v)) + LIBRARY * sp.Abs(v)
            error = _SLOPES[sp.erfc](a, v) * self._absolute(a) + SPECIAL * sp.Abs(v)
            return total.xreplace({sp.erfc(inside): sp.erfc(a)}), error
        terms = [self._named(term) for term in total.args]
        own = [v] if len(terms) == 2 else terms
        rounded = [_times(math.sqrt(len(terms) - 1), _size(part)) for part in own]
        return sp.Add(*terms), sp.Add(*map(self._absolute, terms), *rounded)

    def _product(self, v: Symbol, product: Expression) -> tuple[Expression, Expression]:
        factors = [self._named(factor) for factor in product.args]
        known, errors = -1.0, []
        for i, factor in enumerate(factors):
            static = self._static(factor)
            known += not _is_power_of_two(factor)
            if static is None:
                others = sp.Mul(*factors[:i], *factors[i + 1 :])
                errors.append(self._errors[factor] * _size(others))
            else:
                known += static
        return sp.Mul(*factors), sp.Add(*errors, _times(known, sp.Abs(v)))

    def _power(self, v: Symbol, power: Expression) -> tuple[Expression, Expression]:
        base, exponent = power.args
        if are_two_squares(base):
            legs = [leg.base for leg in base.args]
            moved = [_size(leg) * self._absolute(leg) for leg in legs]
            slope = _size(exponent * v) * 2 / base
            return power, slope * sp.Add(*moved) + LIBRARY * sp.Abs(v)
        b, p = self._named(base), self._named(exponent)
        if p.is_number:
            grown = sp.Abs(b) ** (p - 1) if p >= 1 else sp.Abs(v) / sp.Abs(b)
            count = float(abs(p)) if p.is_Integer else LIBRARY
            return b**p, abs(p) * grown * self._absolute(b) + _times(count, sp.Abs(v))
        moved = [_size(p / b) * self._absolute(b), _size(sp.log(sp.Abs(b))) * self._absolute(p)]
        error = sp.Abs(v) * (LIBRARY + sp.Add(*moved))
        return b**p, sp.Piecewise((sp.Integer(0), sp.Eq(v, 0)), (error, True))

    def _pieces(self, pieces: Expression) -> tuple[Expression, Expression]:
        """The error of the piece that is chosen."""
        values, errors = [], []
        for value, condition in pieces.args:
            chosen = value if self._static(value) is not None else self._named(value)
            values.append((chosen, condition))
            errors.append((self._absolute(chosen), condition))
        return sp.Piecewise(*values, evaluate=False), sp.Piecewise(*errors, evaluate=False)

    def _function(self, v: Symbol, function: Expression) -> tuple[Expression, Expression]:
        inside = _inside(function)
        if inside is not None:
            a = self._named(inside)
            value, moved = sp.log(1 + a), [self._absolute(a) / _size(1 + a)]
        else:
            parts = [self._named(part) for part in function.args]
            value = function.func(*parts)
            moved = [
                self._slope(value, k, v) * self._absolute(part)
                for k, part in enumerate(parts)
                if self._absolute(part) != 0
            ]
        zeros = SPECIAL if isinstance(function, _ABSOLUTE) else 0.0
        return value, sp.Add(*moved, _times(_own(function), sp.Abs(v)), zeros)

    def _slope(self, function: Expression, k: int, v: Symbol) -> Expression:
        """The size of the derivative by argument `k`; nan where SymPy has none."""
        known = _SLOPES.get(function.func)
        if known is not None:
            return known(function.args[0], v)
        if isinstance(function, sp.Mod):
            a, b = function.args
            return sp.Integer(1) if k == 0 else 1 + _size(a / b)
        slope = sp.diff(function, function.args[k])
        return sp.nan if slope.has(sp.Derivative, sp.Subs) else _size(slope)


def _own(function: Expression) -> float:
    """What the library that computes a function may be off."""
    return LIBRARY if function.func in _SLOPES else SPECIAL


def _inside(expression: Expression) -> Expression | None:
    """What is inside of an expression that is computed as one function: expm1, log1p, erfc."""
    if isinstance(expression, sp.Add):
        tail = lower_tail(expression)
        return inner_of_expm1(expression) if tail is None else -tail[1]
    return inner_of_log1p(expression) if isinstance(expression, sp.log) else None


def _size(value: Expression) -> Expression:
    """The absolute value, of a product in one piece."""
    whole = value.is_number or value.is_Symbol
    return sp.Abs(value) if whole else sp.Abs(value, evaluate=False)


def _times(factor: float, size: Expression) -> Expression:
    return sp.Integer(0) if factor == 0 else size if factor == 1 else sp.Float(factor) * size


def _is_power_of_two(factor: Expression) -> bool:
    return bool(factor.is_Rational) and factor != 0 and abs(factor.p * factor.q).bit_count() == 1
