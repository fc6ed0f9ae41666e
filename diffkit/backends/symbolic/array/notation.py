"""Programs over arrays: symbols that stand for arrays, defined by scalar or index expressions.

A *scalar expression* in array symbols holds entry by entry, broadcasting as NumPy does. An *index
operation* (`operations`) sums, moves or joins entries. A symbol may be *batched*: it then has one
more leading axis, of any length, that every operation maps over.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
import sympy as sp

from diffkit.tracing.shared_expressions import Expression, Shared, Symbol, require_budget

Shape = tuple[int, ...]
ZERO: Final = sp.Integer(0)


@dataclass(frozen=True)
class Operation(ABC):
    """One index operation. The adjoints and tangents it is given and gives may be smaller than
    what they belong to, where broadcasting repeats them.

    Attributes:
        operands: numbers or array symbols.
        routes: whether every entry of an adjoint that it pulls back is a sum of entries of the
            one it was given, each times a number that is finite.
        constant: whether it changes by jumps only, so that no derivative flows.
    """

    operands: tuple[Expression, ...]
    routes: ClassVar[bool] = True
    constant: ClassVar[bool] = False

    @property
    def free_symbols(self) -> set[Symbol]:
        return {operand for operand in self.operands if operand.is_Symbol}

    @abstractmethod
    def shape(self, shapes: Sequence[Shape]) -> Shape:
        """The shape of the value, without the batch."""

    @abstractmethod
    def push(self, program: ArrayProgram, y: Symbol, tangents: Sequence[Expression]) -> Expression:
        """The tangent of the value `y`, from those of the operands."""

    @abstractmethod
    def pull(self, program: ArrayProgram, y: Symbol, adjoint: Expression, k: int) -> Expression:
        """The adjoint of operand `k`, from that of the value `y`."""


class ArrayProgram(Shared):
    """Definitions of array symbols, each after the symbols that it refers to.

    Attributes:
        shapes: the shape of every symbol, without the batch.
        batched: the symbols with a batch.
    """

    way_out: ClassVar[str] = "use backend='tape'"

    def __init__(self, budget: int) -> None:
        super().__init__(budget, ())
        self.shapes: dict[Symbol, Shape] = {}
        self.batched: set[Symbol] = set()
        self._results: dict[Operation, Symbol] = {}

    def given(self, shape: Shape, *, depends: bool = False, batched: bool = False) -> Symbol:
        """A new symbol for an array from outside; `depends` if derivatives are taken by it."""
        symbol = sp.Dummy(real=True)
        self.shapes[symbol] = shape
        if depends:
            self.dependent.add(symbol)
            self.varying.add(symbol)
        if batched:
            self.batched.add(symbol)
        return symbol

    def apply(self, operation: Operation) -> Symbol:
        """The symbol that stands for the value of an index operation."""
        symbol = self._results.get(operation)
        if symbol is None:
            symbol = self._results[operation] = sp.Dummy(real=True)
            self.position[symbol] = len(self.definitions)
            self.definitions[symbol] = operation
            self.operations += 1
            what = "the program of the derivative"
            require_budget(self.operations, self.budget, what, self.way_out)
            self.shapes[symbol] = operation.shape([self.shape(o) for o in operation.operands])
            self._inherit(symbol, operation.free_symbols, operation.constant)
        return symbol

    def _inherit(self, symbol: Symbol, parts: set[Symbol], constant: bool) -> None:
        if not constant and not self.dependent.isdisjoint(parts):
            self.dependent.add(symbol)
        if not constant and not self.varying.isdisjoint(parts):
            self.varying.add(symbol)
        if not self.batched.isdisjoint(parts):
            self.batched.add(symbol)

    def _classify(self, symbol: Symbol, expression: Expression) -> None:
        super()._classify(symbol, expression)
        parts = expression.free_symbols
        self.shapes[symbol] = self.shape(expression)
        if not self.batched.isdisjoint(parts):
            self.batched.add(symbol)

    def shape(self, expression: Expression) -> Shape:
        """The shape of a scalar expression: that of its symbols together."""
        if expression.is_Symbol:
            return self.shapes[expression]
        return np.broadcast_shapes(*(self.shapes[s] for s in expression.free_symbols))

    def expanded_entry(self, expression: Expression, limit: int) -> Expression:
        """The expression with the scalar definitions written out, index operations left alone."""
        scalar = {s: d for s, d in self.definitions.items() if not isinstance(d, Operation)}
        inner = Shared(self.budget, ())
        inner.definitions = {s: d for s, d in self.reachable([expression]).items() if s in scalar}
        return inner.expanded([expression], limit)[0]


def is_number(expression: Any) -> bool:
    """Whether an operand is a SymPy number, the same for every entry."""
    return bool(expression.is_number)


def total(program: ArrayProgram, terms: Iterable[Expression]) -> Expression:
    """A sum of adjoints or tangents, as a number or a symbol."""
    return program.define(sp.Add(*terms))
