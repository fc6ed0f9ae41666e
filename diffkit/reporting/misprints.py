"""What two introductory essays on neural networks print, run as it stands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from diffkit.nn import (
    ELU,
    GELU,
    GELU_ERF,
    MEAN_SQUARED_ERROR,
    SELU,
    SIGMOID,
    THRESHOLD,
    elu,
    fully_connected,
    log_softmax,
    logic,
    softmax,
)
from diffkit.nn.activations import sigmoid
from diffkit.operators import gradient, jvp
from diffkit.validation import validate

CORNERS: Final = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])


@dataclass(frozen=True)
class Misprint:
    """A formula that is not what it is printed for.

    Attributes:
        purpose: what it is printed for.
        printed: the formula.
        found: what running it shows.
        meant: the form that this package ships.
    """

    purpose: str
    printed: str
    found: str
    meant: str


def misprints() -> tuple[Misprint, ...]:
    """Return all misprints with the evidence, in the order of the chapter."""
    sections = (neuron_misprints, activation_misprints, loss_misprints, layer_misprints)
    return tuple(misprint for section in sections for misprint in section())


def th(x: Any) -> Any:
    """Return the threshold, as the essays write it."""
    return THRESHOLD(x)


def printed_exclusive_or(x1: Any, x2: Any) -> Any:
    """Return the composition of three thresholds printed for exclusive-or."""
    return th(th(x1 + x2 - 1.5) + th(-x1 - x2 + 0.5) - 0.5)


def neuron_misprints() -> tuple[Misprint, ...]:
    """Return those about threshold units."""
    x1, x2 = CORNERS.T
    printed = printed_exclusive_or(x1, x2)
    shipped = logic.exclusive_or()(CORNERS)
    origin = float(th(2 * 0.0 + 3 * 0.0 - (-5.0)))
    unit = float(logic.neuron(0, 1, -1)(np.array([[3.0, 2.0]]))[0])
    return (
        Misprint(
            "exclusive-or of x₁, x₂ by three threshold units",
            "th(th(x₁ + x₂ - 1.5) + th(-x₁ - x₂ + 0.5) - 0.5)",
            f"{_bits(printed)} at 00, 01, 10, 11: the equivalence",
            f"th(th(x₁ + x₂ - 0.5) + th(1.5 - x₁ - x₂) - 1.5), which gives {_bits(shipped)}",
        ),
        Misprint(
            "2x₁ + 3x₂ > 5 by the weights (-5, 2, 3)",
            "φ(Σ wᵢxᵢ - w₀)",
            f"{origin:g} at (0, 0): with a bias that is subtracted it is 2x₁ + 3x₂ > -5",
            "φ(Σ wᵢxᵢ + w₀)",
        ),
        Misprint(
            'the unit with weights (0, 1, -1), captioned "max"',
            "th(x₁ - x₂)",
            f"{unit:g} at (3, 2), whose maximum is 3: it tells whether x₁ > x₂",
            'a caption "x₁ > x₂"',
        ),
    )


def _bits(values: Any) -> str:
    return ", ".join(f"{v:g}" for v in values)


# ---------------------------------------------------------------------- activations


def printed_gelu(x: Any) -> Any:
    """Return the GELU as printed, with 0.44715 and a square."""
    return x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.44715 * x**2)))


def activation_misprints() -> tuple[Misprint, ...]:
    """Return those about activations."""
    x = np.linspace(-5, 5, 1001)
    wrong = float(np.abs(printed_gelu(x) - GELU_ERF(x)).max())
    right = float(np.abs(GELU(x) - GELU_ERF(x)).max())
    slopes = [_slopes(phi) for phi in (ELU, elu(0.5), SELU)]
    jump = THRESHOLD.derivative(0.0)
    return (
        Misprint(
            "the GELU",
            "x/2 (1 + tanh(√(2/π) (x + 0.44715 x²)))",
            f"{printed_gelu(-5.0):.3g} at x = -5, where xΦ(x) is {GELU_ERF(-5.0):.1e}; off by up "
            f"to {wrong:.2g} on [-5, 5]",
            f"0.044715 x³, off by up to {right:.1e}",
        ),
        Misprint(
            'the ELU "removes the kink" at 0',
            "α (eˣ - 1) for x < 0, any α",
            "slopes left and right of 0: " + "; ".join(
                f"{label} {left:.3f}, {after:.3f}"
                for label, (left, after) in zip(("α = 1:", "α = 0.5:", "SELU:"), slopes,
                                                strict=True)
            ),
            "for α = 1 alone",
        ),
        Misprint(
            'the derivative of the threshold is 0 "everywhere"',
            "th'(x) = 0",
            f"0 at x = 0.5 and x = -2; at the jump x = 0 the derivative is {jump}: there is none",
            "0 everywhere but at 0, so that gradient descent cannot train such a unit",
        ),
    )  # fmt: skip


def _slopes(phi: Callable[[Any], Any]) -> tuple[float, float]:
    """The one-sided slopes at 0, by difference quotients."""
    h = 1e-7
    return float(phi(-h)) / -h, float(phi(h)) / h


# ---------------------------------------------------------------------- losses


def printed_cross_entropy(a: Any, y: int) -> Any:
    """Return the shifted cross-entropy as printed, with -a_max."""
    return -a[y] - np.max(a) + np.log(np.sum(np.exp(a - np.max(a))))


def right_cross_entropy(a: Any, y: int) -> Any:
    """Return -a_y + a_max + log Σ e^(a_j - a_max)."""
    return -a[y] + np.max(a) + np.log(np.sum(np.exp(a - np.max(a))))


LOGITS: Final = np.array([2.0, -1.0, 0.5, 3.0])
RIGHT_CLASS: Final = 2


def loss_misprints() -> tuple[Misprint, ...]:
    """Return those about losses."""
    a, y = LOGITS, RIGHT_CLASS
    delta = softmax(a) - np.eye(4)[y]
    verdict = validate(printed_cross_entropy, a, delta, y)
    blind = gradient(lambda z: -np.sum(log_softmax(z)), np.array([2.0, -1.0, 0.5]))
    net, p, X, Y = regression()
    checked = validate(net.loss, p, gradient_without_square, X, Y)
    return (
        Misprint(
            "the cross-entropy with the maximum shifted out",
            "-a_y - a_max + log Σ exp(a_j - a_max)",
            f"{printed_cross_entropy(a, y):.4f} where -log softmax is "
            f"{-float(np.log(softmax(a)[y])):.4f}; against the gradient softmax - onehot: "
            f"{verdict.verdict}, at {verdict.worst}",
            f"-a_y + a_max + ..., which gives {right_cross_entropy(a, y):.4f}",
        ),
        Misprint(
            "the cross-entropy of several classes",
            "-Σ y log a_j",
            f"its gradient is ({', '.join(f'{g:.3f}' for g in blind)}) whichever class is right: "
            "without y_j all of them count",
            "-Σ y_j log a_j",
        ),
        Misprint(
            "the gradient of the mean squared error",
            "(1/N) ΣΣ ∂(ŷ - y)/∂w",
            f"validate: {checked.verdict} at every parameter; it does not depend on y at all",
            "(1/N) ΣΣ ∂(ŷ - y)²/∂w = (2/N) ΣΣ (ŷ - y) ∂ŷ/∂w",
        ),
    )


def regression() -> tuple[Any, Any, Any, Any]:
    """Return a linear model of three inputs, with parameters and data."""
    generator = np.random.default_rng(0)
    net = fully_connected((3, 1), MEAN_SQUARED_ERROR, SIGMOID)
    X = generator.normal(size=(8, 3)) + 0.5
    Y = X @ np.array([[1.0], [-2.0], [0.5]]) + 0.3
    return net, net.initial(1), X, Y


def gradient_without_square(p: Any, X: Any, Y: Any) -> Any:
    """Return (1/N) ΣΣ ∂(ŷ - y)/∂w, as printed for the mean squared error."""
    return {"layer1": {"W": X.mean(axis=0)[:, None], "b": np.ones(1)}}


# ---------------------------------------------------------------------- layers


@dataclass(frozen=True)
class Step:
    """One layer's backpropagation: ∂J/∂a of its inputs, right and as printed for each j."""

    right: Any
    printed: tuple[Any, ...]
    verdicts: tuple[str, ...]


def backpropagation_step() -> Step:
    """Return the adjoints of three inputs of two sigmoid neurons."""
    generator = np.random.default_rng(0)
    W, b, a = generator.normal(size=(2, 3)), generator.normal(size=2), generator.normal(size=3)
    target = np.array([0.2, 0.9])

    def cost(a: Any) -> Any:
        return np.sum((sigmoid(W @ a + b) - target) ** 2) / 2

    out = sigmoid(W @ a + b)
    delta = (out - target) * out * (1 - out)
    right = W.T @ delta
    printed = tuple(np.full(3, W[:, j] @ delta) for j in range(3))
    verdicts = tuple(validate(cost, a, g).verdict for g in (right, *printed))
    return Step(right, printed, verdicts)


def layer_misprints() -> tuple[Misprint, ...]:
    """Return those about layers and backpropagation."""
    generator = np.random.default_rng(1)
    net = fully_connected((2, 3, 4), MEAN_SQUARED_ERROR, SIGMOID)
    p = net.initial(1)
    a1 = sigmoid(generator.normal(size=(1, 2)) @ p["layer1"]["W"])
    try:
        a1 @ p["layer1"]["W"]
        outcome = "works"
    except ValueError:
        outcome = f"shapes {a1.shape} and {p['layer1']['W'].shape} do not multiply"
    W, dW, X, dX = generator.normal(size=(4, 5))
    along = float(jvp(lambda W, X: np.dot(W, X), W, dW, X))
    step = backpropagation_step()
    return (
        Misprint(
            "a layer", "a_l = φ(W_(l-1) a_(l-1) + b_l)", outcome, "a_l = φ(W_l a_(l-1) + b_l)"
        ),
        Misprint(
            "a step of backpropagation",
            "∂J/∂a_i = Σ_m ∂J/∂a_m a'_m w_mj",
            f"validate: {', '.join(step.verdicts[1:])} for j = 1, 2, 3: all inputs get the "
            "number of the j-th",
            f"w_mi; validate: {step.verdicts[0]}",
        ),
        Misprint(
            "the differential of φ₁ = ⟨W₁, X⟩ by the weights",
            "⟨W₁, dX⟩",
            f"{float(np.dot(W, dX)):.4f} in an example where the tape gives {along:.4f}",
            f"⟨dW₁, X⟩, which gives {float(np.dot(dW, X)):.4f}",
        ),
    )
