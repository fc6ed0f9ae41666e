"""Where several entries are the largest or smallest: pairs that are equal there.

This module imports SymPy; import it inside functions.
"""

from __future__ import annotations

from collections.abc import Sequence

import sympy as sp

from diffkit.backends.symbolic.array.notation import ZERO, ArrayProgram
from diffkit.backends.symbolic.array.operations import Extreme, Shares
from diffkit.backends.symbolic.local import Pair
from diffkit.tracing.shared_expressions import Expression


def shared_extremes(program: ArrayProgram, outputs: Sequence[Expression]) -> list[Pair]:
    """For each extreme a pair that is equal where an entry has a share in it, not all of it."""
    pairs = []
    for symbol, definition in program.reachable(outputs).items():
        if isinstance(definition, Extreme) and symbol in program.varying:
            share = program.apply(Shares((definition.operands[0], symbol), definition.axes))
            none_or_all = sp.Or(sp.Eq(share, 0), sp.Eq(share, 1))
            pairs.append((sp.Piecewise((sp.Integer(1), none_or_all), (ZERO, True)), ZERO))
    return pairs
