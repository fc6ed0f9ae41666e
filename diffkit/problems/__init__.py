"""Named problems: functions with a point, a source, and derivatives written out by hand.

Tests, comparisons and reports share them. Everything is plain NumPy on scalars and arrays;
derivatives take the same arguments as the function.
"""

from __future__ import annotations

from difflib import get_close_matches

from diffkit.errors import InvalidInput
from diffkit.problems.definition import Problem
from diffkit.problems.scalar import SCALAR_PROBLEMS, logistic_map
from diffkit.problems.vector import VECTOR_PROBLEMS, helmholtz, helmholtz_data

__all__ = ["PROBLEMS", "Problem", "helmholtz", "helmholtz_data", "logistic_map", "problem"]

PROBLEMS: dict[str, Problem] = {p.name: p for p in (*SCALAR_PROBLEMS, *VECTOR_PROBLEMS)}


def problem(name: str) -> Problem:
    """Return the problem of that name.

    Raises:
        InvalidInput: there is none; the message lists the names.
    """
    if name in PROBLEMS:
        return PROBLEMS[name]
    close = get_close_matches(name, PROBLEMS, n=1) if isinstance(name, str) else []
    hint = f"; did you mean {close[0]!r}" if close else ""
    raise InvalidInput(f"unknown problem {name!r}{hint}; choose one of {', '.join(PROBLEMS)}")
