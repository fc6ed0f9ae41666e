"""Where a program may bend: pairs of expressions at whose equality a choice changes.

This module imports SymPy; import it inside functions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import Final

import sympy as sp

from diffkit.backends.symbolic.local import Pair
from diffkit.tracing.shared_expressions import Expression, Shared
from diffkit.tracing.to_sympy import Condition

_ORDERS: Final = (
    sp.StrictGreaterThan,
    sp.GreaterThan,
    sp.StrictLessThan,
    sp.LessThan,
)


def kinks_of(
    shared: Shared, outputs: Sequence[Expression], conditions: Iterable[Condition]
) -> dict[Pair, bool]:
    """The pairs at whose equality the outputs, or the branches taken for them, may bend or jump.

    For each, whether the derivative there is shared among equals: that of a maximum or an absolute
    value is, that of a choice by a condition is that of one side.
    """
    definitions = [
        definition
        for symbol, definition in shared.reachable(outputs).items()
        if symbol in shared.dependent
    ]
    expressions = [d for d in definitions if isinstance(d, sp.Basic)]
    pairs: dict[Pair, bool] = {}
    for expression in (*expressions, *(condition.expression for condition in conditions)):
        for pair, shares in _pairs(expression):
            pairs[pair] = shares and pairs.get(pair, True)
    return {p: shares for p, shares in pairs.items() if any(shared.varies(side) for side in p)}


def _pairs(expression: Expression) -> Iterable[tuple[Pair, bool]]:
    for part in sorted(expression.atoms(sp.Abs, sp.Max, sp.Min, *_ORDERS), key=sp.default_sort_key):
        if isinstance(part, sp.Abs):
            yield (part.args[0], sp.Integer(0)), True
        elif isinstance(part, (sp.Max, sp.Min)):
            yield from ((pair, True) for pair in combinations(part.args, 2))
        else:
            yield (part.lhs, part.rhs), False
