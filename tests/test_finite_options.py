"""Finite differences: noise, optimal steps, batches, workers, budgets and sparse Jacobians."""

from __future__ import annotations

import io
import math
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffkit import errors
from diffkit.backends.finite import FiniteDifference, progress
from diffkit.operators import derivative, gradient, hessian, hvp, jacobian, jvp, prepare

# ------------------------------------------------------------------------------- optimal steps


def moler(x: Any) -> Any:
    return np.exp(x) / np.sqrt(np.sin(x) ** 3 + np.cos(x) ** 3)


EPS = 2.0**-52


@pytest.mark.parametrize(
    ("scheme", "order", "derivative_order", "optimum"),
    [
        ("forward", None, 1, 2 * math.sqrt(EPS)),
        ("central", None, 1, (3 * EPS) ** (1 / 3)),
        ("central", None, 2, (48 * EPS) ** (1 / 4)),
    ],
)
def test_the_optimal_step_is_that_of_gill_murray_saunders_wright(
    scheme: str, order: int | None, derivative_order: int, optimum: float
) -> None:
    """For exp at 0 every derivative is 1, and so is the value."""
    seen: list[float] = []

    def f(x: Any) -> Any:
        seen.append(abs(float(x)))
        return np.exp(x)

    backend = FiniteDifference(scheme=scheme, order=order, step="optimal")
    derivative(f, 0.0, order=derivative_order, backend=backend)
    assert seen[-1] == pytest.approx(optimum, rel=0.5)


@pytest.mark.parametrize(("scheme", "rule_times"), [("forward", 30), ("central", 30)])
def test_the_optimal_step_is_better_than_the_rule_where_scales_differ(
    scheme: str, rule_times: float
) -> None:
    def f(x: Any) -> Any:
        return np.sin(1e3 * x)

    exact = 1e3 * math.cos(300.0)
    found = {
        step: abs(derivative(f, 0.3, backend=FiniteDifference(scheme, step=step)) - exact)
        for step in ("rule", "optimal")
    }
    assert rule_times * found["optimal"] < found["rule"]


def test_the_optimal_step_knows_noise() -> None:
    def f(x: Any) -> Any:
        return np.round(np.exp(x), 8)

    optimal = prepare(f, 0.3, backend=FiniteDifference("forward", step="optimal"))
    rule = FiniteDifference("forward", step="rule")
    error = abs(optimal.derivative(0.3) - math.exp(0.3))
    assert error < 1e-3
    assert error < abs(derivative(f, 0.3, backend=rule) - math.exp(0.3)) / 10
    estimate = optimal.estimate(0.3)
    assert estimate.status == {"x": "converged"}


def test_the_optimal_step_of_a_hessian() -> None:
    x = np.array([0.5, 1.5])
    found = hessian(lambda x: x[0] ** 2 * np.exp(x[1]), x, backend=FiniteDifference(step="optimal"))
    e = math.exp(1.5)
    np.testing.assert_allclose(found, [[2 * e, e], [e, e / 4]], rtol=1e-6)


# ------------------------------------------------------------------------------- the error's parts


@given(rate=st.floats(0.1, 50), x=st.floats(-3, 3))
@settings(deadline=None, max_examples=25)
def test_the_error_is_truncation_and_roundoff(rate: float, x: float) -> None:
    result = prepare(lambda x: np.exp(np.sin(rate * x)), x, backend="finite").estimate(x)
    assert result.error == result.truncation + result.roundoff
    exact = rate * math.cos(rate * x) * math.exp(math.sin(rate * x))
    assert abs(result.value - exact) <= result.error + 1e-15 * rate * (1 + abs(rate * x))


def test_a_long_step_errs_by_truncation_and_a_short_one_by_roundoff() -> None:
    long = prepare(np.exp, 1.0, backend=FiniteDifference(step=1e-2)).estimate(1.0)
    short = prepare(np.exp, 1.0, backend=FiniteDifference(step=1e-9)).estimate(1.0)
    assert long.truncation > 1e3 * long.roundoff
    assert short.roundoff > short.truncation / 10
    assert long.truncation == pytest.approx(abs(long.value - math.e), rel=0.1)


def test_the_complex_step_has_no_error_to_part() -> None:
    result = prepare(np.exp, 1.0, backend=FiniteDifference("complex")).estimate(1.0)
    assert (result.error, result.truncation, result.roundoff) == (None, None, None)


# ------------------------------------------------------------------------------- kinks and jumps


@pytest.mark.parametrize(
    "f",
    [np.sign, np.floor, lambda x: np.where(x > 0, 1.0, 0.0) + x, lambda x: np.arctan(1 / x)],
)
def test_a_jump_is_not_convergence(f: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = prepare(f, 1e-300, backend="finite").estimate(1e-300)
        x = 0.0 if np.isfinite(f(np.float64(0.0))) else 1e-300
        result = prepare(f, x, backend="finite").estimate(x)
    assert result.status["x"] != "converged"


@pytest.mark.parametrize("center", [0.0, 0.3, -2.0, 1e5])
def test_kinks_are_found_without_long_search(center: float) -> None:
    result = prepare(lambda x: np.abs(x - center), center, backend="finite").estimate(center)
    assert result.status == {"x": "kink"}
    assert result.value == pytest.approx(0.0, abs=1e-12)
    assert result.error == pytest.approx(1.0, rel=1e-6)
    assert result.evaluations <= 40


@pytest.mark.parametrize("distance", [1e-3, 1e-5, 1e-7])
def test_near_a_kink_the_slope_is_that_of_the_side(distance: float) -> None:
    for x in (1 - distance, 1 + distance):
        result = prepare(lambda x: np.abs(x - 1), x, backend="finite").estimate(x)
        assert result.status == {"x": "converged"}
        assert abs(result.value - math.copysign(1, x - 1)) <= result.error < 1e-6


@pytest.mark.parametrize(
    ("f", "order", "half_jump"),
    [
        (lambda x: x * np.abs(x), 2, 2.0),
        (lambda x: np.maximum(x, 0) ** 2, 2, 1.0),
        (lambda x: np.sin(x) + x * np.abs(x), 2, 2.0),
        (lambda x: np.where(x > 0, x**2, 3 * x**2), 2, 2.0),
        (lambda x: np.maximum(x, 0) ** 3, 3, 3.0),
        (lambda x: np.abs(x) ** 3, 3, 6.0),
        (np.abs, 3, math.inf),
    ],
)
def test_a_higher_derivative_that_differs_on_the_two_sides_is_a_kink(
    f: Any, order: int, half_jump: float
) -> None:
    with pytest.warns(errors.DiffkitWarning, match=r"kink, error about") as caught:
        derivative(f, 0.0, order=order, backend="finite")
    assert f"error about {half_jump:.1e}" in str(caught[0].message)


def test_the_diagonal_of_a_hessian_sees_kinks() -> None:
    with pytest.warns(errors.DiffkitWarning, match=r"x\[1\] and x\[1\] \(kink"):
        hessian(
            lambda x: x[0] ** 2 + np.maximum(x[1], 0) ** 2, np.array([1.0, 0.0]), backend="finite"
        )


@given(a=st.floats(-2, 2), b=st.floats(0.2, 3), x=st.floats(-2, 2), order=st.sampled_from([2, 3]))
@settings(deadline=None, max_examples=30)
def test_smooth_higher_derivatives_are_no_kinks(a: float, b: float, x: float, order: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", errors.DiffkitWarning)
        found = derivative(
            lambda x: a * np.sin(b * x) + np.exp(x), x, order=order, backend="finite"
        )
    inner = -math.sin(b * x) if order == 2 else -math.cos(b * x)
    assert found == pytest.approx(a * b**order * inner + math.exp(x), rel=1e-4, abs=1e-4)


def test_one_sided_schemes_give_the_slope_of_their_side() -> None:
    for scheme, slope in (("forward", 1.0), ("backward", -1.0)):
        result = prepare(np.abs, 0.0, backend=FiniteDifference(scheme)).estimate(0.0)
        assert result.status == {"x": "converged"}
        assert abs(result.value - slope) <= result.error < 1e-12


# ------------------------------------------------------------------------------- batches


def rosenbrock(x: Any) -> Any:
    a, b = x[..., :-1], x[..., 1:]
    return np.sum(100 * (b - a**2) ** 2 + (1 - a) ** 2, axis=-1)


BATCHED = FiniteDifference(vectorized=True)


@pytest.mark.parametrize(
    "backend", [BATCHED, FiniteDifference(step="rule", vectorized=True)], ids=["adaptive", "rule"]
)
def test_a_batch_gives_the_derivatives_of_single_calls(backend: FiniteDifference) -> None:
    x = np.linspace(-1, 2, 7)
    single = FiniteDifference(step=backend.step)
    np.testing.assert_allclose(
        gradient(rosenbrock, x, backend=backend),
        gradient(rosenbrock, x, backend=single),
        rtol=1e-12,
        atol=1e-9,
    )


def test_batches_of_structures_scalars_and_vectors() -> None:
    p = {"w": np.array([[1.0, 2.0], [3.0, 4.0]]), "b": 0.5}

    def loss(p: Any) -> Any:
        return np.sum(np.sin(p["w"]), axis=(-2, -1)) * p["b"] ** 2

    found = gradient(loss, p, backend=BATCHED)
    np.testing.assert_allclose(found["w"], np.cos(p["w"]) / 4, rtol=1e-12)
    assert found["b"] == pytest.approx(float(np.sum(np.sin(p["w"]))), rel=1e-12)
    assert derivative(np.sin, 0.3, backend=BATCHED) == derivative(np.sin, 0.3, backend="finite")
    x = np.array([0.3, 0.7])
    np.testing.assert_allclose(jacobian(np.sin, x, backend=BATCHED), np.diag(np.cos(x)), rtol=1e-12)
    np.testing.assert_allclose(
        hessian(rosenbrock, x, backend=BATCHED), hessian(rosenbrock, x, backend="finite"), rtol=1e-9
    )


def test_few_calls_serve_a_whole_gradient() -> None:
    calls = 0

    def f(x: Any) -> Any:
        nonlocal calls
        calls += 1
        return np.sum(np.sin(x), axis=-1)

    x = np.linspace(0, 1, 50)
    prepared = prepare(f, x, backend=BATCHED)
    np.testing.assert_allclose(prepared.gradient(x), np.cos(x), rtol=1e-11)
    assert calls < 40
    assert prepared.cost.evaluations > 400


@pytest.mark.parametrize(
    "f",
    [
        lambda x: np.sum(np.sin(x)),
        lambda x: np.sum(np.sin(x)) + 0 * x[..., 0],
        lambda x: np.sum(x - np.mean(x), axis=-1) + x[..., 0] ** 2,
        lambda x: np.sum(x**2, axis=0),
    ],
)
def test_what_does_not_map_over_a_leading_axis_is_refused(f: Any) -> None:
    with pytest.raises(errors.InvalidInput, match="vectorized=True"):
        gradient(f, np.linspace(0.5, 1, 4), backend=BATCHED)


# ------------------------------------------------------------------------------- workers


def test_workers_give_the_same_numbers() -> None:
    x = np.array([0.3, 1.2, 5.0])
    prepared = prepare(rosenbrock, x, backend=FiniteDifference(jobs=2))
    np.testing.assert_array_equal(prepared.gradient(x), gradient(rosenbrock, x, backend="finite"))
    assert (
        prepared.estimate(x).evaluations
        == prepare(rosenbrock, x, backend="finite").estimate(x).evaluations
    )


def test_workers_may_leave_the_domain() -> None:
    backend = FiniteDifference(jobs=2)
    assert derivative(math.log, 1e-3, backend=backend) == pytest.approx(1e3, rel=1e-10)


# ------------------------------------------------------------------------------- budgets


@pytest.mark.parametrize("limit", [1, 2, 5, 9, 20, 33, 100, 1000])
@pytest.mark.parametrize("vectorized", [False, True])
def test_a_budget_is_kept(limit: int, vectorized: bool) -> None:
    x = np.array([0.3, 1.2, -0.7])
    backend = FiniteDifference(max_evaluations=limit, vectorized=vectorized)
    prepared = prepare(rosenbrock, x, backend=backend)
    for _ in range(2):
        result = prepared.estimate(x)
        assert result.evaluations <= limit
        exact = gradient(rosenbrock, x)
        for i, status in enumerate(result.status.values()):
            assert status in ("converged", "unresolved", "domain")
            if status == "converged":
                assert abs(result.value[i] - exact[i]) <= result.error[i]
    assert set(result.status.values()) == {"converged"} or limit < 100


def test_what_known_to_exceed_the_budget_is_refused() -> None:
    x = np.ones(5)
    for options in (
        {"step": "rule"},
        {"step": 1e-3},
        {"scheme": "complex"},
        {"step": "optimal"},
        {"step": "ridders"},
    ):
        with pytest.raises(errors.InvalidInput, match="max_evaluations=4 is less"):
            gradient(rosenbrock, x, backend=FiniteDifference(max_evaluations=4, **options))


# ------------------------------------------------------------------------------- sparse Jacobians


def banded(x: Any) -> Any:
    wide = np.concatenate([np.zeros(1), x, np.zeros(1)])
    return np.sin(wide[:-2]) + x**3 - wide[2:] * x


def tridiagonal(n: int) -> Any:
    return np.eye(n) + np.eye(n, k=1) + np.eye(n, k=-1)


@pytest.mark.parametrize("step", ["adaptive", "rule", 1e-5])
def test_a_sparse_jacobian_takes_as_many_lines_as_colours(step: Any) -> None:
    x = np.linspace(-2, 3, 30)
    sparse = prepare(banded, x, backend=FiniteDifference(step=step, sparsity=tridiagonal(30)))
    dense = prepare(banded, x, backend=FiniteDifference(step=step))
    np.testing.assert_allclose(sparse.jacobian(x), dense.jacobian(x), rtol=1e-7, atol=1e-8)
    assert sparse.cost.evaluations < dense.cost.evaluations / 3


def test_a_sparse_estimate_holds_and_names_every_entry() -> None:
    x = np.array([1e-6, 2.0, 300.0, -4.0])
    backend = FiniteDifference(sparsity=np.eye(4, dtype=bool))
    result = prepare(lambda x: x**2 + np.cos(x), x, backend=backend).estimate(x)
    exact = np.diag(2 * x - np.sin(x))
    assert np.all(abs(result.value - exact) <= result.error + 1e-15 * abs(exact))
    assert set(result.status.values()) == {"converged"}
    assert len(result.status) == 16


@pytest.mark.parametrize("missing", [(0, 1), (5, 4), (3, 3)])
def test_an_incomplete_pattern_is_refused(missing: tuple[int, int]) -> None:
    pattern = tridiagonal(8)
    pattern[missing] = 0
    with pytest.raises(errors.InvalidInput, match="pattern leaves out"):
        jacobian(banded, np.linspace(0.5, 2, 8), backend=FiniteDifference(sparsity=pattern))


def test_a_pattern_of_another_shape_is_refused() -> None:
    with pytest.raises(errors.InvalidInput, match="sparsity pattern has shape"):
        jacobian(banded, np.ones(3), backend=FiniteDifference(sparsity=tridiagonal(4)))


@pytest.mark.parametrize(
    "options",
    [
        {"vectorized": 1},
        {"jobs": 0},
        {"jobs": 1.5},
        {"jobs": True},
        {"jobs": 2, "vectorized": True},
        {"max_evaluations": 0},
        {"max_evaluations": 2.5},
        {"max_evaluations": True},
        {"sparsity": [1, 2]},
        {"sparsity": [["a"]]},
        {"sparsity": np.eye(2), "scheme": "complex"},
    ],
)
def test_contradictory_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(errors.InvalidInput):
        FiniteDifference(**options)


# ------------------------------------------------------------------------------- the progress bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_is_shown_on_a_terminal_when_it_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    monkeypatch.setattr(progress, "INTERVAL", 0.0)
    monkeypatch.setattr("sys.stderr", terminal)
    gradient(rosenbrock, np.ones(3), backend="finite")
    assert "rosenbrock" in terminal.getvalue()
    assert "evaluations" in terminal.getvalue()


def test_the_bar_of_many_entries_is_about_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[tuple[int, int]] = []

    class Bar:
        task_ids = (0,)

        def update(self, _: int, *, completed: int, total: int, **more: Any) -> None:
            shown.append((completed, total))

        def stop(self) -> None:
            pass

    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    monkeypatch.setattr(progress, "INTERVAL", 0.0)
    monkeypatch.setattr(progress, "_bar", Bar)
    monkeypatch.setattr("sys.stderr", Terminal())
    gradient(lambda x: np.sum(np.sin(x * np.arange(200))), np.ones(200) / 9, backend="finite")
    done = [completed for completed, _ in shown]
    assert done == sorted(done)
    assert {total for _, total in shown} <= {None, 200}
    assert done[-1] > 100


def test_no_bar_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    monkeypatch.setattr("sys.stderr", stream)
    gradient(rosenbrock, np.ones(3), backend="finite")
    assert not stream.getvalue()


# ------------------------------------------------------------------------------- coarse rounding


@given(x=st.floats(0.2, 2.8), decimals=st.integers(4, 9))
@settings(deadline=None, max_examples=40)
def test_coarse_rounding_is_noise_wherever_its_steps_fall(x: float, decimals: int) -> None:
    """A step of the rounded graph at the point itself is no jump, and a staircase no slope."""

    def f(x: Any) -> Any:
        return np.round(np.exp(np.sin(x)), decimals)

    result = prepare(f, x, backend="finite").estimate(x)
    off = abs(result.value - math.cos(x) * math.exp(math.sin(x)))
    assert off <= result.error or result.status["x"] == "unresolved"
    assert result.status["x"] != "converged" or result.error < 1e-7


# ------------------------------------------------------------------------------- mixed derivatives


@pytest.mark.parametrize(
    ("f", "x"),
    [
        (lambda x: x[1] * np.abs(x[0]), [0.0, 0.0]),
        (lambda x: np.maximum(x[0] * x[1], 0) + x[0] * x[1] ** 2, [0.0, 0.0]),
        (lambda x: np.abs(x[0] * x[1]), [0.0, 0.0]),
    ],
)
def test_mixed_derivatives_see_quadrants_that_differ(f: Any, x: list[float]) -> None:
    with pytest.warns(errors.DiffkitWarning, match=r"x\[1\] and x\[0\] \(kink"):
        hessian(f, np.array(x), backend="finite")


@pytest.mark.parametrize(
    ("f", "x"),
    [
        (lambda x: x[1] * np.abs(x[0]), [0.0, 2.0]),
        (lambda x: np.abs(x[0] + x[1]), [1.0, -1.0]),
        (lambda x: np.maximum(x[0], x[1]) * x[0], [0.5, 0.5]),
    ],
)
def test_second_derivatives_at_a_kink_are_not_numbers(f: Any, x: list[float]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", errors.DiffkitWarning)
        with pytest.raises(errors.NonFiniteDerivative):
            hessian(f, np.array(x), backend="finite")


def test_the_jacobian_of_a_gradient_is_a_better_hessian() -> None:
    """Where a gradient is at hand, half the digits need not be lost twice."""
    x, v = np.array([0.3, -1.2, 2.0]), np.array([1.0, 2.0, -1.0])

    def f(x: Any) -> Any:
        return np.exp(x[0] * x[1]) + np.sin(x[1] * x[2])

    def slope(x: Any) -> Any:
        e, c = np.exp(x[0] * x[1]), np.cos(x[1] * x[2])
        return np.array([x[1] * e, x[0] * e + x[2] * c, x[1] * c])

    e, s, c = np.exp(x[0] * x[1]), np.sin(x[1] * x[2]), np.cos(x[1] * x[2])
    right = np.array(
        [
            [x[1] ** 2 * e, (1 + x[0] * x[1]) * e, 0],
            [(1 + x[0] * x[1]) * e, x[0] ** 2 * e - x[2] ** 2 * s, c - x[1] * x[2] * s],
            [0, c - x[1] * x[2] * s, -(x[1] ** 2) * s],
        ]
    )
    far = np.max(abs(hessian(f, x, backend="finite") - right))
    near = np.max(abs(jacobian(slope, x, backend="finite") - right))
    assert near < 1e-12 < 1e-9 > far > near
    np.testing.assert_allclose(jvp(slope, x, v, backend="finite"), right @ v, rtol=1e-12)
    np.testing.assert_allclose(hvp(f, x, v, backend="finite"), right @ v, rtol=1e-9)


def test_mixed_derivatives_know_of_noise() -> None:
    x = np.array([0.5, 1.5])
    with pytest.warns(errors.DiffkitWarning, match=r"x\[1\] and x\[0\] \((noisy|unresolved)"):
        found = hessian(lambda x: np.round(np.sin(x[0]) * x[1], 7), x, backend="finite")
    assert found[0, 1] == pytest.approx(math.cos(0.5), abs=1e-2)


@given(
    a=st.floats(-2, 2),
    b=st.floats(0.2, 3),
    x=st.tuples(st.floats(-2, 2), st.floats(-2, 2)),
)
@settings(deadline=None, max_examples=25)
def test_smooth_mixed_derivatives_are_no_kinks(a: float, b: float, x: tuple[float, float]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", errors.DiffkitWarning)
        found = hessian(
            lambda x: np.sin(a * x[0] + b * x[1]) + np.exp(x[0] * x[1]),
            np.array(x),
            backend="finite",
        )
    u, v = x
    exact = -a * b * math.sin(a * u + b * v) + (1 + u * v) * math.exp(u * v)
    assert found[0, 1] == pytest.approx(exact, rel=1e-7, abs=1e-7)
