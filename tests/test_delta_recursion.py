"""The delta recursion as formulas: what is printed is what the network's gradient is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import diffkit as dk
from diffkit.nn import (
    ACTIVATIONS,
    HALF_SQUARED_ERROR,
    HINGE,
    LOGISTIC,
    MEAN_SQUARED_ERROR,
    RELU,
    SIGMOID,
    SOFTMAX_CROSS_ENTROPY,
    TANH,
    Dense,
    Dropout,
    Elementwise,
    Maxout,
    Network,
    Penalty,
    delta_recursion,
    fully_connected,
    sharpened,
)
from diffkit.nn.recurrent import GRU, LSTM, Elman
from diffkit.nn.slopes import slope_of

BATCH, INPUTS = 7, 4
FEATURES = np.random.default_rng(1).normal(size=(BATCH, INPUTS))
LABELS = np.array([0, 1, 2, 1, 0, 2, 1])
REALS = np.random.default_rng(2).normal(size=(BATCH, 3))
HIDDEN = sorted(name for name in ACTIVATIONS if name not in ("threshold", "identity"))

CASES: dict[str, tuple[Network, Any]] = {
    "softmax": (fully_connected((4, 6, 5, 3), SOFTMAX_CROSS_ENTROPY, TANH), LABELS),
    "probabilities": (
        fully_connected((4, 5, 3), SOFTMAX_CROSS_ENTROPY, TANH),
        np.full((BATCH, 3), 1 / 3),
    ),
    "mean squared": (fully_connected((4, 5, 3), MEAN_SQUARED_ERROR, SIGMOID, SIGMOID), REALS),
    "half squared": (fully_connected((4, 3), HALF_SQUARED_ERROR, TANH), REALS),
    "logistic": (fully_connected((4, 5, 3), LOGISTIC, RELU), (REALS > 0) * 1.0),
    "ridge": (
        fully_connected((4, 5, 3), MEAN_SQUARED_ERROR, TANH, penalty=Penalty(l2=0.3)),
        REALS,
    ),
    "elastic": (
        fully_connected((4, 5, 3), MEAN_SQUARED_ERROR, TANH, penalty=Penalty(0.1, 0.3)),
        REALS,
    ),
    "no bias, dropout, layers of activations": (
        Network(
            (
                Dropout(0.2, seed=3),
                Dense(4, 6, bias=False),
                Elementwise(SIGMOID),
                Dropout(0.5, seed=5),
                Dense(6, 3, TANH),
            ),
            MEAN_SQUARED_ERROR,
        ),
        REALS,
    ),
}


def assert_formulas_hold(network: Network, y: Any) -> None:
    """The gradient by the formulas is that of the tape."""
    parameters = network.initial(seed=3)
    by_formulas = delta_recursion(network).evaluate(parameters, FEATURES, y)
    by_tape = dk.gradient(network.loss, parameters, FEATURES, y)
    assert list(by_formulas) == list(by_tape)
    for name, layer in by_tape.items():
        assert list(by_formulas[name]) == list(layer)
        for key, expected in layer.items():
            found = by_formulas[name][key]
            assert found.shape == expected.shape
            np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("case", CASES)
def test_the_formulas_give_the_gradient(case: str) -> None:
    assert_formulas_hold(*CASES[case])


@pytest.mark.parametrize("name", HIDDEN)
def test_the_formulas_hold_with_every_activation(name: str) -> None:
    assert_formulas_hold(fully_connected((4, 5, 3), MEAN_SQUARED_ERROR, ACTIVATIONS[name]), REALS)


def test_an_activation_without_a_formula_keeps_its_own_derivative() -> None:
    network = fully_connected((4, 5, 3), MEAN_SQUARED_ERROR, sharpened(3.0))
    assert_formulas_hold(network, REALS)
    assert "φ₁ is sigmoid sharpened by 3" in delta_recursion(network).text()


@pytest.mark.parametrize("name", HIDDEN)
def test_slopes_are_sympys_and_hold_at_kinks_and_far_out(name: str) -> None:
    import sympy

    slope, phi = slope_of(ACTIVATIONS[name]), ACTIVATIONS[name]
    (z,) = slope.formula.free_symbols
    assert sympy.simplify(sympy.diff(slope.formula, z) - slope.slope) == 0
    x = np.array([-1000.0, -2.0, -0.1, 0.0, 0.3, 4.0, 1000.0])
    np.testing.assert_allclose(slope.derivative(x), phi.derivative(x), rtol=1e-13, atol=1e-15)


def test_the_text_is_the_recursion() -> None:
    network = fully_connected((2, 3, 2), SOFTMAX_CROSS_ENTROPY, TANH, penalty=Penalty(l2=0.5))
    assert (
        delta_recursion(network).text()
        == """\
    Z₁ = A₀ W₁ + 1 b₁ᵀ
    A₁ = φ₁(Z₁)
    Z₂ = A₁ W₂ + 1 b₂ᵀ
    A₂ = Z₂

    Δ₂ = 1/N (softmax(A₂) - Y)
    Δ₁ = (Δ₂ W₂ᵀ) ∘ φ₁'(Z₁)

∂J/∂W₁ = A₀ᵀ Δ₁ + 2 λ₂ W₁
∂J/∂b₁ = Δ₁ᵀ 1
∂J/∂W₂ = A₁ᵀ Δ₂ + 2 λ₂ W₂
∂J/∂b₂ = Δ₂ᵀ 1

φ₁(z) = tanh(z),  φ₁'(z) = 1 - tanh(z)^2

A₀ = X, one sample to a row; N samples, K outputs
J is the softmax cross-entropy plus the penalty
λ₂ = 0.5"""
    )


def test_the_latex_is_the_recursion() -> None:
    recursion = delta_recursion(fully_connected((2, 3, 1), MEAN_SQUARED_ERROR, SIGMOID))
    lines = recursion.latex().splitlines()
    assert lines[0] == r"\begin{aligned}"
    assert lines[-1] == r"\end{aligned}"
    assert r"\Delta_{2} &= \frac{2}{N K} \left(A_{2} - Y\right) \\" in lines
    assert (
        r"\Delta_{1} &= \left(\Delta_{2} W_{2}^{\top}\right) \circ "
        r"\varphi_{1}'\!\left(Z_{1}\right) \\" in lines
    )
    assert r"\frac{\partial J}{\partial W_{2}} &= A_{1}^{\top} \Delta_{2} \\" in lines
    assert recursion._repr_latex_() == f"$$\n{recursion.latex()}\n$$"
    assert str(recursion) == recursion.text()


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (Network((Maxout(4, 3),), MEAN_SQUARED_ERROR), "no delta formula .* for the layer Maxout"),
        (fully_connected((4, 3), HINGE, TANH), "no delta formula .* for the loss hinge"),
    ],
)
def test_what_has_no_formula_here_is_refused(network: Network, message: str) -> None:
    with pytest.raises(dk.UnsupportedOperation, match=message):
        delta_recursion(network)


def test_a_delta_has_the_same_formula_at_every_depth() -> None:
    deep = delta_recursion(fully_connected((2,) * 6, MEAN_SQUARED_ERROR, TANH))
    inner = [formula.right.text() for formula in deep.deltas[1:]]
    assert inner == [f"(Δ{a} W{a}ᵀ) ∘ φ{b}'(Z{b})" for a, b in ("₅₄", "₄₃", "₃₂", "₂₁")]


def test_the_first_layer_may_be_a_dense_one_without_activation() -> None:
    network = Network((Dense(4, 3),), MEAN_SQUARED_ERROR)
    assert_formulas_hold(network, REALS)
    assert "φ" not in delta_recursion(network).text()


# ---------------------------------------------------------------------- through time

SEQUENCES = np.random.default_rng(4).normal(size=(BATCH, 5, INPUTS))
RECURRENT: dict[str, tuple[Any, ...]] = {
    "elman": (Elman(4, 6), Dense(6, 3)),
    "elman alone": (Elman(4, 3, activation=SIGMOID),),
    "lstm": (LSTM(4, 6), Dense(6, 3)),
    "gru": (GRU(4, 6), Dense(6, 3)),
    "stacked": (Elman(4, 5, every_step=True), LSTM(5, 4, every_step=True), GRU(4, 3)),
    "with dropout": (GRU(4, 6), Dropout(0.3, seed=1), Dense(6, 5, TANH), Dense(5, 3)),
}


@pytest.mark.parametrize("penalty", [Penalty(), Penalty(0.1, 0.3)], ids=["free", "penalised"])
@pytest.mark.parametrize("name", RECURRENT)
def test_backpropagation_through_time_gives_the_gradient(name: str, penalty: Penalty) -> None:
    network = Network(RECURRENT[name], SOFTMAX_CROSS_ENTROPY, penalty)
    parameters = network.initial(seed=3)
    found = delta_recursion(network).evaluate(parameters, SEQUENCES, LABELS)
    expected = dk.gradient(network.loss, parameters, SEQUENCES, LABELS)
    assert list(found) == list(expected)
    for layer, arrays in expected.items():
        assert list(found[layer]) == list(arrays)
        for key, array in arrays.items():
            np.testing.assert_allclose(found[layer][key], array, rtol=1e-11, atol=1e-14)


def test_what_comes_back_from_the_next_step_can_be_read() -> None:
    text = delta_recursion(Network(RECURRENT["elman"], SOFTMAX_CROSS_ENTROPY)).text()
    for line in (
        "Z₁[t] = A₀[t] W^x₁ + A₁[t-1] W^h₁ + 1 b₁ᵀ",
        "Z₂ = A₁[T] W₂ + 1 b₂ᵀ",
        "G₁[T] = Δ₂ W₂ᵀ",
        "D₁[t] = G₁[t] + Δ₁[t+1] W^h₁ᵀ",
        "Δ₁[t] = D₁[t] ∘ φ₁'(Z₁[t])",
        "∂J/∂W^h₁ = Σₜ A₁[t-1]ᵀ Δ₁[t]",
        "T steps; what would lie before step 1 or after step T is 0",
        "G₁[t] is 0 for t < T",
    ):
        assert line in text


def test_a_transpose_of_a_marked_symbol_is_valid_latex() -> None:
    latex = delta_recursion(Network(RECURRENT["lstm"], SOFTMAX_CROSS_ENTROPY)).latex()
    assert r"{W^{hI}_{1}}^{\top}" in latex
    assert r"}_{1}^{\top}" not in latex
    assert r"\sum_{t=1}^{T} A_{1,t-1}^{\top} \Delta^{I}_{1,t}" in latex


@pytest.mark.parametrize(
    "layers",
    [
        (Elman(4, 3, every_step=True), Dense(3, 2)),
        (Dense(4, 4), Elman(4, 3)),
    ],
)
def test_other_layers_on_sequences_are_refused(layers: tuple[Any, ...]) -> None:
    with pytest.raises(dk.UnsupportedOperation, match="no delta formula is written here"):
        delta_recursion(Network(layers, MEAN_SQUARED_ERROR))
