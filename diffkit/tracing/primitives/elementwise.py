"""Smooth elementwise rows: arithmetic, powers, exponentials, trigonometry.

A rule is read as `g` times the derivative. Some functions need a helper row, a function that
NumPy lacks and whose own rule keeps the higher derivatives right where the textbook formula
cancels, overflows or divides zero by zero.
"""

from __future__ import annotations

import math
import operator
from typing import Any, Final

import numpy as np

from diffkit.structure import is_traced
from diffkit.tracing.graph import Primitive
from diffkit.tracing.primitives.counterparts import in_sympy, real_cube_root
from diffkit.tracing.primitives.rows import FUNCTIONS, defines, elementwise, row

LN2: Final = math.log(2)
LN10: Final = math.log(10)

# ---------------------------------------------------------------------- helper rows


def _sech(x: Any, out: Any = None) -> Any:
    with np.errstate(over="ignore"):  # the quotient is 0 there
        cosh = np.cosh(x, out)
    return np.divide(1.0, cosh, cosh if isinstance(cosh, np.ndarray) else None)


sech = row(
    "sech",
    _sech,
    (lambda g, y, x: -g * y * np.tanh(x),),
    sympy="sech",
    exact=lambda A, x: A.reciprocal(A.cosh(x)),
    elementwise=True,
)


def _logistic(x: Any) -> Any:
    return np.exp(np.minimum(x, 0)) / (1 + np.exp(-np.abs(x)))


logistic: Primitive = row(
    "logistic",
    _logistic,
    (lambda g, y, x: g * y * logistic(-x),),
    sympy=lambda S, x: 1 / (1 + S.exp(-x)),
    exact="sigmoid",
    elementwise=True,
)


def _ratio(a: Any, b: Any) -> Any:
    with np.errstate(all="ignore"):
        quotient = np.divide(a, b)
    return quotient if np.all(b) else np.where((a == 0) & (b == 0), 0, quotient)[()]


ratio = row(
    "ratio",  # a / b, and 0 for 0 / 0, where its own derivative is not finite
    _ratio,
    (lambda g, y, a, b: g / b, lambda g, y, a, b: -g * y / b),
    sympy=lambda S, a, b: S.Piecewise((a, S.Eq(a, 0)), (a / b, True)),
    exact=lambda A, a, b: A.constant(0) if A.equal(a, 0) else A.divide(a, b),
    elementwise=True,
)


def _power_log(x: Any, n: Any, *, order: int) -> Any:
    with np.errstate(all="ignore"):
        power = np.power(x, n)
        logarithm = np.log(np.asarray(x, power.dtype))
        return np.where((x == 0) & (n > 0), 0, power * logarithm**order)[()]


power_log: Primitive = row(
    "power_log",  # x**n * log(x)**order, the derivatives of x**n by n
    _power_log,
    (
        lambda g, y, x, n, *, order: g * _power_log_by_base(x, n - 1, order),
        lambda g, y, x, n, *, order: g * power_log(x, n, order=order + 1),
    ),
    sympy=lambda S, x, n, *, order: x**n * S.log(x) ** order,
    exact=lambda A, x, n, *, order: A.power(x, n) * A.power(A.log(x), A.constant(order)),
    elementwise=True,
)


def _power_log_by_base(x: Any, lower: Any, order: int) -> Any:
    first = (lower + 1) * power_log(x, lower, order=order)
    rest = power_log(x, lower, order=order - 1) if order > 1 else np.power(x, lower)
    return first + order * rest


def _sinc_derivative(x: Any, *, order: int) -> Any:
    """The derivative of sinc of some order: a series for small arguments, else a recurrence.

    With s(u) = sin(u)/u: u s^(k) + k s^(k-1) = sin^(k)(u), which amplifies errors where u < k;
    and s^(k)(u) = sum of (-1)^n u^m / ((2n+1) m!) over m = 2n - k >= 0.
    """
    u, phase = np.asarray(x * math.pi), np.asarray((x - 2 * np.rint(x / 2)) * math.pi)
    small = np.abs(u) < order + 1
    near, far = np.where(small, u, 0), np.where(small, 1, u)
    first = (order + 1) // 2
    series = sum(
        (-1) ** n / ((2 * n + 1) * math.factorial(2 * n - order)) * near ** (2 * n - order)
        for n in range(first, first + 12 + 2 * order)
    )
    cycle = (np.sin(phase), np.cos(phase), -np.sin(phase), -np.cos(phase))
    recurrence = cycle[0] / far
    for k in range(1, order + 1):
        recurrence = (cycle[k % 4] - k * recurrence) / far
    return (np.where(small, series, recurrence) * math.pi**order)[()]


sinc_derivative: Primitive = row(
    "sinc_derivative",
    _sinc_derivative,
    (lambda g, y, x, *, order: g * sinc_derivative(x, order=order + 1),),
    sympy=lambda S, x, *, order: _substituted(S, S.Dummy(real=True), x, order),
    exact=lambda A, x, *, order: A.differentiated(A.sinc, order, x),
    elementwise=True,
)


def _substituted(S: Any, t: Any, x: Any, order: int) -> Any:
    return S.diff(S.sinc(S.pi * t), t, order).subs(t, x)


# ---------------------------------------------------------------------- arithmetic

elementwise(
    np.add,
    lambda g, y, a, b: g,
    lambda g, y, a, b: g,
    sympy=in_sympy(operator.add),
    exact="add",
)
elementwise(
    np.subtract,
    lambda g, y, a, b: g,
    lambda g, y, a, b: -g,
    sympy=in_sympy(operator.sub),
    exact="subtract",
)
elementwise(
    np.multiply,
    lambda g, y, a, b: g * b,
    lambda g, y, a, b: g * a,
    sympy=in_sympy(operator.mul),
    exact="multiply",
)
elementwise(
    np.divide,
    lambda g, y, a, b: g / b,
    lambda g, y, a, b: -g * y / b,
    sympy=in_sympy(operator.truediv),
    exact="divide",
)
elementwise(
    np.negative,
    lambda g, y, x: -g,
    sympy=in_sympy(operator.neg),
    exact="negative",
)
elementwise(
    np.positive,
    lambda g, y, x: g,
    sympy=in_sympy(operator.pos),
    exact="positive",
)
elementwise(
    np.conjugate,
    lambda g, y, x: g,
    sympy=in_sympy(operator.pos),
    exact="positive",
)
elementwise(
    np.reciprocal,
    lambda g, y, x: -g * y * y,
    sympy=lambda S, x: 1 / x,
    exact="reciprocal",
)
elementwise(np.square, lambda g, y, x: g * (2 * x), sympy=lambda S, x: x**2, exact="square")

# ---------------------------------------------------------------------- powers and roots


def _power_by_base(g: Any, y: Any, x: Any, n: Any) -> Any:
    if isinstance(n, (int, float)):
        return None if n == 0 else g * (n * (x if n == 2 else x ** (n - 1)))
    constant = (n == 0) & (x == 0)  # 0 * 0**-1 is 0 here: x**0 is 1 on both sides of 0
    return g * (n * x ** np.where(constant, 1, n - 1))


power = elementwise(
    np.power,
    _power_by_base,
    lambda g, y, x, n: g * power_log(x, n, order=1),
    sympy=in_sympy(operator.pow),
    exact="power",
)
elementwise(np.sqrt, lambda g, y, x: g / (2 * y), sympy="sqrt", exact="sqrt")
elementwise(np.cbrt, lambda g, y, x: g / (3 * y * y), sympy=real_cube_root, exact="cbrt")
elementwise(
    np.hypot,
    lambda g, y, a, b: g * ratio(a, y),
    lambda g, y, a, b: g * ratio(b, y),
    sympy=lambda S, a, b: S.sqrt(a**2 + b**2),
    exact="hypot",
)
elementwise(
    np.ldexp,
    lambda g, y, x, n: np.ldexp(g, n),
    None,
    sympy=lambda S, x, n: x * S.Integer(2) ** n,
    exact=lambda A, x, n: x * A.exp2(n),
)


@defines(np.float_power)
def _float_power(x1: Any, x2: Any, /) -> Any:
    return np.power(_at_least_double(x1), _at_least_double(x2))


def _at_least_double(x: Any) -> Any:
    if not is_traced(x):
        return np.asarray(x, np.result_type(np.asarray(x).dtype, np.float64))[()]
    return x.astype(np.result_type(x.dtype, np.float64))


# ---------------------------------------------------------------------- exponentials, logarithms

elementwise(np.exp, lambda g, y, x: g * y, sympy="exp", exact="exp")
elementwise(np.exp2, lambda g, y, x: g * (y * LN2), sympy=lambda S, x: 2**x, exact="exp2")
elementwise(np.expm1, lambda g, y, x: g * np.exp(x), sympy=lambda S, x: S.exp(x) - 1, exact="expm1")
elementwise(np.log, lambda g, y, x: g / x, sympy="log", exact="log")
elementwise(
    np.log2, lambda g, y, x: g / (x * LN2), sympy=lambda S, x: S.log(x) / S.log(2), exact="log2"
)
elementwise(
    np.log10,
    lambda g, y, x: g / (x * LN10),
    sympy=lambda S, x: S.log(x) / S.log(10),
    exact="log10",
)
elementwise(np.log1p, lambda g, y, x: g / (1 + x), sympy=lambda S, x: S.log(1 + x), exact="log1p")
elementwise(
    np.logaddexp,
    lambda g, y, a, b: g * logistic(a - b),
    lambda g, y, a, b: g * logistic(b - a),
    sympy=lambda S, a, b: S.log(S.exp(a) + S.exp(b)),
    exact="logaddexp",
)
elementwise(
    np.logaddexp2,
    lambda g, y, a, b: g * logistic((a - b) * LN2),
    lambda g, y, a, b: g * logistic((b - a) * LN2),
    sympy=lambda S, a, b: S.log(2**a + 2**b) / S.log(2),
    exact="logaddexp2",
)

# ---------------------------------------------------------------------- trigonometry

elementwise(np.sin, lambda g, y, x: g * np.cos(x), sympy="sin", exact="sin")
elementwise(np.cos, lambda g, y, x: -g * np.sin(x), sympy="cos", exact="cos")
elementwise(np.tan, lambda g, y, x: g * (1 + y * y), sympy="tan", exact="tan")
elementwise(np.arcsin, lambda g, y, x: g / np.sqrt((1 - x) * (1 + x)), sympy="asin", exact="arcsin")
elementwise(
    np.arccos, lambda g, y, x: -g / np.sqrt((1 - x) * (1 + x)), sympy="acos", exact="arccos"
)
elementwise(np.arctan, lambda g, y, x: g / (1 + x * x), sympy="atan", exact="arctan")
elementwise(
    np.arctan2,
    lambda g, y, a, b: g * (b / np.hypot(a, b)) / np.hypot(a, b),
    lambda g, y, a, b: -g * (a / np.hypot(a, b)) / np.hypot(a, b),
    sympy="atan2",
    exact="arctan2",
)
elementwise(
    np.deg2rad, lambda g, y, x: np.deg2rad(g), sympy=lambda S, x: x * S.pi / 180, exact="deg2rad"
)
elementwise(
    np.rad2deg, lambda g, y, x: np.rad2deg(g), sympy=lambda S, x: x * 180 / S.pi, exact="rad2deg"
)
FUNCTIONS[np.radians] = FUNCTIONS[np.deg2rad]
FUNCTIONS[np.degrees] = FUNCTIONS[np.rad2deg]

row(
    "sinc",
    np.sinc,
    (lambda g, y, x: g * sinc_derivative(x, order=1),),
    sympy=lambda S, x: S.sinc(S.pi * x),
    exact="sinc",
    elementwise=True,
    replaces=[np.sinc],
)

# ---------------------------------------------------------------------- hyperbolic functions

elementwise(np.sinh, lambda g, y, x: g * np.cosh(x), sympy="sinh", exact="sinh")
elementwise(np.cosh, lambda g, y, x: g * np.sinh(x), sympy="cosh", exact="cosh")
elementwise(np.tanh, lambda g, y, x: g * np.square(sech(x)), sympy="tanh", exact="tanh")
elementwise(np.arcsinh, lambda g, y, x: g / np.hypot(x, 1), sympy="asinh", exact="arcsinh")
elementwise(
    np.arccosh,
    lambda g, y, x: g / (np.sqrt(x - 1) * np.sqrt(x + 1)),
    sympy="acosh",
    exact="arccosh",
)
elementwise(np.arctanh, lambda g, y, x: g / ((1 - x) * (1 + x)), sympy="atanh", exact="arctanh")

# ---------------------------------------------------------------------- parts of complex numbers


@defines(np.real, np.real_if_close)
def _real(val: Any, tol: float = 100) -> Any:
    return val


@defines(np.imag)
def _imag(val: Any) -> Any:
    return np.zeros(np.shape(val), val.dtype)[()]
