"""Tangents and adjoints of programs over arrays: the chain rule, with broadcasting undone.

What SymPy derives of each scalar operation and the product rule of each index operation is
joined here, forwards or in reverse. The result is part of the program again, so derivatives nest.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

import sympy as sp

from diffkit.backends.symbolic.array.notation import ZERO, ArrayProgram, Operation, total
from diffkit.backends.symbolic.array.operations import Sum, reshaped, summed_to
from diffkit.backends.symbolic.local import LocalDerivatives, where_chosen
from diffkit.tracing.shared_expressions import Expression, Symbol
from diffkit.tracing.to_sympy import Condition

Alive = Expression | None  # not 0 where the adjoint was not dropped by a choice; None: everywhere
Flow = tuple[Symbol, Expression, Alive]


class ArrayDerivatives(LocalDerivatives):
    """Differentiates what an `ArrayProgram` defines, adding the derivatives to it."""

    shared: ArrayProgram

    def __init__(self, program: ArrayProgram, conditions: Iterable[Condition] = ()) -> None:
        super().__init__(program, conditions)
        self.program = program

    # ------------------------------------------------------------------ reverse

    def pulled(
        self,
        outputs: Sequence[Expression],
        seeds: Sequence[Expression],
        by: Sequence[Symbol],
        guarded: bool = False,
    ) -> list[Expression]:
        """The adjoints of some symbols, from those of the outputs.

        A local derivative may be infinite where a branch was not chosen, and 0 times it is not
        a number. If `guarded`, the adjoints of what was not chosen are told apart and stay 0.
        """
        flows: dict[Symbol, list[tuple[Expression, Alive]]] = defaultdict(list)
        pending: list[tuple[int, Symbol]] = []

        def add(symbol: Symbol, adjoint: Expression, alive: Alive) -> None:
            if symbol not in flows and symbol in self.program.position:
                heapq.heappush(pending, (-self.program.position[symbol], symbol))
            flows[symbol].append((adjoint, alive))

        for output, seed in zip(outputs, seeds, strict=True):
            if output in self.program.dependent:
                add(output, seed, None)
        while pending:
            symbol = heapq.heappop(pending)[1]
            adjoint, alive = self._joined(flows.pop(symbol))
            if not adjoint.is_zero:
                for flow in self._from(symbol, adjoint, alive, guarded):
                    add(*flow)
        return [self._joined(flows[symbol])[0] if symbol in flows else ZERO for symbol in by]

    def _joined(self, flows: Sequence[tuple[Expression, Alive]]) -> tuple[Expression, Alive]:
        adjoint = total(self.program, (adjoint for adjoint, _ in flows))
        if any(alive is None for _, alive in flows):
            return adjoint, None
        return adjoint, total(self.program, (alive for _, alive in flows))

    def _from(
        self, symbol: Symbol, adjoint: Expression, alive: Alive, guarded: bool
    ) -> Iterator[Flow]:
        """What flows from one symbol into those that define it."""
        definition = self.program.definitions[symbol]
        if not isinstance(definition, Operation):
            yield from self._from_scalar(symbol, adjoint, alive, guarded)
            return
        for k, operand in enumerate(definition.operands):
            if operand not in self.program.dependent:
                continue
            pulled = definition.pull(self.program, symbol, adjoint, k)
            if alive is None:
                yield operand, pulled, None
            elif definition.routes:
                yield operand, pulled, definition.pull(self.program, symbol, alive, k)
            else:
                yield operand, pulled, self._anywhere(alive)

    def _from_scalar(
        self, symbol: Symbol, adjoint: Expression, alive: Alive, guarded: bool
    ) -> Iterator[Flow]:
        program, whole = self.program, self.program.shapes[symbol]
        for part, contributions in self.partials(symbol).items():
            target = program.shapes[part]
            for choice, partial in contributions:
                flow = program.define(adjoint * partial)
                still = alive
                if guarded and (choice or alive is not None):
                    chosen = sp.Integer(1) if alive is None else alive
                    still = program.define(where_chosen((choice,) if choice else (), chosen))
                    flow = program.define(sp.Piecewise((flow, sp.Ne(still, 0)), (ZERO, True)))
                elif choice:
                    flow = program.define(where_chosen((choice,), flow))
                if still is not None:
                    still = summed_to(program, still, whole, target)
                yield part, summed_to(program, flow, whole, target), still

    def _anywhere(self, alive: Expression) -> Expression:
        axes = tuple(i for i, n in enumerate(self.program.shape(alive)) if n != 1)
        if axes:
            alive = self.program.apply(Sum((alive,), axes))
        return reshaped(self.program, alive, ())

    # ------------------------------------------------------------------ forwards

    def pushed(
        self, outputs: Sequence[Expression], tangents: Mapping[Symbol, Expression]
    ) -> list[Expression]:
        """The tangents of the outputs, from those of some symbols."""
        known: dict[Symbol, Expression] = dict(tangents)
        for symbol, definition in self.program.reachable(outputs).items():
            if symbol not in self.program.dependent:
                continue
            tangent = (
                self._along_operation(symbol, definition, known)
                if isinstance(definition, Operation)
                else self._along_scalar(symbol, known)
            )
            if not tangent.is_zero:
                known[symbol] = tangent
        return [known.get(output, ZERO) for output in outputs]

    def _along_operation(
        self, symbol: Symbol, definition: Operation, known: Mapping[Symbol, Expression]
    ) -> Expression:
        tangents = [known.get(operand, ZERO) for operand in definition.operands]
        if all(tangent.is_zero for tangent in tangents):
            return ZERO
        return definition.push(self.program, symbol, tangents)

    def _along_scalar(self, symbol: Symbol, known: Mapping[Symbol, Expression]) -> Expression:
        terms = []
        for part, contributions in self.partials(symbol).items():
            for choice, partial in contributions if part in known else ():
                flow = self.program.define(partial * known[part])
                terms.append(where_chosen((choice,), flow) if choice else flow)
        return total(self.program, map(self.program.define, terms))
