"""One-sided derivatives along a direction: at a kink the direction decides which piece counts.

Along x + t v with t > 0 a quantity that is equal to another lies above it if its tangent does.
Where the tangents are equal too, nothing is decided here, and the result is not a number.

This module imports SymPy; import it inside functions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import sympy as sp

from diffkit.backends.symbolic.local import derivative
from diffkit.tracing.shared_expressions import Expression, Shared, Symbol

_KINKED: Final = (sp.Abs, sp.Max, sp.Min, sp.Piecewise)
_JUMPS: Final = (sp.sign, sp.floor, sp.ceiling, sp.Heaviside, sp.Mod)
_SPECIAL: Final = (*_KINKED, *_JUMPS)


class OneSided:
    """Tangents to the right of a point, as definitions of a shared program."""

    def __init__(self, shared: Shared, tangents: Mapping[Symbol, Expression]) -> None:
        self.shared = shared
        self._tangents: dict[Symbol, Expression] = dict(tangents)

    def along(self, outputs: Sequence[Expression]) -> list[Expression]:
        """The tangents of expressions in what the program defines."""
        for symbol, definition in self.shared.reachable(outputs).items():
            if symbol in self.shared.dependent:
                self._tangents[symbol] = self.shared.define(self._tangent(definition))
        return [self._tangent(output) for output in outputs]

    def holds(self, condition: Any) -> tuple[Any, Any]:
        """Whether a condition holds to the right of the point, and whether that is decided."""
        if condition in (sp.true, sp.false):
            return condition, sp.true
        if isinstance(condition, (sp.And, sp.Or, sp.Not, sp.Xor)):
            parts = [self.holds(part) for part in condition.args]
            return condition.func(*(part for part, _ in parts)), sp.And(*(d for _, d in parts))
        a, b = condition.lhs, condition.rhs
        if self.shared.dependent.isdisjoint(condition.free_symbols):
            return condition, sp.true
        slope = self.shared.define(self._tangent(a) - self._tangent(b))
        if slope.is_zero:
            return condition, sp.true
        equal, known = sp.Eq(a, b), sp.Or(sp.Ne(a, b), sp.Ne(slope, 0))
        if isinstance(condition, (sp.Eq, sp.Ne)):
            return sp.false if isinstance(condition, sp.Eq) else sp.true, known
        if isinstance(condition, (sp.StrictGreaterThan, sp.GreaterThan)):
            return sp.Or(a > b, sp.And(equal, slope > 0)), known
        return sp.Or(a < b, sp.And(equal, slope < 0)), known

    # ------------------------------------------------------------------ one expression

    def _tangent(self, expression: Expression) -> Expression:
        if expression.is_Symbol:
            return self._tangents.get(expression, sp.Integer(0))
        if self.shared.dependent.isdisjoint(expression.free_symbols):
            return sp.Integer(0)
        if isinstance(expression, sp.Abs):
            return self._of_absolute(expression.args[0])
        if isinstance(expression, (sp.Max, sp.Min)):
            return self._of_extreme(expression)
        if isinstance(expression, sp.Piecewise):
            return self._of_pieces(expression)
        if isinstance(expression, _JUMPS):
            return self._of_jump(expression)
        return self._of_smooth(expression)

    def _of_smooth(self, expression: Expression) -> Expression:
        """By the chain rule, what has kinks inside standing for itself."""
        inner: dict[Expression, Symbol] = {}
        smooth = expression.replace(
            lambda e: isinstance(e, _SPECIAL),
            lambda e: inner.setdefault(e, sp.Dummy(real=True)),
        )
        back = {symbol: inside for inside, symbol in inner.items()}
        terms = []
        for part in smooth.free_symbols:
            tangent = self._tangent(back.get(part, part).xreplace(back))
            if not tangent.is_zero:
                terms.append(derivative(smooth, part).xreplace(back) * tangent)
        return sp.Add(*terms)

    def _of_absolute(self, inside: Expression) -> Expression:
        slope = self._tangent(inside)
        return sp.Piecewise(
            (sp.Abs(slope), sp.Eq(inside, 0)), (slope, inside > 0), (-slope, sp.true)
        )

    def _of_extreme(self, expression: Expression) -> Expression:
        """Of the extreme members the extreme tangent."""
        value, *others = expression.args
        slope = self._tangent(value)
        larger = isinstance(expression, sp.Max)
        for other in others:
            beside = self._tangent(other)
            wins, loses = (
                (value > other, value < other) if larger else (value < other, value > other)
            )
            tied = expression.func(slope, beside)
            slope = self.shared.define(
                sp.Piecewise((slope, wins), (beside, loses), (tied, sp.true))
            )
            value = self.shared.define(expression.func(value, other))
        return slope

    def _of_pieces(self, expression: Expression) -> Expression:
        """Of the piece to the right, if the function is continuous there and it is decided."""
        values, slopes, decided = [], [], []
        for value, condition in expression.args:
            there, known = self.holds(condition)
            values.append((value, there))
            slopes.append((self.shared.define(self._tangent(value)), there))
            decided.append(known)
        gap = self.shared.define(sp.Piecewise(*values) - expression)
        sound = sp.And(*decided, sp.Eq(gap, 0))
        return sp.Piecewise((sp.Piecewise(*slopes), sound), (sp.nan, sp.true))

    def _of_jump(self, expression: Expression) -> Expression:
        """Zero, or of a remainder the slope, away from the jump, which is not decided."""
        if isinstance(expression, sp.Mod):
            a, b = expression.args
            return self._tangent(a - b * sp.floor(a / b))
        inside = expression.args[0]
        steps = isinstance(expression, (sp.floor, sp.ceiling))
        at_jump = sp.Eq(inside, expression) if steps else sp.Eq(inside, 0)
        return sp.Piecewise((sp.nan, at_jump), (sp.Integer(0), sp.true))
