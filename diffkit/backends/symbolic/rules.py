"""Derivatives of scalar programs: SymPy differentiates each operation, the chain rule joins them.

Every derivative here is SymPy's, of one elementary operation on fresh symbols at a time; the
walks over the program only multiply and add. The result is a program again, so derivatives
nest to any order and never unfold to a tree.

This module imports SymPy; import it inside functions.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import sympy as sp

from diffkit.backends.symbolic.local import Choice, Chosen, LocalDerivatives, where_chosen
from diffkit.tracing.shared_expressions import Expression, Shared, Symbol
from diffkit.tracing.to_sympy import Condition

Terms = dict[Chosen, list[Expression]]


class Derivatives(LocalDerivatives):
    """Differentiates what a `Shared` defines, adding the derivatives to its definitions."""

    def __init__(self, shared: Shared, conditions: Iterable[Condition] = ()) -> None:
        super().__init__(shared, conditions)
        self._users: dict[Symbol, list[Symbol]] = defaultdict(list)
        self._registered = 0

    def gradient(self, output: Expression) -> dict[Symbol, Expression]:
        """The derivatives of one expression by the symbols it depends on, in reverse mode."""
        start = self.shared.define(output)
        if start not in self.shared.dependent:
            return {}
        sums: dict[Symbol, Terms] = {start: {(): [sp.Integer(1)]}}
        pending = self._heap([start], sign=-1)
        while pending:
            symbol = heapq.heappop(pending)[1]
            chosen, adjoint = self._summed(sums.pop(symbol))
            if adjoint.is_zero:
                continue
            for part, contributions in self.partials(symbol).items():
                if part not in sums:
                    sums[part] = defaultdict(list)
                    for item in self._heap([part], sign=-1):
                        heapq.heappush(pending, item)
                for choice, partial in contributions:
                    sums[part][_narrowed(chosen, choice)].append(adjoint * partial)
        return {symbol: self._total(terms) for symbol, terms in sums.items()}

    def along(
        self, outputs: Sequence[Expression], tangents: Mapping[Symbol, Expression]
    ) -> list[Expression]:
        """The derivatives of expressions along a tangent (by input symbol), in forward mode."""
        defined = [self.shared.define(output) for output in outputs]
        needed = self.shared.reachable(defined)
        self._register_users()
        known: dict[Symbol, Expression] = dict(tangents)
        pending = self._heap([u for s in tangents for u in self._users[s] if u in needed], sign=1)
        queued = {symbol for _, symbol in pending}
        while pending:
            symbol = heapq.heappop(pending)[1]
            terms: Terms = defaultdict(list)
            for part, contributions in self.partials(symbol).items():
                for choice, partial in contributions if part in known else ():
                    terms[_narrowed((), choice)].append(partial * known[part])
            tangent = self._total(terms)
            if tangent.is_zero:
                continue
            known[symbol] = tangent
            for user in self._users[symbol]:
                if user in needed and user not in queued:
                    queued.add(user)
                    heapq.heappush(pending, (self.shared.position[user], user))
        return [known.get(symbol, sp.Integer(0)) for symbol in defined]

    def _summed(self, terms: Terms) -> tuple[Chosen, Expression]:
        """A sum, and the choices without which it counts for nothing."""
        if len(terms) == 1:
            ((chosen, summands),) = terms.items()
            return chosen, self.shared.define(sp.Add(*summands))
        return (), self._total(terms)

    def _total(self, terms: Terms) -> Expression:
        parts = [
            where_chosen(chosen, self.shared.define(sp.Add(*summands)))
            for chosen, summands in terms.items()
        ]
        return self.shared.define(sp.Add(*parts))

    def _heap(self, symbols: Iterable[Symbol], sign: int) -> list[tuple[int, Symbol]]:
        """The defined ones among the symbols, as a heap by place in the program."""
        position = self.shared.position
        heap = [(sign * position[s], s) for s in dict.fromkeys(symbols) if s in position]
        heapq.heapify(heap)
        return heap

    def _register_users(self) -> None:
        for symbol, definition in list(self.shared.definitions.items())[self._registered :]:
            for part in definition.free_symbols:
                self._users[part].append(symbol)
        self._registered = len(self.shared.definitions)


def _narrowed(chosen: Chosen, choice: Choice) -> Chosen:
    return chosen if not choice or choice in chosen else (*chosen, choice)
