"""Losses: one number from a network's outputs and the targets, each with its gradient.

Outputs have shape (batch, width), or (width,) for a single sample. A loss is the mean over
the batch. Gradients are by the outputs, and written out by hand.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from diffkit.errors import InvalidInput
from diffkit.nn.activations import log_softmax, softmax

Function = Callable[[Any, Any], Any]


@dataclass(frozen=True)
class Loss:
    """A loss L(outputs, targets) with ∂L/∂outputs."""

    name: str
    function: Function
    gradient: Function

    def __call__(self, outputs: Any, targets: Any) -> Any:
        return self.function(outputs, targets)

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
    log_probability = log_softmax(_checked(outputs))
    if np.shape(targets) == np.shape(outputs):
        return -np.mean(np.sum(targets * log_probability, axis=-1))
    _require_labels(outputs, targets)
    if len(np.shape(outputs)) == 1:
        return -log_probability[targets]
    return -np.mean(log_probability[np.arange(_batch_size(outputs)), targets])


def softmax_cross_entropy_gradient(outputs: Any, targets: Any) -> Any:
    """Return (softmax(output) Σ_k t_k - t) / (batch size); Σ_k t_k is 1 for class numbers."""
    probability, count = softmax(_checked(outputs)), _batch_size(outputs)
    if np.shape(targets) == np.shape(outputs):
        return (probability * np.sum(targets, axis=-1, keepdims=True) - targets) / count
    _require_labels(outputs, targets)
    return (probability - np.eye(outputs.shape[-1], dtype=outputs.dtype)[targets]) / count


MEAN_SQUARED_ERROR = Loss("mean squared error", mean_squared_error, mean_squared_error_gradient)
HALF_SQUARED_ERROR = Loss("half squared error", half_squared_error, half_squared_error_gradient)
SOFTMAX_CROSS_ENTROPY = Loss(
    "softmax cross-entropy", softmax_cross_entropy, softmax_cross_entropy_gradient
)

LOSSES = {
    loss.name: loss for loss in (MEAN_SQUARED_ERROR, HALF_SQUARED_ERROR, SOFTMAX_CROSS_ENTROPY)
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
        raise InvalidInput(
            f"the targets have shape {np.shape(targets)} and the outputs {np.shape(outputs)}; "
            "they must agree"
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
