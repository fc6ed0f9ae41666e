"""The networks that textbooks name, each built in one call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from diffkit.errors import InvalidInput
from diffkit.nn.activations import IDENTITY, RELU, SIGMOID, TANH, Activation
from diffkit.nn.blocks import BatchNorm, Residual
from diffkit.nn.convolution import Convolution, GlobalAveragePool, MaxPool
from diffkit.nn.embeddings import Embedding, WordPairs
from diffkit.nn.layers import Dense, Dropout, Elementwise, Flatten, TiedAutoencoder
from diffkit.nn.losses import LOGISTIC, MEAN_SQUARED_ERROR, SOFTMAX_CROSS_ENTROPY, Loss
from diffkit.nn.network import Network, fully_connected
from diffkit.nn.penalties import NO_PENALTY, Penalty


def linear_regression(inputs: int, outputs: int = 1, penalty: Penalty = NO_PENALTY) -> Network:
    """Return x W + b under the mean squared error; `least_squares` has its minimum."""
    return Network((Dense(inputs, outputs),), MEAN_SQUARED_ERROR, penalty)


def least_squares(X: Any, Y: Any, l2: float = 0.0) -> dict[str, Any]:
    """Return the parameters of `linear_regression` at which its loss is least.

    The mean squared error is Σ (X W + b - Y)² / (n k) with n samples and k outputs. With
    centred data the normal equations are (XᵀX + l2 n k I) W = XᵀY, and b is what is left of
    the means. Without a penalty, of several minima the one with the smallest W.

    Args:
        X: (samples, inputs).
        Y: (samples, outputs).
        l2: the factor of the penalty l2 Σ W².

    Raises:
        InvalidInput: the shapes do not fit, there are no samples, or l2 is negative.
    """
    if np.ndim(X) != 2 or np.ndim(Y) != 2 or len(X) != len(Y) or not len(X):
        raise InvalidInput(
            f"least squares takes (samples, inputs) and (samples, outputs), not {np.shape(X)} "
            f"and {np.shape(Y)}"
        )
    if not 0 <= l2 < np.inf:
        raise InvalidInput(f"l2={l2!r} must be finite and not negative")
    x_mean, y_mean = np.mean(X, axis=0), np.mean(Y, axis=0)
    root = np.sqrt(l2 * np.size(Y)) * np.eye(np.shape(X)[1])
    rows = np.concatenate([X - x_mean, root]) if l2 else X - x_mean
    right = np.concatenate([Y - y_mean, np.zeros((len(root), len(y_mean)))]) if l2 else Y - y_mean
    W = np.linalg.lstsq(rows, right, rcond=None)[0]
    return {"layer1": {"W": W, "b": y_mean - x_mean @ W}}


def logistic_regression(
    inputs: int, criterion: Loss = LOGISTIC, penalty: Penalty = NO_PENALTY
) -> Network:
    """Return σ(x w + b) under the logistic loss, or under a loss of probabilities.

    The logistic loss contains the σ, so its network puts out the logit. With
    `MEAN_SQUARED_ERROR` the network puts out the probability; that loss is not convex.
    """
    output = IDENTITY if criterion is LOGISTIC else SIGMOID
    return Network((Dense(inputs, 1, output),), criterion, penalty)


def softmax_regression(inputs: int, classes: int, penalty: Penalty = NO_PENALTY) -> Network:
    """Return logits x W + b under the softmax cross-entropy."""
    return Network((Dense(inputs, classes),), SOFTMAX_CROSS_ENTROPY, penalty)


def autoencoder(
    widths: Sequence[int],
    activation: Activation = TANH,
    *,
    tied: bool = False,
    penalty: Penalty = NO_PENALTY,
) -> Network:
    """Return a network that is to put out its input, through a narrow middle.

    Train it on (X, X); on (X with noise, X) it is a denoising one.

    Args:
        widths: from the input to the middle; the decoder mirrors them.
        activation: of all layers but the last, which is linear.
        tied: whether the decoder has the encoder's weights, transposed; for two widths.

    Raises:
        InvalidInput: there are fewer than two widths, or more than two tied ones.
    """
    if len(widths) < 2 or (tied and len(widths) > 2):
        raise InvalidInput(
            f"an autoencoder needs two widths or more, a tied one exactly two: {widths}"
        )
    if tied:
        layer = TiedAutoencoder(widths[0], widths[1], activation)
        return Network((layer,), MEAN_SQUARED_ERROR, penalty)
    mirrored = (*widths, *reversed(widths[:-1]))
    return fully_connected(mirrored, MEAN_SQUARED_ERROR, activation, penalty=penalty)


def skip_gram(vocabulary: int, width: int, *, negative: bool = False) -> Network:
    """Return word2vec's skip-gram: word vectors that foretell the words around.

    With the full softmax, `X` are the numbers of centre words and the targets those of words
    near them. With negative sampling, `X` are rows of a centre, a word near it and words drawn
    at random, and the targets are rows (1, 0, ..., 0).
    Source: Mikolov et al., "Efficient estimation of word representations" (2013) and NeurIPS
    2013.
    """
    if negative:
        return Network((WordPairs(vocabulary, width),), LOGISTIC)
    layers = (Embedding(vocabulary, width), Dense(width, vocabulary, bias=False))
    return Network(layers, SOFTMAX_CROSS_ENTROPY)


def small_alexnet(channels: int = 1, size: int = 16, classes: int = 10) -> Network:
    """Return AlexNet in small: convolutions and max pools, then dense layers with dropout.

    For images of shape (channels, size, size), the size a multiple of 4.
    Source: Krizhevsky, Sutskever and Hinton, NeurIPS 2012.

    Raises:
        InvalidInput: the size is not a positive multiple of 4.
    """
    if size < 4 or size % 4:
        raise InvalidInput(f"size={size} must be a positive multiple of 4")
    layers = (
        Convolution(channels, 4, (3, 3), padding=1, activation=RELU),
        MaxPool(2),
        Convolution(4, 8, (3, 3), padding=1, activation=RELU),
        Convolution(8, 8, (3, 3), padding=1, activation=RELU),
        MaxPool(2),
        Flatten(),
        Dropout(0.5, seed=1),
        Dense(8 * (size // 4) ** 2, 32, RELU),
        Dropout(0.5, seed=2),
        Dense(32, classes),
    )
    return Network(layers, SOFTMAX_CROSS_ENTROPY)


def small_resnet(channels: int = 1, classes: int = 10, width: int = 4) -> Network:
    """Return a residual network in small: a stem, two stages of blocks, a global mean.

    For images of any size from 2 up. The second stage halves the image and doubles the channels.
    Source: He, Zhang, Ren and Sun, CVPR 2016.
    """
    layers = (
        Convolution(channels, width, (3, 3), padding=1, bias=False),
        BatchNorm(width),
        Elementwise(RELU),
        _block(width, width, 1),
        _block(width, 2 * width, 2),
        GlobalAveragePool(),
        Dense(2 * width, classes),
    )
    return Network(layers, SOFTMAX_CROSS_ENTROPY)


def _block(inputs: int, outputs: int, stride: int) -> Residual:
    """Two normalised convolutions, and a 1×1 convolution as shortcut where shapes change."""
    inner = (
        Convolution(inputs, outputs, (3, 3), stride, 1, bias=False),
        BatchNorm(outputs),
        Elementwise(RELU),
        Convolution(outputs, outputs, (3, 3), 1, 1, bias=False),
        BatchNorm(outputs),
    )
    if inputs == outputs and stride == 1:
        return Residual(inner, RELU)
    return Residual(inner, RELU, Convolution(inputs, outputs, (1, 1), stride, bias=False))
