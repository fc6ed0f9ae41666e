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
) -> list[Pair]:
    """The pairs at whose equality the outputs, or the branches taken for them, may bend or jump."""
    definitions = [
        definition
        for symbol, definition in shared.reachable(outputs).items()
        if symbol in shared.dependent
    ]
    expressions = [d for d in definitions if isinstance(d, sp.Basic)]
    pairs: dict[Pair, None] = {}
    for expression in (*expressions, *(condition.expression for condition in conditions)):
        pairs.update(dict.fromkeys(_pairs(expression)))
    return [pair for pair in pairs if any(shared.varies(side) for side in pair)]


def _pairs(expression: Expression) -> Iterable[Pair]:
    for part in sorted(expression.atoms(sp.Abs, sp.Max, sp.Min, *_ORDERS), key=sp.default_sort_key):
        if isinstance(part, sp.Abs):
            yield part.args[0], sp.Integer(0)
        elif isinstance(part, (sp.Max, sp.Min)):
            yield from combinations(part.args, 2)
        else:
            yield part.lhs, part.rhs
