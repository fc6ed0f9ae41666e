"""Activations that pass positive arguments on: the rectifier's relatives, sharp and smooth.

At a kink the derivative given is the mean of both one-sided slopes, a subgradient, as central
differences have it. Sums of max(x, 0) and min(x, 0) say so to every backend; a `where` would
give them the slope of one branch.
"""

from __future__ import annotations

from functools import cache
from math import pi, sqrt
from typing import Any, Final

import numpy as np

from diffkit.errors import InvalidInput
from diffkit.nn.activations import (
    Activation,
    relu_derivative,
    sigmoid,
    sigmoid_derivative,
    zero,
)
from diffkit.nn.error_function import normal_density, normal_distribution

SELU_ALPHA: Final = 1.6732632423543772848
SELU_SCALE: Final = 1.0507009873554804934
GELU_CUBIC: Final = 0.044715
GELU_FAR: Final = 25.0  # beyond it e^-2u is below 1e-500, and in the end u overflows
FAR: Final = 80.0  # beyond it e^(-x²/2) is below 1e-1000, and in the end x² overflows


def leaky_relu(slope: float = 0.1) -> Activation:
    """Return max(x, 0) + slope · min(x, 0).

    Raises:
        InvalidInput: the slope is not finite.
    """
    _require_finite("slope", slope)
    return _leaky_relu(float(slope))


@cache
def _leaky_relu(slope: float) -> Activation:
    return Activation(
        "leaky_relu" if slope == 0.1 else f"leaky_relu {slope:g}",
        lambda x: np.maximum(x, 0) + slope * np.minimum(x, 0),
        lambda x: relu_derivative(x) + slope * relu_derivative(-x),
        zero,
    )


def elu(alpha: float = 1.0) -> Activation:
    """Return x for x > 0 and α (e^x - 1) for x < 0.

    The slopes at 0 are 1 and α: there is no kink for α = 1 alone.
    Source: Clevert, Unterthiner and Hochreiter, ICLR 2016, equation 15.

    Raises:
        InvalidInput: α is not finite.
    """
    _require_finite("alpha", alpha)
    return _elu(float(alpha))


@cache
def _elu(alpha: float) -> Activation:
    return Activation("elu" if alpha == 1 else f"elu {alpha:g}", *_exponential(1.0, alpha))


def _exponential(scale: float, alpha: float) -> tuple[Any, Any, Any]:
    """λ times the ELU, with λ = scale, and its derivatives."""

    def function(x: Any) -> Any:
        return scale * np.maximum(x, 0) + scale * alpha * np.expm1(np.minimum(x, 0))

    def second(x: Any) -> Any:
        return scale * alpha * np.exp(np.minimum(x, 0)) * relu_derivative(-x)

    def derivative(x: Any) -> Any:
        return scale * relu_derivative(x) + second(x)

    return function, derivative, second


def gelu(x: Any) -> Any:
    """Return x/2 (1 + tanh u) = x σ(2u), u = √(2/π) (x + 0.044715 x³).

    Source: Hendrycks and Gimpel, "Gaussian error linear units" (2016). In the form with σ
    nothing cancels where x is negative.
    """
    return x * sigmoid(2 * _gelu_argument(x))


def gelu_derivative(x: Any) -> Any:
    """Return σ(2u) + 2 x σ'(2u) u'."""
    u = _gelu_argument(x)
    return sigmoid(2 * u) + 2 * x * sigmoid_derivative(2 * u) * _gelu_slope(x)


def gelu_second(x: Any) -> Any:
    """Return σ'(2u) (4 u' + 2 x u'' - 4 x u'² tanh u), as σ'' = -σ' tanh(u) at 2u."""
    x, u, slope = _near(x), _gelu_argument(x), _gelu_slope(x)
    curvature = sqrt(2 / pi) * 6 * GELU_CUBIC * x
    s = sigmoid_derivative(2 * u)
    return 4 * (s * slope) * (1 - x * np.tanh(u) * slope) + 2 * (s * x) * curvature


def _near(x: Any) -> Any:
    return np.clip(x, -GELU_FAR, GELU_FAR)


def _gelu_argument(x: Any) -> Any:
    v = _near(x)
    return sqrt(2 / pi) * v * (1 + GELU_CUBIC * v**2)


def _gelu_slope(x: Any) -> Any:
    return sqrt(2 / pi) * (1 + 3 * GELU_CUBIC * _near(x) ** 2)


def gelu_erf(x: Any) -> Any:
    """Return x Φ(x), Φ the normal distribution: the GELU itself, accurate in both tails."""
    return x * normal_distribution(x)


def gelu_erf_derivative(x: Any) -> Any:
    """Return Φ(x) + x φ(x)."""
    return normal_distribution(x) + x * normal_density(x)


def gelu_erf_second(x: Any) -> Any:
    """Return φ(x) (2 - x²)."""
    return normal_density(x) * (2 - np.clip(x, -FAR, FAR) ** 2)


def silu(x: Any) -> Any:
    """Return x σ(x)."""
    return x * sigmoid(x)


def silu_derivative(x: Any) -> Any:
    """Return σ + x σ'."""
    return sigmoid(x) + x * sigmoid_derivative(x)


def silu_second(x: Any) -> Any:
    """Return σ' (2 - x tanh(x/2)), as σ'' = -σ' tanh(x/2)."""
    return sigmoid_derivative(x) * (2 - x * np.tanh(x / 2))


def _require_finite(name: str, value: float) -> None:
    if not np.isfinite(value):
        raise InvalidInput(f"{name}={value!r} must be finite")


LEAKY_RELU = leaky_relu()
ELU = elu()
SELU = Activation("selu", *_exponential(SELU_SCALE, SELU_ALPHA))
GELU = Activation("gelu", gelu, gelu_derivative, gelu_second)
GELU_ERF = Activation("gelu_erf", gelu_erf, gelu_erf_derivative, gelu_erf_second)
SILU = Activation("silu", silu, silu_derivative, silu_second)
