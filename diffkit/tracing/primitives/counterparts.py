"""Helpers for the SymPy and the arbitrary-precision column of the table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from diffkit.errors import UnsupportedOperation
from diffkit.tracing.graph import Rule


def number(S: Any, a: Any) -> Any:
    """`a` as a SymPy number: a condition counts as 1 where it holds and as 0 elsewhere."""
    a = S.sympify(a)
    return a if isinstance(a, S.Expr) else S.Piecewise((S.Integer(1), a), (S.Integer(0), True))


def truth(S: Any, a: Any) -> Any:
    """`a` as a SymPy condition: a number holds where it is not zero."""
    a = S.sympify(a)
    return S.Ne(a, 0) if isinstance(a, S.Expr) else a


def condition(S: Any, a: Any) -> Any:
    """`a`, which must be a SymPy condition already."""
    a = S.sympify(a)
    if isinstance(a, S.Expr):
        raise UnsupportedOperation(
            "a bitwise operation on integers has no symbolic counterpart; write it with //, % and *"
        )
    return a


def in_sympy(operation: Callable[..., Any]) -> Rule:
    """The column of an operation that Python's operators do on SymPy expressions."""
    return lambda S, *arguments: operation(*(number(S, a) for a in arguments))


def function_of_sympy(name: str, convert: Callable[[Any, Any], Any] = number) -> Rule:
    """The column that calls one function of SymPy on converted arguments."""
    return lambda S, *arguments: getattr(S, name)(*(convert(S, a) for a in arguments))


def differ(S: Any, a: Any, b: Any) -> Any:
    """`a != b`; a condition compared with 0, as `np.piecewise` does, is the condition itself."""
    a, b = S.sympify(a), S.sympify(b)
    if not isinstance(a, S.Expr) and b == 0:
        return a
    return S.Ne(number(S, a), number(S, b))


def truncated(S: Any, a: Any) -> Any:
    """The integer part of a SymPy expression, rounded towards zero."""
    return S.Piecewise((S.floor(a), a >= 0), (S.ceiling(a), True))


def rounded(S: Any, a: Any) -> Any:
    """The nearest integer to a SymPy expression; of two equally near ones, the even one."""
    up = S.floor(a + S.Rational(1, 2))
    tie_went_to_odd = S.Eq(S.Mod(a + S.Rational(1, 2), 2), 1)
    return up - S.Piecewise((1, tie_went_to_odd), (0, True))


def real_cube_root(S: Any, a: Any) -> Any:
    third = S.Rational(1, 3)
    return S.Piecewise((a**third, a >= 0), (-((-a) ** third), True))
