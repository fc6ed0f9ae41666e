"""A gradient that is 0 because the function goes in steps comes with a warning; others do not."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import diffkit as dk
from diffkit.errors import StepWarning
from diffkit.nn import MEAN_SQUARED_ERROR, THRESHOLD, fully_connected

RNG = np.random.default_rng(0)
X = RNG.normal(size=(20, 3))
Y = (X[:, 0] > 0) * 1.0
PARAMETERS = {"W": RNG.normal(size=(3, 2)), "b": RNG.normal(size=2), "v": RNG.normal(size=2)}
BACKENDS = ("finite", "symbolic", "tape")

STEPS: dict[str, Callable[[Any], Any]] = {
    "where": lambda z: np.where(z > 0, 1.0, 0.0),
    "heaviside": lambda z: np.heaviside(z, 0.5),
    "sign": np.sign,
    "comparison": lambda z: (z > 0) * 1.0,
    "floor": np.floor,
}


def through(phi: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The loss of a layer of units φ."""

    def loss(p: Any) -> Any:
        return np.mean((phi(X @ p["W"] + p["b"]) @ p["v"] - Y) ** 2)

    return loss


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("phi", STEPS.values(), ids=STEPS)
def test_a_step_in_a_function_of_ones_own_is_told(phi: Any, backend: str) -> None:
    with pytest.warns(StepWarning, match="loss depends on W, b in steps alone") as warned:
        gradient = dk.gradient(through(phi), PARAMETERS, backend=backend)
    assert not gradient["W"].any()
    assert gradient["v"].any()
    assert [record.filename for record in warned] == [__file__]
    assert "gradient descent cannot train" in str(warned[0].message)


def test_the_tape_names_the_step_and_its_line() -> None:
    with pytest.warns(StepWarning, match=r"\(np\.heaviside at .*test_steps\.py:\d+"):
        dk.gradient(through(STEPS["heaviside"]), PARAMETERS)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("data", [(), (Y,)], ids=["alone", "with data"])
def test_a_step_in_a_function_of_one_array_is_told(data: Any, backend: str) -> None:
    with pytest.warns(StepWarning, match="depends on x"):
        dk.gradient(lambda x, *data: 1.0 + np.sum(np.sign(x)), X[0], *data, backend=backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_step_by_control_flow_is_told(backend: str) -> None:
    with pytest.warns(StepWarning, match="depends on x"):
        slope = dk.gradient(lambda w: 1.0 if w @ X[0] > 0 else 0.0, X[1], backend=backend)
    assert not slope.any()


def test_a_step_that_no_tracer_sees_is_told() -> None:
    def fires(w: Any) -> float:
        return float(float(w[0]) > 0.2)

    with pytest.warns(StepWarning, match="fires depends on x"):
        slope = dk.gradient(fires, X[1], backend="finite")
    with pytest.warns(StepWarning, match="fires depends on x"):
        assert dk.validate(fires, X[1], slope).verdict in ("agree", "unresolved")


def test_a_step_behind_a_closed_form_is_told() -> None:
    def fires(w: Any) -> Any:
        return np.heaviside(w, 0.5)

    dk.register(fires, gradient=lambda w: 0.0 * w)
    with pytest.warns(StepWarning, match="fires depends on x"):
        assert dk.gradient(fires, 1.5, backend="analytic") == 0


def test_validation_tells_what_zeros_mean() -> None:
    loss = through(np.sign)
    with pytest.warns(StepWarning, match="depends on W, b"):
        verdict = dk.validate(loss, PARAMETERS, dk.gradient(loss, PARAMETERS))
    assert verdict.verdict == "agree"


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_prepared_function_says_it_once(backend: str) -> None:
    prepared = dk.prepare(through(np.sign), PARAMETERS, backend=backend)
    with pytest.warns(StepWarning):
        prepared.gradient(PARAMETERS)
    for _ in range(3):
        prepared.gradient(PARAMETERS)


@pytest.mark.parametrize("backend", ["analytic", *BACKENDS])
def test_a_network_says_it_itself_and_names_the_layers(backend: str) -> None:
    net = fully_connected((3, 2, 1), MEAN_SQUARED_ERROR, THRESHOLD)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        dk.gradient(net.loss, net.initial(), X, Y[:, None], backend=backend)
    assert ["layer1 are thresholds" in str(w.message) for w in caught] == [True]


ZERO: dict[str, tuple[Any, Any]] = {
    "rectifiers that are off": (
        lambda p: np.sum(np.maximum(X @ p["W"] - 100, 0) @ p["v"]),
        PARAMETERS,
    ),
    "not used": (lambda p: np.sum(p["v"] ** 2), PARAMETERS),
    "masked": (lambda p: np.sum(p["v"] ** 2) + np.sum(p["b"] * np.zeros(2)), PARAMETERS),
    "checked alone": (
        lambda p: np.sum(p["v"] ** 2) if np.all(np.isfinite(p["W"])) else np.nan,
        PARAMETERS,
    ),
    "clipped": (lambda x: np.sum(np.clip(x, 0, 1)), np.array([5.0, 6.0])),
    "clipped, single": (lambda x: np.sum(np.clip(x, 0, 1)), np.array([5.0, 6.0], np.float32)),
    "margins kept": (lambda x: np.sum(np.maximum(1 - x, 0)), np.array([5.0, 6.0])),
    "saturated": (lambda x: np.sum(np.tanh(100 * x)), np.array([5.0, -6.0])),
    "at the minimum": (lambda x: np.sum(x**2), np.zeros(2)),
    "outside its domain elsewhere": (
        lambda x: np.sum(np.maximum(np.log(x), 0)),
        np.array([0.1, 0.2]),
    ),
    "a step and a penalty": (
        lambda p: np.sum(np.sign(p["W"])) + np.sum(p["W"] ** 2),
        {"W": PARAMETERS["W"]},
    ),
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("f", "x"), ZERO.values(), ids=ZERO)
def test_other_zeros_go_without_a_word(f: Any, x: Any, backend: str) -> None:
    dk.gradient(f, x, backend=backend)


def test_training_tells_at_the_line_that_trains() -> None:
    def loss(p: Any, X: Any, y: Any) -> Any:
        return np.mean((np.sign(X @ p) - y) ** 2)

    with pytest.warns(dk.DiffkitWarning) as warned:
        dk.training.train(loss, X[0], X, Y)
    assert warned[0].category is StepWarning
    assert {record.filename for record in warned} == {__file__}


@pytest.mark.parametrize("budget", [None, 200, 60])
def test_what_the_finite_backend_looks_at_is_counted(budget: int | None) -> None:
    calls = 0

    def f(x: Any) -> Any:
        nonlocal calls
        calls += 1
        return np.sum(np.where(x > 0.3, 1.0, 0.0))

    x = np.array([0.1, 0.2])
    prepared = dk.prepare(f, x, backend=dk.FiniteDifference(max_evaluations=budget))
    calls, before = 0, prepared.cost.evaluations
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert not np.any(prepared.gradient(x))
    assert prepared.cost.evaluations - before == calls
    assert budget is None or calls <= budget
