"""Compiled gradients: the same numbers as the walk, at every point, from straight-line code."""

from __future__ import annotations

import copy
import threading
from collections import namedtuple
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scenarios import SCENARIOS, Scenario
from test_scenarios import elsewhere, is_number, same_structure, vector

import diffkit as dk
from diffkit.errors import InvalidInput, NonFiniteDerivative, UnsupportedOperation

SCALAR = [s for s in SCENARIOS if is_number(s.f(copy.deepcopy(s.x), *s.data))]


def compiled(f: Any, x: Any, *data: Any) -> Any:
    """A prepared gradient that has been asked for often enough to be compiled."""
    prepared = dk.prepare(f, x, *data)
    for _ in range(2):
        prepared.gradient(x, *data)
    assert prepared.source().startswith("def program(x, data):")
    return prepared


@pytest.mark.parametrize("scenario", [s for s in SCALAR if vector(s.x).size], ids=lambda s: s.name)
def test_a_program_gives_what_the_walk_gives(scenario: Scenario) -> None:
    s = scenario
    if not np.issubdtype(np.asarray(s.f(copy.deepcopy(s.x), *s.data)).dtype, np.floating):
        pytest.fail("the scenario table promises a floating-point number")
    prepared = compiled(s.f, s.x, *s.data)
    for x in (s.x, elsewhere(s.x), s.x):
        before = copy.deepcopy(x)
        value, gradient = prepared.value_and_gradient(x, *s.data)
        expected_value, expected = dk.value_and_gradient(s.f, x, *s.data)
        same_structure(gradient, x)
        assert type(value) is type(expected_value)
        assert value == pytest.approx(expected_value, rel=8 * np.finfo(value.dtype).eps)
        scale = np.max(np.abs(vector(expected)), initial=0)
        np.testing.assert_allclose(vector(gradient), vector(expected), rtol=0, atol=4e-15 * scale)
        assert np.array_equal(vector(x), vector(before))


def loss(p: Any, X: Any, y: Any) -> Any:
    h = np.tanh(X @ p["W"] + p["b"])
    z = h @ p["V"]
    m = np.max(z, axis=1, keepdims=True)
    return np.mean(np.log(np.sum(np.exp(z - m), axis=1)) + m[:, 0] - np.sum(z * y, axis=1))


def network(seed: int = 0, rows: int = 7) -> Any:
    rng = np.random.default_rng(seed)
    p = {"W": rng.normal(size=(4, 5)), "b": rng.normal(size=5), "V": rng.normal(size=(5, 3))}
    return p, rng.normal(size=(rows, 4)), np.eye(3)[rng.integers(0, 3, rows)]


def test_every_call_computes_anew() -> None:
    p, X, y = network()
    prepared = compiled(loss, p, X, y)
    for seed in range(1, 6):
        p, X, y = network(seed)
        value, gradient = prepared.value_and_gradient(p, X, y)
        expected_value, expected = dk.value_and_gradient(loss, p, X, y)
        assert value == pytest.approx(expected_value, rel=1e-14)
        np.testing.assert_allclose(vector(gradient), vector(expected), rtol=1e-12, atol=1e-15)


def test_results_are_the_callers_to_keep_and_to_change() -> None:
    p, X, y = network()
    prepared = compiled(loss, p, X, y)
    first = prepared.gradient(p, X, y)
    kept = copy.deepcopy(first)
    prepared.gradient(*network(1))
    assert np.array_equal(vector(first), vector(kept))
    for leaf in first.values():
        leaf[:] = 0
    assert np.array_equal(vector(prepared.gradient(p, X, y)), vector(kept))
    assert not any(np.shares_memory(a, b) for a in first.values() for b in p.values())


@pytest.mark.parametrize(
    "f",
    [
        lambda x: np.sum(x),
        lambda x: np.sum(x) + np.sum(x),
        lambda x: x[0],
        lambda x: np.sum(x.reshape(2, 2).T[0] * 3),
        lambda x: x @ np.arange(4.0),
        lambda x: np.sum(np.concatenate([x, x[::-1]]) ** 2),
        lambda x: np.sum(x[1:] * x[:-1]) + np.sum(x[[0, 0, 3]] ** 2),
        lambda x: np.sum(np.cumsum(x) ** 2) + np.prod(x),
        lambda x: np.sum(np.where(x > 1.5, x**3, -x)),
        lambda x: np.sum(np.outer(x, x)[1]),
        lambda x: -(-x[0] - (-x[1])) * 4.0 * (0.5 * x[2]),
    ],
    ids=[
        "sum",
        "twice",
        "entry",
        "views",
        "dot",
        "joined",
        "slices",
        "cumsum",
        "where",
        "outer",
        "signs",
    ],
)
def test_gradients_are_arrays_of_their_own(f: Any) -> None:
    x = np.array([1.0, 2.0, 3.0, 4.0])
    prepared = compiled(f, x)
    gradient = prepared.gradient(x)
    np.testing.assert_allclose(gradient, dk.gradient(f, x), rtol=1e-15)
    assert gradient.flags.writeable
    gradient[:] = np.nan
    np.testing.assert_allclose(prepared.gradient(x), dk.gradient(f, x), rtol=1e-15)
    other = np.asfortranarray(np.linspace(0.5, 2.0, 8))[::2]
    np.testing.assert_allclose(prepared.gradient(other), dk.gradient(f, other), rtol=1e-15)


def test_a_program_declines_where_it_does_not_hold() -> None:
    def f(x: Any, factor: Any) -> Any:
        return np.sum(x**2) * factor if x[0] > 0 else np.sum(x)

    x = np.array([1.0, 2.0])
    prepared = compiled(f, x, 2.0)
    assert np.array_equal(prepared.gradient(x, 3.0), 6 * x)
    assert np.array_equal(prepared.gradient(-x, 3.0), [1.0, 1.0])
    assert np.array_equal(prepared.gradient(np.ones(3), 3.0), np.full(3, 6.0))
    assert prepared.gradient(np.ones(2, np.float32), 2.0).dtype == np.float32
    assert np.array_equal(prepared.gradient(x, 3.0), 6 * x)
    with pytest.raises(InvalidInput, match=r"x\[1\] is not finite"):
        prepared.gradient(np.array([1.0, np.nan]), 3.0)


def test_values_that_depend_on_data_alone_are_checked() -> None:
    def f(w: Any, labels: Any, count: int, kind: str) -> Any:
        return np.sum(np.eye(3)[labels] * w) * count + (1.0 if kind == "a" else np.sum(w))

    w = np.ones((2, 3))
    prepared = compiled(f, w, np.array([0, 2]), 2, "a")
    for labels, count, kind in (([0, 2], 2, "a"), ([1, 1], 2, "a"), ([0, 2], 5, "b")):
        gradient = prepared.gradient(w, np.array(labels), count, kind)
        assert np.array_equal(gradient, np.eye(3)[labels] * count + (kind == "b"))


Pair = namedtuple("Pair", "left right")


def test_structures_go_in_and_come_out() -> None:
    def f(p: Any) -> Any:
        return p["a"][0] * np.sum(p["a"][1] ** 2) + p["b"].left * p["b"].right[0]

    p = {"a": (2.0, np.array([1.0, 3.0])), "b": Pair(np.float32(0.5), [np.array(4.0)])}
    prepared = compiled(f, p)
    gradient = prepared.gradient(p)
    same_structure(gradient, p)
    assert isinstance(gradient["b"], Pair)
    assert np.array_equal(vector(gradient), [10.0, 4.0, 12.0, 4.0, 0.5])
    swapped = {"b": p["b"], "a": p["a"]}
    assert list(prepared.gradient(swapped)) == ["b", "a"]


def test_outside_state_is_checked() -> None:
    scale = 2.0

    def f(x: Any) -> Any:
        return np.sum(scale * x)

    prepared = compiled(f, np.ones(2))
    scale = 5.0
    assert np.array_equal(prepared.gradient(np.ones(2)), [5.0, 5.0])


def test_an_infinite_derivative_is_refused_as_ever() -> None:
    prepared = compiled(lambda x: np.sum(np.sqrt(x)), np.array([1.0, 4.0]))
    with pytest.raises(NonFiniteDerivative, match=r"x\[0\]"):
        prepared.gradient(np.array([0.0, 4.0]))


def test_the_source_names_the_users_lines() -> None:
    def f(x: Any) -> Any:
        y = np.sin(x)
        return np.sum(y * y)

    source = compiled(f, np.ones(3)).source()
    first = f.__code__.co_firstlineno
    assert f"# line {first + 1}" in source
    assert f"# line {first + 2}" in source
    assert "sin(" in source


def test_a_source_is_there_once_it_is_compiled() -> None:
    prepared = dk.prepare(lambda x: np.sum(x), np.ones(2))
    with pytest.raises(UnsupportedOperation, match="a second time"):
        prepared.source()


def test_programs_serve_several_threads() -> None:
    p, X, y = network()
    prepared = compiled(loss, p, X, y)
    wrong: list[Any] = []

    def work(seed: int) -> None:
        p, X, y = network(seed)
        expected = dk.gradient(loss, p, X, y)
        for _ in range(100):
            close = np.allclose(vector(prepared.gradient(p, X, y)), vector(expected), rtol=1e-12)
            wrong.extend([] if close else [seed])

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_very_long_functions_are_walked() -> None:
    def f(x: Any) -> Any:
        for _ in range(21_000):
            x = x * 1.0001
        return x

    prepared = dk.prepare(f, 1.0)
    assert len({prepared.derivative(1.0) for _ in range(3)} | {prepared.gradient(1.0)}) == 1


STEPS = {
    "sin": lambda x, y: np.sin(x), "mul": lambda x, y: x * y, "sub": lambda x, y: x - y,
    "neg": lambda x, y: -x, "half": lambda x, y: 0.5 * x, "scale": lambda x, y: -3.0 * x,
    "div": lambda x, y: x / (2 + y * y), "roll": lambda x, y: np.roll(x, 1),
    "rev": lambda x, y: x[::-1], "set": lambda x, y: _written(x, y),
    "cut": lambda x, y: np.concatenate([x[1:], y[:1]]), "max": lambda x, y: np.maximum(x, y),
    "mean": lambda x, y: x - np.mean(y), "outer": lambda x, y: np.outer(x, y)[0] + x,
    "turn": lambda x, y: (x.reshape(2, 2).T + y.reshape(2, 2)).ravel(),
}  # fmt: skip


def _written(x: Any, y: Any) -> Any:
    out = x * 1
    out[1:3] += y[:2]
    return out


def program_of(names: list[str]) -> Callable[[Any], Any]:
    """A function that takes the steps of these names, one after the other."""

    def f(x: Any) -> Any:
        y, z = x, x * 0.5
        for name in names:
            y, z = STEPS[name](y, z), y
        return np.sum(y * z)

    return f


@given(st.lists(st.sampled_from(sorted(STEPS)), min_size=1, max_size=8), st.integers(0, 99))
def test_random_programs_agree_with_the_walk(names: list[str], seed: int) -> None:
    f = program_of(names)
    rng = np.random.default_rng(seed)
    x = rng.normal(size=4)
    prepared = compiled(f, x)
    for point in (x, rng.normal(size=4)):
        expected = dk.gradient(f, point)
        scale = np.max(np.abs(expected)) + np.max(np.abs(prepared.value(point)))
        np.testing.assert_allclose(
            prepared.gradient(point), expected, rtol=1e-12, atol=1e-14 * scale
        )


def test_the_source_lists_its_constants_briefly() -> None:
    source = compiled(lambda x: np.sum(x[np.arange(40) % 7] * 3.5), np.ones((40, 3))).source()
    assert any(line.startswith("# n") and line.endswith(": 3.5") for line in source.split("\n"))
    assert any(line.startswith("# k") and line.endswith("...") for line in source.split("\n"))
    assert max(map(len, source.split("\n"))) < 400


def test_equal_keys_of_data_are_told_apart_by_their_types() -> None:
    def f(x: Any, d: Any) -> Any:
        return sum(np.sum(x * v) * (2.0 if k is True else 1.0) for k, v in d.items())

    ones = np.ones(3)
    prepared = compiled(f, ones, {1: ones})
    for key, slope in ((1, 1.0), (True, 2.0), (1.0, 1.0), (1, 1.0)):
        assert prepared.gradient(ones, {key: ones}).tolist() == [slope] * 3
    flipped = compiled(lambda d: f(ones, d), {1: ones})
    for key, slope in ((1, 1.0), (True, 2.0), (1, 1.0)):
        ((found, gradient),) = flipped.gradient({key: ones}).items()
        assert found is key
        assert gradient.tolist() == [slope] * 3


def test_a_bound_of_a_slice_may_be_an_array_without_axes() -> None:
    n, x = np.array(2), np.arange(4.0)
    captured = compiled(lambda x: np.sum(x[:n] ** 2), x)
    assert captured.gradient(x).tolist() == [0.0, 2.0, 0.0, 0.0]
    given = compiled(lambda x, n: np.sum(x[:n] ** 2), x, n)
    assert given.gradient(x, np.array(3)).tolist() == [0.0, 2.0, 4.0, 0.0]
    n[...] = 3
    assert captured.gradient(x).tolist() == [0.0, 2.0, 4.0, 0.0]
