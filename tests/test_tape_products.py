"""Hessian times vector as one program, and products with many directions in one sweep."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scenarios import SCENARIOS, Scenario
from test_scenarios import elsewhere, is_number, vector
from test_tape_programs import STEPS, loss, network, program_of

import diffkit as dk
from diffkit.backends.tape.products import product_plan
from diffkit.errors import InvalidInput, KinkWarning, UnsupportedOperation
from diffkit.tracing import trace

RNG = np.random.default_rng(7)
SCALAR = [
    s for s in SCENARIOS if s.hessian and is_number(s.f(copy.deepcopy(s.x), *s.data))
]  # whose Hessian is written by hand


def compiled(f: Any, x: Any, v: Any, *data: Any) -> Any:
    """A prepared function whose Hessian product has been asked for often enough."""
    prepared = dk.prepare(f, x, *data)
    for _ in range(2):
        prepared.hvp(x, v, *data)
    assert prepared.source("hvp").startswith("def program(x, data):")
    return prepared


def direction(x: Any) -> Any:
    if isinstance(x, dict):
        return {key: direction(member) for key, member in x.items()}
    if isinstance(x, (list, tuple)):
        return type(x)([direction(member) for member in x])
    return RNG.normal(size=np.shape(x)) if np.ndim(x) else RNG.normal()


def assert_close(found: Any, expected: Any, rtol: float = 1e-13) -> None:
    found, expected = vector(found), vector(expected)
    scale = np.max(np.abs(expected), initial=1e-300)
    np.testing.assert_allclose(found, expected, rtol=0, atol=rtol * scale)


@pytest.mark.parametrize("scenario", SCALAR, ids=lambda s: s.name)
def test_a_program_gives_the_hessian_times_the_tangent(scenario: Scenario) -> None:
    s = scenario
    if "tape" in s.refusals:
        return
    prepared = compiled(s.f, s.x, s.tangent, *s.data)
    for x in (s.x, elsewhere(s.x), s.x):
        v = s.tangent
        value, product = prepared.hvp(x, v, *s.data, value=True)
        eps = np.finfo(np.asarray(value).dtype).eps
        assert value == pytest.approx(s.f(copy.deepcopy(x), *s.data), rel=8 * eps)
        assert_close(product, dk.hvp(s.f, x, v, *s.data), rtol=32 * eps)


NETWORK = network()


def softmax_of_mask(x: Any) -> Any:
    """Among others with a mask of the largest entries, which no step can let go of."""
    z = x - np.max(x)
    return np.sum(np.exp(z)) + np.sum(np.where(x == np.max(x), x**3, x**2))


CURVED: list[tuple[str, Callable[..., Any], Any, tuple[Any, ...]]] = [
    ("network with a shifted softmax", loss, NETWORK[0], NETWORK[1:]),
    ("mask of the largest", softmax_of_mask, RNG.normal(size=5), ()),
    ("rectified", lambda x: np.sum(np.maximum(x, 0) ** 3), RNG.normal(size=6), ()),
    ("sorted", lambda x: np.sum(np.sort(x) ** 3 * np.arange(1.0, 5.0)), RNG.normal(size=4), ()),
    ("a number", lambda x: np.sin(x) * x**3, 0.7, ()),
    ("numbers by name", lambda p: p["a"] ** 2 * np.exp(p["b"]), {"a": 0.5, "b": 0.25}, ()),
    ("linear", lambda x: np.sum(3 * x), RNG.normal(size=3), ()),
    ("by one of two", lambda p: p[0] @ p[0] + 0.0 * p[1], [RNG.normal(size=3), 2.0], ()),
    ("a determinant", np.linalg.det, RNG.normal(size=(3, 3)), ()),
    ("a matrix norm", lambda x: np.sum((x @ x.T) ** 2), RNG.normal(size=(2, 3)), ()),
    ("a trajectory", lambda x: math.prod(np.sin(x + k) for k in range(9)), 0.3, ()),
    ("a product", np.prod, np.array([0.0, 2.0, 3.0]), ()),
]


@pytest.mark.parametrize(("name", "f", "x", "data"), CURVED, ids=[c[0] for c in CURVED])
def test_it_is_linear_symmetric_and_that_of_the_general_way(
    name: str, f: Any, x: Any, data: Any
) -> None:
    u, v = direction(x), direction(x)
    prepared = compiled(f, x, u, *data)
    Hu, Hv = (vector(prepared.hvp(x, d, *data)) for d in (u, v))
    assert_close(Hu, dk.hvp(f, x, u, *data))
    assert_close([vector(u) @ Hv], [vector(v) @ Hu], rtol=1e-11)


def test_a_program_serves_points_on_its_own_course_and_no_other() -> None:
    def f(x: Any) -> Any:
        return np.sum(x**3) if x[0] > 0 else np.sum(x**4)

    prepared = compiled(f, np.array([1.0, 2.0]), np.ones(2))
    assert prepared.hvp(np.array([2.0, 1.0]), np.ones(2)).tolist() == [12.0, 6.0]
    assert prepared.hvp(np.array([-2.0, 1.0]), np.ones(2)).tolist() == [48.0, 12.0]


def test_at_a_tie_the_program_declines() -> None:
    prepared = compiled(lambda x: np.sum(np.abs(x)), np.ones(2), np.ones(2))
    with pytest.warns(KinkWarning):
        prepared.hvp(np.array([0.0, 1.0]), np.ones(2))


@pytest.mark.parametrize("bad", [np.array([np.nan, 1.0]), np.ones(3), np.inf, {"x": 1.0}])
def test_a_direction_that_is_none_is_refused_by_the_program_too(bad: Any) -> None:
    prepared = compiled(lambda x: np.sum(x[:1] ** 2 + 0 * x[1:]), np.ones(2), np.ones(2))
    with pytest.raises(InvalidInput):
        prepared.hvp(np.ones(2), bad)


def test_directions_of_other_kinds_count_as_ever() -> None:
    prepared = compiled(lambda x: np.sum(x**3), np.ones(2), np.ones(2))
    assert prepared.hvp(np.ones(2), np.array([1, 2])).tolist() == [6.0, 12.0]
    number = compiled(lambda x: x**3, 2.0, 1.0)
    assert [number.hvp(2.0, v) for v in (1.0, np.float64(1), 1, np.array(1.0))] == [12.0] * 4
    assert type(number.hvp(2.0, 1.0)) is np.float64


def test_the_value_of_a_gradient_that_is_not_asked_for_is_not_computed() -> None:
    X = RNG.normal(size=(7, 4))
    prepared = compiled(lambda W: np.sum(np.tanh(X @ W)), np.ones((4, 3)), np.ones((4, 3)))
    products = [line for line in prepared.source("hvp").split("\n") if ".dot(v" in line]
    assert len(products) == 3  # X @ W, X @ V and X.T @ adjoint: not X.T @ slope


def test_products_of_matrices_are_computed_as_they_are_read() -> None:
    """Rows that lie apart would cost several times as much to add to others."""
    X = RNG.normal(size=(7, 4))

    def f(p: Any) -> Any:
        return np.sum(np.tanh(np.tanh(X @ p["W"]) @ p["V"]) ** 2)

    p = {"W": RNG.normal(size=(4, 3)), "V": RNG.normal(size=(3, 2))}
    plan = product_plan(trace(f, p))
    read = [i for step in plan.steps for i in step.inputs]
    for step in plan.steps:
        if step.primitive is not None and step.primitive.name == "transpose":
            source = plan.steps[step.inputs[0]].primitive
            alone = read.count(step.inputs[0]) == 1
            assert not (alone and source is not None and source.name == "matmul")


def test_the_source_names_the_users_lines() -> None:
    def f(x: Any) -> Any:
        y = np.sin(x)
        return np.sum(y * x)

    line = f.__code__.co_firstlineno
    source = compiled(f, np.ones(3), np.ones(3)).source("hvp")
    for expected in (f"# line {line + 1}", f"# adjoint of line {line + 1}"):
        assert expected in source


def test_a_source_is_there_once_it_is_compiled() -> None:
    prepared = dk.prepare(lambda x: x * x, 2.0)
    with pytest.raises(UnsupportedOperation, match="no hvp of"):
        prepared.source("hvp")
    with pytest.raises(InvalidInput, match="of='jvp'"):
        prepared.source("jvp")


@given(st.lists(st.sampled_from(sorted(STEPS)), min_size=1, max_size=6), st.integers(0, 99))
def test_random_programs_agree_with_the_general_way(names: list[str], seed: int) -> None:
    f = program_of(names)
    rng = np.random.default_rng(seed)
    x, v = rng.normal(size=4), rng.normal(size=4)
    prepared = compiled(f, x, v)
    for point in (x, rng.normal(size=4)):
        expected = dk.hvp(f, point, v)
        scale = np.max(np.abs(expected)) + np.max(np.abs(prepared.gradient(point))) + 1
        np.testing.assert_allclose(prepared.hvp(point, v), expected, rtol=1e-11, atol=1e-13 * scale)


# ---------------------------------------------------------------------- many directions

FIELDS: list[tuple[str, Callable[..., Any], Any]] = [
    ("a vector", lambda x: np.tanh(x[::-1]) * x[0], RNG.normal(size=4)),
    ("by name", lambda p: {"y": p["a"] * p["b"], "z": np.sum(p["a"])}, {"a": np.ones(3), "b": 2.0}),
    ("a number", lambda x: np.stack([np.sin(x), x**2]), 0.5),
    ("a dropped infinity", lambda x: np.where(x > 0, np.sqrt(x), 1.0), np.array([0.0, 4.0])),
    ("smooth at a tie", lambda x: np.maximum(x, 0) - np.maximum(-x, 0), np.array([0.0, 1.0])),
]


def several(x: Any, count: int) -> Any:
    if isinstance(x, dict):
        return {key: several(member, count) for key, member in x.items()}
    return RNG.normal(size=(count, *np.shape(x)))


def nth(x: Any, i: int) -> Any:
    return {key: nth(member, i) for key, member in x.items()} if isinstance(x, dict) else x[i]


@pytest.mark.filterwarnings("ignore::diffkit.errors.KinkWarning")
@pytest.mark.parametrize("count", [1, 3, 7, 40])
@pytest.mark.parametrize(("name", "f", "x"), FIELDS, ids=[c[0] for c in FIELDS])
def test_products_with_many_are_those_with_each(name: str, f: Any, x: Any, count: int) -> None:
    prepared = dk.prepare(f, x)
    tangents, cotangents = several(x, count), several(prepared.value(x), count)
    for operator, batch in (("jvp", tangents), ("vjp", cotangents)):
        product = getattr(prepared, operator)
        value, together = product(x, batch, batched=True, value=True)
        assert_close(value, f(x))
        for i in range(count):
            assert_close(nth(together, i), product(x, nth(batch, i)))


@pytest.mark.parametrize("count", [1, 3, 7, 40])
@pytest.mark.parametrize("calls", [1, 3])
def test_hessian_products_with_many_are_those_with_each(count: int, calls: int) -> None:
    p, X, y = NETWORK
    prepared = dk.prepare(loss, p, X, y)
    V = several(p, count)
    for _ in range(calls):
        value, together = prepared.hvp(p, V, X, y, batched=True, value=True)
    assert value == pytest.approx(loss(p, X, y))
    for i in range(count):
        assert_close(nth(together, i), dk.hvp(loss, p, nth(V, i), X, y), rtol=1e-12)


def test_directions_by_name_come_in_any_order() -> None:
    x = {"a": np.ones(2), "b": np.array([3.0, 4.0])}
    V = {"b": np.eye(2), "a": np.zeros((2, 2))}
    pushed = dk.jvp(lambda p: p["a"] + 2 * p["b"], x, V, batched=True)
    assert pushed.tolist() == [[2.0, 0.0], [0.0, 2.0]]


def test_many_directions_inside_another_derivative() -> None:
    def f(x: Any) -> Any:
        rows = dk.jvp(lambda y: y**3, x, np.eye(8), batched=True)
        return np.sum(rows)

    assert_close(dk.gradient(f, np.arange(1.0, 9.0)), 6 * np.arange(1.0, 9.0))
