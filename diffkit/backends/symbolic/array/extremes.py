"""The largest and smallest entries of an array, and where several are.

This module imports SymPy; import it inside functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import sympy as sp

from diffkit.backends.symbolic.array.notation import ZERO, ArrayProgram, Operation, Shape
from diffkit.backends.symbolic.array.operations import Sum
from diffkit.backends.symbolic.local import Pair
from diffkit.tracing.shared_expressions import Expression, Symbol


@dataclass(frozen=True)
class Extreme(Operation):
    """The largest or smallest entry along some axes, which stay with length 1.

    Its derivative selects the entries that are extreme, equal ones sharing.
    """

    axes: tuple[int, ...]
    largest: bool

    def shape(self, shapes: Sequence[Shape]) -> Shape:
        return tuple(1 if i in self.axes else n for i, n in enumerate(shapes[0]))

    def _shares(self, program: ArrayProgram, y: Symbol) -> Symbol:
        return program.apply(Shares((self.operands[0], y), self.axes))

    def push(self, program: ArrayProgram, y: Symbol, tangents: Sequence[Expression]) -> Expression:
        selected = program.define(self._shares(program, y) * tangents[0])
        return program.apply(Sum((selected,), self.axes))

    def pull(self, program: ArrayProgram, y: Symbol, adjoint: Expression, k: int) -> Expression:
        return program.define(self._shares(program, y) * adjoint)


@dataclass(frozen=True)
class Shares(Operation):
    """For each entry 1 over how many are extreme if it is itself, else 0."""

    axes: tuple[int, ...]
    constant: ClassVar[bool] = True

    def shape(self, shapes: Sequence[Shape]) -> Shape:
        return shapes[0]

    def push(self, program: ArrayProgram, y: Symbol, tangents: Sequence[Expression]) -> Expression:
        return ZERO

    def pull(self, program: ArrayProgram, y: Symbol, adjoint: Expression, k: int) -> Expression:
        return ZERO


def shared_extremes(program: ArrayProgram, outputs: Sequence[Expression]) -> list[Pair]:
    """For each extreme a pair that is equal where an entry has a share in it, not all of it."""
    pairs = []
    for symbol, definition in program.reachable(outputs).items():
        if isinstance(definition, Extreme) and symbol in program.varying:
            share = program.apply(Shares((definition.operands[0], symbol), definition.axes))
            none_or_all = sp.Or(sp.Eq(share, 0), sp.Eq(share, 1))
            pairs.append((sp.Piecewise((sp.Integer(1), none_or_all), (ZERO, True)), ZERO))
    return pairs
