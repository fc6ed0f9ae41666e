"""Many lines: most are followed by the few steps that a few pilots showed to be enough.

What must not change by that is trust: the error estimate holds line by line, and a line that is
not like the pilots is followed in full. Oracles are gradients written by hand.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from diffkit.backends.finite import FiniteDifference, pilots
from diffkit.interface import Estimate
from diffkit.operators import prepare

Function = Callable[[Any], Any]
N = 300
RNG = np.random.default_rng(2)
NORMAL = RNG.normal(size=N)
POSITIVE = RNG.uniform(0.1, 2.0, N)
RARE = np.arange(N) == 77  # not among the pilots


def rosenbrock(x: Any) -> Any:
    return np.sum(100 * (x[..., 1:] - x[..., :-1] ** 2) ** 2 + (1 - x[..., :-1]) ** 2, axis=-1)


def rosenbrock_gradient(x: Any) -> Any:
    slope = np.zeros_like(x)
    slope[:-1] = -400 * x[:-1] * (x[1:] - x[:-1] ** 2) - 2 * (1 - x[:-1])
    slope[1:] += 200 * (x[1:] - x[:-1] ** 2)
    return slope


def log_sum_exp(x: Any) -> Any:
    return np.log(np.sum(np.exp(x), axis=-1))


ALIKE: dict[str, tuple[Function, Function, Any]] = {
    "rosenbrock": (rosenbrock, rosenbrock_gradient, NORMAL),
    "x sin x": (
        lambda x: np.sum(x * np.sin(x), axis=-1),
        lambda x: np.sin(x) + x * np.cos(x),
        NORMAL,
    ),
    "gauss": (
        lambda x: np.sum(np.exp(-(x**2)), axis=-1),
        lambda x: -2 * x * np.exp(-(x**2)),
        NORMAL,
    ),
    "log-sum-exp": (log_sum_exp, lambda x: np.exp(x - log_sum_exp(x)), NORMAL),
    "norm": (
        lambda x: np.sqrt(np.sum(x * x, axis=-1)),
        lambda x: x / np.sqrt(np.sum(x * x)),
        NORMAL,
    ),
    "steep": (
        lambda x: np.sum(np.tanh(20 * x), axis=-1),
        lambda x: 20 / np.cosh(20 * x) ** 2,
        NORMAL / 10,
    ),
    "scales": (
        lambda x: np.sum(np.log1p(x * x), axis=-1),
        lambda x: 2 * x / (1 + x * x),
        10.0 ** np.linspace(-6, 6, N),
    ),
    "far": (
        lambda x: 1e8 + np.sum(np.sin(x), axis=-1),
        np.cos,
        POSITIVE,
    ),
}
UNLIKE: dict[str, tuple[Function, Function, Any]] = {
    "a steep one": (
        lambda x: np.sum(np.where(RARE, np.tanh(1e4 * x), np.sin(x)), axis=-1),
        lambda x: np.where(RARE, 1e4 / np.cosh(np.clip(1e4 * x, -9, 9)) ** 2, np.cos(x)),
        np.where(RARE, 1e-4, NORMAL),
    ),
    "a narrow one": (
        lambda x: np.sum(np.where(RARE, 1 / (1e-4 + x * x), x), axis=-1),
        lambda x: np.where(RARE, -2 * x / (1e-4 + x * x) ** 2, 1.0),
        np.where(RARE, 0.003, NORMAL),
    ),
    "one that is no polynomial": (
        lambda x: np.sum(np.where(RARE, np.exp(5 * x), x**2), axis=-1),
        lambda x: np.where(RARE, 5 * np.exp(5 * x), 2 * x),
        NORMAL,
    ),
    "a domain's edge": (
        lambda x: np.sum(np.where(RARE, np.log(np.where(RARE, x, 1)), x**3), axis=-1),
        lambda x: np.where(RARE, 1 / x, 3 * x**2),
        np.where(RARE, 1e-5, NORMAL),
    ),
    "one without influence": (
        lambda x: np.sum(np.where(RARE, 0.0, np.cos(x)), axis=-1),
        lambda x: np.where(RARE, 0.0, -np.sin(x)),
        NORMAL,
    ),
}


def estimated(f: Function, x: Any, **options: Any) -> Estimate:
    with np.errstate(all="ignore"):
        return prepare(f, x, backend=FiniteDifference(**options)).estimate(x)


def assert_holds(result: Estimate, right: Any) -> None:
    rounding = 4 * np.finfo(np.asarray(right).dtype).eps * abs(right)
    assert np.all(abs(result.value - right) <= result.error + rounding)
    assert set(result.status.values()) == {"converged"}


@pytest.mark.parametrize("vectorized", [False, True])
@pytest.mark.parametrize("name", ALIKE)
def test_lines_that_are_alike_take_few_evaluations_and_the_estimate_holds(
    name: str, vectorized: bool
) -> None:
    f, gradient, x = ALIKE[name]
    result = estimated(f, x, vectorized=vectorized)
    assert_holds(result, gradient(x))
    assert result.evaluations < 10 * N
    size = np.max(abs(gradient(x)))
    whole = estimated(f, x[:20]).error  # too few for pilots
    assert np.median(result.error) <= 1e-8 * max(size, abs(f(x)))
    assert np.all(np.isfinite(whole))


@pytest.mark.parametrize("name", UNLIKE)
def test_a_line_that_is_not_like_the_others_is_followed_in_full(name: str) -> None:
    f, gradient, x = UNLIKE[name]
    result = estimated(f, x)
    allowed = result.error + 1e-15 * abs(gradient(x))
    assert np.all(abs(result.value - gradient(x)) <= allowed)
    assert result.value[77] == pytest.approx(gradient(x)[77], rel=1e-8, abs=1e-300)
    assert result.evaluations < 14 * N


def test_a_kink_among_smooth_lines_is_seen() -> None:
    x = np.where(RARE, 0.0, NORMAL)
    result = estimated(lambda x: np.sum(np.where(RARE, 3 * abs(x), np.sin(x))), x)
    status = list(result.status.values())
    assert status[77] == "kink"
    assert result.error[77] == pytest.approx(3, rel=1e-4)
    assert status.count("converged") == N - 1


@pytest.mark.parametrize("size", [1e-2, 1e-4])
def test_a_small_kink_beside_a_large_slope_is_seen(size: float) -> None:
    x = np.where(RARE, 0.0, NORMAL)
    result = estimated(lambda x: np.sum(np.exp(x) + np.where(RARE, size * abs(x), 0)), x)
    assert result.status["x[77]"] == "kink"


def test_pilots_that_do_not_agree_cost_little() -> None:
    rates = 10.0 ** (np.arange(N) % 5)
    x = NORMAL / 100
    result = estimated(lambda x: np.sum(np.sin(rates * x)), x)
    assert np.all(abs(result.value - rates * np.cos(rates * x)) <= result.error)
    assert result.evaluations < 33 * N


def test_slopes_that_do_not_add_up_are_found_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the lines' own values deceived all judgement, directions across them tell."""
    honest = pilots._judged

    def deceived(*arguments: Any) -> Any:
        found, good = honest(*arguments)
        found.value[3] *= 1 + 1e-6
        return found, good

    f, gradient, x = ALIKE["x sin x"]
    few = estimated(f, x).evaluations
    monkeypatch.setattr(pilots, "_judged", deceived)
    result = estimated(f, x)
    assert_holds(result, gradient(x))
    assert result.evaluations > 2 * few


def test_each_output_has_its_own_noise_and_lines() -> None:
    x = NORMAL[:256]
    result = estimated(lambda x: {"a": np.sin(x), "b": 1e6 + np.sum(x**3)}, x)
    assert np.all(abs(result.value["a"] - np.diag(np.cos(x))) <= result.error["a"])
    assert np.all(abs(result.value["b"] - 3 * x**2) <= result.error["b"])
    assert result.evaluations < 18 * len(x)


def test_one_unlucky_output_does_not_make_the_others_begin_anew() -> None:
    """Five values of noise show little of it now and then; along other lines they show more."""
    matrix = RNG.normal(size=(30, 500)) / 20
    result = estimated(lambda x: np.tanh(x @ matrix), NORMAL[:30])
    right = matrix.T * (1 - np.tanh(NORMAL[:30] @ matrix) ** 2)[:, np.newaxis]
    assert np.mean(abs(result.value - right) <= result.error) > 0.999
    assert list(result.status.values()).count("converged") > 0.999 * right.size
    assert result.evaluations < 45 * 30


@pytest.mark.parametrize("dtype", [np.float32, np.longdouble])
def test_other_precisions(dtype: Any) -> None:
    x = NORMAL.astype(dtype)
    result = estimated(lambda x: np.sum(np.sin(x) * x), x)
    right = np.sin(x.astype(np.longdouble)) + x * np.cos(x.astype(np.longdouble))
    assert result.value.dtype == dtype
    assert np.all(abs(result.value - right) <= result.error + np.finfo(dtype).eps * abs(right))
    assert result.evaluations < 10 * N


def test_structures() -> None:
    x = {"w": NORMAL[:200].reshape(20, 10), "b": NORMAL[200:]}
    result = estimated(lambda p: np.sum(np.sin(p["w"])) + np.prod(1 + p["b"] / 9), x)
    assert np.all(abs(result.value["w"] - np.cos(x["w"])) <= result.error["w"])
    slopes = np.prod(1 + x["b"] / 9) / (9 + x["b"])
    assert np.all(abs(result.value["b"] - slopes) <= result.error["b"])
    assert result.evaluations < 14 * N


def test_noise_of_all_is_the_noise_of_each() -> None:
    def rounded(x: Any) -> Any:
        return np.round(np.sum(np.sin(x)), 9)

    result = estimated(rounded, NORMAL)
    assert np.all(abs(result.value - np.cos(NORMAL)) <= result.error)


@pytest.mark.parametrize("limit", [200, 1000, 3000])
def test_a_budget_is_kept(limit: int) -> None:
    f, gradient, x = ALIKE["gauss"]
    for vectorized in (False, True):
        result = estimated(f, x, max_evaluations=limit, vectorized=vectorized)
        assert result.evaluations <= limit
        known = np.array([status == "converged" for status in result.status.values()])
        off = abs(result.value - gradient(x))
        assert np.all(off[known] <= result.error[known])
    assert known.all() == (limit == 3000)


def test_an_order_that_is_asked_for_is_kept() -> None:
    right = 5 * (1 + POSITIVE) ** 4
    errors = []
    for order in (2, 4, 6):
        result = estimated(lambda x: np.sum(x**5), 1 + POSITIVE, order=order)
        assert np.all(abs(result.value - right) <= result.error)
        errors.append(np.median(result.error / right))
    assert errors[0] > 10 * errors[1] >= 10 * errors[2]
