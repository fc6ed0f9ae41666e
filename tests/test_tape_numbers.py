"""Compiled gradients of functions of single numbers, and numbers among arrays."""

from __future__ import annotations

import ast
import itertools
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_tape_compiled import agrees
from test_tape_programs import compiled

import diffkit as dk
from diffkit.backends.tape.scalars import (
    FUNCTIONS,
    SAME_IN_PYTHON,
    level_needed,
    level_of,
    reads_once,
)
from diffkit.errors import KinkWarning

OPERATIONS = sorted({*SAME_IN_PYTHON, *FUNCTIONS})
ARGUMENTS = ["a", "b", "c"]


def text_of(name: str, arguments: list[str]) -> str:
    template = SAME_IN_PYTHON.get(name, f"{name}({{0}}, {{1}})")
    return template.format(*arguments)


@pytest.mark.parametrize("reader", OPERATIONS)
def test_an_expression_within_another_has_the_brackets_that_it_needs(reader: str) -> None:
    checked = 0
    for inner, k in itertools.product(OPERATIONS, range(3)):
        if not reads_once(reader, k):
            continue
        text = text_of(inner, ["x", "y", "z"])
        bare = level_of(inner) >= level_needed(reader, k)
        arguments = [*ARGUMENTS[:k], text if bare else f"({text})", *ARGUMENTS[k + 1 :]]
        bracketed = [*ARGUMENTS[:k], f"({text})", *ARGUMENTS[k + 1 :]]
        found, expected = (
            ast.parse(text_of(reader, a), mode="eval") for a in (arguments, bracketed)
        )
        assert ast.dump(found) == ast.dump(expected), ast.unparse(found)
        checked += 1
    assert checked or reader in ("square", "maximum", "minimum", "sign")


def test_what_is_read_once_is_written_where_it_is_read() -> None:
    def f(p: Any) -> Any:
        return p[0] * p[0] - 3.0 * (p[1] - p[2] / 7.0)

    source = agrees(f, np.array([0.5, 0.25, 2.0]), np.array([1.5, -0.25, 1.0]))
    assert re.search(r"v\d+ = v\d+ \* v\d+ - 3\.0 \* \(v\d+ - v\d+ / 7\.0\)  # line", source)


def test_a_long_expression_goes_over_several_lines() -> None:
    def f(p: Any) -> Any:
        total = p[1]
        for k in range(60):
            total = total * 0.5 - (p[0] + k) * p[1]
        return total

    source = agrees(f, np.array([0.5, 2.0]), np.array([0.25, 3.0]))
    lines = [line for line in source.splitlines() if "# line" in line]
    assert len(lines) < 120
    assert max(map(len, lines)) < 160


def test_each_line_of_the_source_belongs_to_one_line_of_the_function() -> None:
    def f(p: Any) -> Any:
        a = p[0] * 3.0
        b = a - p[1]
        return b * p[0]

    source = agrees(f, np.array([0.5, 2.0]))
    first = f.__code__.co_firstlineno
    for line in (first + 1, first + 2, first + 3):
        assert f"# line {line}" in source


def test_a_branch_sees_the_numbers_as_they_are() -> None:
    def f(p: Any) -> Any:
        s = p[0] * p[1] - (p[1] - p[0])
        return s * 2.0 if s * 0.1 + 0.2 == s / 10 + 0.2 else s * 3.0

    p = np.array([0.3, 0.7])
    prepared = compiled(f, p)
    for x in (p, np.array([0.1, 0.3]), np.array([7.0, 1.1])):
        np.testing.assert_array_equal(prepared.gradient(x), dk.gradient(f, x))


def test_an_untaken_choice_need_not_have_a_value() -> None:
    def f(p: Any) -> Any:
        return np.where(p[0] > 0, p[1], 1.0 / p[0]) * p[1]

    prepared = compiled(f, np.array([0.5, 3.0]))
    assert prepared.gradient(np.array([2.0, 3.0])).tolist() == [0.0, 6.0]
    assert prepared.gradient(np.array([-2.0, 3.0])).tolist() == [-0.75, -0.5]


def aligned(p: Any) -> Any:
    """The cost of the best alignment of two sequences, by dynamic programming."""
    wanted, before = [0.3, -0.2, 0.9], [0.0, 9.0, 9.0, 9.0]
    for v in p:
        row = [9.0]
        for j, w in enumerate(wanted):
            least = np.minimum(np.minimum(before[j], before[j + 1]), row[j])
            row.append((v - w) ** 2 + least)
        before = row
    return before[-1]


NUMBERS: dict[str, Any] = {
    "absolute": lambda p: abs(p[0] * p[1]) * p[2] + np.sign(p[1] - 3) * p[0],
    "largest": lambda p: np.maximum(p[0] * p[1], 0) * p[2] - np.minimum(p[2], 1) * p[1],
    "choice": lambda p: np.where(p[0] * p[1] > 0.2, p[0] * p[2], p[1]) * p[0],
    "power": lambda p: np.power(p[0] * p[1], p[2]) * p[0] + p[1] ** -2,
    "functions": lambda p: np.tanh(p[0]) * np.exp2(p[1]) + np.logaddexp(p[0] * p[2], p[1]),
    "angles": lambda p: np.degrees(p[0] * p[1]) * np.radians(p[2]),
    "negative constants": lambda p: -2.0 * p[0] * p[1] - (p[1] + -3.0) * -p[2] / -0.5,
}


@pytest.mark.parametrize("name", NUMBERS)
def test_functions_of_numbers_are_computed_by_python_alone(name: str) -> None:
    points = np.array([[0.4, 0.7, 1.3], [0.9, 0.2, 0.6], [1.7, 1.1, 0.3]])
    source = agrees(NUMBERS[name], *points)
    body = [line for line in source.splitlines() if "# line" in line or "# adjoint" in line]
    called = {found for line in body for found in re.findall(r"([a-z]\w*)\(", line)}
    assert all(f in ("item", "tolist", "abs", "array", "reshape") or f[:2] == "m_" for f in called)


def test_choices_among_numbers_in_a_loop_are_python_s() -> None:
    source = agrees(aligned, np.array([0.4, 0.7, 1.3]), np.array([0.45, 0.65, 1.2]))
    assert not re.search(r"where\(|minimum\(|astype", source)


def test_where_numbers_tie_the_general_way_is_taken() -> None:
    def f(p: Any) -> Any:
        return np.minimum(p[0] * p[1], p[2]) * p[0]

    prepared = compiled(f, np.array([0.4, 0.7, 1.3]))
    with pytest.warns(KinkWarning):
        assert prepared.gradient(np.array([1.0, 2.0, 2.0])).tolist() == [3.0, 0.5, 0.5]


LEAVES = st.sampled_from(["p[0]", "p[1]", "p[2]", "2.0", "0.5"])
EXPRESSIONS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from("+-*/"), inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})"),
        inner.map(lambda e: f"(-{e})"),
        inner.map(lambda e: f"np.tanh({e})"),
        inner.map(lambda e: f"abs({e})"),
    ),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None)
@given(EXPRESSIONS)
def test_values_of_expressions_are_those_of_numpy(text: str) -> None:
    namespace: dict[str, Any] = {"np": np}
    exec(f"def f(p):\n    return p[0] + 0.001 * {text}", namespace)
    f, p = namespace["f"], np.array([0.7, -1.3, 2.1])
    with np.errstate(all="ignore"):
        value = f(p)
    if not np.isfinite(value):
        return
    try:
        expected = dk.prepare(f, p).value_and_gradient(p)
    except dk.DiffkitError:
        return
    prepared = dk.prepare(f, p)
    for _ in range(3):
        found = prepared.value_and_gradient(p)
        assert found[0] == pytest.approx(expected[0], rel=1e-14)
        np.testing.assert_allclose(found[1], expected[1], rtol=1e-12, atol=1e-13)


# ---------------------------------------------------------------------- among arrays


def test_numbers_among_arrays_are_handed_over_in_arrays_of_their_own() -> None:
    def f(x: Any) -> Any:
        return np.sum((2.0 - x) ** 2 / (3 * x[0]))

    source = agrees(f, np.linspace(1, 2, 5), np.linspace(2, 1, 5))
    assert "subtract(n" in source
    assert "[()] = v" in source


def test_whole_numbers_among_whole_numbers_stay_whole() -> None:
    def f(x: Any) -> Any:
        order = np.argsort(x)
        return np.sum(x[(order + 1) % 3] * x**2)

    agrees(f, np.array([0.5, 2.0, 1.0]))


def test_numbers_among_single_precision_leave_it_single() -> None:
    x = np.array([0.5, 2.0, 1.0], np.float32)
    prepared = compiled(lambda x: np.sum(2.0 * x * x), x)
    assert prepared.gradient(x).dtype == np.float32
    assert prepared.gradient(x).tolist() == [2.0, 8.0, 4.0]


def test_integers_that_a_ufunc_wants_whole_stay_whole() -> None:
    agrees(lambda x: np.sum(np.ldexp(x, 3) * x), np.array([0.5, 2.0]))


def test_choices_become_numbers_by_their_bytes() -> None:
    def f(m: Any) -> Any:
        kept = np.maximum(m, 0.0)
        return np.sum(kept * kept @ np.ones(40))

    m = np.random.default_rng(3).normal(size=(30, 40))
    assert "= bytes" in agrees(f, m, -m)


# ---------------------------------------------------------------------- as NumPy has it


def same_as_at_first(f: Any, x: Any, *points: Any) -> None:
    """What a compiled gradient gives, in value and dtype, is what the first one gives there."""
    prepared = compiled(f, x)
    for point in (x, *points):
        value, gradient = prepared.value_and_gradient(point)
        expected = dk.prepare(f, point).value_and_gradient(point)
        assert value == pytest.approx(expected[0], rel=1e-12)
        np.testing.assert_allclose(gradient, expected[1], rtol=1e-12)


def test_the_sum_and_the_product_of_truths_are_truths() -> None:
    points = np.array([[0.5, 0.7, 1.3], [-0.5, 0.7, 1.3], [-0.5, -0.7, 1.3]])
    x = np.array([-0.5, 0.7, 1.3])
    same_as_at_first(lambda p: ((p[0] > 0) + (p[1] > 0)) * p[2] * p[0], x, *points)
    same_as_at_first(lambda p: ((p[0] > 0) * (p[1] > 0) + (p[0] > 0)) * p[2] * p[0], x, *points)
    same_as_at_first(lambda p: ((p[0] > 0) + True) * p[2] * p[0], x, *points)
    same_as_at_first(lambda p: (True + (p[0] > 0) * (p[1] > 0)) * p[2] * p[0], x, *points)


def test_a_truth_can_be_indexed_and_cast() -> None:
    points = np.array([[0.5, 0.7, 1.3], [-0.5, 0.7, 1.3]])
    same_as_at_first(lambda p: (p[0] > 0)[()] * p[2] * p[0], *points)
    same_as_at_first(lambda p: np.sum((p[0] > 0)[None] * p[2:] * p[0]), *points)
    same_as_at_first(lambda p: (p[0] > 0).astype(int) * p[2] * p[0], *points)


def test_the_cube_root_of_27_ties_with_3() -> None:
    def f(p: Any) -> Any:
        return np.maximum(np.cbrt(p[0]), 3.0) * p[1]

    prepared = compiled(f, np.array([1.0, 2.0]))
    with pytest.warns(KinkWarning):
        prepared.gradient(np.array([27.0, 2.0]))


def test_a_choice_by_an_infinite_sum_of_exponentials() -> None:
    def f(p: Any) -> Any:
        least = -p[0] * 1e20
        return np.where(np.logaddexp(least, least) < 0, p[1], p[2]) * p[2]

    x, far = np.array([2.0, 0.7, 1.3]), np.array([1e300, 0.7, 1.3])
    assert compiled(f, x).gradient(far).tolist() == pytest.approx([0.0, 1.3, 0.7])


@pytest.mark.parametrize("steep", [-400.0, -700.0, -250.0])
def test_numbers_that_underflow_on_the_way_into_an_array_are_noticed(steep: float) -> None:
    far, x = np.array([steep, 0.7, 1.3]), np.array([0.5, 0.7, 1.3])
    value = 1 / (1 + np.exp(-steep))
    gradient = compiled(lambda p: 1 / (1 + np.exp(-p[0])), x).gradient(far)
    np.testing.assert_allclose(gradient, [value, 0, 0], rtol=1e-12)
    shifted = np.array([steep, 0.0, 0.0])
    gradient = compiled(lambda p: 1 / (1 + np.exp(-np.sum(p))), x).gradient(shifted)
    np.testing.assert_allclose(gradient, np.full(3, value), rtol=1e-12)


def test_parameters_may_be_thousands_of_numbers() -> None:
    x = [0.5 + k / 2000 for k in range(2000)]
    prepared = compiled(lambda p: sum(u * u for u in p), x)
    assert prepared.gradient(x) == [2 * u for u in x]
