"""Closed forms of activations, losses, and the gradient of a network by backpropagation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from diffkit.backends.formulas import blocks, convolution, dense, recurrent
from diffkit.backends.formulas.dense import Backward
from diffkit.backends.formulas.forms import Forms, Function
from diffkit.nn.activations import (
    Activation,
    log_softmax,
    log_softmax_jacobian,
    softmax,
    softmax_jacobian,
)
from diffkit.nn.blocks import Attention, BatchNorm, LayerNorm, Residual
from diffkit.nn.catalogue import ACTIVATIONS
from diffkit.nn.convolution import AveragePool, Convolution, GlobalAveragePool, MaxPool
from diffkit.nn.embeddings import Embedding, WordPairs
from diffkit.nn.layers import (
    Dense,
    Dropout,
    Elementwise,
    Flatten,
    Layer,
    Maxout,
    Softmax,
    TiedAutoencoder,
)
from diffkit.nn.losses import LOSSES, Loss
from diffkit.nn.network import Network, with_masks
from diffkit.nn.recurrent import GRU, LSTM, Elman


def activation_forms(phi: Activation) -> Forms:
    """Return the closed forms of an activation, which it carries."""
    return Forms((phi.derivative, phi.second), elementwise=True)


ACTIVATION_FORMS: dict[Function, Forms] = {
    softmax: Forms(jacobian=softmax_jacobian),
    log_softmax: Forms(jacobian=log_softmax_jacobian),
} | {phi.function: activation_forms(phi) for phi in ACTIVATIONS.values()}

LOSS_FORMS: dict[Function, Forms] = {
    loss.function: Forms(gradient=loss.gradient) for loss in LOSSES.values()
}


def loss_forms(loss: Loss) -> Forms:
    """Return the closed form of a loss, which it carries."""
    return Forms(gradient=loss.adjoint)


Chain = Sequence[tuple[str, Layer]]

BACKWARD: dict[type[Layer], Callable[..., Backward]] = {
    Dense: dense.dense,
    Maxout: dense.maxout,
    TiedAutoencoder: dense.tied,
    Elementwise: dense.elementwise,
    Softmax: dense.softmax_layer,
    Flatten: dense.flatten,
    Dropout: dense.dropout,
    Embedding: dense.embedding,
    WordPairs: dense.word_pairs,
    Convolution: convolution.convolution,
    MaxPool: convolution.max_pool,
    AveragePool: convolution.average_pool,
    GlobalAveragePool: convolution.global_average_pool,
    Elman: recurrent.elman,
    LSTM: recurrent.lstm,
    GRU: recurrent.gru,
    BatchNorm: blocks.normalisation,
    LayerNorm: blocks.normalisation,
    Attention: blocks.attention,
}
"""The δ recursion of each type of layer. `Residual` has its own below, as it holds layers."""


def network_loss_forms(owner: Any, function: Function) -> Forms | None:
    """Return the closed form of the bound method `owner.function`, if it is a network's loss.

    A bound method is a new object at each access, so it is known by what it is bound to.
    """
    if not isinstance(owner, Network) or function is not Network.loss:
        return None
    if type(owner).predict is not Network.predict:
        return None
    if not all(_is_known(layer) for layer in owner.layers):
        return None
    return Forms(gradient=partial(backpropagation, owner))


def _is_known(layer: Layer) -> bool:
    """Whether a layer is of a type that has a formula here: a subclass may do anything."""
    if type(layer) is Residual:
        members = layer.layers if layer.shortcut is None else (*layer.layers, layer.shortcut)
        return all(_is_known(member) for member in members)
    return type(layer) in BACKWARD


def backpropagation(
    network: Network,
    parameters: dict[str, Any],
    X: Any,
    y: Any,
    weights: Any = None,
    masks: dict[str, Any] | None = None,
) -> Any:
    """Return the gradient of the loss by every parameter, in the structure of the parameters.

    The adjoint ∂L/∂a of the outputs comes from the criterion, and passes the layers from the
    last to the first; each turns ∂L/∂a_l into its own gradient and ∂L/∂a_{l-1}. The penalty
    adds its own gradient.
    """
    network.require_parameters(parameters)
    merged = with_masks(parameters, masks)
    inputs, outputs = _forth(network.named_layers, merged, X)
    adjoint = network.criterion.adjoint(outputs, y, weights)
    gradient, _ = _back(network.named_layers, merged, inputs, adjoint)
    if network.penalty:
        gradient = _added(gradient, network.penalty.gradient(parameters))
    return _ordered_like(parameters, gradient)


def _forth(named_layers: Chain, parameters: dict[str, Any], x: Any) -> tuple[list[Any], Any]:
    """The input of each layer of a chain, and what the last puts out."""
    inputs = []
    for name, layer in named_layers:
        inputs.append(x)
        x = layer.forward(parameters.get(name, {}), x)
    return inputs, x


def _back(
    named_layers: Chain, parameters: dict[str, Any], inputs: list[Any], adjoint: Any
) -> Backward:
    """The gradients of a chain of layers, and the adjoint of its input."""
    gradient: dict[str, Any] = {}
    for (name, layer), x in zip(reversed(named_layers), reversed(inputs), strict=True):
        own, adjoint = _through(layer, parameters.get(name, {}), x, adjoint)
        if own:
            gradient[name] = own
    return gradient, adjoint


def _through(layer: Layer, parameters: dict[str, Any], x: Any, adjoint: Any) -> Backward:
    if isinstance(layer, Residual):
        return _residual(layer, parameters, x, adjoint)
    return BACKWARD[type(layer)](layer, parameters, x, adjoint)


def _residual(layer: Residual, parameters: dict[str, Any], x: Any, adjoint: Any) -> Backward:
    """With a = φ(z), z = S(x) + F(x) and δ = ∂L/∂a · φ'(z): ∂L/∂x = S'(x)ᵀ δ + F'(x)ᵀ δ."""
    delta = adjoint * layer.activation.derivative(layer.preactivation(parameters, x))
    inputs, _ = _forth(layer.named_layers, parameters, x)
    gradient, by_input = _back(layer.named_layers, parameters, inputs, delta)
    if layer.shortcut is None:
        return gradient, by_input + delta
    own, by_shortcut = _through(layer.shortcut, parameters.get("shortcut", {}), x, delta)
    return gradient | ({"shortcut": own} if own else {}), by_input + by_shortcut


def _added(one: Any, other: Any) -> Any:
    if isinstance(one, dict):
        return {key: _added(one[key], other[key]) for key in one}
    return one + other


def _ordered_like(parameters: Any, gradient: Any) -> Any:
    """The gradient with its keys in the order of those of the parameters."""
    if isinstance(parameters, dict):
        return {key: _ordered_like(parameters[key], gradient[key]) for key in parameters}
    return gradient
