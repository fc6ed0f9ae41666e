"""An oracle for derivatives: the function itself, run on 90-digit numbers, and differences.

It uses no derivative rule, and nothing of diffkit. NumPy's ufuncs call the methods of the
same name on the entries of object arrays.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np

CONTEXT = mpmath.mp.clone()
CONTEXT.dps = 90
STEP = CONTEXT.mpf(10) ** -25


class Big:
    """A number of 90 digits that NumPy can calculate with."""

    def __init__(self, value: Any) -> None:
        inner = value.value if isinstance(value, Big) else value
        self.value: Any = CONTEXT.mpf(float(inner) if isinstance(inner, np.generic) else inner)

    def __repr__(self) -> str:
        return f"Big({self.value})"

    def __float__(self) -> float:
        return float(self.value)

    def __neg__(self) -> Big:
        return Big(-self.value)

    def __pos__(self) -> Big:
        return self

    def __abs__(self) -> Big:
        return Big(abs(self.value))


def _binary(name: str) -> None:
    function = getattr(operator, name)

    def forward(self: Big, other: Any) -> Any:
        if isinstance(other, np.ndarray):
            return NotImplemented
        return Big(function(self.value, Big(other).value))

    def backward(self: Big, other: Any) -> Any:
        return Big(function(Big(other).value, self.value))

    setattr(Big, f"__{name}__", forward)
    setattr(Big, f"__r{name}__", backward)


def _comparison(name: str) -> None:
    function = getattr(operator, name)
    setattr(Big, f"__{name}__", lambda self, other: function(self.value, Big(other).value))


def _method(name: str) -> None:
    function = getattr(CONTEXT, name)
    setattr(Big, name, lambda self: Big(function(self.value)))


for _name in ("add", "sub", "mul", "truediv", "pow"):
    _binary(_name)
for _name in ("lt", "le", "gt", "ge", "eq"):
    _comparison(_name)
for _name in ("exp", "log", "sin", "cos", "tan", "sinh", "cosh", "tanh", "sqrt"):
    _method(_name)


def big(array: Any) -> Any:
    """The array, or the number, in high precision."""
    if np.ndim(array) == 0:
        return Big(array)
    out = np.empty(np.shape(array), object)
    out[...] = np.vectorize(Big, otypes=[object])(array)
    return out


def along(f: Callable[..., Any], x: Any, v: Any) -> Any:
    """The derivative of f at x along v, by central differences good to 40 digits."""
    x, step = big(x), big(v) * Big(STEP)
    return (f(x + step) - f(x - step)) / Big(2 * STEP)


def second_along(f: Callable[..., Any], x: Any, v: Any, w: Any) -> Any:
    """The second derivative of f at x along v and w."""
    x, v, w = big(x), big(v) * Big(STEP), big(w) * Big(STEP)
    mixed = f(x + v + w) - f(x + v - w) - f(x - v + w) + f(x - v - w)
    return mixed / Big(4 * STEP**2)


def rounded(value: Any) -> Any:
    """A high-precision result as float64."""
    return np.asarray(value).astype(np.float64)
