"""The default differences, held to the certified truth on functions that are hard in many ways.

Each function is one line; each point is one test of the value, of the error estimate and of the
status. What is asserted of all of them together is what the documentation promises.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from diffkit import truth
from diffkit.backends.finite import FiniteDifference, tasks
from diffkit.interface import Estimate
from diffkit.operators import prepare

Function = Callable[[Any], Any]

SCALAR: list[tuple[Function, tuple[float, ...]]] = [
    # elementary functions, at the edges of their domains and far out
    (np.sin, (0.0, 0.3, 2.5, 100.0, 1e5)),
    (np.cos, (0.1, 1.5, 1e4, 1e8)),
    (np.exp, (-20.0, 0.0, 1.0, 300.0, 1e-200)),
    (np.log, (1e-300, 1e-12, 1e-5, 0.01, 50.0, 1e200)),
    (np.log1p, (1e-10, -0.999999, 3.0, 1e15)),
    (np.sqrt, (1e-300, 1e-9, 2.0, 1e200)),
    (np.cbrt, (1e-30, 1e-6, 5.0)),
    (np.tanh, (0.3, 4.0, 12.0)),
    (np.arcsin, (0.1, 0.999, 1 - 1e-6, 1 - 1e-10)),
    (np.arctan, (0.5, 1e3, 1e10, 1e150)),
    (np.arccosh, (1 + 1e-9, 2.0, 1e100)),
    (np.square, (1e150, 1e-150, 3.0)),
    (lambda x: 1 / x, (1e-100, 1e-5, 3.0, 1e100)),
    (lambda x: x**-2.5, (0.1, 10.0)),
    # oscillations, steep places and narrow ones
    (lambda x: np.sin(1e3 * x), (0.1, 1.0, 1e-3)),
    (lambda x: np.sin(1 / x), (0.01, 0.1)),
    (lambda x: np.tanh(1e3 * x), (0.0, 1e-4, 1e-3, 0.01)),
    (lambda x: np.tanh(1e6 * (x - 1)), (1.0, 1.000001)),
    (lambda x: np.arctan(1e8 * x), (0.0, 1e-8, 1e-3)),
    (lambda x: 1 / (1e-4 + x * x), (0.0, 0.001, 0.1)),
    (lambda x: np.exp(-x * x / 2e-6), (0.001, 0.002)),
    (lambda x: np.exp(-(((x - 0.5) / 0.01) ** 2)) + x, (0.5, 0.51, 0.55, 1.0)),
    (lambda x: np.exp(1 / x), (0.01, 0.5)),
    (lambda x: np.sqrt(x * x + 1e-12), (0.0, 1e-7, 1e-6, 1e-5, 1.0)),
    (lambda x: np.log(x + 1e-5), (0.0, 1e-4)),
    # cancellation, shown and hidden
    (lambda x: np.log(1 + x * x), (1e-8, 1e-4, 1e-2, 1.0)),
    (lambda x: np.sqrt(1 + x) - np.sqrt(x), (1.0, 1e6, 1e10)),
    (lambda x: (1 - np.cos(x)) / x**2, (1e-3, 0.1)),
    (lambda x: (np.exp(x) - 1 - x) / x**2, (0.01, 0.5)),
    (lambda x: np.log1p(x) - x, (1e-3, 0.1)),
    (lambda x: np.log(1 + np.exp(x)), (-30.0, 0.0, 40.0)),
    (lambda x: (1 + 1 / x) ** x, (1.0, 100.0, 1e4)),
    (lambda x: 1e10 + np.sin(x), (1.0, 2.0)),
    (lambda x: x**3 - 3 * x**2 + 3 * x - 1, (1.1, 2.0)),
    (lambda x: np.cosh(x) ** 2 - np.sinh(x) ** 2, (1.0, 3.0)),
    # polynomials and rational functions
    (lambda x: x**20 - 3 * x**7 + x, (0.9, 1.1)),
    (lambda x: (x - 1) ** 7, (1.001, 1.1)),
    (lambda x: (x**3 - 2 * x + 1) / (x * x + 3), (-1.0, 0.5, 4.0)),
    (lambda x: 1 / (1 + 25 * x * x), (-0.8, 0.0, 0.1)),
    # kinks and jumps nearby
    (np.abs, (1.0, -3.0, 1e-5)),
    (lambda x: np.abs(x - 1), (1.0001, 0.9999999, 3.0)),
    (lambda x: np.where(x > 1, np.sin(x), np.cos(x)), (1.001, 0.99999, 1.5)),
    (lambda x: np.clip(x, 0, 1) ** 2, (0.999, 0.5)),
    (lambda x: np.abs(np.sin(10 * x)), (0.3, 0.31, 0.32)),
    (lambda x: x * np.abs(x), (0.0, 1e-3)),
    # scales of the values
    (lambda x: np.sin(x) * 1e-300, (1.0,)),
    (lambda x: 1e200 * np.exp(x), (2.0,)),
    (lambda x: np.sin(1e-5 * x), (1.0, 1e5)),
    (lambda x: np.log(np.log(x)), (1.01, 3.0, 1e10)),
]


def rosenbrock(x: Any) -> Any:
    return np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def network(x: Any) -> Any:
    hidden = np.tanh(x[:6].reshape(2, 3).T @ np.array([0.5, -1.0]) + x[6:9])
    return np.log(np.sum(np.exp(hidden * x[9:12]))) - hidden[0] * x[9]


VECTOR: list[tuple[Function, tuple[list[float], ...]]] = [
    (rosenbrock, ([1.2, -0.5], [1.001] * 5, [-3.0, 4.0, 0.1])),
    (network, (list(np.linspace(-1, 1, 12)), list(np.cos(np.arange(12.0))))),
    (lambda x: np.log(np.sum(np.exp(x))), ([0.1, 2.0, -3.0], [100.0, 1.0])),
    (lambda x: np.sqrt(np.sum(x**2)), ([1e-3, 1.0, 1e3], [1e-8, 2e-8])),
    (lambda x: np.log(x[0]) + np.exp(x[1]) + (x[2] / 1e6) ** 2, ([1e-8, 1.0, 1e6],)),
    (lambda x: x[0] * x[1] + np.sin(x[2]), ([1e8, 1e-8, 1.0],)),
    (lambda x: np.exp(x) / np.sum(np.exp(x)), ([0.3, -1.0, 2.0],)),
    (lambda x: np.stack([np.log(x[0]), x[1] ** 3 / x[0]]), ([1e-6, 1e6],)),
    (lambda x: np.prod(np.cos(x)) + np.sum(np.exp(-x * x)), ([0.1, 0.7, 1.9, 3.0],)),
]


@dataclass(frozen=True)
class Outcome:
    """How a point went: errors are exact, relative ones to the largest entry."""

    relative: float
    claimed: float
    trusted: bool
    overestimate: float
    evaluations: float


def outcome(f: Function, x: Any) -> Outcome:
    result = prepare(f, x, backend=FiniteDifference()).estimate(x)
    scalar = np.ndim(f(x)) == 0
    exact = (truth.gradient if scalar else truth.jacobian)(f, x)
    known = [e.midpoint for e in exact.enclosures if e is not None]
    values, errors = (_entries(part) for part in (result.value, result.error))
    off = [abs(v - t) for v, t in zip(values, known, strict=True)]
    trusted = all(
        distance <= error or status != "converged"
        for distance, error, status in zip(off, errors, result.status.values(), strict=True)
    )
    size = max(abs(t) for t in known) or Fraction(1)
    return Outcome(
        relative=_ratio(max(off), size),
        claimed=_ratio(max(errors), size),
        trusted=trusted,
        overestimate=_ratio(max(errors), max(off)) if max(off) else np.nan,
        evaluations=result.evaluations / np.size(x),
    )


def _entries(part: Any) -> list[Fraction]:
    huge = Fraction(10) ** 400
    return [Fraction(float(v)) if np.isfinite(v) else huge for v in np.ravel(part)]


def _ratio(a: Fraction, b: Fraction) -> float:
    return float(min(a / b, Fraction(10**30)))


@pytest.fixture(scope="module")
def outcomes() -> dict[str, Outcome]:
    found = {}
    for i, (f, points) in enumerate(SCALAR):
        found.update({f"scalar {i} at {x!r}": outcome(f, x) for x in points})
    for i, (g, places) in enumerate(VECTOR):
        found.update({f"vector {i} at {x!r}": outcome(g, np.array(x)) for x in places})
    return found


def test_nothing_is_silently_wrong(outcomes: dict[str, Outcome]) -> None:
    assert [name for name, o in outcomes.items() if not o.trusted] == []


def test_nearly_all_are_right_to_nine_digits(outcomes: dict[str, Outcome]) -> None:
    """The others are limited by cancellation in the function itself."""
    right = sum(o.relative <= 1e-9 for o in outcomes.values())
    assert right >= 0.9 * len(outcomes)


def test_the_digits_and_the_cost_in_the_median(outcomes: dict[str, Outcome]) -> None:
    relative = np.array([max(o.relative, 1e-16) for o in outcomes.values()])
    assert np.median(-np.log10(relative)) >= 13.9
    assert np.median([o.evaluations for o in outcomes.values()]) <= 25


def test_the_estimate_is_of_use(outcomes: dict[str, Outcome]) -> None:
    assert np.nanmedian([o.overestimate for o in outcomes.values()]) <= 100
    assert sum(o.claimed <= 1e-8 for o in outcomes.values()) >= 0.8 * len(outcomes)


CORNERS: list[Function] = [
    np.abs,
    lambda x: np.maximum(x, 0),
    lambda x: np.maximum(x, 0) + x**2,
    lambda x: np.exp(-np.abs(x)),
    lambda x: 1e-4 * np.abs(x) + x,
    lambda x: np.minimum(x, 2 * x),
    lambda x: np.sqrt(x * x),
    lambda x: np.where(x > 0, np.sin(x), 2 * x),
]


@pytest.mark.parametrize("f", CORNERS)
def test_corners_are_seen(f: Function) -> None:
    exact = truth.derivative(f, 0.0)
    ((left, right),) = exact.kinks.values()
    result: Estimate = prepare(f, 0.0, backend="finite").estimate(0.0)
    assert result.status == {"x": "kink"}
    assert result.error == pytest.approx(abs(right - left) / 2, rel=1e-2)
    assert min(left, right) - 1e-9 <= result.value <= max(left, right) + 1e-9


ALONE: list[tuple[Function, float]] = [
    (np.sin, 0.3),
    (np.exp, -20.0),
    (np.log, 1e-5),
    (lambda x: x * x, 1e150),
    (lambda x: np.sqrt(x - 0.1), 0.1 + 1e-9),
    (lambda x: np.round(np.sin(x), 9), 1.0),
    (lambda x: abs(x - 0.25), 0.25),
    (lambda x: x * np.sin(1 / x), 1e-3),
    (lambda x: x * 0 + 2, 0.7),
    (np.tanh, 0.0),
    (lambda x: x**2 - 3 * x, -1.5),
    (lambda x: 1 / (1 + 25 * x * x), 0.1),
    (lambda x: np.sin(10 * x), 0.3),
    (np.sqrt, -1.0),
    (lambda x: np.arctan(1e8 * x), 1e-8),
    (lambda x: np.float64(np.float32(np.sin(x))), 0.7),
    (lambda x: 1e10 + np.sin(x), 1.0),
]


@pytest.mark.parametrize(("f", "x"), ALONE)
def test_a_number_alone_is_differentiated_as_one_of_many(f: Function, x: float) -> None:
    """What is done without arrays for a function of one number gives the same, to the last bit."""
    with np.errstate(all="ignore"):
        alone = prepare(f, x, backend=FiniteDifference()).estimate(x)
        boxed = prepare(lambda p: f(p["x"]), {"x": x}, backend=FiniteDifference())
        assert_same_estimate(alone, boxed.estimate({"x": x}))


@pytest.mark.parametrize(
    ("f", "x"), [(np.sin, 0.3), (np.exp, -20.0), (np.tanh, 1.0), (lambda x: x**3 - x, 2.0)]
)
def test_what_is_usual_needs_no_arrays(
    f: Function, x: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "limit", None)
    assert prepare(f, x, backend=FiniteDifference()).estimate(x).status == {"x": "converged"}


@pytest.mark.parametrize(("f", "x"), ALONE)
def test_a_number_is_never_asked_for_twice(f: Function, x: float) -> None:
    asked: list[float] = []

    def recorded(x: Any) -> Any:
        asked.append(float(x))
        return f(x)

    with np.errstate(all="ignore"):
        prepare(recorded, x, backend=FiniteDifference()).estimate(x)
    assert len(set(asked)) == len(asked)


def test_a_function_that_keeps_and_changes_its_argument_does_no_harm() -> None:
    """Every evaluation is given an array of its own."""
    kept: list[Any] = []

    def f(x: Any) -> Any:
        kept.append(x)
        x *= 2
        return np.sum(x**2)

    x = np.array([1.0, 2.0, 3.0])
    np.testing.assert_allclose(prepare(f, x, backend="finite").gradient(x), 8 * x, rtol=1e-12)
    assert len({array.ctypes.data for array in kept}) == len(kept)


def assert_same_estimate(alone: Estimate, boxed: Estimate) -> None:
    assert list(alone.status.values()) == list(boxed.status.values())
    assert alone.evaluations <= boxed.evaluations  # what is known of a number is kept
    for name in ("value", "error", "truncation", "roundoff"):
        np.testing.assert_array_equal(getattr(alone, name), getattr(boxed, name)["x"])
