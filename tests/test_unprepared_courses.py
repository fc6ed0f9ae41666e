"""Gradients without preparation of functions whose course is known by heart.

A course is what a function did, step by step. Once it was taken often enough its gradient is
compiled; the program may serve only where a new recording takes that very course.
"""

from __future__ import annotations

import gc
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_unprepared import in_place, in_threads, through_views

import diffkit as dk
from diffkit.backends.tape import known
from diffkit.backends.tape.known import KNOWN, Course
from diffkit.errors import KinkWarning, NonFiniteDerivative, TracingError
from diffkit.tracing import trace
from diffkit.tracing.foretold import Follower
from diffkit.tracing.quick import foretold
from diffkit.tracing.scripts import INDEX, Script, keys_of, operation_key, script_of
from diffkit.tracing.tracer import Trace, Traced

X = np.array([0.5, -1.25, 2.0])
M = np.arange(9.0).reshape(3, 3) / 3 + 2 * np.eye(3)


class Seen:
    """Counts the gradients that programs gave, and how often a script had to be left."""

    def __init__(self) -> None:
        self.programs = 0
        self.left = 0


@pytest.fixture(autouse=True)
def seen(monkeypatch: pytest.MonkeyPatch) -> Iterator[Seen]:
    """Compile a course at once, not the function; nothing is known before a test or after it."""
    monkeypatch.setattr(known, "stand", lambda target: None)
    monkeypatch.setattr(known, "WORTH_COMPILING", 1)
    monkeypatch.setattr(known, "FIRST_LOOKED_AT", 1)
    counts = Seen()
    gradient, leave = Course.gradient, Follower.leave_script

    def counted(self: Course, *arguments: Any) -> Any:
        found = gradient(self, *arguments)
        counts.programs += found is not None
        return found

    def noted(self: Follower) -> None:
        counts.left += 1
        leave(self)

    monkeypatch.setattr(Course, "gradient", counted)
    monkeypatch.setattr(Follower, "leave_script", noted)
    KNOWN.clear()
    yield counts
    KNOWN.clear()


def walked(f: Callable[..., Any], *arguments: Any) -> tuple[Any, Any]:
    """Value and gradient by the walk."""
    KNOWN.clear()
    result: tuple[Any, Any] = dk.value_and_gradient(f, *arguments)
    KNOWN.clear()
    return result


def flat(x: Any) -> Any:
    if isinstance(x, dict):
        x = list(x.values())
    if isinstance(x, (list, tuple)):
        return np.concatenate([flat(member) for member in x])
    return np.ravel(x)


def assert_same(a: tuple[Any, Any], b: tuple[Any, Any]) -> None:
    """Equal values, and gradients that are equal to rounding and of the same kind."""
    assert type(a[0]) is type(b[0])
    assert a[0] == b[0]
    assert type(a[1]) is type(b[1])
    ours, theirs = flat(a[1]), flat(b[1])
    assert ours.dtype == theirs.dtype
    np.testing.assert_allclose(ours, theirs, rtol=1e-13, atol=1e-14 * np.max(np.abs(theirs)))


# ---------------------------------------------------------------------- what is followed


def a_copy_apart(x: Any) -> Any:
    y = x.copy()
    y[0] = 3.0 * x[1]
    return np.sum(y * x)


def filled(x: Any) -> Any:
    a = np.zeros_like(x)
    a[0] = x[0]
    for i in range(1, len(x)):
        a[i] = 0.5 * a[i - 1] + x[i] ** 2
    return a.sum()


def flattened_and_written(m: Any) -> Any:
    flat_view = m.ravel()
    flat_view[1] = 7.0
    return np.sum(m * m) + np.sum(flat_view)


def running_total(x: Any) -> Any:
    total = 0.0
    for v in x:
        total += v * abs(v)
    return total


def softmax_loss(p: Any, x: Any, y: Any) -> Any:
    h = np.tanh(x @ p["w"][0] + p["b"]) @ p["w"][1]
    m = np.max(h, axis=1, keepdims=True)
    lse = np.log(np.sum(np.exp(h - m), axis=1, keepdims=True)) + m
    return (np.sum(lse) - np.sum(h * y)) / x.shape[0]


PARAMETERS = {
    "w": [np.linspace(-1, 1, 6).reshape(3, 2), np.linspace(1, -0.5, 4).reshape(2, 2)],
    "b": np.array([0.1, -0.2]),
}

FOLLOWED: dict[str, tuple[Any, ...]] = {
    "number": (lambda x: x * x - 3 / x, 3.0),
    "NumPy number": (lambda x: np.sin(x) ** 3 - x**0.5, np.float64(0.7)),
    "Rosenbrock": (lambda x: np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2), X),
    "means": (lambda x: np.mean(x * x) + x.var() * np.std(x**3), X),
    "joined": (lambda x: np.sum(np.stack([x, 2 * x]) * np.concatenate([x, x]).reshape(2, 3)), X),
    "array of numbers": (lambda x: np.sum(np.array([x[0], 2 * x[1]]) ** 3), X),
    "choices": (lambda x: np.sum(np.where(x > 0, x**2, -x) + np.clip(x, -1, 1.5)), X),
    "shapes": (lambda m: np.sum(m.T.reshape(-1)[::2] * m.shape[0]) + np.trace(m @ m), M),
    "linear algebra": (lambda m: np.sum(np.linalg.solve(m, X)) + np.linalg.det(m), M),
    "column order": (lambda m: np.sum(m.T @ m * m), np.asfortranarray(M)),
    "by integers": (lambda x: np.sum(x[np.array([0, 2, 2])] ** 2) + x[-1] * x[True][0, 0], X),
    "in place": (in_place, X),
    "views": (through_views, X),
    "copies": (a_copy_apart, X),
    "filled": (filled, X),
    "flattened": (flattened_and_written, M),
    "running total": (running_total, X),
    "captured": (lambda x: np.sum(x * X) + np.float64(2.5) * x[0] + np.arange(3) @ x, X),
    "single precision inside": (lambda x: np.sum(x.astype(np.float32).astype(float) * x), X),
    "network": (
        softmax_loss,
        PARAMETERS,
        np.linspace(0, 1, 12).reshape(4, 3),
        np.eye(2)[[0, 1, 1, 0]],
    ),
    "data": (lambda x, a, n, s: np.sum(x * a) ** n * s, X, X**2, 2, 0.5),
    "tuple": (lambda p: np.sum(p[0]) * p[1] - p[1] ** 2, (X, 2.0)),
    "single precision": (
        lambda p, a: np.sum(p[0] * p[1] * a),
        (X, np.float32(2.5)),
        np.float32(0.5),
    ),
}


@pytest.mark.parametrize("name", FOLLOWED)
def test_a_course_taken_again_is_followed_and_its_program_gives_the_gradient(
    name: str, seen: Seen
) -> None:
    f, *arguments = FOLLOWED[name]
    expected = walked(f, *arguments)
    prepared = dk.prepare(f, *arguments).value_and_gradient(*arguments)
    dk.value_and_gradient(f, *arguments)
    seen.programs = seen.left = 0
    assert_same(dk.value_and_gradient(f, *arguments), expected)
    assert_same(dk.value_and_gradient(f, *arguments), prepared)
    assert (seen.programs, seen.left) == (2, 0)


@pytest.mark.parametrize("name", FOLLOWED)
def test_a_program_serves_other_numbers(name: str, seen: Seen) -> None:
    f, x, *data = FOLLOWED[name]
    dk.value_and_gradient(f, x, *data)

    def moved(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: moved(member) for key, member in value.items()}
        if isinstance(value, (list, tuple)):
            return type(value)(map(moved, value))
        if isinstance(value, np.ndarray):
            return value * 1.1
        return type(value)(value * 1.1) if isinstance(value, (float, np.floating)) else value

    there = [moved(x), *map(moved, data)]
    found = dk.value_and_gradient(f, *there)
    assert seen.programs == 1
    assert_same(found, walked(f, *there))


def test_a_gradient_is_compiled_only_when_its_course_was_taken_often(
    monkeypatch: pytest.MonkeyPatch, seen: Seen
) -> None:
    def made() -> Callable[[Any], Any]:
        return lambda x: x * x * 3  # the same code each time, another function

    monkeypatch.setattr(known, "FIRST_LOOKED_AT", 3)
    monkeypatch.setattr(known, "WORTH_COMPILING", 5)
    for _ in range(7):
        dk.gradient(made(), 2.0)
    assert seen.programs == 0
    assert dk.gradient(made(), 2.0) == 12.0
    assert seen.programs == 1


# ---------------------------------------------------------------------- what tells courses apart


def differs(f: Callable[[Any], Any], g: Callable[[Any], Any], x: Any = X) -> None:
    """Two functions with one code: the program for one must not serve for the other."""
    expected = [walked(f, x), walked(g, x)]
    for _ in range(3):
        assert_same(dk.value_and_gradient(f, x), expected[0])
        assert_same(dk.value_and_gradient(g, x), expected[1])


def with_constant(c: Any) -> Callable[[Any], Any]:
    return lambda x: np.sum(x * x * c) + 1.0


@pytest.mark.parametrize(
    ("a", "b"),
    [(2, 3), (2, 2.5), (2.0, 3.0), (np.float64(2), np.float64(3)), (X, X + 1), (X, M), (1, True)],
)
def test_constants_count_as_they_are(a: Any, b: Any) -> None:
    differs(with_constant(a), with_constant(b))


def test_the_sign_of_a_constant_zero_counts() -> None:
    def towards(c: float) -> Callable[[Any], Any]:
        return lambda x: x * np.copysign(2.0, x * 0 + c) + 1.0

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # copysign is a tie there
        differs(towards(0.0), towards(-0.0), 3.0)


def test_whole_and_floating_numbers_are_told_apart() -> None:
    def power(n: Any) -> Callable[[Any], Any]:
        return lambda x: (x - 5.0) ** n

    differs(power(2), power(2.0), 3.0)
    differs(power(np.float64(2)), power(np.float64(3)), 3.0)


def test_static_arguments_count() -> None:
    def total(axis: Any, keepdims: bool) -> Callable[[Any], Any]:
        return lambda m: np.sum(np.sum(m * m, axis=axis, keepdims=keepdims) ** 2 * X[:2].sum())

    differs(total(0, False), total(1, False), M)
    differs(total(0, False), total(0, True), M)
    differs(total((0, 1), False), total(None, False), M)


def test_indices_count() -> None:
    def entry(index: Any) -> Callable[[Any], Any]:
        return lambda m: np.sum(m[index] ** 2) + 1.0

    indices = [0, 1, True, np.array([0, 1]), np.array([1, 1]), slice(1), slice(None, None, 2)]
    indices += [
        (0, 1),
        (1, 0),
        (slice(1), 0),
        (Ellipsis, 1),
        (None, 1),
        [0, 1],
        np.array([True] * 3),
    ]
    expected = [walked(entry(index), M) for index in indices]
    for _ in range(3):
        for index, result in zip(indices, expected, strict=True):
            assert_same(dk.value_and_gradient(entry(index), M), result)


def test_shapes_dtypes_and_orders_count(seen: Seen) -> None:
    def f(m: Any) -> Any:
        return np.sum(m.ravel() ** 3) * m.T.ravel()[1]

    points = [M, M[:2], np.asfortranarray(M), M[:, :2], M[::2], np.broadcast_to(X, (3, 3))]
    expected = [walked(f, m) for m in points]
    for _ in range(3):
        for m, result in zip(points, expected, strict=True):
            assert_same(dk.value_and_gradient(f, m), result)
    assert dk.gradient(f, M.astype(np.float32)).dtype == np.float32
    assert seen.programs


def test_structures_count() -> None:
    def f(p: Any) -> Any:
        a, b = p.values() if isinstance(p, dict) else p
        return np.sum(a * a) + np.prod(b)

    points = [[X, X + 1], (X, X + 1), {"a": X, "b": X + 1}, {"b": X, "a": X + 1}]
    expected = [walked(f, p) for p in points]
    for _ in range(3):
        for p, result in zip(points, expected, strict=True):
            found = dk.value_and_gradient(f, p)
            assert_same(found, result)
            assert list(found[1]) == list(p) if isinstance(p, dict) else True


def test_operands_count() -> None:
    def product(i: int, j: int) -> Callable[[Any], Any]:
        return lambda p: np.sum(p[i] @ p[j])

    differs(product(0, 1), product(1, 0), [M, M + 1])
    differs(lambda x: x[0] - x[1] * 2.0, lambda x: x[1] - x[0] * 2.0)


def test_a_branch_on_a_value_is_taken_afresh(seen: Seen) -> None:
    def f(x: Any) -> Any:
        while x < 10:
            x = x * x
        return np.sin(x) if x > 100 else 3.0 * x

    points = [11.0, 2.0, 3.5, 5.0, 200.0]
    expected = [walked(f, x) for x in points]
    for _ in range(3):
        for x, result in zip(points, expected, strict=True):
            assert_same(dk.value_and_gradient(f, x), result)
    assert seen.programs


def test_a_value_that_is_looked_at_is_computed_and_the_course_followed_on(seen: Seen) -> None:
    def newton(x: Any) -> Any:
        y = x[0]
        while abs(y * y - x[1]) > 1e-9:
            y = (y + x[1] / y) / 2
        largest = x[np.argmax(x)]
        return y * largest + np.sum(x[x > 0])

    x = np.array([1.0, 2.0, -3.0])
    expected = walked(newton, x)
    for _ in range(3):
        assert_same(dk.value_and_gradient(newton, x), expected)
    assert (seen.programs, seen.left) == (2, 0)


def test_a_branch_on_data_is_taken_afresh() -> None:
    def f(x: Any, training: bool) -> Any:
        return np.sum(x * x) if training else np.sum(x)

    for _ in range(3):
        assert dk.gradient(f, X, True).tolist() == (2 * X).tolist()
        assert dk.gradient(f, X, False).tolist() == [1.0] * 3


def test_an_array_counts_as_it_was_at_each_use(seen: Seen) -> None:
    buffer = np.ones(3)

    def f(x: Any) -> Any:
        first = np.sum(x * buffer)
        buffer[:] = 2.0
        second = np.sum(x * buffer)
        buffer[:] = 1.0
        return first + 10 * second + np.sum(x * buffer)

    for _ in range(3):
        assert dk.gradient(f, X).tolist() == [22.0] * 3
    buffer[:] = 1.0
    assert seen.programs == 2


def test_what_changes_outside_counts() -> None:
    state = {"scale": 2.0, "array": X.copy()}

    def f(x: Any) -> Any:
        return np.sum(x * state["array"]) * state["scale"]

    for scale in (2.0, 3.0, np.float64(4.0), 5):
        state["scale"] = scale
        for _ in range(3):
            state["array"] = state["array"] + 1
            assert_same(dk.value_and_gradient(f, X), walked(f, X))


# ---------------------------------------------------------------------- hard places


def test_ties_are_seen_by_a_program(seen: Seen) -> None:
    def f(x: Any) -> Any:
        return np.sum(np.maximum(x, 0.0)) + np.max(x) + 1.0

    for _ in range(3):
        assert dk.gradient(f, X).tolist() == [1.0, 0.0, 2.0]
    assert seen.programs == 2
    with pytest.warns(KinkWarning):
        assert dk.gradient(f, np.array([0.0, -1.0, 2.0])).tolist() == [0.5, 0.0, 2.0]


def test_what_is_not_finite_is_refused_by_a_program(seen: Seen) -> None:
    def f(x: Any) -> Any:
        return np.sum(np.sqrt(x)) + 1.0

    for _ in range(3):
        dk.gradient(f, np.ones(3))
    assert seen.programs == 2
    with pytest.raises(NonFiniteDerivative) as refusal:
        dk.gradient(f, np.array([1.0, 0.0, 4.0]))
    assert refusal.value.value[2] == 0.25
    assert dk.gradient(f, np.ones(3)).tolist() == [0.5] * 3


def test_an_untaken_branch_that_is_not_finite_does_not_count() -> None:
    def f(x: Any) -> Any:
        return np.sum(np.where(x > 0, np.log(np.where(x > 0, x, 1.0)), x)) + 3.0

    with np.errstate(all="ignore"):
        for x in (X + 4, X + 4, X, np.array([-1.0, -2.0, 1e-300])):
            assert_same(dk.value_and_gradient(f, x), walked(f, x))


def test_a_program_that_keeps_declining_is_given_up(seen: Seen) -> None:
    def f(x: Any) -> Any:
        return np.maximum(x, 1.0) - np.maximum(-x, -1.0) + 1.0  # x + 2

    assert dk.gradient(f, 2.0) == 1.0
    for _ in range(known.MOST_TRUST):
        assert dk.gradient(f, 1.0) == 1.0
    (courses,) = KNOWN._places.values()
    assert [course.program for course in courses.courses] == [None]
    assert dk.gradient(f, 2.0) == 1.0
    assert seen.programs == 0


def test_what_the_tracer_does_not_see_is_refused_all_the_same() -> None:
    asks = [False]

    def f(x: Any) -> Any:
        if asks[0] and isinstance(x, np.floating):
            return x * x
        return 3.0 * x

    for _ in range(3):
        assert dk.gradient(f, 2.5) == 3.0
    asks[0] = True
    with pytest.raises(TracingError, match="when traced"):
        dk.gradient(f, 2.5)


def test_a_value_that_leaves_the_graph_is_refused_all_the_same() -> None:
    leaves = [False]

    def f(x: Any) -> Any:
        y = x * x
        return float(y) * x if leaves[0] else y * x

    for _ in range(3):
        assert dk.gradient(f, 2.0) == 12.0
    leaves[0] = True
    with pytest.raises(TracingError, match=r"test_unprepared_courses\.py"):
        dk.gradient(f, 2.0)


def test_a_refusal_that_the_function_swallows_is_raised_all_the_same() -> None:
    tries = [False]

    def f(x: Any) -> Any:
        if tries[0]:
            with suppress(TracingError):
                float(x)
        return x * x

    for _ in range(3):
        dk.gradient(f, 2.0)
    tries[0] = True
    with pytest.raises(TracingError):
        dk.gradient(f, 2.0)


def test_an_error_that_the_function_handles_is_handled_where_it_is_raised() -> None:
    def f(m: Any) -> Any:
        try:
            return np.sum(np.linalg.cholesky(m))
        except np.linalg.LinAlgError:
            return np.sum(m * m)

    positive, negative = np.eye(3) * 4, -np.eye(3)
    for m in (positive, positive, negative, positive, negative, negative):
        assert_same(dk.value_and_gradient(f, m), walked(f, m))


def test_a_traced_value_kept_outside_is_refused_when_used_again() -> None:
    kept: list[Any] = []

    def f(x: Any) -> Any:
        kept.append(x * 2.0)
        return x * x

    for _ in range(3):
        dk.gradient(f, 2.0)
    assert kept[0] == 4.0  # of the plain call
    with pytest.raises(TracingError, match="after the function"):
        kept[-1] * 2.0


def test_values_may_be_looked_at(capsys: pytest.CaptureFixture[str]) -> None:
    looks = [False]

    def f(x: Any) -> Any:
        y = np.exp(x)
        if looks[0]:
            print(y)
        return np.sum(y * x)

    for _ in range(3):
        expected = dk.gradient(f, X)
    looks[0] = True
    assert np.array_equal(dk.gradient(f, X), expected)
    plain, traced = capsys.readouterr().out.splitlines()
    assert str(eval(traced, {"Traced": np.asarray, "array": np.array})) == plain  # to 8 digits


# ---------------------------------------------------------------------- together


def test_gradients_inside_gradients(seen: Seen) -> None:
    def descent(x: Any) -> Any:
        y = 0.1
        for _ in range(4):
            y = y - 0.25 * dk.gradient(lambda z: (z - 2.0) ** 2 + np.cos(z), y)
        for _ in range(4):
            x = x - 0.25 * dk.gradient(lambda z: (z - y) ** 2 + np.cos(z) * z, x)
        return x * y

    expected = walked(descent, 0.3)
    for _ in range(4):
        assert_same(dk.value_and_gradient(descent, 0.3), expected)
    assert seen.programs
    inner = dk.gradient(lambda x: x * dk.gradient(lambda y: x * y * y, 3.0), 2.0)
    assert inner == dk.gradient(lambda x: x * dk.gradient(lambda y: x * y * y, 3.0), 2.0) == 24.0


def test_second_derivatives_see_no_program() -> None:
    def f(x: Any) -> Any:
        return np.sum(x**3) * x[0]

    hessian = dk.hessian(f, X)
    for _ in range(3):
        dk.gradient(f, X)
        assert np.array_equal(dk.hessian(f, X), hessian)


def test_several_threads_may_ask_at_once() -> None:
    def f(x: Any, a: Any) -> Any:
        return np.sum(np.tanh(a @ x) ** 2)

    expected = {k: walked(f, X * k, M) for k in range(1, 5)}
    wrong: list[int] = []

    def work(k: int) -> None:
        for _ in range(60):
            value, gradient = dk.value_and_gradient(f, X * k, M)
            same = np.allclose(gradient, expected[k][1], rtol=1e-13, atol=0)
            if value != expected[k][0] or not same:
                wrong.append(k)

    in_threads(work, expected)
    assert not wrong


def test_a_function_may_use_threads() -> None:
    def f(x: Any) -> Any:
        parts: list[Any] = [None] * 4

        def work(k: int) -> None:
            part = x
            for i in range(20):
                part = part * 1.01 + (k * np.ones(2))[i % 2]
            parts[k] = part

        in_threads(work, range(4))
        return parts[0] + parts[1] + parts[2] + parts[3]

    for _ in range(20):
        assert dk.gradient(f, 2.0) == pytest.approx(4 * 1.01**20, rel=1e-13)


def test_a_result_is_an_array_of_its_own() -> None:
    def f(x: Any) -> Any:
        return np.sum(x) * 2.0

    x = X.copy()
    results = [dk.gradient(f, x) for _ in range(4)]
    results[-1][:] = 0.0
    results.append(dk.gradient(f, x))
    assert [r.tolist() for r in results] == [[2.0] * 3] * 3 + [[0.0] * 3, [2.0] * 3]
    assert x.tolist() == X.tolist()


# ---------------------------------------------------------------------- memory


def differentiated_by_itself() -> list[weakref.ref[Any]]:
    """References to the arrays that a function was differentiated with."""
    captured, x, data = np.ones((7, 3)), X.copy(), np.ones(7)

    def f(x: Any, data: Any) -> Any:
        return np.sum((captured @ x + data) ** 2)

    for _ in range(4):
        gradient = dk.gradient(f, x, data)
    return [weakref.ref(array) for array in (captured, x, data, gradient)]


def test_no_array_is_kept_alive(seen: Seen) -> None:
    references = differentiated_by_itself()
    gc.collect()
    assert seen.programs == 3
    assert [reference() for reference in references] == [None] * 4


def test_a_function_keeps_few_courses(seen: Seen) -> None:
    def times(n: int) -> Callable[[Any], Any]:
        return lambda x: x**n * 2.0

    for n in range(3, 40):
        assert dk.gradient(times(n), 1.0) == 2.0 * n
    (courses,) = KNOWN._places.values()
    assert len(courses.courses) <= known.MOST_COURSES
    for n in range(3, 40):
        assert dk.gradient(times(n), 1.0) == 2.0 * n


def test_few_functions_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known, "MOST_PLACES", 4)

    def f(x: Any) -> Any:
        return np.sum(x * x)

    for often in (1, 3):
        for n in range(1, 30):
            for _ in range(often):
                assert dk.gradient(f, np.ones(n)).tolist() == [2.0] * n
            assert len(KNOWN._places) <= 4


def test_what_is_kept_is_small(monkeypatch: pytest.MonkeyPatch, seen: Seen) -> None:
    monkeypatch.setattr(known, "MOST_STEPS", 100)

    def long(n: int) -> Callable[[Any], Any]:
        def f(x: Any) -> Any:
            for _ in range(30):
                x = np.sin(x) * 1.01
            return np.sum(x)

        f.__code__ = f.__code__.replace(co_name=f"f{n}")
        return f

    functions = [long(n) for n in range(6)]
    for f in functions:
        dk.gradient(f, X)
    assert sum(courses.size for courses in KNOWN._places.values()) <= 1
    monkeypatch.setattr(known, "LARGEST", 1000)
    seen.programs = 0
    for _ in range(4):
        dk.gradient(lambda x: np.sum(x * x), np.ones(200))
    assert seen.programs == 0


# ---------------------------------------------------------------------- at random

constants = st.sampled_from([2, 2.0, 0.5, -1.0, 3, np.float64(1.5), X, X[::-1]])
operations = st.tuples(
    st.sampled_from(["+", "-", "*", "r*", "/", "**", "sin", "max", "sum", "index", "write", "T"]),
    constants,
    st.integers(0, 3),
)


def computed(program: list[tuple[str, Any, int]], x: Any) -> Any:
    """A random function: operations on values computed before."""
    values = [x]
    for name, c, k in program:
        v = values[k % len(values)]
        if name in ("+", "-", "*", "/"):
            v = {"+": v + c, "-": v - c, "*": v * c, "/": v / (c * c + 1.0)}[name]
        elif name == "r*":
            v = c * v
        elif name == "**":
            v = (v * v + 1.0) ** (c if isinstance(c, (int, float)) else 2)
        elif name == "sin":
            v = np.sin(v)
        elif name == "max":
            v = v * (np.max(v) + 0.25)
        elif name == "sum":
            v = v + np.sum(v, axis=-1, keepdims=bool(k % 2))
        elif name == "index":
            v = v[k % 3] * values[0]
        elif name == "write":
            v = v.copy()
            v[k % 3 :] *= 0.5
        else:
            v = v.T.reshape(-1)
        values.append(v / 4)
    return np.sum(values[-1]) + 2.0 * np.sum(values[len(values) // 2]) + 0.1


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(operations, min_size=1, max_size=5), min_size=2, max_size=4))
def test_random_functions_with_one_code(programs: list[list[tuple[str, Any, int]]]) -> None:
    functions = [lambda x, p=program: computed(p, x) for program in programs]
    points = [X, X * 1.3 + 0.1]
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        expected = [[walked(f, x) for x in points] for f in functions]
        for _ in range(2):
            for f, results in zip(functions, expected, strict=True):
                for x, result in zip(points, results, strict=True):
                    assert_same(dk.value_and_gradient(f, x), result)


# ---------------------------------------------------------------------- scripts themselves


def script_of_square() -> Script:
    """The script of `x * x + 1.0`: x, its square, the number, the sum."""
    graph = trace(lambda x: x * x + 1.0, 3.0)
    keys = keys_of(graph.nodes, set())
    assert keys is not None
    return script_of(graph.nodes, keys, graph.inputs, graph.outputs[0])


def test_a_trace_that_follows_a_script_computes_nothing_until_somebody_looks() -> None:
    script = script_of_square()
    with Trace(False, script) as following:
        x = following.input(np.float64(2.0))
        y = x * x + 1.0
        assert (y.shape, y.dtype, y.size, following.nodes) == ((), np.float64, 1, [])
        assert y.value == 5.0
        assert following.is_followed
        assert following.nodes == []
    assert following.values_given(script.given) == [2.0]
    assert [node.value for node in (y.node, x.node)] == [5.0, 2.0]
    assert not following.is_followed


def test_a_trace_that_leaves_its_script_has_all_that_was_done() -> None:
    with Trace(False, script_of_square()) as leaving:
        x = leaving.input(np.float64(2.0))
        y = x * x
        z = y + 3.0
        again = y * 1.0 + z + 3.0
    assert again.value == 14.0
    names = [node.primitive.name if node.primitive else node.value for node in leaving.nodes]
    assert names == [2.0, "multiply", 3.0, "add", 1.0, "multiply", "add", "add"]
    assert [node.index for node in leaving.nodes] == list(range(8))
    assert y.node is leaving.nodes[1]


def test_a_place_promised_to_a_thread_is_kept_though_another_left_the_script() -> None:
    script = script_of_square()
    with Trace(False, script) as leaving:
        x = leaving.input(np.float64(2.0))
        promised = foretold(Traced, leaving, 3)
        y = x + x
    assert promised.value == 5.0
    assert y.value == 4.0
    assert [node.index for node in leaving.nodes] == list(range(len(leaving.nodes)))


def test_a_place_is_given_one_value_only() -> None:
    with Trace(False, script_of_square()) as following:
        following.input(np.float64(2.0))
        following.count = 0  # as where two threads come at once
        other = following.input(np.float64(7.0))
    assert other.value == 7.0
    assert not following.is_followed


def test_what_cannot_be_known_again_has_no_keys() -> None:
    class Odd:
        pass

    def keys(f: Callable[[Any], Any], x: Any = X) -> Any:
        return keys_of(trace(f, x).nodes, set())

    big = np.arange(2000) % 3
    assert keys(lambda x: np.sum(x[[0, 1]])) is not None
    assert keys(lambda x: np.sum(x[big] * x[0])) is None
    unknown = operation_key(INDEX, [0], {"index": Odd()})
    assert unknown is operation_key(INDEX, [1], {"index": big})
    assert unknown not in keys(lambda x: np.sum(x[0] * x[1:]))
