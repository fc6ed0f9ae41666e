"""Losses and penalties, against 90-digit differences and arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from high_precision import along, rounded

from diffkit.errors import InvalidInput
from diffkit.nn import (
    HALF_SQUARED_ERROR,
    HINGE,
    LOGISTIC,
    LOSSES,
    MEAN_SQUARED_ERROR,
    SOFTMAX_CROSS_ENTROPY,
    Loss,
    Penalty,
    elastic,
    huber,
)
from diffkit.operators import gradient

every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=str)


def outputs_and_targets(loss: Loss, shape: tuple[int, ...]) -> tuple[Any, Any]:
    rng = np.random.default_rng(11)
    targets = rng.uniform(size=shape)
    return rng.normal(size=shape), np.sign(targets - 0.5) if loss is HINGE else targets


def precise_loss(loss: Loss) -> Callable[[Any, Any], Any]:
    """The same loss, of functions that run on high-precision numbers."""
    if loss is LOGISTIC:
        return lambda z, t: np.mean(np.log(1 + np.exp(z)) - t * z)
    return loss


@every_loss
@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (3,)])
def test_the_gradient_of_a_loss(loss: Loss, shape: tuple[int, ...]) -> None:
    outputs, targets = outputs_and_targets(loss, shape)
    v = np.random.default_rng(12).normal(size=shape)
    want = rounded(along(lambda o: precise_loss(loss)(o, targets), outputs, v))
    np.testing.assert_allclose(np.sum(loss.gradient(outputs, targets) * v), want, rtol=1e-13)


def test_a_loss_of_huber_is_quadratic_near_and_linear_far_from_the_target() -> None:
    loss = huber(2.0)
    outputs, targets = np.array([[1.0], [-5.0], [2.0]]), np.zeros((3, 1))
    assert loss(outputs, targets) == pytest.approx((0.5 + 2 * (5 - 1) + 2) / 3, rel=1e-15)
    np.testing.assert_allclose(loss.gradient(outputs, targets), [[1 / 3], [-2 / 3], [2 / 3]])
    with pytest.raises(InvalidInput, match="delta"):
        huber(0.0)


def test_the_logistic_loss_keeps_its_digits_where_it_is_nearly_0() -> None:
    outputs, targets = np.array([[40.0, -40.0, 1e4, -1e4]]), np.array([[1.0, 0.0, 1.0, 0.0]])
    assert LOGISTIC(outputs, targets) == pytest.approx(np.exp(-40) / 2, rel=1e-14)
    got = LOGISTIC.gradient(outputs, targets)
    np.testing.assert_allclose(got, [[-np.exp(-40) / 4, np.exp(-40) / 4, 0, 0]], rtol=1e-14)


def test_the_hinge_loss_wants_signs() -> None:
    assert HINGE(np.array([[2.0], [-1.0]]), np.array([[1.0], [1.0]])) == 1.0
    with pytest.raises(InvalidInput, match=r"\+1 or -1"):
        HINGE(np.zeros((2, 1)), np.array([[0.0], [1.0]]))


@every_loss
def test_a_weighted_loss_counts_a_sample_as_often_as_its_weight_says(loss: Loss) -> None:
    outputs, targets = outputs_and_targets(loss, (3, 2))
    weights, repeated = np.array([2.0, 0.0, 1.0]), [0, 0, 2]
    want = loss(outputs[repeated], targets[repeated])
    assert loss(outputs, targets, weights) == pytest.approx(want, rel=1e-14)
    assert loss(outputs, targets, np.ones(3)) == pytest.approx(loss(outputs, targets), rel=1e-14)
    by_rows = loss.gradient(outputs[repeated], targets[repeated])
    got = loss.adjoint(outputs, targets, weights)
    np.testing.assert_allclose(got, [by_rows[0] * 2, 0 * by_rows[0], by_rows[2]], atol=1e-16)
    np.testing.assert_allclose(
        gradient(loss, outputs, targets, weights, backend="tape"),
        gradient(loss, outputs, targets, weights, backend="analytic"),
        rtol=1e-13,
        atol=1e-16,
    )


@pytest.mark.parametrize(
    "weights", [np.ones(2), -np.ones(3), np.zeros(3), np.array([1, np.nan, 1]), np.ones((3, 1))]
)
def test_weights_that_weigh_nothing_are_refused(weights: Any) -> None:
    with pytest.raises(InvalidInput, match="weights"):
        MEAN_SQUARED_ERROR(np.zeros((3, 1)), np.ones((3, 1)), weights)


def test_a_loss_without_its_samples_cannot_be_weighted() -> None:
    plain = Loss("plain", MEAN_SQUARED_ERROR.function, MEAN_SQUARED_ERROR.gradient)
    with pytest.raises(InvalidInput, match="plain has no loss of each sample"):
        plain(np.zeros((1, 1)), np.ones((1, 1)), np.ones(1))


@pytest.mark.filterwarnings("ignore::diffkit.errors.KinkWarning")
@pytest.mark.parametrize(
    ("penalty", "value", "slope"),
    [
        (Penalty(l1=0.5), 0.5 * 7, [0.5, 0.0, -0.5]),
        (Penalty(l2=0.5), 0.5 * 25, [4.0, 0.0, -3.0]),
        (elastic(2.0, 0.25), 0.5 * 7 + 1.5 * 25, [12.5, 0.0, -9.5]),
    ],
)
def test_penalties_count_weights_and_not_biases(
    penalty: Penalty, value: float, slope: list[float]
) -> None:
    parameters = {"layer1": {"W": np.array([4.0, 0.0, -3.0]), "b": np.array([100.0])}}
    assert penalty(parameters) == value
    got = penalty.gradient(parameters)
    np.testing.assert_array_equal(got["layer1"]["W"], slope)
    np.testing.assert_array_equal(got["layer1"]["b"], [0])
    for backend in ("analytic", "tape"):
        again = gradient(penalty, parameters, backend=backend)
        np.testing.assert_array_equal(again["layer1"]["W"], slope)


@pytest.mark.parametrize(
    "build", [lambda: Penalty(l1=-1), lambda: Penalty(l2=np.inf), lambda: elastic(1, 2)]
)
def test_penalties_that_make_no_sense_are_refused(build: Any) -> None:
    with pytest.raises(InvalidInput):
        build()


def test_losses_by_hand() -> None:
    outputs, targets = np.array([[1.0, 2.0], [3.0, 5.0]]), np.array([[0.0, 0.0], [3.0, 3.0]])
    assert MEAN_SQUARED_ERROR(outputs, targets) == (1 + 4 + 0 + 4) / 4
    assert HALF_SQUARED_ERROR(outputs, targets) == (2.5 + 2) / 2
    even = np.zeros((2, 4))
    assert SOFTMAX_CROSS_ENTROPY(even, np.array([0, 3])) == np.log(4)


@pytest.mark.parametrize("shape", [(6, 4), (4,)])
def test_class_numbers_and_one_hot_rows_mean_the_same(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(2)
    outputs, labels = rng.normal(size=shape), rng.integers(0, 4, shape[:-1])
    one_hot = np.eye(4)[labels]
    for form in (SOFTMAX_CROSS_ENTROPY.function, SOFTMAX_CROSS_ENTROPY.gradient):
        np.testing.assert_allclose(form(outputs, labels), form(outputs, one_hot), rtol=1e-14)


def test_cross_entropy_stands_large_logits() -> None:
    outputs = np.array([[1e4, -1e4, 0.0]])
    assert SOFTMAX_CROSS_ENTROPY(outputs, np.array([0])) == 0
    assert SOFTMAX_CROSS_ENTROPY(outputs, np.array([1])) == 2e4
    assert np.all(np.isfinite(SOFTMAX_CROSS_ENTROPY.gradient(outputs, np.array([1]))))


@every_loss
def test_losses_keep_float32(loss: Loss) -> None:
    outputs, targets = (a.astype(np.float32) for a in outputs_and_targets(loss, (5, 3)))
    assert loss(outputs, targets).dtype == np.float32
    assert loss.gradient(outputs, targets).dtype == np.float32


def test_cross_entropy_with_class_numbers_keeps_float32() -> None:
    outputs, labels = np.ones((2, 3), np.float32), [0, 2]
    assert SOFTMAX_CROSS_ENTROPY(outputs, labels).dtype == np.float32
    assert SOFTMAX_CROSS_ENTROPY.gradient(outputs, labels).dtype == np.float32


@every_loss
@pytest.mark.parametrize("which", ["function", "gradient"])
@pytest.mark.parametrize(
    ("outputs", "targets"),
    [
        (np.zeros((3, 1)), np.zeros(3)),  # NumPy would broadcast these to (3, 3)
        (np.zeros((3, 2)), np.zeros((2, 3))),
        (np.zeros((0, 2)), np.zeros((0, 2))),
        (np.zeros((2, 2, 2)), np.zeros((2, 2, 2))),
        (np.float64(1), np.float64(1)),
    ],
)
def test_shapes_that_do_not_fit_are_refused(
    loss: Loss, which: str, outputs: Any, targets: Any
) -> None:
    with pytest.raises(InvalidInput):
        getattr(loss, which)(outputs, targets)


@pytest.mark.parametrize("labels", [[0, 3], [-1, 0], [0.0, 1.0], [True, False], [0, 1, 2]])
def test_class_numbers_that_name_no_class_are_refused(labels: Any) -> None:
    for form in (SOFTMAX_CROSS_ENTROPY.function, SOFTMAX_CROSS_ENTROPY.gradient):
        with pytest.raises(InvalidInput, match="class numbers"):
            form(np.zeros((2, 3)), np.array(labels))
