"""Losses: one number from a network's outputs and the targets, each with its gradient.

Outputs have shape (batch, width), or (width,) for a single sample. A loss is the mean over
the batch, weighted if the samples have weights. Gradients are by the outputs, and written out
by hand.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from diffkit.errors import InvalidInput
from diffkit.nn.activations import (
    log_softmax,
    relu_derivative,
    sigmoid,
    softmax,
    softmax_complement,
    softplus,
)

Function = Callable[[Any, Any], Any]


@dataclass(frozen=True)
class Loss:
    """A loss L(outputs, targets) with ∂L/∂outputs.

    Attributes:
        name: in `LOSSES`, if it is there.
        function: the mean over the batch.
        gradient: of that mean, by the outputs.
        samples: the loss of each sample, (batch,). Only weighted means need it.
    """

    name: str
    function: Function
    gradient: Function
    samples: Function | None = None

    def __call__(self, outputs: Any, targets: Any, weights: Any = None) -> Any:
        """Return the mean over the batch, Σ w_i L_i / Σ w_i with one weight per sample.

        Raises:
            InvalidInput: the shapes do not fit, or a weight is negative or not finite.
        """
        mean = self.function(outputs, targets)
        if weights is None:
            return mean
        if self.samples is None:
            raise InvalidInput(f"{self.name} has no loss of each sample, so none can be weighted")
        _require_weights(outputs, weights)
        return np.sum(weights * self.samples(outputs, targets)) / np.sum(weights)

    def adjoint(self, outputs: Any, targets: Any, weights: Any = None) -> Any:
        """Return ∂L/∂outputs, with weights if there are any."""
        gradient = self.gradient(outputs, targets)
        if weights is None:
            return gradient
        _require_weights(outputs, weights)
        shares = weights / np.sum(weights) * _batch_size(outputs)
        return gradient * np.reshape(shares, (-1, 1))

    def __repr__(self) -> str:
        return self.name


def mean_squared_error(outputs: Any, targets: Any) -> Any:
    """Return the mean of (output - target)² over all entries.

    Raises:
        InvalidInput: outputs and targets differ in shape, or are empty.
    """
    _require_same_shape(outputs, targets)
    return np.mean((outputs - targets) ** 2)


def mean_squared_error_gradient(outputs: Any, targets: Any) -> Any:
    """Return 2 (output - target) / (number of entries)."""
    _require_same_shape(outputs, targets)
    return 2 * (outputs - targets) / outputs.size


def half_squared_error(outputs: Any, targets: Any) -> Any:
    """Return the mean over the batch of ½ Σ (output - target)².

    Raises:
        InvalidInput: outputs and targets differ in shape, or are empty.
    """
    _require_same_shape(outputs, targets)
    return np.mean(np.sum((outputs - targets) ** 2, axis=-1)) / 2


def half_squared_error_gradient(outputs: Any, targets: Any) -> Any:
    """Return (output - target) / (batch size)."""
    _require_same_shape(outputs, targets)
    return (outputs - targets) / _batch_size(outputs)


def softmax_cross_entropy(outputs: Any, targets: Any) -> Any:
    """Return the mean over the batch of -Σ_k t_k log softmax(output)_k.

    The maximum is shifted out, so that outputs of ±1e4 are no trouble.

    Args:
        outputs: logits, (batch, classes).
        targets: class numbers, (batch,), or one row of class probabilities per sample.

    Raises:
        InvalidInput: the shapes do not fit, or a class number is not in 0 ... classes - 1.
    """
    return -np.mean(_log_likelihoods(outputs, targets))


def _log_likelihoods(outputs: Any, targets: Any) -> Any:
    """Σ_k t_k log softmax(output)_k of each sample."""
    log_probability = log_softmax(_checked(outputs))
    if np.shape(targets) == np.shape(outputs):
        return np.sum(targets * log_probability, axis=-1)
    _require_labels(outputs, targets)
    own = np.equal(np.expand_dims(targets, -1), np.arange(np.shape(outputs)[-1]))
    return np.sum(np.where(own, log_probability, 0), axis=-1)  # an index would be a guard


def softmax_cross_entropy_gradient(outputs: Any, targets: Any) -> Any:
    """Return (s_j Σ_k t_k - t_j) / (batch size), s the softmax; Σ_k t_k is 1 for class numbers.

    As s_j (Σ_k t_k - t_j) - t_j (1 - s_j), in which nothing cancels when s_j is nearly 1.
    """
    s = softmax(_checked(outputs))
    if np.shape(targets) != np.shape(outputs):
        _require_labels(outputs, targets)
        own = np.equal(np.expand_dims(targets, -1), np.arange(np.shape(outputs)[-1]))
        targets = own.astype(outputs.dtype)
    others = np.sum(targets, axis=-1, keepdims=True) - targets
    return (s * others - targets * softmax_complement(outputs)) / _batch_size(outputs)


def logistic_loss(outputs: Any, targets: Any) -> Any:
    """Return the mean over all entries of -t log σ(z) - (1 - t) log(1 - σ(z)).

    In logits z it is t softplus(-z) + (1 - t) softplus(z): finite, and nothing cancels.

    Args:
        outputs: logits, one per yes-or-no question.
        targets: 1 for yes and 0 for no, or a probability.

    Raises:
        InvalidInput: outputs and targets differ in shape, or are empty.
    """
    _require_same_shape(outputs, targets)
    return np.mean(_logistic(outputs, targets))


def logistic_loss_gradient(outputs: Any, targets: Any) -> Any:
    """Return ((1 - t) σ(z) - t σ(-z)) / (number of entries), which is (σ(z) - t) / ..."""
    _require_same_shape(outputs, targets)
    return ((1 - targets) * sigmoid(outputs) - targets * sigmoid(-outputs)) / outputs.size


def hinge_loss(outputs: Any, targets: Any) -> Any:
    """Return the mean over all entries of max(0, 1 - t z), with targets t = ±1.

    Raises:
        InvalidInput: outputs and targets differ in shape or are empty, or a target is not ±1.
    """
    _require_signs(outputs, targets)
    return np.mean(np.maximum(1 - targets * outputs, 0))


def hinge_loss_gradient(outputs: Any, targets: Any) -> Any:
    """Return -t / (number of entries) where t z < 1, half of that at the kink t z = 1."""
    _require_signs(outputs, targets)
    return -targets * relu_derivative(1 - targets * outputs) / outputs.size


@cache
def huber(delta: float = 1.0) -> Loss:
    """Return the loss with r²/2 for |r| <= δ and δ (|r| - δ/2) beyond, r = output - target.

    With c = r clipped to ±δ both are c (r - c/2), and the slope is c: no branch is needed.
    Source: Huber, Annals of Mathematical Statistics 35 (1964).

    Raises:
        InvalidInput: δ is not positive and finite.
    """
    if not 0 < delta < np.inf:
        raise InvalidInput(f"delta={delta!r} must be positive and finite")

    def entries(outputs: Any, targets: Any) -> Any:
        _require_same_shape(outputs, targets)
        r = outputs - targets
        c = np.clip(r, -delta, delta)
        return c * (r - c / 2)

    def gradient(outputs: Any, targets: Any) -> Any:
        _require_same_shape(outputs, targets)
        return np.clip(outputs - targets, -delta, delta) / outputs.size

    return Loss(
        "huber" if delta == 1 else f"huber {delta:g}",
        lambda outputs, targets: np.mean(entries(outputs, targets)),
        gradient,
        lambda outputs, targets: np.mean(entries(outputs, targets), axis=-1),
    )


def _logistic(outputs: Any, targets: Any) -> Any:
    return targets * softplus(-outputs) + (1 - targets) * softplus(outputs)


MEAN_SQUARED_ERROR = Loss(
    "mean squared error",
    mean_squared_error,
    mean_squared_error_gradient,
    lambda outputs, targets: np.mean((outputs - targets) ** 2, axis=-1),
)
HALF_SQUARED_ERROR = Loss(
    "half squared error",
    half_squared_error,
    half_squared_error_gradient,
    lambda outputs, targets: np.sum((outputs - targets) ** 2, axis=-1) / 2,
)
SOFTMAX_CROSS_ENTROPY = Loss(
    "softmax cross-entropy",
    softmax_cross_entropy,
    softmax_cross_entropy_gradient,
    lambda outputs, targets: -_log_likelihoods(outputs, targets),
)
LOGISTIC = Loss(
    "logistic",
    logistic_loss,
    logistic_loss_gradient,
    lambda outputs, targets: np.mean(_logistic(outputs, targets), axis=-1),
)
HINGE = Loss(
    "hinge",
    hinge_loss,
    hinge_loss_gradient,
    lambda outputs, targets: np.mean(np.maximum(1 - targets * outputs, 0), axis=-1),
)
HUBER = huber()

LOSSES = {
    loss.name: loss
    for loss in (
        MEAN_SQUARED_ERROR,
        HALF_SQUARED_ERROR,
        SOFTMAX_CROSS_ENTROPY,
        LOGISTIC,
        HINGE,
        HUBER,
    )
}


def _batch_size(outputs: Any) -> int:
    shape = np.shape(outputs)
    return shape[0] if len(shape) > 1 else 1


def _checked(outputs: Any) -> Any:
    shape = np.shape(outputs)
    if len(shape) not in (1, 2) or 0 in shape:
        raise InvalidInput(
            f"the outputs have shape {shape}; a loss takes (batch, width), or (width,) for one "
            "sample, and at least one of each"
        )
    return outputs


def _require_same_shape(outputs: Any, targets: Any) -> None:
    """Refuse what NumPy would broadcast: (n, 1) minus (n,) is an (n, n) matrix."""
    if np.shape(_checked(outputs)) != np.shape(targets):
        column = np.shape(outputs) == (*np.shape(targets), 1)
        raise InvalidInput(
            f"the targets have shape {np.shape(targets)} and the outputs {np.shape(outputs)}; "
            f"they must agree{': pass targets[:, None]' if column else ''}"
        )


def _require_labels(outputs: Any, targets: Any) -> None:
    shape = np.shape(outputs)
    if np.shape(targets) != shape[:-1]:
        raise InvalidInput(
            f"the targets have shape {np.shape(targets)} for outputs of shape {shape}; pass "
            f"class numbers of shape {shape[:-1]} or class probabilities of shape {shape}"
        )
    dtype = targets.dtype if hasattr(targets, "dtype") else np.asarray(targets).dtype
    if dtype.kind not in "iu":
        raise InvalidInput(f"class numbers must be integers, and the targets are {dtype}")
    if np.any(np.less(targets, 0)) or np.any(np.greater_equal(targets, shape[-1])):
        raise InvalidInput(f"class numbers must lie in 0 ... {shape[-1] - 1}")


def _require_signs(outputs: Any, targets: Any) -> None:
    _require_same_shape(outputs, targets)
    if np.any(np.not_equal(np.abs(targets), 1)):
        raise InvalidInput("the targets of the hinge loss must be +1 or -1, as 2 y - 1 of 0 and 1")


def _require_weights(outputs: Any, weights: Any) -> None:
    shape = np.shape(outputs)
    if len(shape) != 2 or np.shape(weights) != shape[:1]:
        raise InvalidInput(
            f"the weights have shape {np.shape(weights)} for outputs of shape {shape}; pass one "
            "weight per sample of a batch"
        )
    if not np.all(np.isfinite(weights)) or np.any(np.less(weights, 0)) or not np.any(weights):
        raise InvalidInput("the weights must be finite, not negative, and not all 0")
