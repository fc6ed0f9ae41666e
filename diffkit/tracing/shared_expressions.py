"""Definitions that are shared: a program over scalars instead of one expression.

This module imports SymPy; import it inside functions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Final

import sympy as sp

from diffkit.errors import ExpressionTooLarge

Expression = Any  # a SymPy expression
Symbol = Any  # a SymPy symbol

LONGEST_PRODUCT: Final = 4
WAY_OUT: Final = "use form='array' or backend='tape'"
_STEPS: Final = (sp.floor, sp.ceiling, sp.sign, sp.Heaviside)


class Shared:
    """Definitions that are shared: a straight-line program over scalars.

    Attributes:
        definitions: what each symbol stands for, each after the symbols that it refers to.
        budget: how many operations the definitions may hold together.
        operations: how many they hold.
        dependent: the symbols that depend on `x`.
        varying: those of them that change with `x` other than by jumps.
        position: the place of each symbol in `definitions`.
        way_out: what to do where the budget is exceeded.
    """

    way_out: ClassVar[str] = WAY_OUT

    def __init__(self, budget: int, inputs: Iterable[Symbol]) -> None:
        self.definitions: dict[Symbol, Expression] = {}
        self.budget = budget
        self.operations = 0
        self.dependent: set[Symbol] = set(inputs)
        self.varying: set[Symbol] = set(self.dependent)
        self.position: dict[Symbol, int] = {}
        self._known: dict[Expression, Symbol] = {}

    def define(self, expression: Expression) -> Expression:
        """Return the symbol that stands for an expression; a number or a symbol is its own.

        Raises:
            ExpressionTooLarge: the program exceeds its budget.
        """
        if not expression.args or expression.is_number:
            return expression
        if expression.is_Mul and len(expression.args) > LONGEST_PRODUCT:
            half = len(expression.args) // 2
            parts = expression.args[:half], expression.args[half:]
            expression = sp.Mul(*(self.define(sp.Mul(*part)) for part in parts))
        symbol = self._known.get(expression)
        if symbol is None:
            symbol = self._known[expression] = sp.Dummy(real=True)
            self.position[symbol] = len(self.definitions)
            self.definitions[symbol] = expression
            self._count(expression)
            self._classify(symbol, expression)
        return symbol

    def define_parts(self, expression: Expression) -> Expression:
        """Like `define`, with a symbol for each sum, product and function inside as well.

        Branches are left whole.
        """
        done: dict[Expression, Expression] = {}
        waiting = [expression]
        while waiting:
            current = waiting[-1]
            inner = [e for e in current.args if isinstance(e, sp.Expr) and e.args]
            missing = [e for e in inner if e not in done]
            if missing:
                waiting.extend(missing)
                continue
            waiting.pop()
            done[current] = self.define(current.func(*(done.get(e, e) for e in current.args)))
        return done[expression]

    def known(self, expression: Expression) -> Symbol | None:
        """The symbol that stands for this very expression, if there is one."""
        return self._known.get(expression)

    def varies(self, expression: Expression) -> bool:
        """Whether an expression changes with `x`, other than by jumps."""
        return not self.varying.isdisjoint(expression.free_symbols)

    def reachable(self, expressions: Iterable[Expression]) -> dict[Symbol, Expression]:
        """The definitions that the expressions need, in order."""
        needed: set[Symbol] = set()
        waiting = list(expressions)
        while waiting:
            for symbol in waiting.pop().free_symbols:
                if symbol in self.definitions and symbol not in needed:
                    needed.add(symbol)
                    waiting.append(self.definitions[symbol])
        return {s: e for s, e in self.definitions.items() if s in needed}

    def expanded(
        self, expressions: Sequence[Expression], limit: int, way_out: str = WAY_OUT
    ) -> list[Expression]:
        """The expressions as trees in the inputs and bound symbols alone.

        Raises:
            ExpressionTooLarge: a tree would have more than `limit` operations.
        """
        sizes: dict[Symbol, int] = {}
        trees: dict[Symbol, Expression] = {}
        for symbol, definition in self.reachable(expressions).items():
            sizes[symbol] = tree_operations(definition, sizes)
            require_budget(sizes[symbol], limit, "written out, a part of it", way_out)
            trees[symbol] = definition.xreplace(trees)
        for expression in expressions:
            require_budget(tree_operations(expression, sizes), limit, "written out, it", way_out)
        return [expression.xreplace(trees) for expression in expressions]

    def _classify(self, symbol: Symbol, expression: Expression) -> None:
        if self.dependent.isdisjoint(expression.free_symbols):
            return
        self.dependent.add(symbol)
        if self.varies(_between_jumps(expression)):
            self.varying.add(symbol)

    def _count(self, expression: Expression) -> None:
        self.operations += tree_operations(expression, {})
        what = "the program of the derivative"
        require_budget(self.operations, self.budget, what, self.way_out)


def _between_jumps(expression: Expression) -> Expression:
    """What an expression varies by: steps are constants, conditions only choose."""
    if not expression.has(*_STEPS, sp.Piecewise):
        return expression
    values = sp.Function("values")
    chosen = expression.replace(
        lambda e: isinstance(e, sp.Piecewise), lambda e: values(*(value for value, _ in e.args))
    )
    return chosen.replace(lambda e: isinstance(e, _STEPS), lambda e: sp.Integer(0))


def tree_operations(expression: Expression, sizes: Mapping[Symbol, int]) -> int:
    """How many operations a tree has whose symbols stand for trees of the given sizes."""
    return sum(
        max(1, len(part.args) - 1) if part.args else sizes.get(part, 0)
        for part in sp.preorder_traversal(expression)
    )


def require_budget(operations: int, budget: int, what: str, way_out: str = WAY_OUT) -> None:
    """Refuse what is too large.

    Raises:
        ExpressionTooLarge: there are more operations than the budget allows.
    """
    if operations > budget:
        raise ExpressionTooLarge(
            f"the symbolic derivative is too large: {what} has at least {operations} operations, "
            f"and the budget is {budget}; {way_out}, or raise Symbolic(max_operations=...)"
        )
