"""The table as a whole: no row without its columns, and all columns compute the same number."""

from __future__ import annotations

from typing import Any

import mpmath
import numpy as np
import pytest
import sympy as sp
from elementwise_cases import BINARY, EASY, UNARY, Points

import diffkit as dk
from diffkit.arithmetic import FlintSeries, MultiPrecision
from diffkit.tracing.graph import Missing, Same
from diffkit.tracing.primitives import FUNCTIONS, PRIMITIVES

# ---------------------------------------------------------------------- the table itself


@pytest.mark.parametrize("name", PRIMITIVES)
def test_every_row_has_its_four_columns_or_says_why_not(name: str) -> None:
    row = PRIMITIVES[name]
    assert row.name == name
    assert callable(row.function)
    if isinstance(row.pullbacks, Missing):
        assert row.pullbacks.reason
    elif not callable(row.pullbacks):
        assert all(rule is None or callable(rule) for rule in row.pullbacks)
    for column, namespaces in ((row.sympy, [sp]), (row.exact, [MultiPrecision(), FlintSeries()])):
        if isinstance(column, str):
            assert all(callable(getattr(space, column)) for space in namespaces)
        elif isinstance(column, Missing):
            assert column.reason
        else:
            assert callable(column) or isinstance(column, Same)


def test_every_elementwise_row_with_a_derivative_is_in_the_cases() -> None:
    elsewhere = {
        "where",
        "heaviside",
        "ldexp",
        "power_log",
        "sinc_derivative",
        "steady",
        "i0",
        "i0_derivative",
    }
    rows = {
        name
        for name, row in PRIMITIVES.items()
        if row.elementwise and row.differentiable and not name.startswith("scipy.")
    }
    assert rows == set(UNARY) | set(BINARY) | elsewhere


def test_aliases_share_one_row() -> None:
    for alias, name in ((np.radians, "deg2rad"), (np.degrees, "rad2deg"), (np.mod, "remainder")):
        assert FUNCTIONS[alias] is PRIMITIVES[name]


# ---------------------------------------------------------------------- the other columns

STEP_POINTS: dict[str, Points] = {
    **{name: [(2.25,), (-2.25,), (2.5,), (3.5,), (-2.5,), (0.0,)]
       for name in ("sign", "floor", "ceil", "trunc", "rint")},
    **{name: [(1.0, 2.0), (2.0, 1.0), (2.0, 2.0)]
       for name in ("less", "less_equal", "greater", "greater_equal", "equal", "not_equal")},
    **{name: [(1.0, 0.0), (0.0, 0.0), (2.0, 3.0)]
       for name in ("logical_and", "logical_or", "logical_xor")},
    "logical_not": [(0.0,), (2.0,)],
    "floor_divide": [(7.5, 2.0), (-7.5, 2.0)],
    "heaviside": [(-1.0, 0.5), (0.0, 0.25), (2.0, 0.5)],
    "signbit": [(-1.0,), (2.0,)],
    "isnan": [(1.0,)], "isinf": [(1.0,)], "isfinite": [(1.0,)],
    "ldexp": [(1.5, 3)],
    "where": [(1.0, 2.0, 3.0), (0.0, 2.0, 3.0)],
}  # fmt: skip
COLUMNS = [
    *((name, point) for name, points in STEP_POINTS.items() for point in points),
    *((name, point) for name, (_, point) in EASY.items()),
]


def in_sympy(name: str, *arguments: Any) -> Any:
    column: Any = PRIMITIVES[name].sympy
    return getattr(sp, column)(*arguments) if isinstance(column, str) else column(sp, *arguments)


def value_in_sympy(name: str, point: tuple[float, ...]) -> float:
    symbols = sp.symbols(f"x:{len(point)}", real=True)
    expression = sp.sympify(in_sympy(name, *symbols))
    value = expression.subs(dict(zip(symbols, map(sp.Rational, point), strict=True)))
    return float(sp.N(value, 30)) if isinstance(value, sp.Expr) else float(bool(value))


def value_in_arithmetic(name: str, point: tuple[float, ...], A: Any) -> float:
    column: Any = PRIMITIVES[name].exact
    rule = getattr(A, column) if isinstance(column, str) else lambda *a: column(A, *a)
    value = rule(*(A.constant(x) for x in point))
    return float(value) if isinstance(value, bool) else float(mpmath.mpf(value))


@pytest.mark.parametrize(("name", "point"), COLUMNS)
def test_every_column_computes_the_same_number(name: str, point: tuple[float, ...]) -> None:
    value = float(PRIMITIVES[name].function(*point))
    assert value_in_sympy(name, point) == pytest.approx(value, rel=1e-13)
    assert value_in_arithmetic(name, point, MultiPrecision(40)) == pytest.approx(value, rel=1e-13)


def test_conditions_count_as_numbers_and_numbers_as_conditions_in_sympy() -> None:
    x = sp.Symbol("x", real=True)
    masked = in_sympy("multiply", x, x > 0)
    assert (masked.subs(x, 3), masked.subs(x, -3)) == (3, 0)
    both = in_sympy("logical_and", x, x < 2)
    assert (both.subs(x, 1), both.subs(x, 0)) == (sp.true, sp.false)
    with pytest.raises(dk.UnsupportedOperation):
        in_sympy("bitwise_and", x, x)
