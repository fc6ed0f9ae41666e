"""Ties, operation by operation: where a choice hangs on equality, and what decides it beside.

At a tie an operation takes one course on one side of the point and another on the other side.
For a step along a direction the first-order change of the arguments (their tangents) says which.
A row of the table says where its operation is tied, and what the operation is on a side: other
values where it jumps or gives an outcome, other slopes where it bends.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from diffkit.backends.tape.elementwise_kinks import ELEMENTWISE
from diffkit.backends.tape.kink import Kink, Sided, Static, Values
from diffkit.backends.tape.lane_kinks import OF_LANES
from diffkit.tracing.graph import Missing, Primitive

KINKS: Final[dict[str, Kink]] = {**ELEMENTWISE, **OF_LANES}


def some_tie(of: str, y: Any, arguments: Values, static: Static) -> bool:
    """Whether an operation is tied anywhere; `y` is needed only if it reduces."""
    kink = KINKS[of]
    if kink.some is not None:
        return kink.some(y, *arguments, **static)
    return bool(np.count_nonzero(kink.tied(y, *arguments, **static)))


# ---------------------------------------------------------------------- a derivative at a tie

_WITHIN: Final = Missing("it stands for a derivative at a tie, inside another derivative")


def _corrected_adjoint(g: Any, y: Any, shared: Any, *, correction: Any) -> Any:
    return g


CORRECTED: Final = Primitive(
    "corrected",  # a derivative in which ties are shared, corrected to what the sides agree on
    lambda shared, *, correction: shared + correction,
    (_corrected_adjoint,),
    _WITHIN,
    _WITHIN,
)


def _uncorrected(tied: Any, y: Any, arguments: Values, tangents: Values, static: Static) -> Sided:
    """Beside the tie nothing is shared."""
    return Sided(arguments[0], (np.ones(np.shape(y)),))


BENEATH: Final = Primitive(
    "beneath",  # the value of a function, in the recording of its derivative
    lambda value: value,
    _WITHIN,
    _WITHIN,
    _WITHIN,
)

KINKS["corrected"] = Kink(
    lambda y, shared, *, correction: np.not_equal(correction, 0), _uncorrected
)
