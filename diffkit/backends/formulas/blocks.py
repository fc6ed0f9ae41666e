"""Backpropagation through normalisation and attention; they take what those of `dense` do."""

from __future__ import annotations

from typing import Any

import numpy as np

from diffkit.backends.formulas.dense import Backward, outer_sum, through_softmax
from diffkit.nn.blocks import Attention, BatchNorm, LayerNorm


def normalisation(
    layer: BatchNorm | LayerNorm, parameters: dict[str, Any], x: Any, adjoint: Any
) -> Backward:
    """With x̂ = (x - mean) s, s = 1 / sqrt(variance + ε), a = γ x̂ + β and g = ∂L/∂a · γ:

        ∂L/∂γ = Σ ∂L/∂a · x̂    ∂L/∂β = Σ ∂L/∂a    ∂L/∂x = s (g - mean(g) - x̂ mean(g x̂))

    The means are taken over the axes that are normalised.
    Source: Ioffe and Szegedy, ICML 2015, section 3, put together.
    """
    normal, scale = layer.normalised(x)
    axes = layer.axes(x)
    g = adjoint * layer.laid_out(parameters["gamma"], x)
    mean = np.mean(g, axis=axes, keepdims=True)
    slope = np.mean(g * normal, axis=axes, keepdims=True)
    others = _other_axes(layer, x)
    gradient = {
        "gamma": np.sum(adjoint * normal, axis=others),
        "beta": np.sum(adjoint, axis=others),
    }
    return gradient, scale * (g - mean - normal * slope)


def attention(layer: Attention, parameters: dict[str, Any], x: Any, adjoint: Any) -> Backward:
    """With a = A V, A = softmax(S), S = Q Kᵀ / √d:

        ∂L/∂V = Aᵀ ∂L/∂a    ∂L/∂A = ∂L/∂a Vᵀ    ∂L/∂S through the softmax
        ∂L/∂Q = ∂L/∂S K / √d    ∂L/∂K = (∂L/∂S)ᵀ Q / √d

    and each of Q, K, V is a product x W. Steps that are masked have A = 0, hence ∂L/∂S = 0.
    """
    Q, K, V, weights = layer.attended(parameters, x)
    scores = through_softmax(weights, adjoint @ np.swapaxes(V, 1, 2)) / layer.width**0.5
    adjoints = {
        "W_q": scores @ K,
        "W_k": np.swapaxes(scores, 1, 2) @ Q,
        "W_v": np.swapaxes(weights, 1, 2) @ adjoint,
    }
    by_input: Any = sum(g @ parameters[name].T for name, g in adjoints.items())
    return {name: outer_sum(x, g) for name, g in adjoints.items()}, by_input


def _other_axes(layer: BatchNorm | LayerNorm, x: Any) -> tuple[int, ...]:
    """All axes but that of the features."""
    feature = 1 if isinstance(layer, BatchNorm) else np.ndim(x) - 1
    return tuple(axis for axis in range(np.ndim(x)) if axis != feature)
