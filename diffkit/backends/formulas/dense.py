"""Backpropagation through the layers of `nn.layers` and `nn.embeddings`.

Each formula takes a layer, its parameters, its input x and the adjoint ∂L/∂a of its output,
and returns the gradient by its parameters and the adjoint ∂L/∂x of its input.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from diffkit.nn.activations import softmax
from diffkit.nn.embeddings import Embedding, WordPairs
from diffkit.nn.layers import (
    Dense,
    Dropout,
    Elementwise,
    Flatten,
    Maxout,
    Softmax,
    TiedAutoencoder,
)

Backward = tuple[dict[str, Any], Any]


def dense(layer: Dense, parameters: dict[str, Any], x: Any, adjoint: Any) -> Backward:
    """With z = x W + b and δ = ∂L/∂z:

        δ = ∂L/∂a · φ'(z)    ∂L/∂W = xᵀ δ    ∂L/∂b = Σ over the batch of δ    ∂L/∂x = δ Wᵀ

    Source: Rumelhart, Hinton and Williams, Nature 323 (1986), equations 4 to 7, for a batch.
    """
    delta = adjoint * layer.activation.derivative(layer.preactivation(parameters, x))
    gradient = {"W": outer_sum(x, delta)}
    if layer.bias:
        gradient["b"] = batch_sum(delta)
    return gradient, delta @ parameters["W"].T


def maxout(layer: Maxout, parameters: dict[str, Any], x: Any, adjoint: Any) -> Backward:
    """The adjoint goes to the largest piece, in equal parts to several that are equally large.

    With δ_jk = ∂L/∂a_j [z_jk is the maximum]: ∂L/∂W_ijk = Σ x_i δ_jk, ∂L/∂x_i = Σ W_ijk δ_jk.
    """
    delta = adjoint[..., None] * share_of_maxima(layer.candidates(parameters, x), (-1,))
    gradient = {"W": np.tensordot(x, delta, (0, 0)), "b": np.sum(delta, axis=0)}
    return gradient, np.tensordot(delta, parameters["W"], ((1, 2), (1, 2)))


def tied(layer: TiedAutoencoder, parameters: dict[str, Any], x: Any, adjoint: Any) -> Backward:
    """W is used twice, so its gradient is the sum of both uses. With h = φ(z), u = h Wᵀ + c:

    δ_u = ∂L/∂a · ψ'(u)    δ_z = (δ_u W) · φ'(z)    ∂L/∂W = δ_uᵀ h + xᵀ δ_z    ∂L/∂x = δ_z Wᵀ
    """
    W = parameters["W"]
    z, u = layer.preactivations(parameters, x)
    delta_u = adjoint * layer.decode.derivative(u)
    delta_z = (delta_u @ W) * layer.encode.derivative(z)
    gradient = {
        "W": delta_u.T @ layer.encode(z) + x.T @ delta_z,
        "b": np.sum(delta_z, axis=0),
        "c": np.sum(delta_u, axis=0),
    }
    return gradient, delta_z @ W.T


def elementwise(layer: Elementwise, parameters: dict[str, Any], x: Any, adjoint: Any) -> Backward:
    """∂L/∂x = ∂L/∂a · φ'(x)."""
    return {}, adjoint * layer.activation.derivative(x)


def softmax_layer(layer: Softmax, parameters: dict[str, Any], x: Any, adjoint: Any) -> Backward:
    """∂L/∂x_j = s_j (∂L/∂s_j - Σ_i s_i ∂L/∂s_i), from ∂s_i/∂x_j = s_i (δ_ij - s_j)."""
    return {}, through_softmax(softmax(x), adjoint)


def flatten(layer: Flatten, parameters: dict[str, Any], x: Any, adjoint: Any) -> Backward:
    """The same numbers in the shape of x."""
    return {}, np.reshape(adjoint, np.shape(x))


def dropout(layer: Dropout, parameters: dict[str, Any], x: Any, adjoint: Any) -> Backward:
    """∂L/∂x = ∂L/∂a · mask."""
    return {}, adjoint * layer.applied(parameters, x)


def embedding(layer: Embedding, parameters: dict[str, Any], x: Any, adjoint: Any) -> Backward:
    """∂L/∂W_v = Σ of the adjoints wherever word v stands. There is no derivative by a word."""
    return {"W": _gathered(x, adjoint, layer.vocabulary)}, None


def word_pairs(layer: WordPairs, parameters: dict[str, Any], x: Any, adjoint: Any) -> Backward:
    """With z_k = ⟨v, u_k⟩: ∂L/∂v = Σ_k ∂L/∂z_k u_k and ∂L/∂u_k = ∂L/∂z_k v, summed by word."""
    centres, candidates = x[:, 0], x[:, 1:]
    v, u = parameters["W_in"][centres], parameters["W_out"][candidates]
    by_centre = np.sum(adjoint[..., None] * u, axis=1)
    by_candidate = adjoint[..., None] * v[:, None, :]
    return {
        "W_in": _gathered(centres, by_centre, layer.vocabulary),
        "W_out": _gathered(candidates, by_candidate, layer.vocabulary),
    }, None


def outer_sum(x: Any, delta: Any) -> Any:
    """Σ of x δᵀ over all axes but the last; a single sample is a batch of one."""
    if delta.ndim == 1:
        return x[:, None] * delta[None, :]
    axes = tuple(range(delta.ndim - 1))
    return np.tensordot(x, delta, (axes, axes))


def batch_sum(delta: Any) -> Any:
    """Σ of δ over all axes but the last."""
    return np.sum(delta, axis=tuple(range(delta.ndim - 1)))


def through_softmax(s: Any, adjoint: Any) -> Any:
    """The adjoint before a softmax along the last axis, from the one after it.

    s_j (g_j - Σ_i s_i g_i), where a common shift of all g changes nothing, as Σ s_i = 1. With
    the g of the largest s shifted to 0, nothing cancels when that s is nearly 1.
    """
    largest = np.expand_dims(np.argmax(s, axis=-1), -1)
    shifted = adjoint - np.take_along_axis(adjoint, largest, axis=-1)
    return s * (shifted - np.sum(s * shifted, axis=-1, keepdims=True))


def share_of_maxima(x: Any, axes: tuple[int, ...]) -> Any:
    """1 at the maximum along `axes` and 0 elsewhere; equal parts where several are largest."""
    largest = np.equal(x, np.max(x, axis=axes, keepdims=True)).astype(x.dtype)
    return largest / np.sum(largest, axis=axes, keepdims=True)


def _gathered(words: Any, adjoints: Any, vocabulary: int) -> Any:
    """One row per word: the sum of the adjoints at its places."""
    width = np.shape(adjoints)[-1]
    places = (np.arange(vocabulary)[:, None] == np.reshape(words, (1, -1))).astype(adjoints.dtype)
    return places @ np.reshape(adjoints, (-1, width))
