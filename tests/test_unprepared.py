"""Derivatives without preparation: the short ways give what the general way gives."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import diffkit as dk
from diffkit.errors import InvalidOutput, KinkWarning, NonFiniteDerivative, TracingError
from diffkit.structure import all_finite
from diffkit.tracing import trace
from diffkit.tracing.primitives import PRIMITIVES

X = np.array([0.5, -1.25, 2.0])


def walked(f: Callable[..., Any], *arguments: Any) -> tuple[Any, Any]:
    """Value and gradient by the general way: of a function prepared just now."""
    return dk.prepare(f, *arguments).value_and_gradient(*arguments)


def in_threads(work: Callable[[int], None], numbers: Iterable[int]) -> None:
    """Do the work for all numbers at once."""
    threads = [threading.Thread(target=work, args=(k,)) for k in numbers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def in_place(x: Any) -> Any:
    y = x * 2.0
    y[1:] *= x[:-1]
    y[0] = y[2] + x[0]
    y += x
    return np.sum(y * y)


def through_views(x: Any) -> Any:
    a = np.zeros_like(x)
    tail = a[1:]
    tail[...] = x[:-1] ** 2
    a[0] = x[2]
    return np.sum(a * x) + tail[0]


def by_scalars(x: Any) -> Any:
    total = 0.0
    for i in range(3):
        total = total + (-1) ** i * x[i] * abs(x[i - 1]) / (1.5 + x[i] ** 2) - 3 // 2
    return total


def minors(a: Any) -> Any:
    def determinant(rows: tuple[int, ...], columns: tuple[int, ...]) -> Any:
        if not rows:
            return 1.0
        return sum(
            (-1) ** k * a[rows[0], c] * determinant(rows[1:], columns[:k] + columns[k + 1 :])
            for k, c in enumerate(columns)
        )

    return determinant((0, 1, 2), (0, 1, 2))


FUNCTIONS: dict[str, tuple[Any, Any]] = {
    "number": (lambda x: x * x - 3 / x, 3.0),
    "NumPy number": (lambda x: np.sin(x) ** 3 - x**0.5, np.float64(0.7)),
    "power": (lambda x: 2.0**x + x**-2 + x**3, 1.3),
    "remainder": (lambda x: x % 0.75 + x // 0.75 * x - (+x), 2.0),
    "array": (lambda x: np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2), X),
    "matrix": (minors, np.arange(9.0).reshape(3, 3) ** 1.5),
    "column order": (
        lambda a: np.sum(a.T @ a * a),
        np.asfortranarray(np.arange(9.0).reshape(3, 3)),
    ),
    "in place": (in_place, X),
    "views": (through_views, X),
    "scalars": (by_scalars, X),
    "reductions": (
        lambda x: np.max(x) * np.sum(x, axis=0) + x.min() * np.sum(x, keepdims=True)[0],
        X,
    ),
    "one entry alone": (lambda x: 2.0 * x[1], X),
    "not by x": (lambda x: np.float64(2.0) + 0.0 * np.floor(x[0]), X),
    "list": (lambda p: np.sum(p[0] @ p[1]) * p[2], [np.ones((2, 3)), X, 2.0]),
    "dict": (lambda p: np.tanh(p["w"] @ X + p["b"]), {"w": X / 2, "b": 0.1}),
    "named": (lambda p: p["a"]["b"] * p["c"][0], {"a": {"b": 2.0}, "c": (3.0,)}),
    "single precision": (lambda x: np.sum(x * x * 0.1), X.astype(np.float32)),
    "array of one": (lambda x: x[0:1] * 3.0 * x[1], X),
    "branch": (lambda x: x**2 if x > 1 else 1 / x, 0.4),
    "while": (lambda x: _halved(x), 11.0),
    "value zero": (lambda x: x * x - 4.0, 2.0),
}


def _halved(x: Any) -> Any:
    while x > 1:
        x = x / 2
    return x


@pytest.mark.filterwarnings("ignore::diffkit.errors.StepWarning")
@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_short_way_gives_what_the_general_way_gives(name: str) -> None:
    f, x = FUNCTIONS[name]
    if name == "array of one":
        with pytest.raises(InvalidOutput):
            dk.value_and_gradient(f, x)
        return
    value, gradient = dk.value_and_gradient(f, x)
    expected, by_walk = walked(f, x)
    assert type(value) is type(expected)
    assert value == expected == f(x)
    if isinstance(gradient, (dict, list)):
        assert repr(gradient) == repr(by_walk)
    else:
        assert type(gradient) is type(by_walk)
        np.testing.assert_array_equal(gradient, by_walk)
        assert np.result_type(gradient) == np.result_type(by_walk)


def test_data_stay_data() -> None:
    def f(x: Any, scale: Any, count: int) -> Any:
        return np.sum(x * scale) * count

    scale = np.array([1.0, 2.0, 3.0])
    assert dk.gradient(f, X, scale, 2).tolist() == [2.0, 4.0, 6.0]
    assert dk.gradient(f, X, scale, 2, wrt=1).tolist() == (2 * X).tolist()


OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
    "//": lambda a, b: a // b,
    "%": lambda a, b: a % b,
    "**": lambda a, b: abs(a) ** b,
    "<": lambda a, b: a * (a < b),
    ">=": lambda a, b: a * (a >= b),
    "==": lambda a, b: a * (a == b) + b * (a != b),
}
numbers = st.floats(-1e3, 1e3).filter(lambda v: abs(v) > 1e-3)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(OPERATORS)), numbers, numbers, st.booleans(), st.booleans())
def test_operators_give_the_bits_that_plain_numbers_give(
    name: str, a: float, b: float, whole: bool, reflected: bool
) -> None:
    operate = OPERATORS[name]
    other: Any = round(b) or 1 if whole else b

    def f(x: Any) -> Any:
        return operate(other, x) if reflected else operate(x, other)

    x = np.float64(a)
    with np.errstate(all="ignore"):
        plain = f(x)
        if np.isfinite(plain):
            node = trace(f, x).outputs[0]
            assert node.value == plain
            assert type(node.value) is type(plain)


def test_numbers_that_are_equal_are_told_apart() -> None:
    def f(x: Any) -> Any:
        return x * 0.0 + x * -0.0 + x**2 * 2.0 - x**2.0 / 1.0 * 1 + x * True

    constants = [repr(n.value) for n in trace(f, 3.0).nodes if n.primitive is None]
    assert {"0.0", "-0.0", "2", "2.0", "1", "1.0", "True"} <= set(constants)


@pytest.mark.parametrize("size", [3, 2000])
def test_a_captured_array_counts_as_it_was_at_each_use(size: int) -> None:
    buffer = np.ones(size)

    def f(x: Any) -> Any:
        first = np.sum(x * buffer)
        buffer[:] = 2.0
        second = np.sum(x * buffer)
        buffer[:] = 1.0
        return first + 10 * second + np.sum(x * buffer)

    assert dk.gradient(f, np.ones(size)).tolist() == [22.0] * size


selections = st.one_of(
    st.integers(-4, 3),
    st.slices(4),
    st.lists(st.integers(-4, 3), min_size=1, max_size=5),
    st.tuples(st.integers(0, 3), st.slices(5)),
    st.tuples(st.slices(4), st.integers(0, 4)),
    st.tuples(st.integers(0, 3), st.integers(0, 4)),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(selections, st.integers(-3, 3)), min_size=1, max_size=6))
def test_adjoints_of_entries_add_up(terms: list[tuple[Any, int]]) -> None:
    def f(x: Any) -> Any:
        shared = x + 0.0
        total = np.sum(shared) + np.sum(shared * x)
        for index, weight in terms:
            total = total + weight * np.sum(shared[index])
        return total

    x = np.arange(20.0).reshape(4, 5)
    expected = 1 + 2 * x
    for index, weight in terms:
        np.add.at(expected, index, float(weight))
    assert np.array_equal(dk.gradient(f, x), expected)


def test_arguments_and_captured_arrays_are_left_alone() -> None:
    captured = np.array([1.0, 2.0, 3.0])

    def f(x: Any) -> Any:
        x *= 2.0
        return np.sum(x * captured)

    x = X.copy()
    gradient = dk.gradient(f, x)
    gradient[:] = 0.0
    assert x.tolist() == X.tolist()
    assert captured.tolist() == [1.0, 2.0, 3.0]
    dk.gradient(lambda x: np.sum(x), x)[:] = 1.0  # an array of its own, that may be written


def test_plain_warnings_come_once_even_where_the_general_way_is_needed() -> None:
    def f(x: Any) -> Any:
        return np.where(x > 0, np.log(x), 2.0) * x

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert dk.gradient(f, -1.0) == 2.0
    assert [str(w.message) for w in caught] == ["invalid value encountered in log"]


def test_ties_are_seen() -> None:
    with pytest.warns(KinkWarning, match=r"maximum at .*test_unprepared\.py"):
        assert dk.gradient(lambda x: np.maximum(x, 0.0) + 1.0, 0.0) == 0.5
    assert dk.gradient(lambda x: np.maximum(x, 0) - np.maximum(-x, 0) + 1.0, 0.0) == 1.0


def test_what_is_not_finite_is_refused() -> None:
    with pytest.raises(NonFiniteDerivative):
        dk.gradient(lambda x: np.sqrt(x) + 1.0, 0.0)
    with pytest.raises(NonFiniteDerivative), np.errstate(over="ignore"):
        dk.gradient(lambda x: np.exp(x), 1e3)


def test_what_the_tracer_does_not_see_is_refused() -> None:
    with pytest.raises(TracingError, match="when traced"):
        dk.gradient(lambda x: x * x if isinstance(x, np.floating) else 3.0 * x, 2.5)
    with pytest.raises(TracingError, match=r"test_unprepared\.py"):
        dk.gradient(lambda x: float(x) * x, 2.0)

    def swallows(x: Any) -> Any:
        try:
            return x * float(x)
        except TracingError:
            return x * 2.0

    with pytest.raises(TracingError):
        dk.gradient(swallows, 2.0)


@pytest.mark.filterwarnings("ignore::diffkit.errors.StepWarning")
def test_a_constant_function_has_gradient_zero() -> None:
    assert dk.gradient(lambda x: x[0] * 0.0 + np.ceil(x[1]) + 4.0, X).tolist() == [0.0] * 3
    assert dk.gradient(lambda x: np.ceil(x), 1.5) == 0.0
    assert dk.gradient(lambda x: 2.0, 1.5) == 0.0


def test_gradients_inside_gradients() -> None:
    def descent(x: Any) -> Any:
        for _ in range(5):
            x = x - 0.25 * dk.gradient(lambda y: (y - 2.0) ** 2 + np.cos(y) * y, x)
        return x

    h = 1e-6
    by_differences = (descent(0.3 + h) - descent(0.3 - h)) / (2 * h)
    assert dk.gradient(descent, 0.3) == pytest.approx(by_differences, rel=1e-8)
    prepared = dk.prepare(descent, 0.3)
    for x in (0.3, 0.3, -1.0, 2.5):
        assert prepared.gradient(x) == pytest.approx(dk.gradient(descent, x), rel=1e-13)


def test_an_inner_gradient_that_is_not_finite_is_seen_by_the_outer_one() -> None:
    def f(x: Any) -> Any:
        return dk.gradient(lambda y: np.sqrt(y) * 3.0, x) * x

    prepared = dk.prepare(f, 4.0)
    for _ in range(3):
        assert prepared.gradient(4.0) == dk.gradient(f, 4.0) == 0.375
    with pytest.raises(NonFiniteDerivative):
        dk.gradient(f, 0.0)
    with pytest.raises(NonFiniteDerivative):
        prepared.gradient(0.0)


def test_nodes_that_threads_record_have_their_places() -> None:
    def f(x: Any) -> Any:
        parts: list[Any] = [None] * 4

        def work(k: int) -> None:
            part = x
            for _ in range(50):
                part = part * 1.01 + k
            parts[k] = part

        in_threads(work, range(4))
        return parts[0] + parts[1] + parts[2] + parts[3]

    graph = trace(f, 2.0)
    assert [node.index for node in graph.nodes] == list(range(len(graph.nodes)))
    assert all(source.index < node.index for node in graph.nodes for source in node.inputs)
    assert dk.gradient(f, 2.0) == pytest.approx(4 * 1.01**50, rel=1e-13)


def test_a_recording_that_is_kept_has_guards_and_lines() -> None:
    graph = trace(lambda x: x * x if x > 1 else x, 2.0)
    assert graph.guards
    assert all(node.location for node in graph.nodes if node.primitive)


@pytest.mark.parametrize("value", [1e200, 1e308, -1e308, 0.0])
def test_large_numbers_are_finite_without_a_warning(value: float) -> None:
    with np.errstate(all="raise"):
        assert all_finite(np.full(5, value))
        assert not all_finite(np.array([value, np.inf]))
        assert not all_finite(np.array([np.nan, value]))


def test_a_pullback_in_place_is_the_pullback() -> None:
    for primitive in PRIMITIVES.values():
        if primitive.adds is None:
            continue
        a, index = np.arange(12.0).reshape(3, 4), (slice(1, None), 2)
        g, total = np.array([2.0, 3.0]), np.ones((3, 4))
        primitive.adds(total, g, index=index)
        assert np.array_equal(total - 1, primitive.pull(0, g, a[index], (a,), {"index": index}))
