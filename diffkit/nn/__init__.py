"""Small neural networks in plain NumPy, so that every backend sees through them."""

from diffkit.nn.activations import (
    ACTIVATIONS,
    IDENTITY,
    RELU,
    SIGMOID,
    SOFTPLUS,
    TANH,
    Activation,
    activation,
    log_softmax,
    softmax,
)
from diffkit.nn.datasets import Dataset, iris, load_csv, standardise
from diffkit.nn.layers import Dense
from diffkit.nn.losses import (
    HALF_SQUARED_ERROR,
    LOSSES,
    MEAN_SQUARED_ERROR,
    SOFTMAX_CROSS_ENTROPY,
    Loss,
)
from diffkit.nn.network import Network, fully_connected
from diffkit.nn.zoo import NETWORKS, Case

__all__ = [
    "ACTIVATIONS",
    "HALF_SQUARED_ERROR",
    "IDENTITY",
    "LOSSES",
    "MEAN_SQUARED_ERROR",
    "NETWORKS",
    "RELU",
    "SIGMOID",
    "SOFTMAX_CROSS_ENTROPY",
    "SOFTPLUS",
    "TANH",
    "Activation",
    "Case",
    "Dataset",
    "Dense",
    "Loss",
    "Network",
    "activation",
    "fully_connected",
    "iris",
    "load_csv",
    "log_softmax",
    "softmax",
    "standardise",
]
