"""Elementwise functions as mpmath has them, points where they are hard, and an oracle."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np

from diffkit.tracing.primitives import PRIMITIVES

M = mpmath.mp.clone()
M.dps = 450
Points = list[tuple[float, ...]]
Oracle = Callable[..., Any]


def _cbrt(x: Any) -> Any:
    return M.sign(x) * M.cbrt(abs(x))


def _sinc(x: Any) -> Any:
    return M.sinc(M.pi * x)


UNARY: dict[str, tuple[Oracle, list[float]]] = {
    "negative": (lambda x: -x, [0.0, -2.5, 1e300]),
    "positive": (lambda x: x, [0.0, -2.5]),
    "conjugate": (lambda x: x, [0.0, -2.5]),
    "reciprocal": (lambda x: 1 / x, [0.3, -7.0, 1e-100, 1e100]),
    "square": (lambda x: x * x, [0.0, -3.0, 1e-200, 1e150]),
    "sqrt": (M.sqrt, [0.25, 2.0, 1e-300, 1e300]),
    "cbrt": (_cbrt, [0.25, -2.0, 1e-200, 1e300]),
    "exp": (M.exp, [0.0, -700.0, 700.0, 1e-9]),
    "exp2": (lambda x: M.power(2, x), [0.0, -1000.0, 900.0, 0.5]),
    "expm1": (M.expm1, [0.0, 1e-18, -1e-18, -300.0, 300.0]),
    "log": (M.log, [1.0, 1e-300, 1e300, 0.5]),
    "log2": (lambda x: M.log(x) / M.log(2), [1.0, 1e-300, 1e300]),
    "log10": (lambda x: M.log(x) / M.log(10), [1.0, 1e-300, 1e300]),
    "log1p": (lambda x: M.log(1 + x), [0.0, 1e-18, -1e-18, -0.75, 1e300]),
    "sin": (M.sin, [0.0, 1.0, -1e3, 1e-9]),
    "cos": (M.cos, [0.0, 1.0, -1e3, 1e-9]),
    "tan": (M.tan, [0.0, 1.0, 1.5, -1e3]),
    "arcsin": (M.asin, [0.0, 0.5, -0.75, 1 - 1e-10, -1 + 1e-10]),
    "arccos": (M.acos, [0.0, 0.5, -0.75, 1 - 1e-10, -1 + 1e-10]),
    "arctan": (M.atan, [0.0, 1.0, -1e8, 1e-9]),
    "deg2rad": (lambda x: x * M.pi / 180, [0.0, 90.0]),
    "rad2deg": (lambda x: x * 180 / M.pi, [0.0, 1.5]),
    "sinc": (_sinc, [0.5, -0.1, 1e-3, 1e-8, 0.636, 0.637, 1.7, 20.25, 1e4 + 0.3]),
    "sinh": (M.sinh, [0.0, 1.0, -700.0, 1e-9]),
    "cosh": (M.cosh, [0.0, 1.0, -700.0, 1e-9]),
    "tanh": (M.tanh, [0.0, 0.3, -1.0, 20.0, -300.0, 1e3, 1e-9]),
    "arcsinh": (M.asinh, [0.0, 1.0, -1e8, 1e200, 1e-9]),
    "arccosh": (M.acosh, [1.5, 1 + 1e-10, 1e200]),
    "arctanh": (M.atanh, [0.0, 0.5, -1 + 1e-10, 1e-9]),
    "sech": (M.sech, [0.5, -3.0, 300.0, 1e-9]),
    "logistic": (lambda x: 1 / (1 + M.exp(-x)), [0.0, 2.0, -30.0, 300.0, -700.0]),
    "absolute": (abs, [2.0, -2.0, 1e-300]),
    "fabs": (abs, [2.0, -2.0, 1e-300]),
}

BINARY: dict[str, tuple[Oracle, Points]] = {
    "add": (lambda a, b: a + b, [(1.0, 2.0)]),
    "subtract": (lambda a, b: a - b, [(1.0, 2.0)]),
    "multiply": (lambda a, b: a * b, [(3.0, -2.0), (0.0, 5.0), (0.0, 0.0)]),
    "divide": (lambda a, b: a / b, [(3.0, -2.0), (0.0, 5.0), (1e200, 1e150), (1e-200, 1e-150)]),
    "ratio": (lambda a, b: a / b, [(3.0, -2.0), (0.0, 5.0)]),
    "power": (lambda a, b: a**b, [(2.5, 3.5), (2.0, 0.0), (1e-100, 2.0), (1.0, 300.0)]),
    "hypot": (
        lambda a, b: M.sqrt(a * a + b * b),
        [(3.0, -4.0), (1e200, 2e200), (1e-200, 2e-200), (0.0, 2.0), (-3.0, 0.0)],
    ),
    "arctan2": (
        M.atan2,
        [(1.0, 2.0), (1.0, -2.0), (-3.0, 0.5), (1e200, 2e200), (1e-150, 2e-150), (0.0, 2.0)],
    ),
    "logaddexp": (
        lambda a, b: M.log(M.exp(a) + M.exp(b)),
        [(0.5, -1.0), (800.0, 800.5), (-800.0, -800.25), (2.0, 40.0), (100.0, -100.0)],
    ),
    "logaddexp2": (
        lambda a, b: M.log(M.power(2, a) + M.power(2, b)) / M.log(2),
        [(0.5, -1.0), (1800.0, 1800.5), (-1800.0, -1800.25), (2.0, 40.0)],
    ),
    "maximum": (max, [(1.0, 2.0), (2.0, 1.0), (-1.0, -2.0)]),
    "minimum": (min, [(1.0, 2.0), (2.0, 1.0), (-1.0, -2.0)]),
    "fmax": (max, [(1.0, 2.0), (2.0, 1.0)]),
    "fmin": (min, [(1.0, 2.0), (2.0, 1.0)]),
    "copysign": (
        lambda a, b: abs(a) * M.sign(b),
        [(2.0, 1.0), (2.0, -1.0), (-2.0, 3.0), (-2.0, -3.0)],
    ),
    "remainder": (
        lambda a, b: a - M.floor(a / b) * b,
        [(7.5, 2.0), (-7.5, 2.0), (7.5, -2.0), (1.0, 0.1), (1e10, 0.3)],
    ),
    "fmod": (
        lambda a, b: a - b * (M.floor(a / b) if a / b > 0 else M.ceil(a / b)),
        [(7.5, 2.0), (-7.5, 2.0), (7.5, -2.0), (1.0, 0.1), (1e10, 0.3)],
    ),
}

EASY = {
    **{name: (f, (1.25,) if name == "arccosh" else (0.25,)) for name, (f, _) in UNARY.items()},
    **{name: (f, (1.25, 0.75)) for name, (f, _) in BINARY.items()},
}


def difference(f: Oracle, point: tuple[float, ...], along: tuple[int, ...]) -> Any:
    """The mixed derivative by the arguments `along`, by nested central differences."""
    exact = tuple(M.mpf(x) for x in point)
    steps = [(abs(x) or M.mpf(1)) * M.mpf(10) ** -35 for x in exact]
    total = M.mpf(0)
    for signs in itertools.product((1, -1), repeat=len(along)):
        moved = list(exact)
        for sign, i in zip(signs, along, strict=True):
            moved[i] += sign * steps[i]
        total += math.prod(signs) * f(*moved)
    return total / math.prod(2 * steps[i] for i in along)


def pull(name: str, position: int, *arguments: Any, g: Any = 1.0) -> Any:
    """The pullback of a row, called as the walker calls it."""
    primitive = PRIMITIVES[name]
    with np.errstate(all="ignore"):
        y = primitive.function(*arguments)
        return primitive.pull(position, np.asarray(g, y.dtype)[()], y, arguments, {})
