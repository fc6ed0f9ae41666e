"""Every scenario, by every backend and every operator, prepared or not.

What an operator must return follows from the scenario's hand-written Jacobian and Hessian by
plain linear algebra, done here on one dense matrix.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from scenarios import SCENARIOS, Scenario, register_closed_forms

import diffkit as dk
from diffkit.errors import InvalidInput, InvalidOutput

register_closed_forms()

BACKENDS = ("analytic", "finite", "symbolic", "tape")
OPERATORS = (
    "derivative",
    "gradient",
    "value_and_gradient",
    "jacobian",
    "hessian",
    "jvp",
    "vjp",
    "hvp",
)
# Max-norm relative error. The three exact backends owe rounding alone; finite differences owe
# what extrapolation reaches for a first and for a second derivative.
TOLERANCE = {"analytic": 1e-13, "symbolic": 1e-12, "tape": 1e-12, "finite": 1e-9}
SECOND_ORDER = {"analytic": 1e-13, "symbolic": 1e-12, "tape": 1e-12, "finite": 1e-5}


def leaves(tree: Any) -> Iterator[np.ndarray]:
    if isinstance(tree, dict):
        tree = list(tree.values())
    if isinstance(tree, (list, tuple)):
        for member in tree:
            yield from leaves(member)
    else:
        yield np.asarray(tree)


def vector(tree: Any) -> np.ndarray:
    parts = [leaf.ravel() for leaf in leaves(tree)]
    return np.concatenate(parts) if parts else np.zeros(0)


def subtrees(tree: Any, like: Any) -> Iterator[Any]:
    """The parts of a nested result that stand at the leaves of `like`."""
    if isinstance(like, dict):
        for key in like:
            yield from subtrees(tree[key], like[key])
    elif isinstance(like, (list, tuple)):
        for part, part_like in zip(tree, like, strict=True):
            yield from subtrees(part, part_like)
    else:
        yield tree


def dense(blocks: Any, y: Any, x: Any) -> np.ndarray:
    """A Jacobian in the structure of `y`, then of `x`, as one matrix."""
    rows = []
    for y_leaf, part in zip(leaves(y), subtrees(blocks, y), strict=True):
        row = [
            np.asarray(block).reshape(y_leaf.size, x_leaf.size)
            for block, x_leaf in zip(subtrees(part, x), leaves(x), strict=True)
        ]
        rows.append(np.concatenate(row, axis=1))
    return np.concatenate(rows, axis=0)


def same_structure(result: Any, like: Any) -> None:
    if isinstance(like, dict):
        assert list(result) == list(like)
        for key in like:
            same_structure(result[key], like[key])
    elif isinstance(like, (list, tuple)):
        assert type(result) is type(like)
        assert len(result) == len(like)
        for part, part_like in zip(result, like, strict=True):
            same_structure(part, part_like)
    else:
        assert np.shape(result) == np.shape(like)
        assert np.asarray(result).dtype == np.result_type(np.asarray(like).dtype, np.float16)


def close(result: Any, expected: Any, tolerance: float) -> None:
    got, want = vector(result), vector(expected)
    assert got.shape == want.shape
    scale = max(float(np.max(np.abs(want), initial=0.0)), np.finfo(float).tiny)
    error = float(np.max(np.abs(got - want), initial=0.0))
    assert error <= tolerance * scale, f"{error / scale:.2e} relative"


def ids(scenario: Scenario) -> str:
    return scenario.name


def is_number(tree: Any) -> bool:
    return not isinstance(tree, (dict, list, tuple)) and np.shape(tree) == ()


def check(s: Scenario, backend: str, operator: str, operators: Any, x: Any) -> None:
    """`operators` is the module of operators bound to f, or a prepared derivative."""
    y = s.f(copy.deepcopy(x), *s.data)
    jacobian = s.jacobian(x, *s.data)
    matrix = dense(jacobian, y, x)
    first, second = TOLERANCE[backend], SECOND_ORDER[backend]
    if operator == "derivative":
        if not is_number(x):
            with pytest.raises(InvalidInput, match="use gradient or jacobian"):
                operators.derivative(x, *s.data)
            return
        result = operators.derivative(x, *s.data)
        same_structure(result, y)
        close(result, matrix[:, 0], first)
    elif operator == "jacobian":
        result = operators.jacobian(x, *s.data)
        close(dense(result, y, x), matrix, first)
        for y_leaf, part in zip(leaves(y), subtrees(result, y), strict=True):
            for x_leaf, block in zip(leaves(x), subtrees(part, x), strict=True):
                assert np.shape(block) == y_leaf.shape + x_leaf.shape
    elif operator == "jvp":
        value, product = operators.jvp(x, s.tangent, *s.data, value=True)
        close(value, y, 1e-15)
        same_structure(product, y)
        close(product, matrix @ vector(s.tangent), first)
        close(operators.jvp(x, s.tangent, *s.data), product, first)
    elif operator == "vjp":
        value, product = operators.vjp(x, s.cotangent, *s.data, value=True)
        close(value, y, 1e-15)
        same_structure(product, x)
        close(product, vector(s.cotangent) @ matrix, first)
    elif not is_number(y):
        arguments = (x, s.tangent, *s.data) if operator == "hvp" else (x, *s.data)
        with pytest.raises(InvalidOutput, match="must return one number"):
            getattr(operators, operator)(*arguments)
    elif operator == "gradient":
        result = operators.gradient(x, *s.data)
        same_structure(result, x)
        close(result, matrix[0], first)
    elif operator == "value_and_gradient":
        value, result = operators.value_and_gradient(x, *s.data)
        close(value, y, 1e-15)
        same_structure(result, x)
        close(result, matrix[0], first)
    else:
        assert s.hessian is not None, "a function of one number needs its Hessian in the table"
        hessian = dense(s.hessian(x, *s.data), x, x)
        if operator == "hessian":
            result = operators.hessian(x, *s.data)
            close(dense(result, x, x), hessian, second)
        else:
            product = operators.hvp(x, s.tangent, *s.data)
            same_structure(product, x)
            close(product, hessian @ vector(s.tangent), second)


class Unprepared:
    """The operators as functions, bound to one function and one backend."""

    def __init__(self, f: Any, backend: str) -> None:
        self._f = f
        self._backend = backend

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            return getattr(dk, name)(self._f, *arguments, backend=self._backend, **options)

        return call


def elsewhere(x: Any) -> Any:
    """Another point of the same layout, where every scenario takes another number but the
    same derivative formula holds."""
    if isinstance(x, dict):
        return {key: elsewhere(value) for key, value in x.items()}
    if isinstance(x, (list, tuple)):
        return type(x)(elsewhere(value) for value in x)
    return x * 1.0625


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=ids)
def test_operator(scenario: Scenario, backend: str, operator: str) -> None:
    before = copy.deepcopy((scenario.x, scenario.tangent, scenario.cotangent, scenario.data))
    if backend in scenario.refusals:
        with pytest.raises(scenario.refusals[backend]):
            check(scenario, backend, operator, Unprepared(scenario.f, backend), scenario.x)
    else:
        check(scenario, backend, operator, Unprepared(scenario.f, backend), scenario.x)
        prepared = dk.prepare(scenario.f, scenario.x, *scenario.data, backend=backend)
        check(scenario, backend, operator, prepared, scenario.x)
        check(scenario, backend, operator, prepared, elsewhere(scenario.x))
    after = (scenario.x, scenario.tangent, scenario.cotangent, scenario.data)
    for was, now in zip(before, after, strict=True):
        assert np.array_equal(vector(was), vector(now)), "an argument was changed"
