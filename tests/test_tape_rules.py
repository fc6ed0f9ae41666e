"""What compiled gradients leave out, join or compute otherwise, and that it changes no result."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view
from test_scenarios import vector
from test_tape_programs import compiled

import diffkit as dk
from diffkit.errors import DiffkitError, InvalidInput, KinkWarning, NonFiniteDerivative

RNG = np.random.default_rng(11)


def softmax(z: Any, axis: Any) -> Any:
    e = np.exp(z - np.max(z, axis=axis, keepdims=True))
    return e / np.sum(e, axis=axis, keepdims=True)


def attention(p: Any) -> Any:
    q, k, v = p["x"] @ p["q"], p["x"] @ p["k"], p["x"] @ p["v"]
    return np.mean((softmax(q @ k.T / 2, 1) @ v) ** 3)


def sharpe(x: Any) -> Any:
    weights = softmax(x, None)
    returns = TABLE @ weights
    return -np.mean(returns) / np.std(returns)


def stacked(p: Any) -> Any:
    hidden = np.tanh(p["x"] @ p["W"] + p["b"])
    return np.sum((hidden @ p["U"]) ** 2)


def windows(k: Any) -> Any:
    return np.sum(np.tanh(sliding_window_view(ROWS, 3, axis=1) @ k) ** 2)


def diffusion(u: Any) -> Any:
    for _ in range(3):
        near = np.roll(u, 1, 0) + np.roll(u, -1, axis=0) + np.roll(u, (2, -1), (0, 1))
        u = u + 0.1 * (near + np.roll(u, 3) - 4 * u)
    return np.sum(u**2)


TABLE = RNG.normal(size=(7, 5))
ROWS = RNG.normal(size=(4, 12))
STACK = {
    "x": RNG.normal(size=(2, 3, 4, 5)),
    "W": RNG.normal(size=(5, 6)),
    "b": RNG.normal(size=6),
    "U": RNG.normal(size=(6, 2)),
}
HEAD = {k: RNG.normal(size=(3, 3)) for k in "qkv"} | {"x": RNG.normal(size=(9, 3))}

PROGRAMS: list[tuple[str, Callable[..., Any], Any]] = [
    ("attention", attention, HEAD),
    ("softmax of everything", sharpe, RNG.normal(size=5)),
    ("softmax along columns", lambda z: np.sum(softmax(z, 0) ** 2 * z), RNG.normal(size=(8, 3))),
    (
        "softmax along pairs of axes",
        lambda z: np.sum(softmax(z, (0, 2)) ** 2),
        RNG.normal(size=(3, 4, 2)),
    ),
    (
        "weights that are no softmax",
        lambda z: np.sum(np.exp(z) / np.sum(np.exp(2 * z), axis=1, keepdims=True) * z**2),
        RNG.normal(size=(8, 3)),
    ),
    ("stack of matrices", stacked, STACK),
    ("windows", windows, RNG.normal(size=(3, 2))),
    ("rolled", diffusion, RNG.normal(size=(4, 5))),
    ("rolled by nothing", lambda u: np.sum(np.roll(u, 4, 0) * u**2), RNG.normal(size=(4, 2))),
    (
        "extremes of rows",
        lambda a: np.sum(np.max(a, axis=1) ** 2 - np.min(a, axis=1) ** 3),
        RNG.normal(size=(90, 12)),
    ),
    (
        "extremes of long rows with their axis",
        lambda a: np.sum(np.exp(a - np.max(a, axis=2, keepdims=True))),
        RNG.normal(size=(8, 20, 9)),
    ),
    (
        "sums along a middle axis",
        lambda a: np.sum(np.arctan(np.sum(a * a, axis=1)) * np.mean(a, axis=(0, 1))),
        RNG.normal(size=(3, 6, 5)),
    ),
    (
        "logistic loss",
        lambda w: np.mean(np.logaddexp(0, -TABLE @ w)) + 0.1 * np.sum(w * w),
        RNG.normal(size=5),
    ),
    (
        "quotients by one divisor",
        lambda x: np.sum((x**2 / np.sum(x**4) - np.sin(x) / np.sum(x**4)) * np.cos(x)),
        RNG.normal(size=6),
    ),
    ("doubled", lambda x: np.sum((x + x) * np.sin(x + x)), RNG.normal(size=4)),
    ("hinge loss", lambda w: np.mean(np.maximum(0, 1 - TABLE @ w)), RNG.normal(size=5)),
    ("constant slopes", lambda w: np.sum(np.minimum(TABLE @ w, 2.0) * 3), RNG.normal(size=5)),
    (
        "Huber loss",
        lambda w: np.sum(np.where(np.abs(TABLE @ w) < 1, (TABLE @ w) ** 2 / 2, np.abs(TABLE @ w))),
        RNG.normal(size=5),
    ),
    (
        "logarithm of a sum of exponentials of everything",
        lambda x: np.log(np.sum(np.exp(x - np.max(x)))) + np.max(x),
        RNG.normal(size=6),
    ),
    (
        "a number repeated",
        lambda x: np.sum(np.exp(np.broadcast_to(np.sum(x * x), x.shape) / 8.0) * x**3),
        RNG.normal(size=6),
    ),
    ("sorted", lambda x: np.sum((np.sort(x) - np.arange(9)) ** 3 * x), RNG.normal(size=9)),
    (
        "sorted rows, and an order put elsewhere",
        lambda x: np.sum(np.sort(x, axis=1) ** 3 @ np.arange(4.0)) + x[0][np.argsort(-x[1])] @ x[2],
        RNG.normal(size=(3, 4)),
    ),
    (
        "rows of length one",
        lambda a: np.sum((a / np.linalg.norm(a, axis=1, keepdims=True)) @ np.ones(3) ** 3),
        RNG.normal(size=(5, 3)),
    ),
]


def moved(x: Any, by: float, rng: Any) -> Any:
    if isinstance(x, dict):
        return {key: moved(member, by, rng) for key, member in x.items()}
    return x * by + 0.1 * rng.normal(size=x.shape).astype(x.dtype)


def cast(x: Any, dtype: Any) -> Any:
    if isinstance(x, dict):
        return {key: cast(member, dtype) for key, member in x.items()}
    return x.astype(dtype)


@pytest.mark.parametrize(("f", "x"), [p[1:] for p in PROGRAMS], ids=[p[0] for p in PROGRAMS])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_program_agrees_with_the_walk(f: Any, x: Any, dtype: Any) -> None:
    x = cast(x, dtype)
    prepared = compiled(f, x)
    rng, eps = np.random.default_rng(3), float(np.finfo(dtype).eps)
    for by in (1.0, 0.3, 3.0):
        point = moved(x, by, rng)
        assert prepared._programs[-1].compiled.run(point, ()) is not None  # it has not declined
        value, gradient = prepared.value_and_gradient(point)
        expected_value, expected = dk.value_and_gradient(f, point)
        assert value == pytest.approx(expected_value, rel=100 * eps)
        wanted = vector(expected)
        scale = np.max(np.abs(wanted))
        np.testing.assert_allclose(vector(gradient), wanted, rtol=0, atol=500 * eps * scale)


# ---------------------------------------------------------------------- what is left out


def source(name: str) -> str:
    (f, x) = next((f, x) for title, f, x in PROGRAMS if title == name)
    prepared = compiled(f, x)
    return str(prepared.source())


def test_a_softmax_has_the_adjoint_of_the_textbook() -> None:
    """a (g - Σ g a): one quotient, forwards; nothing flows to the shift, which may tie."""
    text = source("attention")
    softmax_lines = [line for line in text.splitlines() if "divide(" in line]
    assert len(softmax_lines) == 3  # the scores by 2, the softmax, and the adjoint of the scores
    assert "equal(" not in text
    assert "a tie" not in text


def test_what_is_no_softmax_keeps_the_sum_of_its_adjoint() -> None:
    shifted = compiled(
        lambda z: np.sum(z**2 * np.exp(z - np.max(z)) / np.sum(np.exp(2 * z))), RNG.normal(size=5)
    )
    assert "equal(" in shifted.source()


def test_a_stack_of_matrices_is_one_product() -> None:
    text = source("stack of matrices")
    assert "matmul(" not in text
    assert text.count(".dot(") >= 4


def test_what_is_rolled_is_moved_in_two_parts() -> None:
    text = source("rolled by nothing")
    assert "add_at" not in text
    assert "roll" not in text.split("\n# ")[0]


def test_a_tanh_takes_one_quotient_backwards() -> None:
    text = compiled(lambda x: np.sum(np.tanh(x) ** 3), np.ones(3)).source()
    assert text.count("divide(") == 1
    assert "cosh(" in text


# ---------------------------------------------------------------------- ties and the like


@given(st.integers(0, 10**6), st.integers(7, 14), st.booleans())
def test_the_extreme_of_a_row_is_followed_or_declined(seed: int, width: int, tied: bool) -> None:
    rng = np.random.default_rng(seed)

    def f(a: Any) -> Any:
        return np.sum(np.max(a, axis=1) ** 2 * np.arange(1.0, 101.0))

    a = rng.normal(size=(100, width))
    prepared = compiled(f, rng.normal(size=(100, width)))
    if tied:
        a[17, 3] = a[17, 5] = np.max(a) + 1
        with pytest.warns(dk.KinkWarning):
            assert prepared.gradient(a)[17, 3] == pytest.approx(18 * a[17, 3])
        return
    expected = np.zeros_like(a)
    places = np.arange(100), np.argmax(a, axis=1)
    expected[places] = 2 * np.max(a, axis=1) * np.arange(1.0, 101.0)
    np.testing.assert_allclose(prepared.gradient(a), expected, rtol=1e-14)


def test_a_mask_of_ones_own_is_not_taken_for_the_adjoint_of_an_extreme() -> None:
    """The user's formula shares among those that tie in the data, where no rule of ours is."""
    data = np.array([[1.0, 3.0, 3.0], [2.0, 0.0, 1.0]])

    def f(g: Any, a: Any) -> Any:
        wins = (a == np.max(a, axis=1, keepdims=True)) | (a != a)
        count = np.sum(wins.astype(float), axis=1, keepdims=True)
        return np.sum(np.where(wins, g / count, 0) ** 2)

    g = np.array([[2.0], [3.0]])
    prepared = dk.prepare(f, g, data)
    for _ in range(3):
        np.testing.assert_allclose(prepared.gradient(g, data), [[2.0], [6.0]])


# ---------------------------------------------------------------------- what only looks alike


def softmax_beside_itself(x: Any) -> Any:
    """Sums of rows that meet columns: of a square matrix no shape tells that they do."""
    weights = np.exp(x) / np.sum(np.exp(x), axis=1)
    mean = np.sum(np.sin(x) * weights, axis=1, keepdims=True)
    return np.sum(np.sum((np.sin(x) - mean) * weights, axis=1) ** 2)


def mean_beside_itself(x: Any) -> Any:
    weights = softmax(x, 1)
    mean = np.sum(np.sin(x) * weights, axis=1)
    return np.sum(np.sum((np.sin(x) - mean) * weights, axis=1) ** 2)


def weights_of_one_row(x: Any) -> Any:
    weights = softmax(x[:1], 0)
    mean = np.sum(x * weights, axis=0, keepdims=True)
    return np.sum(np.sum((x - mean) * weights, axis=0) ** 2)


def divisor_beside_itself(x: Any) -> Any:
    e, more = np.exp(x)[:, np.newaxis], np.exp(2 * x)[:, np.newaxis] * (2 + x)[..., np.newaxis]
    crooked = (np.sin(x) / np.sum(e, axis=2).reshape(3))[..., np.newaxis] * e
    straight = (np.sin(x) / np.sum(more, axis=2))[..., np.newaxis] * more
    return np.sum(np.sum(crooked - straight, axis=2) ** 2)


LOOKALIKES = (softmax_beside_itself, mean_beside_itself, weights_of_one_row, divisor_beside_itself)


@pytest.mark.parametrize("f", LOOKALIKES, ids=lambda f: f.__name__)
def test_what_is_summed_and_what_it_meets_are_not_confused(f: Any) -> None:
    x = RNG.normal(size=(3, 3))
    prepared = compiled(f, x)
    for point in (x, x + 0.1):
        assert prepared.value(point) == pytest.approx(f(point), rel=1e-12)
        value, gradient = prepared.value_and_gradient(point)
        assert value == pytest.approx(f(point), rel=1e-12)
        np.testing.assert_allclose(gradient, dk.gradient(f, point, backend="finite"), rtol=1e-6)


def largest(a: Any) -> Any:
    return (a == np.max(a, axis=1, keepdims=True)) | (a != a)


def mean_where_largest(x: Any, a: Any) -> Any:
    """Its adjoint is shared as that of an extreme is, but data, which may tie, tell where."""
    wins = largest(a)
    count = np.sum(wins.astype(float), axis=1, keepdims=True)
    return np.sum((np.sum(np.where(wins, x, 0), axis=1, keepdims=True) / count) ** 2)


def by_columns_with_two(x: Any, a: Any) -> Any:
    return np.sum(x**2 if np.any(np.sum(largest(a), axis=0) > 1) else x**3)


def by_entries_beside(x: Any, a: Any) -> Any:
    twice = np.any(np.sum(a == np.max(a, axis=0), axis=1) > 1)
    return np.sum(np.where(twice, x**2, x**3))


def by_rows_of_others(x: Any, a: Any) -> Any:
    rows = np.broadcast_to(np.max(a, axis=1, keepdims=True), (3, 3, 3))
    return np.sum(np.where(np.any(np.sum(a == rows, axis=1) > 1), x**2, x**3))


MASKS = (mean_where_largest, by_columns_with_two, by_entries_beside, by_rows_of_others)


@pytest.mark.parametrize("f", MASKS, ids=lambda f: f.__name__)
def test_masks_from_data_are_the_users_own(f: Any) -> None:
    x = 2 + RNG.random((3, 3))
    tables = [
        np.array([[3.0, 2.0, 1.0], [3.0, 0.0, 1.0], [5.0, 5.0, 2.0]]),
        np.array([[3.0, 2.0, 1.0], [3.0, 0.0, 1.0], [5.0, 1.0, 2.0]]),
        np.array([[3.0, 2.0, 1.0], [0.0, 3.0, 1.0], [1.0, 2.0, 5.0]]),
    ]
    prepared = dk.prepare(f, x, tables[0])
    for a in (*tables, *(a.T.copy() for a in tables)):
        for _ in range(3):
            value, gradient = prepared.value_and_gradient(x, a)
            assert value == pytest.approx(f(x, a), rel=1e-12)
            right = dk.gradient(f, x, a, backend="finite")
            np.testing.assert_allclose(gradient, right, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("clip", [np.minimum, np.maximum])
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_what_is_clipped_at_its_own_extreme_keeps_the_whole_adjoint(clip: Any, axis: Any) -> None:
    """It ties at every point and to no harm, so that no guard tells: halves meet again."""

    def f(x: Any) -> Any:
        bound = (np.min if clip is np.minimum else np.max)(x, axis=axis, keepdims=True)
        return np.sum(np.cos(clip(x, bound)))

    x = RNG.permutation(20).reshape(4, 5) / 10
    prepared = compiled(f, x)
    for point in (x, x + 0.03):
        right = dk.gradient(f, point, backend="finite")
        np.testing.assert_allclose(prepared.gradient(point), right, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("shift", [0, 2])
def test_a_gradient_that_is_rolled_last_leaves_with_memory_of_its_own(shift: int) -> None:
    x = RNG.normal(size=(5, 3))
    prepared = compiled(lambda x: np.sum(np.roll(x, shift, 0) ** 3 * np.arange(3.0)), x)
    first = prepared.gradient(x)
    kept, second = first.copy(), prepared.gradient(2 * x)
    assert not np.shares_memory(first, second)
    np.testing.assert_array_equal(first, kept)
    np.testing.assert_allclose(second, 4 * kept, rtol=1e-14)


# ---------------------------------------------------------------------- far out


@given(
    st.sampled_from(PROGRAMS), st.integers(0, 10**6), st.sampled_from([1e-300, 1e-9, 30.0, 1e300])
)
def test_far_out_a_program_agrees_or_both_refuse(program: Any, seed: int, scale: float) -> None:
    _, f, x = program
    prepared = compiled(f, x)
    point = moved(x, scale, np.random.default_rng(seed))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results: list[Any] = []
        for ask in (prepared.value_and_gradient, lambda p: dk.value_and_gradient(f, p)):
            try:
                results.append(vector(ask(point)[1]))
            except DiffkitError as refusal:
                results.append(type(refusal))
    first, second = results
    if isinstance(first, type) or isinstance(second, type):
        assert first is second
        return
    size = np.max(np.abs(second))
    np.testing.assert_allclose(first, second, rtol=0, atol=1e-12 * size + 1e-300)


def test_a_row_of_zeros_is_left_to_the_general_way() -> None:
    def f(a: Any) -> Any:
        return np.sum(np.linalg.norm(a, axis=1) * np.arange(1, 4))

    a = np.arange(6.0).reshape(3, 2) + 1
    prepared = compiled(f, a)
    a[1] = 0
    with pytest.warns(KinkWarning):
        found = prepared.gradient(a)
    with pytest.warns(KinkWarning):
        np.testing.assert_array_equal(found, dk.gradient(f, a))
    np.testing.assert_allclose(found[0], a[0] / np.sqrt(5), rtol=1e-15)


# ---------------------------------------------------------------------- what is finite


def layer(w: Any) -> Any:
    """One that looks at few of the rows of a large matrix of weights."""
    return np.sum(np.tanh(INPUTS @ w / 20) ** 2)


INPUTS = RNG.normal(size=(8, 300))


def test_large_matrices_are_seen_to_be_finite_by_smaller_ones() -> None:
    w = RNG.normal(size=(300, 40))
    prepared = compiled(layer, w)
    total = next(line for line in prepared.source().splitlines() if "total =" in line)
    assert "v0" not in re.sub(r"\.T", "", total)
    expected = dk.gradient(layer, w)
    np.testing.assert_allclose(prepared.gradient(w), expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_an_entry_of_a_large_matrix_that_is_not_finite_is_refused(value: float, dtype: Any) -> None:
    w = RNG.normal(size=(300, 40)).astype(dtype)
    prepared = compiled(layer, w)
    w[123, 17] = value
    with pytest.raises(InvalidInput, match=r"x\[123, 17\] is not finite"):
        prepared.gradient(w)


def test_large_numbers_whose_products_overflow_are_left_to_the_general_way() -> None:
    def f(w: Any) -> Any:
        return np.sum((INPUTS @ w) * 1e200)

    w = RNG.normal(size=(300, 40))
    prepared = compiled(f, w)
    for scale in (1.0, 1e80, 1e-80):
        np.testing.assert_allclose(prepared.gradient(w * scale), dk.gradient(f, w), rtol=1e-12)


def test_a_large_gradient_that_overflows_is_refused() -> None:
    def f(p: Any) -> Any:
        return np.sum(np.arctan(INPUTS @ p[0])) * p[1]

    w = RNG.normal(size=(300, 40))
    prepared = compiled(f, [w, 2.0])
    expected = dk.gradient(f, [w, 1e300])
    np.testing.assert_allclose(prepared.gradient([w, 1e300])[0], expected[0], rtol=1e-9)
    with pytest.raises(NonFiniteDerivative):
        prepared.gradient([w * 1e-12, 1.7e308])


def test_choices_between_a_number_and_nothing_are_products() -> None:
    def f(w: Any) -> Any:
        return np.sum(np.where(TABLE @ w > 0, 3.0, 0.0) * w[0] + np.maximum(0, TABLE @ w))

    w = RNG.normal(size=5)
    assert "where(" not in compiled(f, w).source()


def test_the_largest_of_all_that_is_shifted_out_costs_no_adjoint() -> None:
    def f(x: Any) -> Any:
        m = np.max(x)
        return np.log(np.sum(np.exp(x - m))) + m

    assert "equal(" not in compiled(f, RNG.normal(size=6)).source()


def test_what_is_done_to_a_repeated_number_is_done_once() -> None:
    def f(x: Any) -> Any:
        return np.sum(np.exp(np.broadcast_to(np.sum(x * x), x.shape) / 8.0) * x**3)

    source = compiled(f, RNG.normal(size=6)).source()
    assert "m_exp(" in source
    assert "broadcast_to" not in source
