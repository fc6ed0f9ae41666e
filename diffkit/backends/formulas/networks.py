"""Closed forms of activations, losses, and the gradient of a network by backpropagation."""

from __future__ import annotations

from functools import partial
from typing import Any

from diffkit.backends.formulas.forms import Forms, Function
from diffkit.nn.activations import (
    ACTIVATIONS,
    log_softmax,
    log_softmax_jacobian,
    softmax,
    softmax_jacobian,
)
from diffkit.nn.layers import Dense
from diffkit.nn.losses import LOSSES
from diffkit.nn.network import Network

ACTIVATION_FORMS: dict[Function, Forms] = {
    softmax: Forms(jacobian=softmax_jacobian),
    log_softmax: Forms(jacobian=log_softmax_jacobian),
} | {
    function: Forms((phi.derivative, phi.second), elementwise=True)
    for phi in ACTIVATIONS.values()
    for function in (phi, phi.function)
}

LOSS_FORMS: dict[Function, Forms] = {
    function: Forms(gradient=loss.gradient)
    for loss in LOSSES.values()
    for function in (loss, loss.function)
}


def network_loss_forms(owner: Any, function: Function) -> Forms | None:
    """Return the closed form of the bound method `owner.function`, if it is a network's loss.

    A bound method is a new object at each access, so it is known by what it is bound to.
    """
    if not isinstance(owner, Network) or function is not Network.loss:
        return None
    if type(owner).predict is not Network.predict:
        return None
    if any(type(layer) is not Dense for layer in owner.layers):
        return None
    return Forms(gradient=partial(backpropagation, owner))


def backpropagation(network: Network, parameters: dict[str, Any], X: Any, y: Any) -> Any:
    """Return ∂L/∂W and ∂L/∂b of every layer, in the structure of the parameters.

    With z_l = a_{l-1} W_l + b_l, a_l = φ_l(z_l), a_0 = X and δ_l = ∂L/∂z_l,

        δ_L = ∂L/∂a_L · φ_L'(z_L)            ∂L/∂W_l = a_{l-1}ᵀ δ_l
        δ_l = (δ_{l+1} W_{l+1}ᵀ) · φ_l'(z_l)     ∂L/∂b_l = Σ over the batch of δ_l

    Source: Rumelhart, Hinton and Williams, Nature 323 (1986), equations 4 to 7, for a batch.
    """
    inputs, preactivations, a = [], [], X
    for name, layer in network.named_layers:
        inputs.append(a)
        preactivations.append(layer.preactivation(parameters[name], a))
        a = layer.activation(preactivations[-1])

    gradient: dict[str, Any] = {}
    adjoint = network.criterion.gradient(a, y)
    for (name, layer), a, z in zip(
        reversed(network.named_layers), reversed(inputs), reversed(preactivations), strict=True
    ):
        delta = adjoint * layer.activation.derivative(z)
        gradient[name] = {"W": _outer_sum(a, delta), "b": _batch_sum(delta)}
        adjoint = delta @ parameters[name]["W"].T
    return {name: {key: gradient[name][key] for key in parameters[name]} for name in parameters}


def _outer_sum(a: Any, delta: Any) -> Any:
    """Σ over the batch of a δᵀ; a single sample is a batch of one."""
    return a.T @ delta if delta.ndim == 2 else a[:, None] * delta[None, :]


def _batch_sum(delta: Any) -> Any:
    return delta.sum(axis=0) if delta.ndim == 2 else delta
