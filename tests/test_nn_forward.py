"""Every type of layer: its output against plain loops, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
from test_nn_layers import IMAGES, ROWS, SEQUENCES, WORDS, numbers

from diffkit.errors import InvalidInput
from diffkit.nn import (
    GRU,
    LSTM,
    TANH,
    Attention,
    AveragePool,
    BatchNorm,
    Convolution,
    Dense,
    Dropout,
    Elman,
    Embedding,
    Layer,
    LayerNorm,
    Maxout,
    MaxPool,
    Residual,
    TiedAutoencoder,
    WordPairs,
    softmax,
)


@pytest.mark.parametrize(("stride", "padding"), [(1, 0), (2, 0), (1, 1), (2, 1), (3, 2)])
def test_convolution_by_loops(stride: int, padding: int) -> None:
    layer = Convolution(2, 3, (3, 2), stride, padding)
    W, b = numbers(3, 2, 3, 2), numbers(3)
    x = np.zeros((2, 2, 6 + 2 * padding, 5 + 2 * padding))
    x[:, :, padding : padding + 6, padding : padding + 5] = IMAGES
    got = layer.forward({"W": W, "b": b}, IMAGES)
    places = [range((n - k) // stride + 1) for n, k in zip(x.shape[2:], (3, 2), strict=True)]
    assert got.shape == (2, 3, *(len(p) for p in places))
    for n, o, p, q in product(range(2), range(3), *places):
        window = x[n, :, p * stride : p * stride + 3, q * stride : q * stride + 2]
        assert got[n, o, p, q] == pytest.approx(b[o] + np.sum(W[o] * window), rel=1e-13)


@pytest.mark.parametrize(("pool", "by_hand"), [(MaxPool, np.max), (AveragePool, np.mean)])
def test_pooling_by_loops(pool: Any, by_hand: Callable[..., Any]) -> None:
    got = pool(3, 2).forward({}, IMAGES)
    assert got.shape == (2, 2, 2, 2)
    for n, c, p, q in product(range(2), repeat=4):
        window = IMAGES[n, c, 2 * p : 2 * p + 3, 2 * q : 2 * q + 3]
        assert got[n, c, p, q] == pytest.approx(by_hand(window), rel=1e-15)
    assert pool(2).forward({}, SEQUENCES).shape == (2, 4, 1)


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def test_an_lstm_by_hand() -> None:
    p = LSTM(3, 2).initial(np.random.default_rng(1))
    h = c = np.zeros((2, 2))
    for t in range(4):
        i, f, g, o = np.split(SEQUENCES[:, t] @ p["W_x"] + h @ p["W_h"] + p["b"], 4, axis=1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
    np.testing.assert_allclose(LSTM(3, 2).forward(p, SEQUENCES), h, rtol=1e-13)
    states = LSTM(3, 2, every_step=True).forward(p, SEQUENCES)
    assert states.shape == (2, 4, 2)
    np.testing.assert_allclose(states[:, -1], h, rtol=1e-13)


def test_a_gru_by_hand() -> None:
    p = GRU(3, 2).initial(np.random.default_rng(1)) | {"d": numbers(6), "b": numbers(6)}
    h = np.zeros((2, 2))
    for t in range(4):
        new, old = SEQUENCES[:, t] @ p["W_x"] + p["b"], h @ p["W_h"] + p["d"]
        r, z = sigmoid(new[:, :2] + old[:, :2]), sigmoid(new[:, 2:4] + old[:, 2:4])
        h = (1 - z) * np.tanh(new[:, 4:] + r * old[:, 4:]) + z * h
    np.testing.assert_allclose(GRU(3, 2).forward(p, SEQUENCES), h, rtol=1e-13)


def test_an_elman_network_by_hand() -> None:
    p = Elman(3, 2).initial(np.random.default_rng(1))
    h = np.zeros((2, 2))
    for t in range(4):
        h = np.tanh(SEQUENCES[:, t] @ p["W_x"] + h @ p["W_h"] + p["b"])
    np.testing.assert_allclose(Elman(3, 2).forward(p, SEQUENCES), h, rtol=1e-14)


def test_attention_by_hand() -> None:
    layer = Attention(3, 2)
    p = layer.initial(np.random.default_rng(1))
    got = layer.forward(p, SEQUENCES)
    for n, t in product(range(2), range(4)):
        q, K, V = SEQUENCES[n, t] @ p["W_q"], SEQUENCES[n] @ p["W_k"], SEQUENCES[n] @ p["W_v"]
        np.testing.assert_allclose(got[n, t], softmax(K @ q / np.sqrt(2)) @ V, rtol=1e-13)


def test_a_causal_head_does_not_look_ahead() -> None:
    layer = Attention(3, 2, causal=True)
    p = layer.initial(np.random.default_rng(1))
    later = SEQUENCES.copy()
    later[:, 2:] += 1e3
    before, after = layer.forward(p, SEQUENCES), layer.forward(p, later)
    np.testing.assert_array_equal(before[:, :2], after[:, :2])
    assert np.all(before[:, 2:] != after[:, 2:])
    one = Attention(3, 2).forward(p, SEQUENCES)
    np.testing.assert_allclose(before[:, -1], one[:, -1], rtol=1e-14)


def test_normalised_features_have_mean_0_and_deviation_1() -> None:
    p = {"gamma": np.ones(3), "beta": np.zeros(3)}
    by_batch, by_sample = (kind(3, 1e-12).forward(p, ROWS) for kind in (BatchNorm, LayerNorm))
    for a, axis in ((by_batch, 0), (by_sample, 1)):
        np.testing.assert_allclose(a.mean(axis=axis), 0, atol=1e-14)
        np.testing.assert_allclose(a.std(axis=axis), 1, rtol=1e-9)
    scaled = BatchNorm(3).forward({"gamma": np.full(3, 2.0), "beta": np.ones(3)}, ROWS)
    np.testing.assert_allclose(scaled, 2 * BatchNorm(3).forward(p, ROWS) + 1, rtol=1e-14)
    assert BatchNorm(3).initial(np.random.default_rng(0))["gamma"].tolist() == [1, 1, 1]


def test_dropout_drops_the_same_entries_each_time() -> None:
    layer = Dropout(0.25, seed=5)
    x = np.ones((50, 40))
    y = layer.forward({}, x)
    np.testing.assert_array_equal(y, layer.forward({}, x))
    assert set(np.unique(y)) == {0.0, 1 / 0.75}
    assert np.mean(y == 0) == pytest.approx(0.25, abs=0.03)
    assert np.any(y != Dropout(0.25, seed=6).forward({}, x))
    np.testing.assert_array_equal(Dropout(0.0).forward({}, x), x)


def test_words_are_looked_up() -> None:
    W = numbers(5, 3)
    np.testing.assert_array_equal(Embedding(5, 3).forward({"W": W}, WORDS), W[WORDS])
    V = numbers(5, 3, seed=8)
    scores = WordPairs(5, 3).forward({"W_in": W, "W_out": V}, WORDS)
    assert scores[1, 1] == pytest.approx(W[3] @ V[4], rel=1e-14)


def test_initial_weights_follow_the_fans() -> None:
    layer = Convolution(3, 5, (2, 4))
    assert layer.fans("W") == (24, 40)
    assert Maxout(3, 4, 2).fans("W") == (3, 4)
    assert layer.parameter_count == 5 * 3 * 8 + 5


# ------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    "build",
    [
        lambda: Maxout(3, 0),
        lambda: Convolution(1, 1, ()),
        lambda: Convolution(1, 1, (3,), padding=-1),
        lambda: Convolution(1, 1, (3,), stride=0),
        lambda: MaxPool(0),
        lambda: MaxPool(2, 0),
        lambda: Dropout(1.0),
        lambda: Embedding(0, 2),
        lambda: LSTM(2, True),
        lambda: Attention(2, -1),
        lambda: LayerNorm(0),
    ],
)
def test_layers_of_no_size_are_refused(build: Callable[[], Any]) -> None:
    with pytest.raises(InvalidInput):
        build()


@pytest.mark.parametrize(
    ("layer", "x"),
    [
        (Convolution(3, 1, (2, 2)), IMAGES),
        (Convolution(2, 1, (2,)), IMAGES),
        (Convolution(2, 1, (7, 2)), IMAGES),
        (MaxPool(9), IMAGES),
        (LSTM(2, 2), SEQUENCES),
        (GRU(3, 2), ROWS),
        (Attention(3, 2), ROWS),
        (Maxout(4, 2), ROWS),
        (TiedAutoencoder(4, 2, TANH), ROWS),
        (BatchNorm(4), ROWS),
        (LayerNorm(4), ROWS),
        (Embedding(4, 2), WORDS),
        (Embedding(5, 2), WORDS - 1),
        (Embedding(5, 2), ROWS),
        (WordPairs(5, 2), WORDS[:, 0]),
        (WordPairs(5, 2), WORDS[:, :1]),
        (Residual((Dense(3, 2),)), ROWS),
    ],
)
def test_arrays_that_do_not_fit_are_refused(layer: Layer, x: Any) -> None:
    with pytest.raises(InvalidInput):
        layer.forward(layer.initial(np.random.default_rng(0)), x)


@pytest.mark.parametrize(
    ("layer", "parameters"),
    [
        (LSTM(3, 2), {}),
        (Maxout(3, 2), {"W": np.zeros((3, 2)), "b": np.zeros((2, 2))}),
        (Residual((Dense(3, 3),)), {"layer2": {}}),
    ],
)
def test_parameters_of_another_layer_are_refused(layer: Layer, parameters: Any) -> None:
    with pytest.raises(InvalidInput):
        layer.forward(parameters, SEQUENCES if isinstance(layer, LSTM) else ROWS)
