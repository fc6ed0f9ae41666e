"""Derivatives of single operations, each SymPy's own, on fresh symbols.

This module imports SymPy; import it inside functions.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, Final

import sympy as sp

from diffkit.tracing.shared_expressions import Expression, Shared, Symbol
from diffkit.tracing.to_sympy import Condition

Pair = tuple[Expression, Expression]
Choice = tuple[Any, ...]  # the conditions of a branch: the last holds, those before do not
Chosen = tuple[Choice, ...]
Contribution = tuple[Choice, Expression]

SINC_TERMS: Final = 16


class LocalDerivatives:
    """Differentiates each operation that a `Shared` defines, by SymPy.

    Attributes:
        shared: the definitions.
        ties: pairs of expressions; where a pair is equal, a branch that holds at single points
            only decides the value, or a step jumps, and no derivative here can be trusted.
    """

    def __init__(self, shared: Shared, conditions: Iterable[Condition] = ()) -> None:
        self.shared = shared
        self.ties: dict[Pair, None] = {}
        self._local: dict[Symbol, dict[Symbol, list[Contribution]]] = {}
        self._patterns: dict[Expression, list[Expression]] = {}
        self._places: list[Symbol] = []
        for condition in conditions:
            self._tie(self._equalities(condition.expression))

    def partials(self, symbol: Symbol) -> dict[Symbol, list[Contribution]]:
        """The derivatives of one definition by the symbols in it, branch by branch."""
        if symbol not in self._local:
            partials = self._differentiated(self.shared.definitions[symbol])
            self._local[symbol] = {
                part: self._contributions(partial) for part, partial in partials.items()
            }
        return self._local[symbol]

    def _contributions(self, partial: Expression) -> list[Contribution]:
        if isinstance(partial, sp.Piecewise) and not self._equalities(partial):
            conditions = tuple(condition for _, condition in partial.args)
            branches = [
                (conditions[: i + 1], self.shared.define(value))
                for i, (value, _) in enumerate(partial.args)
            ]
        else:
            branches = [((), self.shared.define(partial))]
        return [(choice, value) for choice, value in branches if not value.is_zero]

    def _differentiated(self, expression: Expression) -> dict[Symbol, Expression]:
        equalities = self._equalities(expression) if expression.has(sp.Piecewise) else []
        if equalities:
            return self._across(expression, equalities)
        sums: dict[Symbol, list[Expression]] = defaultdict(list)
        for term in sp.Add.make_args(expression):
            for part, partial in self._term(term).items():
                sums[part].append(partial)
        return {part: sp.Add(*terms) for part, terms in sums.items()}

    def _term(self, term: Expression) -> dict[Symbol, Expression]:
        parts = _in_order(term)
        active = [part for part in parts if part in self.shared.dependent]
        if term.has(sp.floor, sp.ceiling, sp.Mod):
            return {part: self._between_jumps(term, part) for part in active}
        places = self._placeholders(len(parts))
        pattern = term.xreplace(dict(zip(parts, places, strict=True)))
        if pattern not in self._patterns:
            self._patterns[pattern] = [derivative(pattern, place) for place in places]
        back = dict(zip(places, parts, strict=True))
        reuse = self._reuse(term)
        partials = dict(zip(parts, self._patterns[pattern], strict=True))
        return {part: partials[part].xreplace(back).xreplace(reuse) for part in active}

    def _placeholders(self, count: int) -> list[Symbol]:
        while len(self._places) < count:
            self._places.append(sp.Dummy(real=True))
        return self._places[:count]

    def _reuse(self, term: Expression) -> dict[Expression, Symbol]:
        """What the term itself stands for, so that exp'(x) is the exponential already there."""
        symbol = self.shared.known(term)
        return {} if symbol is None or not term.is_Function else {term: symbol}

    def _between_jumps(self, term: Expression, part: Symbol) -> Expression:
        """The derivative where no step jumps; the jumps are ties."""
        smooth = term.replace(sp.Mod, lambda a, b: a - b * sp.floor(a / b))
        frozen = {}
        for step in smooth.atoms(sp.floor, sp.ceiling):
            frozen[step] = sp.Dummy(real=True)
            if self.shared.varies(step):
                self._tie([(step.args[0], step)])
        thawed = {constant: step for step, constant in frozen.items()}
        return derivative(smooth.xreplace(frozen), part).xreplace(thawed)

    # ------------------------------------------------------------------ branches at single points

    def _equalities(self, expression: Expression) -> list[Pair]:
        """The pairs whose equality decides what an expression is."""
        return [
            (e.lhs, e.rhs)
            for e in sorted(expression.atoms(sp.Eq, sp.Ne), key=sp.default_sort_key)
            if self.shared.varies(e)
        ]

    def _tie(self, pairs: Iterable[Pair]) -> None:
        self.ties.update(dict.fromkeys(pairs))

    def _across(self, expression: Expression, pairs: Sequence[Pair]) -> dict[Symbol, Expression]:
        """The derivatives of what is another formula where a pair is equal.

        There the derivative is the limit of the derivatives around, if the function is
        continuous and the limit exists; otherwise the pair is a tie.
        """
        active = [part for part in _in_order(expression) if part in self.shared.dependent]
        if len(active) == 1 and len(set(pairs)) == 1:
            filled = _limit_of_derivative(expression, active[0], pairs[0])
            if filled is not None:
                return {active[0]: filled}
        self._tie(pairs)
        return {part: self._between_jumps(expression, part) for part in active}


def where_chosen(chosen: Chosen, value: Expression) -> Expression:
    """The value where all choices hold, else 0, even if it is not a number there."""
    for *others, condition in reversed(chosen):
        zeros = [(sp.Integer(0), other) for other in others]
        value = sp.Piecewise(*zeros, (value, condition), (sp.Integer(0), True))
    return value


def _limit_of_derivative(expression: Expression, part: Symbol, pair: Pair) -> Expression | None:
    left, right = pair
    slope = sp.diff(left - right, part)
    if part in slope.free_symbols or slope.is_zero:
        return None
    point = sp.expand(part - (left - right) / slope)
    equal = {e: e.func is sp.Eq for e in expression.atoms(sp.Eq, sp.Ne)}
    there = expression.xreplace({e: sp.true if v else sp.false for e, v in equal.items()})
    around = expression.xreplace({e: sp.false if v else sp.true for e, v in equal.items()})
    slope_around = derivative(around, part)
    try:
        gap = sp.limit(around, part, point, "+-") - there.subs(part, point)
        limit = sp.limit(slope_around, part, point, "+-")
        continuous = sp.simplify(gap).is_zero
    except (NotImplementedError, ValueError, TypeError):
        return None
    if not continuous or limit.has(sp.oo, sp.zoo, sp.nan, sp.Limit, sp.AccumBounds, sp.DiracDelta):
        return None
    return sp.Piecewise((limit, sp.Eq(part, point)), (slope_around, True))


# ---------------------------------------------------------------------- SymPy's derivative


def derivative(expression: Expression, part: Symbol) -> Expression:
    """SymPy's derivative, in a form that keeps its digits in floating point.

    Each rewriting is an identity: x^n n/x is n x^(n-1), 1 - tanh² is sech², 1 - u² is
    (1 - u)(1 + u), quotients of exponentials are brought over one denominator (which would
    take 2 - erfc apart), and sinc has its series near 0.
    """
    steady = expression.replace(sp.sinc, _sinc)
    result = sp.diff(steady, part)
    if any(not power.exp.is_number for power in result.atoms(sp.Pow)):
        result = sp.powsimp(result)
    if result.has(sp.exp) and result.is_Add and not result.has(sp.erfc):
        result = sp.factor(result)
    return result.replace(lambda e: e.is_Add and len(e.args) == 2, _without_cancellation)


def _without_cancellation(total: Expression) -> Expression:
    rest = 1 - total
    if not (rest.is_Pow and rest.exp == 2):
        return total
    if isinstance(rest.base, sp.tanh):
        return sp.sech(rest.base.args[0]) ** 2
    return sp.Mul(1 - rest.base, 1 + rest.base, evaluate=False)


def _sinc(u: Expression) -> Expression:
    series = sum((-1) ** k * u ** (2 * k) / sp.factorial(2 * k + 1) for k in range(SINC_TERMS))
    return sp.Piecewise((series, sp.Abs(u) < 1), (sp.sin(u) / u, True))


def _in_order(expression: Expression) -> list[Symbol]:
    """The symbols of an expression, each once, in the order in which they occur."""
    return list(dict.fromkeys(s for s in sp.preorder_traversal(expression) if s.is_Symbol))
