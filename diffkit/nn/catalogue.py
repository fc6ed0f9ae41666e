"""All activations without a parameter of the user's own, by name."""

from __future__ import annotations

from diffkit.errors import InvalidInput
from diffkit.nn.activations import (
    ARCTAN,
    IDENTITY,
    RELU,
    SIGMOID,
    SOFTPLUS,
    TANH,
    THRESHOLD,
    Activation,
)
from diffkit.nn.rectifiers import ELU, GELU, GELU_ERF, LEAKY_RELU, SELU, SILU

ACTIVATIONS: dict[str, Activation] = {
    "identity": IDENTITY,
    "tanh": TANH,
    "sigmoid": SIGMOID,
    "softplus": SOFTPLUS,
    "relu": RELU,
    "threshold": THRESHOLD,
    "arctan": ARCTAN,
    "leaky_relu": LEAKY_RELU,
    "elu": ELU,
    "selu": SELU,
    "gelu": GELU,
    "gelu_erf": GELU_ERF,
    "silu": SILU,
}


def activation(name: str) -> Activation:
    """Return the activation of that name.

    Raises:
        InvalidInput: there is none.
    """
    if name not in ACTIVATIONS:
        raise InvalidInput(f"unknown activation {name!r}; choose one of {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]
