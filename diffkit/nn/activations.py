"""Activation functions, each with its first two derivatives written out by hand.

All are plain NumPy on arrays of any shape, keep the floating dtype they are given, and stay
finite, value and derivatives, wherever the dtype can hold the argument. (Only the threshold
has a point, its jump, without a derivative.) `catalogue` has the table of all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from diffkit.errors import InvalidInput

Function = Callable[[Any], Any]


@dataclass(frozen=True)
class Activation:
    """An elementwise function φ with φ' and φ''."""

    name: str
    function: Function
    derivative: Function
    second: Function

    def __call__(self, x: Any) -> Any:
        return self.function(x)

    @property
    def __diffkit_reservation__(self) -> str | None:
        """What differentiating it comes with: a warning, if it cannot be learned through."""
        return getattr(self.function, "__diffkit_reservation__", None)

    def __repr__(self) -> str:
        return self.name


def identity(x: Any) -> Any:
    """Return x."""
    return +x


def one(x: Any) -> Any:
    """Return 1, in the shape of x."""
    return np.ones_like(x)[()]


def zero(x: Any) -> Any:
    """Return 0, in the shape of x."""
    return np.zeros_like(x)[()]


def tanh(x: Any) -> Any:
    """Return tanh x."""
    return np.tanh(x)


def tanh_derivative(x: Any) -> Any:
    """Return 1 / cosh² x = 4 e^-2|x| / (1 + e^-2|x|)².

    This form keeps its digits where tanh x is close to 1 (1 - tanh² x cancels there) and
    never overflows.
    """
    e = np.exp(-2 * np.abs(x))
    return 4 * e / (1 + e) ** 2


def tanh_second(x: Any) -> Any:
    """Return -2 tanh x / cosh² x."""
    return -2 * np.tanh(x) * tanh_derivative(x)


def softplus(x: Any) -> Any:
    """Return log(1 + e^x), which does not overflow in this form."""
    return np.logaddexp(0, x)


def sigmoid(x: Any) -> Any:
    """Return 1 / (1 + e^-x), as e^-softplus(-x).

    The textbook form overflows for negative x; (1 + tanh(x/2)) / 2 cancels there. This one
    does neither, and it has no branch at 0, so it is smooth for every backend. It has no
    complex version.
    """
    return np.exp(-np.logaddexp(0, -x))


def sigmoid_derivative(x: Any) -> Any:
    """Return σ(x) (1 - σ(x)) = e^-|x| / (1 + e^-|x|)², exact in both tails."""
    e = np.exp(-np.abs(x))
    return e / (1 + e) ** 2


def sigmoid_second(x: Any) -> Any:
    """Return σ' (1 - 2σ) = -σ'(x) tanh(x/2)."""
    return -sigmoid_derivative(x) * np.tanh(x / 2)


def relu(x: Any) -> Any:
    """Return max(x, 0)."""
    return np.maximum(x, 0)


def relu_derivative(x: Any) -> Any:
    """Return 1 where x > 0, 0 where x < 0, and 1/2 at the kink x = 0.

    Any number in [0, 1] is a subgradient at 0. A half is what central differences give, and
    what the symmetric rule for max(x, y) at a tie gives.
    """
    return (np.sign(x) + 1) / 2


def threshold(x: Any) -> Any:
    """Return 1 where x > 0, else 0: the firing rule of McCulloch and Pitts (1943)."""
    return np.heaviside(x, np.zeros_like(x))


vars(threshold)["__diffkit_reservation__"] = (
    "the derivative of a threshold is 0 wherever it exists: gradient descent cannot train what "
    "lies before it; use a sigmoid (sharpened, if it must be steep) instead"
)


def threshold_derivative(x: Any) -> Any:
    """Return 0, and NaN at the jump x = 0, where there is no derivative."""
    return np.where(x == 0, np.nan, zero(x))[()]


def arctan(x: Any) -> Any:
    """Return arctan x."""
    return np.arctan(x)


def arctan_derivative(x: Any) -> Any:
    """Return 1 / (1 + x²), where x² may overflow."""
    return (1 / np.hypot(1, x)) ** 2


def arctan_second(x: Any) -> Any:
    """Return -2 x / (1 + x²)²."""
    h = np.hypot(1, x)
    return -2 * (x / h) * (1 / h) ** 3


@cache
def sharpened(C: float) -> Activation:
    """Return σ_C(x) = σ(C x), which approaches the threshold as C grows.

    Raises:
        InvalidInput: C is not positive and finite.
    """
    if not 0 < C < np.inf:
        raise InvalidInput(f"the sharpness C={C!r} must be positive and finite")
    return Activation(
        f"sigmoid sharpened by {C:g}",
        lambda x: sigmoid(C * x),
        lambda x: C * sigmoid_derivative(C * x),
        lambda x: C**2 * sigmoid_second(C * x),
    )


IDENTITY = Activation("identity", identity, one, zero)
THRESHOLD = Activation("threshold", threshold, threshold_derivative, threshold_derivative)
TANH = Activation("tanh", tanh, tanh_derivative, tanh_second)
SIGMOID = Activation("sigmoid", sigmoid, sigmoid_derivative, sigmoid_second)
ARCTAN = Activation("arctan", arctan, arctan_derivative, arctan_second)
SOFTPLUS = Activation("softplus", softplus, sigmoid, sigmoid_derivative)
RELU = Activation("relu", relu, relu_derivative, zero)


def log_softmax(x: Any) -> Any:
    """Return x - log Σ e^x along the last axis, with the maximum shifted out."""
    shifted = x - np.max(x, axis=-1, keepdims=True)
    return shifted - np.log(np.sum(np.exp(shifted), axis=-1, keepdims=True))


def softmax(x: Any) -> Any:
    """Return e^x / Σ e^x along the last axis, with the maximum shifted out."""
    e = np.exp(x - np.max(x, axis=-1, keepdims=True))
    return e / np.sum(e, axis=-1, keepdims=True)


def softmax_complement(x: Any) -> Any:
    """Return 1 - softmax(x), to the last digit where the softmax is nearly 1.

    There it is the sum of the other entries; elsewhere the difference loses nothing.
    """
    s = softmax(x)
    largest = np.arange(s.shape[-1]) == np.expand_dims(np.argmax(s, axis=-1), -1)
    others = np.sum(np.where(largest, 0, s), axis=-1, keepdims=True)
    return np.where(largest, others, 1 - s)


def softmax_jacobian(x: Any) -> Any:
    """Return ∂s_i/∂x_j = s_i (δ_ij - s_j), of shape (*x.shape, *x.shape).

    Rows (everything before the last axis) are independent of each other.
    """
    return _row_blocks(softmax(x)[..., :, None] * _log_softmax_blocks(x))


def log_softmax_jacobian(x: Any) -> Any:
    """Return ∂(log s_i)/∂x_j = δ_ij - s_j, of shape (*x.shape, *x.shape)."""
    return _row_blocks(_log_softmax_blocks(x))


def _log_softmax_blocks(x: Any) -> Any:
    """δ_ij - s_j for each row, of shape (*rows, K, K)."""
    s = softmax(x)
    same = np.eye(s.shape[-1], dtype=bool)
    return np.where(same, softmax_complement(x)[..., None, :], -s[..., None, :])


def _row_blocks(blocks: Any) -> Any:
    """Blocks of shape (*rows, K, K) as the block-diagonal Jacobian (*rows, K, *rows, K)."""
    *rows, width, _ = blocks.shape
    count = int(np.prod(rows))
    apart = np.eye(count)[:, None, :, None]
    jacobian = apart * np.reshape(blocks, (count, width, 1, width))
    return np.reshape(jacobian, (*rows, width, *rows, width))
