"""Problems from one number to one number."""

from __future__ import annotations

from math import pi
from typing import Any

import numpy as np

from diffkit.problems.definition import SURVEY, Problem


def quadratic(x: Any) -> Any:
    return x**2 + 2 * x + 1


def quadratic_derivative(x: Any) -> Any:
    return 2 * x + 2


def quadratic_second(x: Any) -> Any:
    return 2.0 + 0 * x


def damped_sine(x: Any) -> Any:
    return np.sin(x) * np.exp(-(x**2))


def damped_sine_derivative(x: Any) -> Any:
    return np.exp(-(x**2)) * (np.cos(x) - 2 * x * np.sin(x))


def damped_sine_second(x: Any) -> Any:
    return np.exp(-(x**2)) * ((4 * x**2 - 3) * np.sin(x) - 4 * x * np.cos(x))


def logistic_map(x: Any, n: int) -> Any:
    """Return l_n, from l_1 = x and l_{k+1} = 4 l_k (1 - l_k)."""
    for _ in range(n - 1):
        x = 4 * x * (1 - x)
    return x


def logistic_map_derivative(x: Any, n: int) -> Any:
    """Return l_n', from l_1' = 1 and l_{k+1}' = 4 (1 - 2 l_k) l_k'."""
    slope = 1.0 + 0 * x
    for _ in range(n - 1):
        slope, x = 4 * (1 - 2 * x) * slope, 4 * x * (1 - x)
    return slope


def logistic_map_second(x: Any, n: int) -> Any:
    """Return l_n'', from l_1'' = 0 and l_{k+1}'' = 4 (1 - 2 l_k) l_k'' - 8 l_k'²."""
    slope, second = 1.0 + 0 * x, 0 * x
    for _ in range(n - 1):
        second = 4 * (1 - 2 * x) * second - 8 * slope**2
        slope, x = 4 * (1 - 2 * x) * slope, 4 * x * (1 - x)
    return second


def logistic_4(x: Any) -> Any:
    """Return l_4 in the factored form of the survey's Table 1."""
    return 64 * x * (1 - x) * (1 - 2 * x) ** 2 * (1 - 8 * x + 8 * x**2) ** 2


def logistic_4_derivative(x: Any) -> Any:
    """Return 64 (1 - 2x)(1 - 8x + 8x²)(1 - 32x + 160x² - 256x³ + 128x⁴).

    With l = l_2 = 4x(1 - x) and m = l_3 = 4l(1 - l): l_4' = 4(1 - 2m) · 4(1 - 2l) · 4(1 - 2x).
    """
    return 64 * (1 - 2 * x) * (1 - 8 * x + 8 * x**2) * _logistic_quartic(x)


def logistic_4_second(x: Any) -> Any:
    p, q, r = 1 - 2 * x, 1 - 8 * x + 8 * x**2, _logistic_quartic(x)
    dq, dr = -8 + 16 * x, -32 + 320 * x - 768 * x**2 + 512 * x**3
    return 64 * (-2 * q * r + p * dq * r + p * q * dr)


def _logistic_quartic(x: Any) -> Any:
    """1 - 2 l_3 = 1 - 32x + 160x² - 256x³ + 128x⁴."""
    return 1 - 32 * x + 160 * x**2 - 256 * x**3 + 128 * x**4


def _cubes(x: Any) -> tuple[Any, Any, Any]:
    """u = sin³ x + cos³ x, and u'/u and u''/u."""
    s, c = np.sin(x), np.cos(x)
    u = s**3 + c**3
    return u, 3 * s * c * (s - c) / u, 3 * (s + c) * (3 * s * c - 1) / u


def lyness(x: Any) -> Any:
    return np.exp(x) / np.sqrt(np.sin(x) ** 3 + np.cos(x) ** 3)


def lyness_derivative(x: Any) -> Any:
    u, p, _ = _cubes(x)
    return np.exp(x) / np.sqrt(u) * (1 - p / 2)


def lyness_second(x: Any) -> Any:
    u, p, q = _cubes(x)
    return np.exp(x) / np.sqrt(u) * ((1 - p / 2) ** 2 - q / 2 + p**2 / 2)


def moler(x: Any) -> Any:
    return np.exp(x) / (np.cos(x) ** 3 + np.sin(x) ** 3)


def moler_derivative(x: Any) -> Any:
    u, p, _ = _cubes(x)
    return np.exp(x) / u * (1 - p)


def moler_second(x: Any) -> Any:
    u, p, q = _cubes(x)
    return np.exp(x) / u * ((1 - p) ** 2 - q + p**2)


def exponential(x: Any) -> Any:
    return np.exp(x)


def hyperbolic_tangent(x: Any) -> Any:
    return np.tanh(x)


def hyperbolic_tangent_derivative(x: Any) -> Any:
    return 1 / np.cosh(x) ** 2


def hyperbolic_tangent_second(x: Any) -> Any:
    return -2 * np.tanh(x) / np.cosh(x) ** 2


def tangent(x: Any) -> Any:
    return np.tan(x)


def tangent_derivative(x: Any) -> Any:
    return 1 / np.cos(x) ** 2


def tangent_second(x: Any) -> Any:
    return 2 * np.tan(x) / np.cos(x) ** 2


def kink(x: Any) -> Any:
    return np.abs(x)


def kink_derivative(x: Any) -> Any:
    return np.sign(x)


def kink_second(x: Any) -> Any:
    return 0 * x


SCALAR_PROBLEMS = (
    Problem(
        "quadratic",
        quadratic,
        3.0,
        "x² + 2x + 1, with derivative 2x + 2",
        "school algebra",
        derivatives=(quadratic_derivative, quadratic_second),
    ),
    Problem(
        "damped-sine",
        damped_sine,
        0.5,
        "sin x exp(-x²)",
        "the first example of the documentation",
        derivatives=(damped_sine_derivative, damped_sine_second),
    ),
    Problem(
        "logistic-map",
        logistic_map,
        0.2,
        "l_4 of the logistic map, as a loop: l_1 = x, l_{n+1} = 4 l_n (1 - l_n)",
        f"{SURVEY}, Table 1 and Figure 3",
        data=(4,),
        derivatives=(logistic_map_derivative, logistic_map_second),
    ),
    Problem(
        "logistic-4",
        logistic_4,
        0.2,
        "l_4 of the logistic map, factored: 64x(1-x)(1-2x)²(1-8x+8x²)²",
        f"{SURVEY}, Table 1 and Figure 3",
        derivatives=(logistic_4_derivative, logistic_4_second),
    ),
    Problem(
        "lyness",
        lyness,
        1.5,
        "e^x / sqrt(sin³ x + cos³ x), the test of the complex step",
        "Martins, Sturdza, Alonso, The complex-step derivative approximation, ACM TOMS 29, 2003",
        derivatives=(lyness_derivative, lyness_second),
    ),
    Problem(
        "moler",
        moler,
        pi / 4,
        "e^x / (cos³ x + sin³ x)",
        "Moler, Complex step differentiation, 2013",
        derivatives=(moler_derivative, moler_second),
    ),
    Problem(
        "exp",
        exponential,
        0.0,
        "e^x at 0, where every derivative is 1",
        "Boisgérault, Automatic differentiation, 2017",
        derivatives=(exponential, exponential),
    ),
    Problem(
        "tanh",
        hyperbolic_tangent,
        1.0,
        "tanh x",
        "README of HIPS/autograd",
        derivatives=(hyperbolic_tangent_derivative, hyperbolic_tangent_second),
    ),
    Problem(
        "tan",
        tangent,
        1.0,
        "tan x, the example of Ridders' extrapolation",
        "Ridders, Advances in Engineering Software 4, 1982",
        derivatives=(tangent_derivative, tangent_second),
    ),
    Problem(
        "kink",
        kink,
        0.3,
        "|x|, which has no derivative at 0",
        "the standard example",
        derivatives=(kink_derivative, kink_second),
    ),
)
