"""The formulas of the two source essays: what they define works, and what is misprinted shows.

Each misprint is run as printed and caught by its numbers, by its shapes, or by `validate`;
beside it stands the form that this package ships.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from diffkit import gradient, jvp, prepare, truth, validate
from diffkit.errors import DiffkitWarning, InvalidInput, NonFiniteDerivative
from diffkit.nn import (
    ELU,
    GELU,
    GELU_ERF,
    HALF_SQUARED_ERROR,
    MEAN_SQUARED_ERROR,
    SELU,
    SIGMOID,
    SOFTMAX_CROSS_ENTROPY,
    THRESHOLD,
    elu,
    fully_connected,
    log_softmax,
    logic,
    softmax,
)
from diffkit.nn.activations import sigmoid
from diffkit.nn.zoo import network
from diffkit.structure import flatten

CORNERS = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
x1, x2 = CORNERS.T
RNG = np.random.default_rng(0)


def th(x: Any) -> Any:
    return THRESHOLD(x)


# ------------------------------------------------------------------ neurons


def test_the_composition_printed_for_exclusive_or_is_the_equivalence() -> None:
    """Printed: th(th(x1 + x2 - 1.5) + th(-x1 - x2 + 0.5) - 0.5)."""
    printed = th(th(x1 + x2 - 1.5) + th(-x1 - x2 + 0.5) - 0.5)
    np.testing.assert_array_equal(printed, [1, 0, 0, 1])
    np.testing.assert_array_equal(logic.exclusive_or()(CORNERS), [0, 1, 1, 0])


def test_a_bias_that_is_subtracted_turns_its_sign() -> None:
    """Printed: φ(Σ w x - w0) with the weights (-5, 2, 3), for 2 x1 + 3 x2 > 5."""
    points = RNG.uniform(-4, 4, (200, 2))
    w0, w1, w2 = -5.0, 2.0, 3.0
    line = w1 * points[:, 0] + w2 * points[:, 1]
    printed = th(line - w0)
    np.testing.assert_array_equal(printed, line > -5)
    assert np.any(printed != (line > 5))
    np.testing.assert_array_equal(logic.classifier()(points), line > 5)


def test_the_unit_captioned_max_tells_which_is_larger() -> None:
    unit = logic.neuron(0, 1, -1)
    points = np.array([[3.0, 2.0], [2.0, 3.0], [5.0, -1.0]])
    np.testing.assert_array_equal(unit(points), [1, 0, 1])
    assert np.all(unit(points) != points.max(axis=1))


# ------------------------------------------------------------------ activations


def test_the_gelu_as_printed_is_another_curve() -> None:
    """Printed: x/2 (1 + tanh(√(2/π) (x + 0.44715 x²))). Meant: 0.044715 x³."""
    x = np.linspace(-5, 5, 201)
    printed = x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.44715 * x**2)))
    assert np.abs(GELU(x) - GELU_ERF(x)).max() < 5e-4
    assert np.abs(printed - GELU_ERF(x)).max() > 4
    assert printed[0] < -4.9  # where a GELU has vanished
    assert float(truth.value(GELU, 1.0).value) == pytest.approx(0.8411919906, abs=1e-10)


def test_only_elu_with_alpha_1_has_no_kink() -> None:
    h = 1e-7
    for phi, left, right in ((ELU, 1, 1), (elu(0.5), 0.5, 1), (SELU, 1.758, 1.051)):
        assert phi(-h) / -h == pytest.approx(left, abs=5e-4)
        assert phi(h) / h == pytest.approx(right, abs=5e-4)
    kinks = [
        prepare(phi, 0.0, backend="finite").estimate(0.0).status for phi in (ELU, elu(0.5), SELU)
    ]
    assert [list(status.values()) for status in kinks] == [["converged"], ["kink"], ["kink"]]


def test_the_derivative_of_the_threshold_is_not_0_everywhere() -> None:
    """At the jump there is none; elsewhere it is 0."""
    for f in (THRESHOLD, THRESHOLD.function):
        for backend in ("analytic", "finite", "symbolic", "tape"):
            with pytest.warns(DiffkitWarning, match="cannot train"):
                assert gradient(f, 0.5, backend=backend) == 0
    for backend in ("analytic", "finite"):
        with pytest.warns(DiffkitWarning), pytest.raises(NonFiniteDerivative):
            gradient(THRESHOLD.function, 0.0, backend=backend)
    with pytest.warns(DiffkitWarning, match="cannot train"):
        assert validate(THRESHOLD, 0.5, 0.0).verdict == "agree"


# ------------------------------------------------------------------ losses


def test_the_shifted_cross_entropy_with_the_wrong_sign() -> None:
    """Printed: -a_y - a_max + log Σ e^(a_j - a_max). The second sign must be +."""
    a, y = np.array([2.0, -1.0, 0.5, 3.0]), 2

    def printed(a: Any) -> Any:
        return -a[y] - np.max(a) + np.log(np.sum(np.exp(a - np.max(a))))

    def right(a: Any) -> Any:
        return -a[y] + np.max(a) + np.log(np.sum(np.exp(a - np.max(a))))

    assert right(a) == pytest.approx(-np.log(softmax(a)[y]), rel=1e-14)
    assert right(a) == pytest.approx(SOFTMAX_CROSS_ENTROPY(a[None], np.array([y])), rel=1e-14)
    assert right(a) - printed(a) == pytest.approx(2 * a.max(), rel=1e-14)
    assert right(a + 100) == pytest.approx(right(a))  # softmax does not see a common shift
    assert printed(a + 100) == pytest.approx(printed(a) - 200)
    delta = softmax(a) - np.eye(4)[y]
    assert validate(right, a, delta).verdict == "agree"
    found = validate(printed, a, delta)
    assert found.verdict == "disagree"
    assert found.worst == "x[3]"  # the largest: there alone the wrong sign enters, by -2
    assert found.leaves[0].given - found.leaves[0].reference == pytest.approx(2, rel=1e-12)


def test_a_cross_entropy_without_the_target_does_not_see_it() -> None:
    """Printed: -Σ_j y log a_j without the index of y_j; read so, every class counts."""
    logits = np.array([2.0, -1.0, 0.5])

    def printed(z: Any) -> Any:
        return -np.sum(log_softmax(z))

    got = gradient(printed, logits)
    np.testing.assert_allclose(got, 3 * softmax(logits) - 1, rtol=1e-13)
    np.testing.assert_allclose(gradient(printed, np.zeros(3)), 0, atol=1e-15)  # least where even
    for y in np.eye(3):
        assert np.abs(got - (softmax(logits) - y)).max() > 0.1


def test_the_gradient_of_the_mean_squared_error_without_the_square() -> None:
    """Printed: (1/N) ΣΣ ∂(ŷ - y)/∂w. It does not even depend on the targets."""
    net = fully_connected((3, 1), MEAN_SQUARED_ERROR, SIGMOID)
    X, Y, p = RNG.normal(size=(8, 3)), RNG.normal(size=(8, 1)), net.initial(1)

    def printed(p: Any, X: Any, Y: Any) -> Any:
        return {"layer1": {"W": X.mean(axis=0)[:, None], "b": np.ones(1)}}

    def right(p: Any, X: Any, Y: Any) -> Any:
        residual = net.predict(p, X) - Y
        return {"layer1": {"W": 2 * X.T @ residual / 8, "b": 2 * residual.mean(axis=0)}}

    assert validate(net.loss, p, right, X, Y).verdict == "agree"
    found = validate(net.loss, p, printed, X, Y)
    assert found.verdict == "disagree"
    assert [leaf.verdict for leaf in found.leaves] == ["disagree", "disagree"]


# ------------------------------------------------------------------ layers and backpropagation


def test_a_layer_with_the_weights_of_the_one_before_has_no_shape() -> None:
    """Printed: a_l = φ(W_{l-1} a_{l-1} + b_l) where W_l is meant."""
    net = fully_connected((2, 3, 4), HALF_SQUARED_ERROR, SIGMOID)
    p, a0 = net.initial(1), RNG.normal(size=(1, 2))
    a1 = sigmoid(a0 @ p["layer1"]["W"] + p["layer1"]["b"])
    with pytest.raises(ValueError, match="matmul"):
        a1 @ p["layer1"]["W"]
    assert (a1 @ p["layer2"]["W"] + p["layer2"]["b"]).shape == (1, 4)
    with pytest.raises(InvalidInput):
        net.predict({"layer1": p["layer1"], "layer2": p["layer1"]}, a0)


def test_the_backpropagation_step_with_j_for_i() -> None:
    """Printed: ∂J/∂a_i = Σ_m ∂J/∂a_m a'_m w_mj. Summed so, every i gets the number of j."""
    W, b, a = RNG.normal(size=(2, 3)), RNG.normal(size=2), RNG.normal(size=3)
    target = np.array([0.2, 0.9])

    def cost(a: Any) -> Any:
        return np.sum((sigmoid(W @ a + b) - target) ** 2) / 2

    out = sigmoid(W @ a + b)
    delta = (out - target) * out * (1 - out)
    right = np.array([sum(delta[m] * W[m, i] for m in range(2)) for i in range(3)])
    assert validate(cost, a, right).verdict == "agree"
    for j in range(3):
        printed = np.array([sum(delta[m] * W[m, j] for m in range(2)) for _ in range(3)])
        assert validate(cost, a, printed).verdict == "disagree"
        np.testing.assert_allclose(printed, right[j], rtol=1e-13)


def test_the_differential_by_the_weights_moves_the_weights() -> None:
    """Printed: ∇φ₁(W) = ⟨W₁, dX⟩. The differential by W of ⟨W₁, X⟩ is ⟨dW₁, X⟩."""
    W, dW, X, dX = RNG.normal(size=(4, 5))
    got = jvp(lambda W, X: np.dot(W, X), W, dW, X)
    assert got == pytest.approx(np.dot(dW, X), rel=1e-14)
    assert got != pytest.approx(np.dot(W, dX), rel=0.1)


# ------------------------------------------------------------------ what they define


BACKENDS = ("analytic", "finite", "symbolic", "tape")


def as_written(w: Any, x1: Any, x2: Any, outer: Any) -> Any:
    """a = b3 + w31 σ(b1 + w11 x1 + w12 x2) + w32 σ(b2 + w21 x1 + w22 x2), or σ of it."""
    h1 = sigmoid(w["b1"] + w["w11"] * x1 + w["w12"] * x2)
    h2 = sigmoid(w["b2"] + w["w21"] * x1 + w["w22"] * x2)
    return outer(w["b3"] + w["w31"] * h1 + w["w32"] * h2)


@pytest.mark.parametrize("name", ["two-layer-regression", "two-layer-classifier"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_two_layer_forms_written_out_are_the_matrix_forms(name: str, backend: str) -> None:
    case = network(name)
    X, Y = case.data
    W, b = case.parameters["layer1"]["W"], case.parameters["layer1"]["b"] + 0.1
    V, c = case.parameters["layer2"]["W"], case.parameters["layer2"]["b"] - 0.2
    matrices = {"layer1": {"W": W, "b": b}, "layer2": {"W": V, "b": c}}
    w = {
        **{"w11": W[0, 0], "w12": W[1, 0], "w21": W[0, 1], "w22": W[1, 1]},
        **{"w31": V[0, 0], "w32": V[1, 0], "b1": b[0], "b2": b[1], "b3": c[0]},
    }

    def loss(w: Any, X: Any, Y: Any) -> Any:
        outer = sigmoid if name == "two-layer-classifier" else np.positive
        return np.mean((as_written(w, X[:, 0], X[:, 1], outer) - Y[:, 0]) ** 2)

    assert loss(w, X, Y) == pytest.approx(case.loss(matrices, X, Y), rel=1e-14)
    got = gradient(case.loss, matrices, X, Y, backend=backend)
    want = gradient(loss, w, X, Y, backend="tape")
    by_name = [got["layer1"]["W"].T.ravel(), got["layer1"]["b"]]
    by_name += [got["layer2"]["W"].ravel(), got["layer2"]["b"]]
    names = ("w11", "w12", "w21", "w22", "b1", "b2", "w31", "w32", "b3")
    np.testing.assert_allclose(
        np.concatenate(by_name), [want[n] for n in names], rtol=1e-8, atol=1e-13
    )


def test_the_step_of_mazur_by_every_backend() -> None:
    """E = 0.298371109 and dE/dw5 = 0.082167041, as printed, whoever differentiates."""
    case = network("mazur")
    for backend in BACKENDS:
        got = gradient(case.loss, case.parameters, *case.data, backend=backend)
        assert f"{got['layer2']['W'][0, 0]:.9f}" == "0.082167041"
        assert flatten(got)[0] == flatten(case.parameters)[0]
