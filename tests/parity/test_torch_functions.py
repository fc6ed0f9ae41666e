"""Every activation and loss equals PyTorch's, in value and gradient.

Where PyTorch approximates, the certified truth decides; the differences are recorded here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from comparing import budget, require_close
from hypothesis import given
from hypothesis import strategies as st

from diffkit import derivative, gradient, truth, vjp
from diffkit.nn import (
    ACTIVATIONS,
    GELU,
    GELU_ERF,
    HALF_SQUARED_ERROR,
    HINGE,
    LOGISTIC,
    LOSSES,
    MEAN_SQUARED_ERROR,
    SOFTMAX_CROSS_ENTROPY,
    SOFTPLUS,
    TANH,
    Penalty,
    huber,
    log_softmax,
    sharpened,
    softmax,
)

DTYPES = pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=["float64", "float32"])
SHAPES = st.lists(st.integers(1, 7), min_size=1, max_size=3).map(tuple)
SEEDS = st.integers(0, 2**32)

THEIRS: dict[str, Callable[[Any], Any]] = {
    "identity": lambda x: x + 0,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "softplus": lambda x: F.softplus(x, threshold=1e9),
    "relu": F.relu,
    "threshold": lambda x: (x > 0).to(x.dtype) + 0 * x,
    "arctan": torch.atan,
    "leaky_relu": lambda x: F.leaky_relu(x, 0.1),
    "elu": F.elu,
    "selu": F.selu,
    "gelu": lambda x: F.gelu(x, approximate="tanh"),
    "gelu_erf": F.gelu,
    "silu": F.silu,
}


def test_every_activation_has_its_counterpart() -> None:
    assert set(THEIRS) == set(ACTIVATIONS)


def pulled(f: Callable[[Any], Any], x: Any, w: Any) -> tuple[Any, Any]:
    """PyTorch's value and pullback."""
    tensor = torch.from_numpy(x.copy()).requires_grad_()
    value = f(tensor)
    value.backward(torch.from_numpy(np.array(w)))
    assert tensor.grad is not None
    return value.detach().numpy(), tensor.grad.numpy()


@DTYPES
@pytest.mark.parametrize("name", [n for n in THEIRS if n != "threshold"])
@given(shape=SHAPES, seed=SEEDS)
def test_an_activation_equals_that_of_pytorch(
    name: str, dtype: Any, shape: tuple[int, ...], seed: int
) -> None:
    generator = np.random.default_rng(seed)
    x = generator.uniform(-2, 6, shape).astype(dtype)  # the tails have tests of their own
    w = generator.normal(size=shape).astype(dtype)
    value, slope = pulled(THEIRS[name], x, w)
    phi = ACTIVATIONS[name]
    allowed = budget(dtype, 4)  # the terms of a formula
    require_close(phi(x), value, allowed, "value")
    # PyTorch takes slopes from values (1 - y²), of which they have the absolute error.
    scale = float(np.max(np.abs(w), initial=0.0))
    require_close(vjp(phi.function, x, w), slope, allowed, "tape", scale)
    require_close(w * phi.derivative(x), slope, allowed, "formula", scale)


@given(shape=SHAPES, seed=SEEDS)
def test_the_threshold_has_derivative_0_there_too(shape: tuple[int, ...], seed: int) -> None:
    x = np.random.default_rng(seed).normal(size=shape)
    value, slope = pulled(THEIRS["threshold"], x, np.ones(shape))
    np.testing.assert_array_equal(ACTIVATIONS["threshold"](x), value)
    np.testing.assert_array_equal(ACTIVATIONS["threshold"].derivative(x), slope)


@DTYPES
@pytest.mark.parametrize("C", [0.5, 7.0])
@given(seed=SEEDS)
def test_the_sharpened_sigmoid(C: float, dtype: Any, seed: int) -> None:
    x = np.random.default_rng(seed).normal(size=9).astype(dtype)
    phi = sharpened(C)
    value, slope = pulled(lambda t: torch.sigmoid(C * t), x, np.ones(9, dtype))
    require_close(phi(x), value, budget(dtype, 4), "value")
    require_close(phi.derivative(x), slope, budget(dtype, 4), "derivative")


@DTYPES
@pytest.mark.parametrize(
    ("ours", "theirs"), [(softmax, F.softmax), (log_softmax, F.log_softmax)], ids=["", "log"]
)
@given(shape=SHAPES, seed=SEEDS)
def test_softmax(ours: Any, theirs: Any, dtype: Any, shape: tuple[int, ...], seed: int) -> None:
    generator = np.random.default_rng(seed)
    shape = (*shape[:-1], shape[-1] + 1)
    x = generator.normal(size=shape).astype(dtype)
    w = generator.normal(size=shape).astype(dtype)
    value, slope = pulled(lambda t: theirs(t, -1), x, w)
    require_close(ours(x), value, budget(dtype, shape[-1]), "value")
    require_close(vjp(ours, x, w), slope, budget(dtype, 4 * shape[-1]), "tape")


# ---------------------------------------------------------------------- where PyTorch approximates


def ulps(got: Any, exact: Any, dtype: Any) -> float:
    """The error of a number in units of its last place."""
    return abs(float(got) - float(exact)) / float(np.spacing(dtype(abs(float(exact)))))


@pytest.mark.parametrize(
    ("x", "lost"),
    [(-3.0, 1e-14), (-6.0, 1e-10), (-8.0, 0.03), (-9.0, 1.0), (-20.0, 1.0)],
)
def test_in_the_tail_of_the_gelu_the_truth_sides_with_us(x: float, lost: float) -> None:
    """PyTorch takes x/2 (1 + erf(x/√2)), which cancels: `lost` is its relative error, at least
    within a factor of ten, and all digits are gone from -9 on. Ours keeps them."""
    exact = float(truth.value(GELU_ERF.function, x).value)
    value, slope = pulled(F.gelu, np.array([x]), np.ones(1))
    assert ulps(GELU_ERF(np.float64(x)), exact, np.float64) < 64
    error = abs(float(value[0]) - exact) / abs(exact)
    assert lost / 10 <= error <= 10 * lost
    true_slope = float(truth.derivative(GELU_ERF.function, x).value)
    assert derivative(GELU_ERF.function, x) == pytest.approx(true_slope, rel=1e-13)
    assert slope[0] == pytest.approx(true_slope, abs=1e-15)


@pytest.mark.parametrize("x", [-3.0, -6.0, -9.0])
def test_in_the_tail_of_the_tanh_form_too(x: float) -> None:
    exact = float(truth.value(GELU.function, x).value)
    value, _ = pulled(THEIRS["gelu"], np.array([x]), np.ones(1))
    assert ulps(GELU(np.float64(x)), exact, np.float64) < 256
    assert abs(float(value[0]) - exact) < 1e-15
    if x < -5:
        assert abs(float(value[0]) - exact) / abs(exact) > 1e-9


@pytest.mark.parametrize("x", [4.0, 5.5, 7.0])
def test_where_tanh_saturates_the_truth_sides_with_us(x: float) -> None:
    """PyTorch's slope, 1 - y², loses in single precision what y is short of 1."""
    at = np.float32(x)
    true_slope = float(truth.derivative(TANH.function, float(at)).value)
    _, slope = pulled(torch.tanh, np.array([at]), np.ones(1, np.float32))
    assert ulps(derivative(TANH.function, at), true_slope, np.float32) <= 4
    assert ulps(slope[0], true_slope, np.float32) > 32


@pytest.mark.parametrize("x", [20.5, 25.0, 30.0])
def test_beyond_its_threshold_softplus_is_only_nearly_x(x: float) -> None:
    """PyTorch returns x from 20 on, with slope 1. The relative error is e^-x / x, up to 1e-10,
    hundreds of thousands of ulps at 20.5; and its slope is 1 where 1 - e^-x is right."""
    exact = float(truth.value(SOFTPLUS.function, x).value)
    value, slope = pulled(F.softplus, np.array([x]), np.ones(1))
    assert value[0] == x
    assert slope[0] == 1
    assert ulps(SOFTPLUS(np.float64(x)), exact, np.float64) <= 1
    assert abs(x - exact) == pytest.approx(np.exp(-x), rel=0.05)
    true_slope = float(truth.derivative(SOFTPLUS.function, x).value)
    assert ulps(derivative(SOFTPLUS.function, x), true_slope, np.float64) <= 2


# ---------------------------------------------------------------------- losses


def signs(generator: np.random.Generator, shape: tuple[int, int]) -> Any:
    return generator.choice([-1.0, 1.0], shape)


def shares(generator: np.random.Generator, shape: tuple[int, int]) -> Any:
    rows = generator.uniform(0.1, 1, shape)
    return rows / rows.sum(axis=1, keepdims=True)


def by_huber(delta: float) -> Callable[..., Any]:
    return lambda z, t, **options: F.huber_loss(z, t, delta=delta, **options)


def hinge(z: Any, t: Any, reduction: str = "mean") -> Any:
    entries = F.relu(1 - t * z)
    return entries.mean() if reduction == "mean" else entries


def half(z: Any, t: Any, reduction: str = "mean") -> Any:
    entries = F.mse_loss(z, t, reduction="none").sum(-1) / 2
    return entries.mean() if reduction == "mean" else entries


Targets = Callable[[np.random.Generator, tuple[int, int]], Any]
CASES: dict[str, tuple[Any, Callable[..., Any], Targets]] = {
    "mean squared error": (MEAN_SQUARED_ERROR, F.mse_loss, lambda g, s: g.normal(size=s)),
    "half squared error": (HALF_SQUARED_ERROR, half, lambda g, s: g.normal(size=s)),
    "softmax cross-entropy": (SOFTMAX_CROSS_ENTROPY, F.cross_entropy, shares),
    "softmax cross-entropy of classes": (
        SOFTMAX_CROSS_ENTROPY, F.cross_entropy, lambda g, s: g.integers(0, s[1], s[0]),
    ),
    "logistic": (
        LOGISTIC, F.binary_cross_entropy_with_logits, lambda g, s: g.uniform(size=s),
    ),
    "hinge": (HINGE, hinge, signs),
    "huber": (huber(), by_huber(1.0), lambda g, s: g.normal(size=s)),
    "huber 0.3": (huber(0.3), by_huber(0.3), lambda g, s: g.normal(size=s)),
}  # fmt: skip


def test_every_loss_has_its_counterpart() -> None:
    assert set(LOSSES) <= set(CASES)


@DTYPES
@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
@pytest.mark.parametrize("name", CASES)
@given(shape=st.tuples(st.integers(1, 9), st.integers(2, 6)), seed=SEEDS)
def test_a_loss_equals_that_of_pytorch(
    name: str, weighted: bool, dtype: Any, shape: tuple[int, int], seed: int
) -> None:
    loss, theirs, make = CASES[name]
    generator = np.random.default_rng(seed)
    z, t = (2 * generator.normal(size=shape)).astype(dtype), make(generator, shape)
    t = t.astype(dtype) if t.dtype.kind == "f" else t
    weights = generator.uniform(0.5, 2, shape[0]).astype(dtype) if weighted else None

    def mean(outputs: Any) -> Any:
        targets = torch.from_numpy(t)
        if weights is None:
            return theirs(outputs, targets)
        each = theirs(outputs, targets, reduction="none")
        each = each.mean(-1) if each.ndim == 2 else each
        w = torch.from_numpy(weights)
        return (w * each).sum() / w.sum()

    value, slope = pulled(mean, z, np.array(1, dtype))
    data = (z, t) if weights is None else (z, t, weights)
    allowed = budget(dtype, z.size)
    require_close(loss(*data), value, allowed, "value")
    require_close(gradient(loss, *data), slope, allowed, "tape")
    require_close(gradient(loss, *data, backend="analytic"), slope, allowed, "formula")


@DTYPES
@given(seed=SEEDS)
def test_logits_of_ten_thousand(dtype: Any, seed: int) -> None:
    generator = np.random.default_rng(seed)
    z = (1e4 * generator.normal(size=(5, 4))).astype(dtype)
    t = generator.integers(0, 4, 5)
    value, slope = pulled(lambda o: F.cross_entropy(o, torch.from_numpy(t)), z, np.array(1, dtype))
    require_close(SOFTMAX_CROSS_ENTROPY(z, t), value, budget(dtype, 20), "value")
    require_close(gradient(SOFTMAX_CROSS_ENTROPY, z, t), slope, budget(dtype, 20), "tape")


@DTYPES
@given(seed=SEEDS)
def test_penalties(dtype: Any, seed: int) -> None:
    W = np.random.default_rng(seed).normal(size=(4, 3)).astype(dtype)
    value, slope = pulled(lambda w: 0.3 * w.abs().sum() + 0.2 * (w**2).sum(), W, np.array(1, dtype))
    penalty = Penalty(l1=0.3, l2=0.2)
    require_close(penalty({"W": W}), value, budget(dtype, W.size), "value")
    for backend in ("tape", "analytic"):
        got = gradient(penalty, {"W": W}, backend=backend)["W"]
        require_close(got, slope, budget(dtype, W.size), backend)
