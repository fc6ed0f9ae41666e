"""Every layer equals PyTorch's, in value and in gradient by parameters and inputs.

By the tape and by the closed form of the analytic backend, in both precisions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from comparing import budget, leaves, require_close
from hypothesis import given
from hypothesis import strategies as st

from diffkit import vjp
from diffkit.backends.formulas.networks import BACKWARD, _residual
from diffkit.nn import (
    GELU,
    GRU,
    LSTM,
    SIGMOID,
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
    Residual,
    Softmax,
    TiedAutoencoder,
    WordPairs,
)

Draw = Callable[[st.SearchStrategy[int]], int]
Tensors = dict[str, Any]


@dataclass(frozen=True)
class Pair:
    """A layer of ours, PyTorch's, and what goes in.

    Attributes:
        layer: ours.
        torch: PyTorch's, as a function of the same parameters and input.
        shape: of the input.
        words: of how many words the input consists; 0 if it is an array of numbers.
        length: the terms of the longest sum in value and gradient.
    """

    layer: Layer
    torch: Callable[[Tensors, Any], Any]
    shape: tuple[int, ...]
    words: int = 0
    length: int = 0


def size(draw: Draw, low: int = 1, high: int = 6) -> int:
    return draw(st.integers(low, high))


# ---------------------------------------------------------------------- pairs


def dense(draw: Draw) -> Pair:
    n, m = size(draw), size(draw)
    return Pair(
        Dense(n, m, TANH), lambda p, x: torch.tanh(F.linear(x, p["W"].T, p["b"])), (size(draw), n)
    )


def dense_without_bias(draw: Draw) -> Pair:
    n, m = size(draw), size(draw)
    return Pair(Dense(n, m, bias=False), lambda p, x: F.linear(x, p["W"].T), (size(draw), n))


def maxout(draw: Draw) -> Pair:
    n, m, k = size(draw), size(draw), size(draw, 2, 4)

    def forward(p: Tensors, x: Any) -> Any:
        return (torch.einsum("ni,ijk->njk", x, p["W"]) + p["b"]).amax(-1)

    return Pair(Maxout(n, m, k), forward, (size(draw), n))


def tied_autoencoder(draw: Draw) -> Pair:
    n, m = size(draw), size(draw)

    def forward(p: Tensors, x: Any) -> Any:
        hidden = torch.tanh(F.linear(x, p["W"].T, p["b"]))
        return torch.sigmoid(F.linear(hidden, p["W"], p["c"]))

    return Pair(TiedAutoencoder(n, m, TANH, SIGMOID), forward, (size(draw), n))


def convolution_1d(draw: Draw) -> Pair:
    c, o, k = size(draw, 1, 3), size(draw, 1, 3), size(draw, 1, 3)
    stride, padding = size(draw, 1, 3), size(draw, 0, 2)

    def forward(p: Tensors, x: Any) -> Any:
        return torch.tanh(F.conv1d(x, p["W"], p["b"], stride, padding))

    return Pair(
        Convolution(c, o, (k,), stride, padding, TANH), forward, (size(draw), c, size(draw, 3, 8))
    )


def convolution_2d(draw: Draw) -> Pair:
    c, o, kernel = size(draw, 1, 3), size(draw, 1, 3), (size(draw, 1, 3), size(draw, 1, 3))
    stride, padding = size(draw, 1, 3), size(draw, 0, 2)
    shape = (size(draw, 1, 4), c, size(draw, 3, 8), size(draw, 3, 8))

    def forward(p: Tensors, x: Any) -> Any:
        return F.conv2d(x, p["W"], p["b"], stride, padding)

    return Pair(Convolution(c, o, kernel, stride, padding), forward, shape)


def max_pool(draw: Draw) -> Pair:
    k, stride = size(draw, 1, 3), size(draw, 1, 3)
    shape = (size(draw), size(draw, 1, 3), size(draw, 3, 8), size(draw, 3, 8))
    return Pair(MaxPool(k, stride), lambda p, x: F.max_pool2d(x, k, stride), shape)


def max_pool_1d(draw: Draw) -> Pair:
    k = size(draw, 1, 3)
    shape = (size(draw), size(draw, 1, 3), size(draw, 3, 8))
    return Pair(MaxPool(k), lambda p, x: F.max_pool1d(x, k), shape)


def average_pool(draw: Draw) -> Pair:
    k, stride = size(draw, 1, 3), size(draw, 1, 3)
    shape = (size(draw), size(draw, 1, 3), size(draw, 3, 8), size(draw, 3, 8))
    return Pair(AveragePool(k, stride), lambda p, x: F.avg_pool2d(x, k, stride), shape)


def global_average_pool(draw: Draw) -> Pair:
    shape = (size(draw), size(draw), size(draw), size(draw))
    return Pair(GlobalAveragePool(), lambda p, x: F.adaptive_avg_pool2d(x, 1)[:, :, 0, 0], shape)


def batch_norm(draw: Draw) -> Pair:
    n = size(draw)

    def forward(p: Tensors, x: Any) -> Any:
        return F.batch_norm(x, None, None, p["gamma"], p["beta"], training=True)

    return Pair(BatchNorm(n), forward, (size(draw, 4, 9), n))


def batch_norm_of_images(draw: Draw) -> Pair:
    n = size(draw)

    def forward(p: Tensors, x: Any) -> Any:
        return F.batch_norm(x, None, None, p["gamma"], p["beta"], training=True)

    return Pair(BatchNorm(n), forward, (size(draw, 2, 5), n, size(draw, 2), size(draw, 2)))


def layer_norm(draw: Draw) -> Pair:
    n = size(draw, 4, 9)

    def forward(p: Tensors, x: Any) -> Any:
        return F.layer_norm(x, (n,), p["gamma"], p["beta"])

    return Pair(LayerNorm(n), forward, (size(draw), n))


def _recurrent(kind: type[Layer], other: Any, draw: Draw) -> Pair:
    n, m, every = size(draw), size(draw), bool(size(draw, 0, 1))

    def forward(p: Tensors, x: Any) -> Any:
        module = other(n, m, batch_first=True, dtype=x.dtype)
        named = {
            "weight_ih_l0": p["W_x"].T,
            "weight_hh_l0": p["W_h"].T,
            "bias_ih_l0": p["b"],
            "bias_hh_l0": p.get("d", torch.zeros_like(p["b"])),
        }
        states = torch.func.functional_call(module, named, (x,))[0]
        return states if every else states[:, -1]

    return Pair(kind(n, m, every), forward, (size(draw), size(draw), n))  # type: ignore[call-arg]


def elman(draw: Draw) -> Pair:
    return _recurrent(Elman, torch.nn.RNN, draw)


def lstm(draw: Draw) -> Pair:
    return _recurrent(LSTM, torch.nn.LSTM, draw)


def gru(draw: Draw) -> Pair:
    return _recurrent(GRU, torch.nn.GRU, draw)


def embedding(draw: Draw) -> Pair:
    n, m = size(draw), size(draw)
    shape = (size(draw), size(draw))
    return Pair(Embedding(n, m), lambda p, x: F.embedding(x, p["W"]), shape, words=n)


def word_pairs(draw: Draw) -> Pair:
    n, m = size(draw), size(draw)

    def forward(p: Tensors, x: Any) -> Any:
        centres, others = F.embedding(x[:, 0], p["W_in"]), F.embedding(x[:, 1:], p["W_out"])
        return torch.bmm(others, centres[:, :, None])[:, :, 0]

    return Pair(WordPairs(n, m), forward, (size(draw), size(draw, 2, 5)), words=n)


def attention(draw: Draw) -> Pair:
    n, m, causal = size(draw), size(draw), bool(size(draw, 0, 1))

    def forward(p: Tensors, x: Any) -> Any:
        Q, K, V = (x @ p[name] for name in ("W_q", "W_k", "W_v"))
        return F.scaled_dot_product_attention(Q, K, V, is_causal=causal)

    return Pair(Attention(n, m, causal), forward, (size(draw), size(draw, 2), n))


def residual(draw: Draw) -> Pair:
    n, m = size(draw), size(draw)

    def forward(p: Tensors, x: Any) -> Any:
        one, two = p["layer1"], p["layer2"]
        inner = F.gelu(F.linear(x, one["W"].T, one["b"]), approximate="tanh")
        return torch.tanh(x + F.linear(inner, two["W"].T, two["b"]))

    return Pair(Residual((Dense(n, m, GELU), Dense(m, n)), TANH), forward, (size(draw), n))


def dropout(draw: Draw) -> Pair:
    shape = (size(draw), size(draw))
    layer = Dropout(0.3, seed=size(draw))

    def forward(p: Tensors, x: Any) -> Any:
        kept = torch.from_numpy(layer.mask(shape, np.float64) > 0)
        return torch.where(kept, x / (1 - 0.3), 0 * x)

    return Pair(layer, forward, shape)


def softmax_layer(draw: Draw) -> Pair:
    return Pair(Softmax(), lambda p, x: F.softmax(x, -1), (size(draw), size(draw, 2)))


def flatten_layer(draw: Draw) -> Pair:
    shape = (size(draw), size(draw), size(draw))
    return Pair(Flatten(), lambda p, x: torch.flatten(x, 1), shape)


def elementwise(draw: Draw) -> Pair:
    return Pair(Elementwise(SIGMOID), lambda p, x: torch.sigmoid(x), (size(draw), size(draw)))


PAIRS = (
    dense, dense_without_bias, maxout, tied_autoencoder, convolution_1d, convolution_2d, max_pool,
    max_pool_1d, average_pool, global_average_pool, batch_norm, batch_norm_of_images, layer_norm,
    elman, lstm, gru, embedding, word_pairs, attention, residual, dropout, softmax_layer,
    flatten_layer, elementwise,
)  # fmt: skip


# ---------------------------------------------------------------------- the law


def parameters_of(layer: Layer, generator: np.random.Generator, dtype: Any) -> Any:
    """Return random parameters, none of them at its usual start."""

    def shaken(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: shaken(member) for key, member in value.items()}
        return (value + generator.uniform(-0.5, 0.5, value.shape)).astype(dtype)

    return shaken(layer.initial(generator))


def as_tensors(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: as_tensors(member) for key, member in value.items()}
    tensor = torch.from_numpy(np.array(value))
    return tensor.requires_grad_(tensor.is_floating_point())


def gradients(value: Any) -> Any:
    """The gradients that PyTorch left in the tensors, in their structure."""
    if isinstance(value, dict):
        return {key: gradients(member) for key, member in value.items()}
    return np.zeros(value.shape, value.detach().numpy().dtype) if value.grad is None else (
        value.grad.numpy()
    )  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("make", PAIRS, ids=lambda make: make.__name__)
@given(data=st.data())
def test_a_layer_equals_that_of_pytorch(
    make: Callable[[Draw], Pair], dtype: Any, data: Any
) -> None:
    pair = make(data.draw)
    generator = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    p = parameters_of(pair.layer, generator, dtype)
    x = (
        generator.integers(0, pair.words, pair.shape)
        if pair.words
        else generator.normal(size=pair.shape).astype(dtype)
    )
    theirs, tensor = as_tensors(p), as_tensors(x)
    want = pair.torch(theirs, tensor)
    w = generator.normal(size=tuple(want.shape)).astype(dtype)
    want.backward(torch.from_numpy(w))

    # Every layer is a few nested sums; no sum is longer than all entries of one array.
    arrays = [a for _, a in leaves(p)] if p else []
    length = max([prod(pair.shape), w.size, *(a.size for a in arrays)])
    allowed = budget(dtype, length)
    value = pair.layer.forward(p, x)
    require_close(value, want.detach().numpy(), allowed, "value")

    by_formula, by_input = through_formula(pair.layer, p, x, w)
    for backend, got in (("tape", by_tape(pair, p, x, w)), ("formula", (by_formula, by_input))):
        ours = dict(leaves(got[0])) if p else {}
        for name, gradient in leaves(gradients(theirs)) if p else ():
            require_close(ours[name], gradient, allowed, f"{backend}, {name}")
        if not pair.words:
            require_close(got[1], gradients(tensor), allowed, f"{backend}, x")


def through_formula(layer: Layer, p: Any, x: Any, w: Any) -> Any:
    if isinstance(layer, Residual):
        return _residual(layer, p, x, w)
    return BACKWARD[type(layer)](layer, p, x, w)


def by_tape(pair: Pair, p: Any, x: Any, w: Any) -> Any:
    if pair.words:
        return vjp(pair.layer.forward, p, w, x), None
    if not p:
        return None, vjp(lambda x: pair.layer.forward({}, x), x, w)
    pulled = vjp(lambda both: pair.layer.forward(both["p"], both["x"]), {"p": p, "x": x}, w)
    return pulled["p"], pulled["x"]
