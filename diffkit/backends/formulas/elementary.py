"""First and second derivatives of NumPy's elementary functions, one line each.

Source: Abramowitz and Stegun, Handbook of Mathematical Functions (1964), sections 4.1 to 4.6,
in the forms that keep their digits: (1 - x)(1 + x) for 1 - x², 1/cosh² for 1 - tanh².
"""

from __future__ import annotations

from math import log, pi
from typing import Any

import numpy as np

from diffkit.backends.formulas.forms import Forms, Function
from diffkit.nn.activations import one, tanh_derivative, tanh_second, zero


def _elementwise(first: Function, second: Function) -> Forms:
    return Forms(derivatives=(first, second), elementwise=True)


def _constant(c: float) -> Function:
    def constant(x: Any) -> Any:
        return c * one(x)

    return constant


ELEMENTARY: dict[Function, Forms] = {
    np.positive: _elementwise(one, zero),
    np.negative: _elementwise(_constant(-1), zero),
    np.square: _elementwise(lambda x: 2 * x, _constant(2)),
    np.sqrt: _elementwise(lambda x: 1 / (2 * np.sqrt(x)), lambda x: -1 / (4 * x * np.sqrt(x))),
    np.cbrt: _elementwise(
        lambda x: 1 / (3 * np.cbrt(x) ** 2), lambda x: -2 / (9 * x * np.cbrt(x) ** 2)
    ),
    np.reciprocal: _elementwise(lambda x: -1 / x**2, lambda x: 2 / x**3),
    np.exp: _elementwise(np.exp, np.exp),
    np.exp2: _elementwise(lambda x: log(2) * np.exp2(x), lambda x: log(2) ** 2 * np.exp2(x)),
    np.expm1: _elementwise(np.exp, np.exp),
    np.log: _elementwise(lambda x: 1 / x, lambda x: -1 / x**2),
    np.log2: _elementwise(lambda x: 1 / (log(2) * x), lambda x: -1 / (log(2) * x**2)),
    np.log10: _elementwise(lambda x: 1 / (log(10) * x), lambda x: -1 / (log(10) * x**2)),
    np.log1p: _elementwise(lambda x: 1 / (1 + x), lambda x: -1 / (1 + x) ** 2),
    np.sin: _elementwise(np.cos, lambda x: -np.sin(x)),
    np.cos: _elementwise(lambda x: -np.sin(x), lambda x: -np.cos(x)),
    np.tan: _elementwise(lambda x: 1 / np.cos(x) ** 2, lambda x: 2 * np.tan(x) / np.cos(x) ** 2),
    np.arcsin: _elementwise(
        lambda x: 1 / np.sqrt((1 - x) * (1 + x)),
        lambda x: x / ((1 - x) * (1 + x)) / np.sqrt((1 - x) * (1 + x)),
    ),
    np.arccos: _elementwise(
        lambda x: -1 / np.sqrt((1 - x) * (1 + x)),
        lambda x: -x / ((1 - x) * (1 + x)) / np.sqrt((1 - x) * (1 + x)),
    ),
    np.arctan: _elementwise(lambda x: 1 / (1 + x**2), lambda x: -2 * x / (1 + x**2) ** 2),
    np.sinh: _elementwise(np.cosh, np.sinh),
    np.cosh: _elementwise(np.sinh, np.cosh),
    np.tanh: _elementwise(tanh_derivative, tanh_second),
    np.arcsinh: _elementwise(
        lambda x: 1 / np.sqrt(1 + x**2), lambda x: -x / (1 + x**2) / np.sqrt(1 + x**2)
    ),
    np.arccosh: _elementwise(
        lambda x: 1 / (np.sqrt(x - 1) * np.sqrt(x + 1)),
        lambda x: -x / ((x - 1) * (x + 1)) / (np.sqrt(x - 1) * np.sqrt(x + 1)),
    ),
    np.arctanh: _elementwise(
        lambda x: 1 / ((1 - x) * (1 + x)), lambda x: 2 * x / ((1 - x) * (1 + x)) ** 2
    ),
    np.absolute: _elementwise(np.sign, zero),
    np.fabs: _elementwise(np.sign, zero),
    np.deg2rad: _elementwise(_constant(pi / 180), zero),
    np.rad2deg: _elementwise(_constant(180 / pi), zero),
    np.radians: _elementwise(_constant(pi / 180), zero),
    np.degrees: _elementwise(_constant(180 / pi), zero),
}
