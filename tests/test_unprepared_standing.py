"""Gradients without preparation of one function that is called again and again.

Where all that it depends on is watched, its gradient is compiled and it is only run plain. Whatever
changes outside it must show at once; what cannot be watched is never compiled this way.
"""

from __future__ import annotations

import builtins
import functools
import gc
import importlib
import itertools
import math
import pickle
import random
import sys
import threading
import tracemalloc
import types
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from scipy import special
from test_unprepared_courses import FOLLOWED, X, assert_same, walked

import diffkit as dk
from diffkit.backends.tape import known, once, standing
from diffkit.backends.tape.entry import compiled
from diffkit.backends.tape.known import KNOWN
from diffkit.backends.tape.standing import Standing, standing_of
from diffkit.errors import InvalidInput, KinkWarning, NonFiniteDerivative, TracingError
from diffkit.tracing.determined import is_determined

Function = Callable[..., Any]
SCALE = 2.0
NUMBERS = [1.0, 2.0, 3.0]


class Seen:
    """Counts the gradients that programs gave."""

    def __init__(self) -> None:
        self.programs = 0


@pytest.fixture(autouse=True)
def seen(monkeypatch: pytest.MonkeyPatch) -> Iterator[Seen]:
    """Compile a function at its first gradient."""
    monkeypatch.setattr(known, "WORTH_COMPILING", 1)
    monkeypatch.setattr(known, "FIRST_LOOKED_AT", 1)
    counts = Seen()
    found = Standing.value_and_gradient

    def counted(self: Standing, *arguments: Any) -> Any:
        result = found(self, *arguments)
        counts.programs += result is not None
        return result

    monkeypatch.setattr(Standing, "value_and_gradient", counted)
    KNOWN.clear()
    yield counts
    KNOWN.clear()


def moved(value: Any, factor: float) -> Any:
    """Numbers near the given ones."""
    if isinstance(value, dict):
        return {key: moved(member, factor) for key, member in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(moved(member, factor) for member in value)
    if isinstance(value, (np.ndarray, float, np.floating)):
        scaled = value * factor
        return scaled if isinstance(value, np.ndarray) else type(value)(scaled)
    return value


def again(f: Function) -> Function:
    """The same code as a function of its own, with which nothing is kept."""
    return type(f)(f.__code__, f.__globals__, f.__name__, f.__defaults__, f.__closure__)  # type: ignore[attr-defined,no-any-return]


@pytest.mark.parametrize("name", FOLLOWED)
def test_a_program_gives_the_gradient_at_other_points(name: str, seen: Seen) -> None:
    f, x, *data = FOLLOWED[name]
    points = [moved((x, *data), factor) for factor in (1.0, 1.1, 0.9)]
    expected = [walked(again(f), *point) for point in points]
    f = again(f)
    dk.value_and_gradient(f, x, *data)
    for point, result in zip(points, expected, strict=True):
        assert_same(dk.value_and_gradient(f, *point), result)
    assert seen.programs == 3


# ---------------------------------------------------------------------- what changes outside


def test_a_captured_number_counts_as_it_is(seen: Seen) -> None:
    c = 2.0

    def f(x: Any) -> Any:
        return c * x * x

    for _ in range(3):
        assert dk.gradient(f, 3.0) == 12.0
    c = 3.0
    for _ in range(3):
        assert dk.gradient(f, 3.0) == 18.0
    assert seen.programs == 4


def test_a_change_that_leaves_the_value_alone_counts() -> None:
    power = 2

    def f(x: Any) -> Any:
        return x**power

    for power in (2, 3, 2, 5):
        for _ in range(3):
            assert dk.gradient(f, 1.0) == power


@pytest.mark.parametrize("change", ["written into", "member", "global", "default", "key"])
def test_whatever_else_changes_counts(change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    array, settings = np.ones(3), {"n": [2.0], "m": 1.0}

    def f(x: Any, d: float = 2.0) -> Any:
        return np.sum(array * x) * settings["n"][0] * SCALE * d * settings["m"]

    for _ in range(3):
        assert dk.gradient(f, X).tolist() == [8.0] * 3
    if change == "written into":
        array[...] = 3.0
    elif change == "member":
        settings["n"][0] = 6.0
    elif change == "key":
        settings["m"] = 3.0
    elif change == "global":
        monkeypatch.setitem(globals(), "SCALE", 6.0)
    else:
        f.__defaults__ = (6.0,)
    for _ in range(3):
        assert dk.gradient(f, X).tolist() == [24.0] * 3


def helper(x: Any) -> Any:
    return np.sum(x * x)


def test_a_function_that_it_calls_may_be_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    def f(x: Any) -> Any:
        return helper(x) + 1.0

    for _ in range(3):
        assert dk.gradient(f, X).tolist() == (2 * X).tolist()
    monkeypatch.setitem(globals(), "helper", lambda x: np.sum(x**3))
    for _ in range(3):
        np.testing.assert_allclose(dk.gradient(f, X), 3 * X**2, rtol=1e-15)


def test_a_builtin_may_be_hidden_by_a_global(monkeypatch: pytest.MonkeyPatch) -> None:
    def f(x: Any) -> Any:
        return max([x[0], x[1]]) + 2.0

    x = np.array([1.0, 2.0])
    prepared = dk.prepare(f, x)
    for _ in range(5):
        assert dk.gradient(f, x).tolist() == prepared.gradient(x).tolist() == [0.0, 1.0]
    monkeypatch.setitem(globals(), "max", lambda pair: pair[0] + 1.0)  # the same value
    assert dk.gradient(f, x).tolist() == prepared.gradient(x).tolist() == [1.0, 0.0]


ONES = np.ones(3)
"""Where a power has the same value whatever the exponent, so that only the watches tell."""


def powers(f: Function, *arguments: Any) -> list[float]:
    """The exponent of a power at ones, by three gradients in a row."""
    found = [dk.gradient(f, *(arguments or (ONES,))) for _ in range(3)]
    return [float(gradient[0]) for gradient in found]


@pytest.mark.parametrize("wrapped", [np.sin, np.linalg.norm, functools.reduce, dk.gradient])
def test_a_wrapper_is_watched_whatever_it_wraps(wrapped: Any, seen: Seen) -> None:
    """It has the name of the other's module, which may be a library's."""
    exponent = 2

    @functools.wraps(wrapped)
    def wrapper(x: Any, factor: float = 1.0) -> Any:
        return np.sum(x**exponent) * factor

    def f(x: Any) -> Any:
        return wrapper(x)

    assert powers(f) == [2.0] * 3
    exponent = 3
    assert powers(f) == [3.0] * 3
    wrapper.__defaults__ = (4.0,)  # type: ignore[attr-defined]
    assert powers(f) == [12.0] * 3
    assert seen.programs == 6


def test_what_hides_in_a_frozen_set_is_watched(seen: Seen) -> None:
    exponent = 2

    def raised(x: Any) -> Any:
        return x**exponent

    functions = frozenset({raised})

    def f(x: Any) -> Any:
        return np.sum(next(iter(functions))(x))

    assert powers(f) == [2.0] * 3
    exponent = 3
    assert powers(f) == [3.0] * 3
    assert seen.programs == 4


def test_a_module_of_the_user_may_be_called_as_one_of_the_standard_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seen: Seen
) -> None:
    (tmp_path / "code.py").write_text("P = 2\ndef f(x):\n    return (x**P).sum()\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "code", raising=False)
    code: Any = importlib.import_module("code")
    monkeypatch.setitem(sys.modules, "code", code)
    prepared = dk.prepare(code.f, ONES)
    assert powers(code.f) == powers(prepared.target.f) == [2.0] * 3
    code.P = 3
    assert powers(code.f) == [3.0] * 3
    assert prepared.gradient(ONES).tolist() == [3.0] * 3
    assert seen.programs > 0


def test_builtins_may_be_added_to_and_replaced(monkeypatch: pytest.MonkeyPatch, seen: Seen) -> None:
    def f(x: Any) -> Any:
        return np.sum(x ** max([exponent]))  # type: ignore[name-defined]  # noqa: F821

    monkeypatch.setattr(builtins, "exponent", 2, raising=False)
    assert powers(f) == [2.0] * 3
    monkeypatch.setattr(builtins, "exponent", 3)
    assert powers(f) == [3.0] * 3
    found = max

    def other(*arguments: Any, **options: Any) -> Any:
        return 5 if arguments == ([3],) else found(*arguments, **options)

    assert seen.programs == 4
    monkeypatch.setattr(builtins, "max", other)
    assert powers(f) == [5.0] * 3


@pytest.mark.parametrize("kind", ["record", "builtins"])
def test_what_changes_counts_for_prepared_functions_as_well(kind: str) -> None:
    table = np.full(2, 2.0, [("exponent", float)])
    record = table[0]
    own: dict[str, Any] = {"max": lambda x: (x**2).sum()}

    def f(x: Any) -> Any:
        return np.sum(x ** record["exponent"])

    if kind == "builtins":
        names: dict[str, Any] = {"__builtins__": own}
        exec("def f(x): return max(x)", names)
        f = names["f"]
    prepared = dk.prepare(f, ONES)
    for _ in range(5):
        assert prepared.gradient(ONES).tolist() == dk.gradient(f, ONES).tolist() == [2.0] * 3
    table["exponent"] = 3.0
    own["max"] = lambda x: (x**3).sum()
    assert prepared.gradient(ONES).tolist() == dk.gradient(f, ONES).tolist() == [3.0] * 3


def test_a_large_integer_is_compared_without_being_written_out() -> None:
    large = 10**5000

    def f(x: Any) -> Any:
        return np.sum(x ** (2 if large > 5 else 3))

    assert powers(f) == [2.0] * 3
    large = 10**5000
    assert powers(f) == [2.0] * 3
    large = -(10**5000)
    assert powers(f) == [3.0] * 3


class Pair(NamedTuple):
    mean: Any
    std: Any

    def norm(self) -> Any:
        return np.sum(self.mean ** int(SCALE)) + self.std


class Key:
    exp = 2


def test_methods_that_come_with_an_argument_are_not_watched_and_so_nothing_is_kept(
    monkeypatch: pytest.MonkeyPatch, seen: Seen
) -> None:
    def f(pair: Any) -> Any:
        return pair.norm()

    def g(x: Any, settings: Any) -> Any:
        return np.sum(x ** next(iter(settings)).exp)

    pair, key = Pair(ONES, 1.0), Key()
    assert dk.gradient(f, pair).mean.tolist() == [2.0] * 3
    assert dk.gradient(f, pair).mean.tolist() == [2.0] * 3
    assert powers(g, ONES, {key: 1.0}) == [2.0] * 3
    monkeypatch.setitem(globals(), "SCALE", 3.0)
    monkeypatch.setattr(Key, "exp", 3)
    assert dk.gradient(f, pair).mean.tolist() == [3.0] * 3
    assert powers(g, ONES, {key: 1.0}) == [3.0] * 3
    assert seen.programs == 0


def test_keys_that_are_equal_and_yet_differ_are_told_apart() -> None:
    def f(x: Any, weights: Any) -> Any:
        return np.sum(x ** len(str(next(iter(weights)))))

    for key in (1, True, 1.0, 1):
        assert powers(f, ONES, {key: 1.0}) == [float(len(str(key)))] * 3


def test_a_function_that_is_called_under_ever_new_conditions_is_left_to_its_course(
    seen: Seen,
) -> None:
    step = 0

    def f(x: Any) -> Any:
        return x * x * step

    for step in range(1, 12):
        for _ in range(3):
            assert dk.gradient(f, 2.0) == 4.0 * step
    standing = standing_of(f)
    assert standing is not None
    assert standing.is_given_up
    assert seen.programs == 6


# ---------------------------------------------------------------------- guards


def test_branches_and_loops_are_guarded(seen: Seen) -> None:
    def f(x: Any) -> Any:
        while x < 10:
            x = x * x
        return np.sin(x) if x > 100 else 3.0 * x

    points = [11.0, 2.0, 3.5, 5.0, 200.0]
    expected = [walked(again(f), x) for x in points]
    for _ in range(3):
        for x, result in zip(points, expected, strict=True):
            assert_same(dk.value_and_gradient(f, x), result)
    assert seen.programs == 11  # the five points have four courses


def test_the_value_of_the_plain_function_decides() -> None:
    def f(x: Any) -> Any:
        return 5.0 * x[0] if isinstance(x, np.ndarray) and x[0] > 3 else np.sum(x)

    for _ in range(3):
        assert dk.gradient(f, X).tolist() == [1.0] * 3
    with pytest.raises(TracingError, match="type of its argument"):
        dk.gradient(f, np.array([4.0, 1.0, 1.0]))


def test_ties_warn_as_ever(seen: Seen) -> None:
    def f(x: Any) -> Any:
        return np.sum(np.maximum(x, 0.0)) + 1.0

    for _ in range(3):
        assert dk.gradient(f, X).tolist() == [1.0, 0.0, 1.0]
    assert seen.programs == 2
    with pytest.warns(KinkWarning):
        assert dk.gradient(f, np.array([0.0, -1.0, 2.0])).tolist() == [0.5, 0.0, 1.0]


def test_bad_points_are_refused_as_ever(seen: Seen) -> None:
    def f(x: Any) -> Any:
        return np.sum(np.sqrt(x)) + 1.0

    for _ in range(3):
        dk.gradient(f, np.ones(3))
    assert seen.programs == 2
    with pytest.raises(NonFiniteDerivative):
        dk.gradient(f, np.array([1.0, 0.0, 4.0]))
    with pytest.raises(InvalidInput, match=r"x\[1\] is not finite"):
        dk.gradient(f, np.array([1.0, np.nan, 4.0]))
    with pytest.raises(InvalidInput, match="complex"):
        dk.gradient(f, np.ones(3) * 1j)
    assert dk.gradient(f, np.ones(2)).tolist() == [0.5, 0.5]
    assert dk.gradient(f, [1.0, 4.0])[1] == 0.25


def test_an_error_is_raised_only_where_the_function_raises_it_for_the_user() -> None:
    left = [1.0] * 2

    def f(x: Any) -> Any:
        return left.pop() * x

    assert dk.gradient(f, 2.0) == 1.0  # the plain run and the traced one
    with pytest.raises(IndexError):
        dk.gradient(f, 2.0)


def test_what_is_fixed_among_the_data_counts() -> None:
    def f(x: Any, n: Any, scale: Any) -> Any:
        return np.sum(x**n) * (scale or 1.0)

    for n, scale in [(2, None), (3, None), (2, 2.0), (2.0, 1)]:
        for _ in range(3):
            expected = n * X ** (n - 1) * (scale or 1.0)
            np.testing.assert_allclose(dk.gradient(f, X, n, scale), expected, rtol=1e-14)


def test_a_function_among_the_data_is_not_watched_and_so_nothing_is_kept(seen: Seen) -> None:
    def f(x: Any, g: Any) -> Any:
        return np.sum(g(x))

    for _ in range(3):
        assert dk.gradient(f, X, np.square).tolist() == (2 * X).tolist()
    assert seen.programs == 0


# ---------------------------------------------------------------------- arguments


def test_what_the_function_writes_into_its_arguments_stays_there() -> None:
    def f(x: Any, a: Any) -> Any:
        x[0] = 3.0
        return np.sum(x * x * a)

    x, a = X.copy(), np.ones(3)
    for _ in range(3):
        assert dk.gradient(f, x, a).tolist() == [0.0, -2.5, 4.0]
    assert x.tolist() == X.tolist()


def test_data_must_not_be_written_into(seen: Seen) -> None:
    def f(x: Any, a: Any, n: Any) -> Any:
        for i in range(int(n[0])):
            a[i] = 0.0
        return np.sum(x * a)

    for _ in range(3):
        dk.gradient(f, X, np.ones(3), np.zeros(1))
    assert seen.programs == 2
    with pytest.raises(InvalidInput, match="writes into one of its data arguments"):
        dk.gradient(f, X, np.ones(3), np.ones(1))


@pytest.mark.parametrize("kept", [True, False])
def test_single_precision_stays_single(
    kept: bool, seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not kept:
        monkeypatch.setattr(known, "stand", lambda target: None)

    def f(w: Any, a: Any) -> Any:
        return np.mean(np.tanh(a @ w) ** 2) * 0.5

    w, a = np.float32([0.5, -0.25]), np.float32([[1.0, 2.0], [-3.0, 0.5], [0.1, 0.2]])
    expected = dk.prepare(f, w, a).value_and_gradient(w, a)
    for _ in range(4):
        value, gradient = dk.value_and_gradient(f, w, a)
        assert (type(value), gradient.dtype) == (np.float32, np.float32)
        assert value == expected[0]
        np.testing.assert_allclose(gradient, expected[1], rtol=1e-6)
    assert seen.programs == (3 if kept else 0)


def test_results_are_new_and_of_the_kind_of_the_point(seen: Seen) -> None:
    def f(p: Any) -> Any:
        return np.sum(p["a"]) * p["b"] + p["c"][0] ** 2

    p = {"a": X, "b": 2.0, "c": (np.float32(3.0),)}
    results = [dk.gradient(f, p) for _ in range(3)]
    assert seen.programs == 2
    assert [type(value) for value in results[2].values()] == [np.ndarray, np.float64, tuple]
    assert type(results[2]["c"][0]) is np.float32
    results[1]["a"][...] = 7.0
    assert results[2]["a"].tolist() == [2.0] * 3
    assert p["a"] is X


# ---------------------------------------------------------------------- where it is kept


def test_it_goes_when_the_function_goes(seen: Seen) -> None:
    captured = X.copy()

    def made(a: Any) -> Function:
        def recursive(x: Any, n: int) -> Any:
            return np.sum(a * x) if n == 0 else recursive(x * a, n - 1)

        return lambda x: recursive(x, 2)

    f = made(captured)
    for _ in range(3):
        dk.gradient(f, X)
    assert seen.programs == 2
    there = weakref.ref(captured)
    del f, captured
    gc.collect()
    assert there() is None


def test_copies_of_a_function_do_not_share_what_is_kept_with_it(seen: Seen) -> None:
    def f(x: Any) -> Any:
        return x * x

    for _ in range(2):
        dk.gradient(f, 3.0)

    @functools.wraps(f)
    def g(x: Any) -> Any:
        return f(x) * x

    assert standing_of(f) is not None
    assert standing_of(g) is None
    assert [dk.gradient(g, 3.0) for _ in range(3)] == [27.0] * 3


def test_what_is_kept_can_be_sent_along_with_a_function_and_leaves_its_programs_behind() -> None:
    for _ in range(2):
        dk.gradient(helper, X)
    kept = standing_of(helper)
    assert kept is not None
    assert kept.bytes > 0
    sent = pickle.loads(pickle.dumps(kept))
    assert (sent.f, sent.bytes) == (helper, 0)


def test_the_table_of_what_is_known_bounds_what_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known, "MOST_BYTES", 1 << 14)

    def made(n: int) -> Function:
        return lambda x: np.sum(x[:n] ** 2) + 1.0

    functions = [made(n) for n in range(1, 6)]
    for f, n in zip(functions, range(600, 606), strict=False):
        for _ in range(2):
            dk.gradient(f, np.ones(n))
    kept = [standing.bytes for standing in map(standing_of, functions) if standing is not None]
    assert len(kept) == 5
    assert kept[0] == 0
    assert 0 < sum(kept) <= 1 << 14
    assert dk.gradient(functions[0], np.ones(2)).tolist() == [2.0, 0.0]


def test_several_threads_may_call_one_function() -> None:
    def f(x: Any) -> Any:
        return np.sum(np.sin(x) * x) + 1.0

    failures = []

    def work() -> None:
        for k in range(200):
            x = X + k
            ours = dk.gradient(f, x)
            if not np.allclose(ours, np.cos(x) * x + np.sin(x), rtol=1e-12, atol=1e-12):
                failures.append((x, ours))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_what_one_thread_compiles_while_another_finds_a_change_is_not_relied_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    exponent = 2

    def f(x: Any) -> Any:
        return np.sum(x**exponent)

    def interrupted(graph: Any, data: Any) -> Any:
        found = compiled(graph, data)
        monkeypatch.setattr(standing, "compiled", compiled)
        kept = standing_of(f)
        assert kept is not None
        kept.forget()
        return found

    assert powers(f) == [2.0] * 3
    standing_of(f).forget()  # type: ignore[union-attr]
    monkeypatch.setattr(standing, "compiled", interrupted)
    assert powers(f) == [2.0] * 3
    exponent = 3
    assert powers(f) == [3.0] * 3


def test_of_functions_of_the_same_code_only_those_called_very_often_have_their_own(
    monkeypatch: pytest.MonkeyPatch, seen: Seen
) -> None:
    """To compile each anew would take longer than what they share."""
    monkeypatch.setattr(once, "MANY", 5)

    def made(a: Any) -> Function:
        return lambda x: np.sum(a * x * x)

    for calls, programs in [(3, 2), (4, 2), (3, 2), (7, 4)]:
        f = made(X)
        for _ in range(calls):
            np.testing.assert_allclose(dk.gradient(f, X), 2 * X**2, rtol=1e-15)
        assert seen.programs == programs


def test_functions_of_the_same_code_are_bounded_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known, "MOST_BYTES", 1 << 16)
    monkeypatch.setattr(once, "MANY", 3)

    def made(a: Any) -> Function:
        return lambda x: np.sum(a * x)

    functions = [made(np.full(500, k)) for k in range(1, 20)]
    for f in functions:
        for _ in range(4):
            dk.gradient(f, np.ones(500))
    kept = [found.bytes for found in map(standing_of, functions) if found is not None]
    assert len(kept) == len(functions)
    assert 0 < sum(kept) <= 1 << 16
    assert kept[-1] > 0


def test_much_that_is_hardly_used_is_not_watched(seen: Seen) -> None:
    table, entries = np.ones((1 << 18, 2)), [float(k) for k in range(10_000)]

    def of_table(x: Any) -> Any:
        return np.sum(table[:2] @ x)

    def of_entries(x: Any) -> Any:
        return np.sum(x * entries[3])

    tracemalloc.start()
    for _ in range(3):
        assert dk.gradient(of_table, np.ones(2)).tolist() == [2.0] * 2
        assert dk.gradient(of_entries, np.ones(2)).tolist() == [3.0] * 2
    assert tracemalloc.get_traced_memory()[1] < table.nbytes
    tracemalloc.stop()
    assert seen.programs == 0


# ---------------------------------------------------------------------- what can be watched

GENERATOR = np.random.default_rng(0)
STATE = itertools.count()


class Model:
    factor = 2.0

    def __call__(self, x: Any) -> Any:
        return x * self.factor


MODEL = Model()
OBJECTS = np.array([MODEL], object)
ABSOLUTE = np.frompyfunc(abs, 1, 1)


def counting() -> Function:
    calls = 0

    def f(x: Any) -> Any:
        nonlocal calls
        calls += 1
        return x * calls

    return f


def accumulating(x: Any) -> Any:
    total = 0.0

    def add(v: Any) -> None:
        nonlocal total
        total = total + v

    for v in x:
        add(v * v)
    return total


def attempting(x: Any) -> Any:
    try:
        return 1 / x
    except ZeroDivisionError:
        return x


def under_conditions(x: Any) -> Any:
    with np.errstate(all="raise"):
        return np.exp(x)


def importing(x: Any) -> Any:
    import time

    return x * time.time()


def marked(x: Any) -> Any:
    marked.calls = 1  # type: ignore[attr-defined]
    return x


def minors(m: Any) -> Any:
    if len(m) == 1:
        return m[0, 0]
    rest = [np.delete(m[1:], j, axis=1) for j in range(len(m))]
    return sum((-1) ** j * m[0, j] * minors(rest[j]) for j in range(len(m)))


FIXED: dict[str, Function] = {
    "NumPy": lambda x: np.linalg.det(x) + np.fft.rfft(x[0]).real.sum() + np.logaddexp.reduce(x[0]),
    "SciPy": lambda x: special.gammaln(x) * special.expit(x),
    "math": lambda x: math.sqrt(2.0) * x + math.pi,
    "recursion": minors,
    "variables of an outer function": accumulating,
    "arrays, lists": lambda x: X @ x + NUMBERS[0] * sum(v for v in x),
    "methods": lambda x: x.T.sum(axis=0, keepdims=True)[0].max(),
}


class Number(np.float64):
    def dot(self, x: Any) -> Any:
        return x * MODEL.factor


def with_builtins_of_its_own() -> Function:
    names: dict[str, Any] = {"__builtins__": {"max": random.uniform}}
    exec("def f(x): return max(x, 1.0)", names)
    function: Function = names["f"]
    return function


def with_globals_of_its_own() -> Function:
    class Names(dict[str, Any]):
        def __getitem__(self, name: str) -> Any:
            return random.random()

    return types.FunctionType((lambda x: x * SCALE).__code__, Names(SCALE=2.0))


def matching(x: Any) -> Any:
    match VIEW:
        case np.ndarray(base=np.ndarray() as base):
            return x * base[0]
    return x


def called_as_outside() -> Function:
    c = 2.0

    def f(x: Any) -> Any:
        nonlocal c
        later = [lambda: c for c in (1.0, 2.0)]  # noqa: B023
        c = c + 1
        return x * later[0]() * c

    return f


NUMBER = Number(2.0)
RECORD = np.ones((), [("exponent", float)])[()]
VIEW = X[:0]
TEXT = "{.base[0]}"
MEMMAP = np.memmap
MATH = types.ModuleType("math")
BOUND = slice(0, np.array(2))
LARGE = np.ones(100)

OPEN: dict[str, Function] = {
    "a random generator": lambda x: x * GENERATOR.normal(),
    "random numbers of NumPy": lambda x: x * np.random.default_rng().normal(),
    "random numbers of Python": lambda x: x * random.random(),
    "an iterator": lambda x: x * next(STATE),
    "an object": lambda x: MODEL(x),
    "an attribute": lambda x: x * MODEL.factor,
    "a variable that it changes": counting(),
    "a handler of errors": attempting,
    "a context": under_conditions,
    "an import": importing,
    "an attribute that it sets": marked,
    "an unknown name": lambda x: x * unknown,  # type: ignore[name-defined]  # noqa: F821
    "memory": lambda x: np.frombuffer(X.data)[0] * x,
    "a ufunc of Python": lambda x: ABSOLUTE(x),
    "a computed name": lambda x: getattr(np, "random").rand() * x,  # noqa: B009
    "objects in an array": lambda x: OBJECTS[0](x),
    "a number with methods": lambda x: NUMBER.dot(x),
    "a record": lambda x: x ** RECORD["exponent"],
    "memory by a text": lambda x: x * float(TEXT.format(VIEW)),
    "memory by a pattern": matching,
    "a module by its name": lambda x: x * MATH.pi,
    "an array in a slice": lambda x: np.sum(x[BOUND]),
    "builtins of its own": with_builtins_of_its_own(),
    "globals of its own": with_globals_of_its_own(),
    "a variable that it changes, called as one of its own": called_as_outside(),
    "a file": lambda x: x * MEMMAP("numbers")[0],
}


@pytest.mark.parametrize("name", FIXED)
def test_functions_of_numbers_are_determined(name: str) -> None:
    assert is_determined(FIXED[name])  # type: ignore[arg-type]


@pytest.mark.parametrize("name", OPEN)
def test_what_cannot_be_watched_is_found(name: str) -> None:
    assert not is_determined(OPEN[name])  # type: ignore[arg-type]


def test_much_is_not_watched() -> None:
    assert is_determined(lambda x: LARGE[0] * x, LARGE.nbytes)  # type: ignore[arg-type]
    assert not is_determined(lambda x: LARGE[0] * x, LARGE.nbytes - 1)  # type: ignore[arg-type]


def test_what_cannot_be_watched_is_never_kept(seen: Seen) -> None:
    values = itertools.cycle([2.0, 3.0])

    def f(x: Any) -> Any:
        return x * x * MODEL.factor

    for value in itertools.islice(values, 12):
        MODEL.factor = value
        assert dk.gradient(f, 3.0) == 6.0 * value
    assert seen.programs == 0


def test_methods_and_objects_are_left_to_their_courses(seen: Seen) -> None:
    model = Model()
    for factor in (2.0, 3.0, 4.0):
        model.factor = factor
        for _ in range(3):
            assert dk.gradient(model, 3.0) == factor
            assert dk.gradient(functools.partial(np.multiply, factor), 3.0) == factor
    assert seen.programs == 0
