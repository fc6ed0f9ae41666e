"""Every type of layer: its gradient four ways."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffkit import gradient, truth, validate
from diffkit.backends.formulas.networks import BACKWARD
from diffkit.errors import NoClosedForm
from diffkit.nn import (
    ELU,
    GELU,
    GRU,
    HALF_SQUARED_ERROR,
    IDENTITY,
    LOGISTIC,
    LSTM,
    MEAN_SQUARED_ERROR,
    RELU,
    SIGMOID,
    SILU,
    SOFTMAX_CROSS_ENTROPY,
    TANH,
    Attention,
    AveragePool,
    BatchNorm,
    Convolution,
    Dense,
    Dropout,
    Elementwise,
    Elman,
    Embedding,
    Flatten,
    GlobalAveragePool,
    Layer,
    LayerNorm,
    Maxout,
    MaxPool,
    Network,
    Penalty,
    Residual,
    Softmax,
    TiedAutoencoder,
    WordPairs,
)
from diffkit.structure import flatten
from diffkit.validation.crosscheck import cross_check


def numbers(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(size=shape)


IMAGES = numbers(2, 2, 6, 5, seed=1)
SEQUENCES = numbers(2, 4, 3, seed=2)
ROWS = numbers(4, 3, seed=3)
WORDS = np.array([[0, 2, 1], [3, 3, 4], [0, 1, 2]])


@dataclass(frozen=True)
class Case:
    """A small network around a layer, with its data."""

    name: str
    layers: tuple[Layer, ...]
    X: Any
    outputs: int
    criterion: Any = HALF_SQUARED_ERROR

    @property
    def network(self) -> Network:
        return Network(self.layers, self.criterion, Penalty(l2=0.01))

    @property
    def targets(self) -> Any:
        return np.random.default_rng(9).uniform(size=(len(self.X), self.outputs))

    @property
    def parameters(self) -> Any:
        """Not the initial ones, in which many are 0 or 1."""
        layout, leaves = flatten(self.network.initial(3))
        shift = np.random.default_rng(4).uniform(-0.2, 0.2, layout.size)
        return layout.unflatten(layout.unravel(layout.ravel(leaves) + shift))


def images(*layers: Layer, outputs: int) -> tuple[tuple[Layer, ...], Any, int]:
    return (*layers, Flatten()), IMAGES, outputs


CASES = {
    case.name: case
    for case in (
        Case("dense without bias", (Dense(3, 2, SILU, bias=False),), ROWS, 2),
        Case("maxout", (Maxout(3, 4, 3), Dense(4, 2)), ROWS, 2),
        Case("tied autoencoder", (TiedAutoencoder(3, 2, TANH, SIGMOID),), ROWS, 3),
        Case("elementwise", (Dense(3, 2), Elementwise(GELU)), ROWS, 2),
        Case("softmax", (Dense(3, 4), Softmax()), ROWS, 4, MEAN_SQUARED_ERROR),
        Case("dropout", (Dense(3, 8, TANH), Dropout(0.5, 7), Dense(8, 2)), ROWS, 2),
        Case("convolution", *images(Convolution(2, 3, (3, 2), activation=TANH), outputs=48)),
        Case("convolution, stride, padding", *images(Convolution(2, 2, (3, 3), 2, 1), outputs=18)),
        Case("sequence convolution", (Convolution(4, 2, (2,), 2), Flatten()), SEQUENCES, 2),
        Case("max pool", (Convolution(2, 2, (1, 1)), MaxPool(2), Flatten()), IMAGES[:, :, :4, :3],
             4),
        Case("overlapping max pool", (Convolution(2, 1, (1, 1)), MaxPool(3, 1), Flatten()),
             IMAGES[:1, :, :4, :4], 4),
        Case("average pool", *images(Convolution(2, 2, (1, 1)), AveragePool(2, 3), outputs=8)),
        Case("global pool", (Convolution(2, 3, (2, 2)), GlobalAveragePool()), IMAGES, 3),
        Case("elman", (Elman(3, 4), Dense(4, 2)), SEQUENCES, 2),
        Case("elman, every step", (Elman(3, 2, True, SIGMOID), Flatten()), SEQUENCES, 8),
        Case("lstm", (LSTM(3, 3), Dense(3, 2)), SEQUENCES, 2),
        Case("lstm, every step", (LSTM(3, 2, True), LSTM(2, 2)), SEQUENCES[:, :2], 2),
        Case("gru", (GRU(3, 3), Dense(3, 2)), SEQUENCES, 2),
        Case("gru, every step", (GRU(3, 2, True), Flatten()), SEQUENCES, 8),
        Case("embedding", (Embedding(5, 3), Flatten(), Dense(9, 2, TANH)), WORDS, 2),
        Case("skip-gram", (Embedding(5, 3), Dense(3, 5, bias=False)), WORDS[:, 0], 5,
             SOFTMAX_CROSS_ENTROPY),
        Case("negative samples", (WordPairs(5, 3),), WORDS, 2, LOGISTIC),
        Case("batch norm", (Dense(3, 4, bias=False), BatchNorm(4), Elementwise(TANH), Dense(4, 1)),
             ROWS, 1),
        Case("batch norm of images",
             *images(Convolution(2, 2, (2, 2), bias=False), BatchNorm(2), outputs=40)),
        Case("layer norm", (Dense(3, 4), LayerNorm(4), Dense(4, 1)), ROWS, 1),
        Case("residual", (Residual((Dense(3, 4, TANH), Dense(4, 3)), ELU), Dense(3, 1)), ROWS, 1),
        Case("residual with shortcut", (Residual((Dense(3, 2, TANH),), IDENTITY, Dense(3, 2)),),
             ROWS, 2),
        Case("attention", (Attention(3, 2), Flatten()), SEQUENCES, 8),
        Case("causal attention", (Attention(3, 2, True), Flatten()), SEQUENCES, 8),
    )
}  # fmt: skip
every_case = pytest.mark.parametrize("case", CASES.values(), ids=lambda case: case.name)


def test_every_layer_with_a_formula_is_among_the_cases() -> None:
    used = {type(layer) for case in CASES.values() for layer in case.layers}
    assert used == {*BACKWARD, Residual}


# ------------------------------------------------------------------ gradients


@every_case
def test_the_closed_form_passes_validation(case: Case) -> None:
    """Within the rounding derived for this loss at this point, not within a tolerance."""

    def formula(parameters: Any, *data: Any) -> Any:
        return gradient(case.network.loss, parameters, *data, backend="analytic")

    verdict = validate(case.network.loss, case.parameters, formula, case.X, case.targets)
    assert verdict.verdict == "agree", verdict


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["softmax", "lstm", "gru", "attention", "causal attention"])
def test_closed_forms_keep_their_digits_in_saturated_layers(name: str, dtype: Any) -> None:
    """Eight times the weights: gates and softmaxes are near 0 and 1, where 1 - s cancels."""
    case = CASES[name]
    layout, leaves = flatten(case.parameters)
    parameters = layout.unflatten([(8 * leaf).astype(dtype) for leaf in leaves])
    data = case.X.astype(dtype), case.targets.astype(dtype)
    formula = gradient(case.network.loss, parameters, *data, backend="analytic")
    verdict = validate(case.network.loss, parameters, formula, *data)
    assert verdict.verdict == "agree", verdict


@every_case
def test_four_backends_agree(case: Case) -> None:
    """Within what rounding and the error estimate of differences explain, entry by entry."""
    found = cross_check(case.network.loss, case.parameters, case.X, case.targets)
    assert not found.refusals
    assert found.verdict == "agree", found


@pytest.mark.parametrize("name", ["lstm", "gru", "attention", "batch norm", "max pool"])
def test_closed_forms_against_arbitrary_precision(name: str) -> None:
    case = CASES[name]
    layout, leaves = flatten(case.parameters)
    v = np.random.default_rng(6).normal(size=layout.size)
    steps = layout.unravel(v)

    def along(t: Any) -> Any:
        moved = [leaf + t * step for leaf, step in zip(leaves, steps, strict=True)]
        return case.network.loss(layout.unflatten(moved), case.X, case.targets)

    got = gradient(case.network.loss, case.parameters, case.X, case.targets, backend="analytic")
    want = float(truth.derivative(along, 0.0).value)
    assert layout.ravel(flatten(got)[1]) @ v == pytest.approx(want, rel=1e-12)


@pytest.mark.parametrize("name", ["convolution, stride, padding", "gru", "residual", "maxout"])
def test_float32_stays_float32(name: str) -> None:
    case = CASES[name]
    layout, leaves = flatten(case.parameters)
    parameters = layout.unflatten([leaf.astype(np.float32) for leaf in leaves])
    data = case.X.astype(np.float32), case.targets.astype(np.float32)
    assert case.network.loss(parameters, *data).dtype == np.float32
    exact = layout.ravel(
        flatten(gradient(case.network.loss, case.parameters, case.X, case.targets))[1]
    )
    for backend in ("analytic", "tape"):
        got_layout, got = flatten(gradient(case.network.loss, parameters, *data, backend=backend))
        assert {leaf.dtype for leaf in got_layout.leaves} == {np.dtype(np.float32)}
        assert np.abs(layout.ravel(got) - exact).max() <= 1e-5 * np.abs(exact).max()


@pytest.mark.parametrize("kind", [Convolution, LSTM, Attention, BatchNorm])
def test_a_wrong_formula_of_one_layer_is_seen_and_changes_one_backend(
    kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Law 1: nothing but the closed form depends on it."""
    case = next(c for c in CASES.values() if any(type(layer) is kind for layer in c.layers))
    right = BACKWARD[kind]

    def wrong(*arguments: Any) -> Any:
        gradient, adjoint = right(*arguments)
        return {name: 1.001 * g for name, g in gradient.items()}, adjoint

    monkeypatch.setitem(BACKWARD, kind, wrong)
    found = cross_check(case.network.loss, case.parameters, case.X, case.targets)
    assert {row.backend for row in found.rows if row.verdict == "disagree"} == {"analytic"}


@settings(max_examples=25, deadline=None)
@given(
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.integers(1, 3),
    padding=st.integers(0, 2),
    size=st.tuples(st.integers(3, 6), st.integers(3, 6)),
    channels=st.tuples(st.integers(1, 3), st.integers(1, 3)),
)
def test_convolutions_of_all_shapes_by_formula_and_by_tape(
    kernel: Any, stride: int, padding: int, size: Any, channels: Any
) -> None:
    layer = Convolution(*channels, kernel, stride, padding, TANH)
    first = Convolution(channels[0], channels[0], (1, 1))
    net = Network((first, layer, Flatten()), MEAN_SQUARED_ERROR)
    x = numbers(2, channels[0], *size)
    parameters = net.initial(2)
    data = (x, np.zeros(net.predict(parameters, x).shape))
    layout, want = flatten(gradient(net.loss, parameters, *data, backend="tape"))
    got = layout.ravel(flatten(gradient(net.loss, parameters, *data, backend="analytic"))[1])
    assert np.abs(got - layout.ravel(want)).max() <= 1e-14 * max(np.abs(got).max(), 1e-3)


def test_weights_of_samples_reach_the_closed_form() -> None:
    case = CASES["maxout"]
    data = (case.X, case.targets, np.array([1.0, 0.0, 2.0, 0.5]))
    by_formula, by_tape = (
        flatten(gradient(case.network.loss, case.parameters, *data, backend=backend))[1]
        for backend in ("analytic", "tape")
    )
    for a, b in zip(by_formula, by_tape, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-13, atol=1e-15)


@pytest.mark.filterwarnings("ignore::diffkit.errors.KinkWarning")
def test_several_largest_pieces_share_the_adjoint() -> None:
    net = Network((MaxPool(2), Flatten()), HALF_SQUARED_ERROR)
    assert net.parameter_count == 0
    case = Network((Maxout(1, 1, 2),), HALF_SQUARED_ERROR)
    parameters = {"layer1": {"W": np.ones((1, 1, 2)), "b": np.zeros((1, 2))}}
    data = (np.array([[1.0]]), np.array([[0.0]]))
    for backend in ("analytic", "tape"):
        got = gradient(case.loss, parameters, *data, backend=backend)
        np.testing.assert_array_equal(got["layer1"]["b"], [[0.5, 0.5]])


def test_a_layer_of_ones_own_has_no_closed_form() -> None:
    @dataclass(frozen=True)
    class Doubled(Dense):
        def forward(self, parameters: Any, x: Any) -> Any:
            return 2 * super().forward(parameters, x)

    for layer in (Doubled(3, 3), Residual((Doubled(3, 3),)), Residual((), IDENTITY, Doubled(3, 3))):
        net = Network((layer,), HALF_SQUARED_ERROR)
        with pytest.raises(NoClosedForm):
            gradient(net.loss, net.initial(), ROWS, ROWS, backend="analytic")


def test_rectified_convolutions_have_the_same_gradient_four_ways() -> None:
    net = Network(
        (Convolution(2, 2, (3, 3), 1, 1, RELU), MaxPool(2), Flatten(), Dense(4, 2)),
        SOFTMAX_CROSS_ENTROPY,
    )
    parameters, data = net.initial(5), (IMAGES[:, :, :3, :4], np.array([0, 1]))
    assert cross_check(net.loss, parameters, *data).verdict == "agree"
