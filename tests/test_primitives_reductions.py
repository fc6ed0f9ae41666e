"""Reductions, running reductions and statistics: right along every axis, at zeros and at ties.

The oracle is a central difference of the NumPy function itself in extended precision, or,
where NumPy multiplies and adds whole numbers, exact arithmetic.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import sympy as sp

import diffkit as dk
from diffkit.arithmetic import FlintSeries, MultiPrecision
from diffkit.tracing.primitives import PRIMITIVES

Function = Callable[[Any], Any]
VECTOR = np.array([0.3, -1.2, 2.5, 0.7, 1.9])
MATRIX = np.array([[0.3, -1.2, 2.5], [0.8, 1.9, -0.6]])
CUBE = np.sin(np.arange(24.0)).reshape(2, 3, 4)
WEIGHTS = np.array([0.2, 0.5, 0.1, 0.7, 0.4])
MASK = np.array([True, False, True, True, False])
HOLES = np.array([[False, True, False], [False, False, True]])


def differences(f: Function, x: Any) -> Any:
    """The Jacobian of f by central differences in extended precision, good to 8 digits."""
    x = np.asarray(x, np.longdouble)
    step = np.longdouble(1e-5)
    columns = []
    for position in range(x.size):
        moved = []
        for sign in (1, -1):
            flat = x.copy().reshape(-1)
            flat[position] += sign * step
            moved.append(np.asarray(f(flat.reshape(x.shape))))
        columns.append((moved[0] - moved[1]) / (2 * step))
    value = np.shape(f(x))
    stacked = np.stack(columns, axis=-1) if columns else np.zeros((*value, 0))
    return stacked.reshape(value + x.shape).astype(float)


def assert_jacobian(f: Function, x: Any) -> None:
    jacobian = dk.jacobian(f, x)
    np.testing.assert_allclose(jacobian, differences(f, x), rtol=1e-7, atol=1e-8)


# ---------------------------------------------------------------------- every axis

REDUCTIONS: list[Any] = [
    np.sum,
    np.prod,
    np.max,
    np.min,
    np.amax,
    np.amin,
    np.mean,
    np.var,
    np.std,
    np.ptp,
]
REDUCTIONS += [np.median, np.nansum, np.nanprod, np.nanmean, np.nanvar, np.nanstd]
REDUCTIONS += [np.nanmax, np.nanmin]


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("axis", [None, 0, 1, -1, (0, 2), (2, 1), (-1, 0, 1)])
@pytest.mark.parametrize("function", REDUCTIONS)
def test_reduction_along_any_axes(function: Any, axis: Any, keepdims: bool) -> None:
    assert_jacobian(lambda x: function(x, axis=axis, keepdims=keepdims), CUBE)


@pytest.mark.parametrize("axis", [None, 0, 1, -1])
@pytest.mark.parametrize("function", [np.cumsum, np.cumprod, np.nancumsum, np.nancumprod])
def test_running_reduction_along_any_axis(function: Any, axis: Any) -> None:
    assert_jacobian(lambda x: function(x, axis=axis), CUBE)


@pytest.mark.parametrize("function", REDUCTIONS)
def test_reduction_of_a_number_is_of_one_entry(function: Any) -> None:
    if function in (np.std, np.nanstd):
        return  # the deviation of one entry has no derivative
    assert_jacobian(lambda x: function(x), np.array(2.5))


@pytest.mark.parametrize("function", [np.sum, np.prod])
@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0)])
def test_reduction_of_nothing(function: Any, shape: Any) -> None:
    x = np.zeros(shape)
    assert dk.gradient(lambda x: function(x), x).shape == shape
    for axis in range(len(shape)):
        jacobian = dk.jacobian(lambda x, axis=axis: function(x, axis=axis), x)
        assert jacobian.shape == function(x, axis=axis).shape + shape


@pytest.mark.parametrize("axis", [3, -4])
def test_an_axis_that_is_not_there_is_numpys_own_error(axis: int) -> None:
    with pytest.raises(np.exceptions.AxisError):
        dk.gradient(lambda x: np.sum(np.sum(x, axis=axis)), CUBE)


# ---------------------------------------------------------------------- options

OPTIONS: list[tuple[Function, Any]] = [
    (lambda x: np.sum(x, initial=3.0) ** 2, VECTOR),
    (lambda x: np.sum(x, where=MASK), VECTOR),
    (lambda x: np.sum(x, where=x > 0), VECTOR),
    (lambda x: np.sum(x, dtype=np.longdouble), VECTOR),
    (lambda x: np.prod(x, initial=3.0), VECTOR),
    (lambda x: np.prod(x, where=MASK), VECTOR),
    (lambda x: np.max(x, initial=-5.0), VECTOR),
    (lambda x: np.max(x, initial=5.0), VECTOR),
    (lambda x: np.max(x, where=MASK, initial=-5.0), VECTOR),
    (lambda x: np.min(x, axis=1, initial=0.1), MATRIX),
    (lambda x: np.mean(x, where=MASK), VECTOR),
    (lambda x: np.mean(x, axis=0, where=MATRIX > 0), MATRIX),
    (lambda x: np.var(x, ddof=1), VECTOR),
    (lambda x: np.var(x, correction=1), VECTOR),
    (lambda x: np.var(x, where=MASK, ddof=1), VECTOR),
    (lambda x: np.var(x, axis=1, mean=np.mean(x, axis=1, keepdims=True)), MATRIX),
    (lambda x: np.std(x, axis=0, ddof=1, keepdims=True), MATRIX),
    (lambda x: np.average(x), VECTOR),
    (lambda x: np.average(x, weights=WEIGHTS), VECTOR),
    (lambda w: np.average(VECTOR, weights=w), WEIGHTS),
    (lambda x: np.average(x, axis=1, weights=WEIGHTS[:3]), MATRIX),
    (lambda x: np.average(x, axis=0, weights=MATRIX + 3, keepdims=True), MATRIX),
    (lambda x: np.sum(np.average(x, weights=x, returned=True)), WEIGHTS),
    (lambda x: np.average(x, axis=0, returned=True)[0], MATRIX),
    (lambda x: x.sum(0) * x.mean(), MATRIX),
    (lambda x: x.std(axis=1, ddof=1) + x.var() + x.prod(1) + x.max() * x.min(0)[0], MATRIX),
    (lambda x: x.cumsum(1) * x.ptp() if hasattr(np.ndarray, "ptp") else x.cumsum(1), MATRIX),
    (lambda x: np.sum([x[0], x[1] ** 2, 3.0]), VECTOR),
    (lambda x: np.max([x[0], x[1] ** 2, 0.1]), VECTOR),
    (lambda x: np.prod([x[0], x[1], 2.0]), VECTOR),
    (lambda x: np.mean(x, dtype=np.longdouble), VECTOR),
    (lambda x: np.mean(x > 0) * np.sum(x * np.all(x < 5, where=MASK)), VECTOR),
    (lambda x: np.add.reduce(x, initial=None), VECTOR),
    (lambda x: np.max(x[:0], initial=2.0) * x[0], VECTOR),
    (lambda x: np.logaddexp.reduce(np.hypot.reduce(x[:, :0], axis=1) + x[:, 0]), MATRIX),
    (lambda x: x * np.sum(np.diff(x > 0)), VECTOR),
]


@pytest.mark.parametrize(("f", "x"), OPTIONS)
def test_options(f: Function, x: Any) -> None:
    assert_jacobian(f, x)


ORDER_STATISTICS: list[tuple[Function, Any]] = [
    (lambda x: np.median(x), VECTOR[:4]),
    (lambda x: np.median(x, axis=1), MATRIX),
    (lambda x: np.quantile(x, 0.3), VECTOR),
    (lambda x: np.quantile(x, 1), VECTOR),
    (lambda x: np.quantile(x, [0.0, 0.25, 0.6], axis=0), MATRIX),
    (lambda x: np.quantile(x, 0.9, axis=1, keepdims=True), MATRIX),
    (lambda x: np.percentile(x, 30), VECTOR),
    (lambda x: np.percentile(x, [10, 50.0]), VECTOR),
]

DIFFERENCES: list[tuple[Function, Any]] = [
    (lambda x: np.diff(x), VECTOR),
    (lambda x: np.diff(x, n=2) ** 2, VECTOR),
    (lambda x: np.diff(x, n=0), VECTOR),
    (lambda x: np.diff(x, axis=0), MATRIX),
    (lambda x: np.diff(x, prepend=0.0, append=[1.0, 2.0]), VECTOR),
    (lambda x: np.diff(x, axis=0, prepend=1.0), MATRIX),
    (lambda y: np.trapezoid(y), VECTOR),
    (lambda y: np.trapezoid(y, dx=0.5, axis=0), MATRIX),
    (lambda x: np.trapezoid(VECTOR, x), np.cumsum(WEIGHTS)),
    (lambda y: np.trapezoid(y, WEIGHTS[:3]), MATRIX),
    (lambda y: np.trapezoid(y, MATRIX**2), MATRIX),
]

UFUNC_METHODS: list[tuple[Function, Any]] = [
    (lambda x: np.add.reduce(x), MATRIX),
    (lambda x: np.add.reduce(x, axis=None), MATRIX),
    (lambda x: np.add.reduce(x, axis=1, keepdims=True, initial=2.0), MATRIX),
    (lambda x: np.multiply.reduce(x), MATRIX),
    (lambda x: np.maximum.reduce(x, axis=1), MATRIX),
    (lambda x: np.minimum.reduce(x), MATRIX),
    (lambda x: np.add.accumulate(x), MATRIX),
    (lambda x: np.multiply.accumulate(x, axis=1), MATRIX),
    (lambda x: np.maximum.accumulate(x), VECTOR),
    (lambda x: np.minimum.accumulate(x, axis=1), MATRIX),
    (lambda x: np.logaddexp.reduce(x), VECTOR),
    (lambda x: np.logaddexp2.reduce(x, axis=1), MATRIX),
    (lambda x: np.hypot.reduce(x, axis=1, keepdims=True), MATRIX),
    (lambda x: np.fmax.reduce(x), VECTOR),
    (lambda x: np.subtract.outer(x, x**2), VECTOR),
    (lambda x: np.multiply.outer(x, VECTOR), MATRIX),
    (lambda x: np.hypot.outer(VECTOR, x), MATRIX),
    (lambda x: np.maximum.outer(x, [0.5, 1.0]), VECTOR),
]


@pytest.mark.parametrize(("f", "x"), [*ORDER_STATISTICS, *DIFFERENCES, *UFUNC_METHODS])
def test_definitions(f: Function, x: Any) -> None:
    assert_jacobian(f, x)


@pytest.mark.parametrize(
    "f",
    [
        lambda x: np.subtract.reduce(x),
        lambda x: np.subtract.reduceat(x, [0, 2]),
        lambda x: np.sum(np.quantile(x, 0.3, method="nearest")),
        lambda x: np.quantile(VECTOR, x[0]),
        lambda x: np.nanquantile(x, 0.3, method="nearest"),
        lambda x: np.sum(x, None, None, None),
    ],
)
def test_what_has_no_rule_is_refused(f: Function) -> None:
    with pytest.raises(dk.UnsupportedOperation):
        dk.gradient(f, np.abs(WEIGHTS))


# ---------------------------------------------------------------------- products with zeros


def product_gradient(entries: list[int]) -> list[int]:
    return [math.prod(entries[:i] + entries[i + 1 :]) for i in range(len(entries))]


def product_hessian(entries: list[int]) -> Any:
    n = len(entries)
    hessian = np.zeros((n, n))
    for i, j in itertools.permutations(range(n), 2):
        hessian[i, j] = math.prod(entries[k] for k in range(n) if k not in (i, j))
    return hessian


ZEROS = [[2, 3, 4], [0, 3, 4], [2, 0, 4], [0, 3, 0], [0, 0, 0], [5], [0], [1, 2, 0, 4, 5, -3, 2]]


@pytest.mark.parametrize("entries", ZEROS)
def test_product_with_zeros(entries: list[int]) -> None:
    x = np.array(entries, float)
    assert dk.gradient(np.prod, x).tolist() == product_gradient(entries)
    np.testing.assert_array_equal(dk.hessian(np.prod, x), product_hessian(entries))


@pytest.mark.parametrize("entries", ZEROS)
def test_running_product_with_zeros(entries: list[int]) -> None:
    x = np.array(entries, float)
    jacobian = dk.jacobian(np.cumprod, x)
    for k in range(len(entries)):
        expected = product_gradient(entries[: k + 1])
        assert jacobian[k].tolist() == expected + [0] * (len(entries) - k - 1)
    last = dk.hessian(lambda x: np.cumprod(x)[-1], x)
    np.testing.assert_array_equal(last, product_hessian(entries))


def test_third_derivative_of_a_product() -> None:
    x = np.array([0.0, 0.0, 0.0, 7.0])
    third = dk.jacobian(lambda x: dk.hessian(np.prod, x), x)
    assert third[0, 1, 2] == third[2, 0, 1] == 7.0
    assert third[0, 0, 1] == third[0, 1, 3] == 0.0


# ---------------------------------------------------------------------- ties and NaN


@pytest.mark.filterwarnings("ignore::diffkit.errors.KinkWarning")
@pytest.mark.parametrize("function", [np.max, np.min])
def test_entries_that_tie_share_equally(function: Any) -> None:
    assert dk.gradient(lambda x: function(x), np.full(4, 2.0)).tolist() == [0.25] * 4
    x = np.array([[1.0, 1.0, 1.0], [2.0, 0.0, 5.0]])
    shares = dk.gradient(lambda x: np.sum(function(x, axis=1)), x)
    assert shares[0].tolist() == [1 / 3] * 3
    assert shares[1].tolist() == (x[1] == function(x[1])).astype(float).tolist()


@pytest.mark.filterwarnings("ignore::diffkit.errors.KinkWarning")
def test_extremum_ties_with_its_initial_value() -> None:
    assert dk.gradient(lambda x: np.max(x, initial=2.0), np.array([2.0, 1.0])).tolist() == [0.5, 0]


@pytest.mark.filterwarnings("ignore::diffkit.errors.KinkWarning")
def test_extremum_is_linear_beside_its_ties() -> None:
    assert not np.any(dk.hessian(lambda x: np.max(x) ** 2 - 2 * np.max(x), np.ones(3)) - 2 / 9)


@pytest.mark.parametrize("function", [np.nansum, np.nanmean, np.nanmax, np.nanvar, np.nanprod])
def test_nan_is_left_out(function: Any) -> None:
    assert_jacobian(lambda x: function(np.where(HOLES, np.nan, x), axis=1), MATRIX)
    assert_jacobian(lambda x: function(np.where(HOLES, np.nan, x), keepdims=True), MATRIX)


def test_half_precision_is_averaged_in_single_precision() -> None:
    x = np.array([0.5, 2.0, 3.0], np.float16)
    for function in (np.mean, np.var, np.std):
        gradient = dk.gradient(lambda x, function=function: function(x), x)
        expected = dk.gradient(lambda x, function=function: function(x), x.astype(float))
        assert gradient.dtype == np.float16
        np.testing.assert_allclose(gradient, expected, rtol=2e-3)


def test_a_median_of_nan_is_nan() -> None:
    with np.errstate(invalid="ignore"), pytest.raises(dk.NonFiniteDerivative):
        dk.gradient(lambda x: np.median(np.sqrt(x)), np.array([-1.0, 4.0, 9.0]))


@pytest.mark.parametrize(
    ("f", "message"),
    [
        (lambda x: np.max(x, where=MASK), "initial"),
        (lambda x: np.diff(x, n=-1), "non-negative"),
        (lambda x: np.quantile(x, 1.5), "range"),
        (lambda x: np.average(np.stack([x, x]), axis=0, weights=x), "weights"),
        (lambda x: np.max(x[:0]), "zero-size"),
    ],
)
def test_misuse_is_numpys_own_error(f: Function, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dk.gradient(lambda x: np.sum(f(x)), VECTOR)


def test_single_precision_stays() -> None:
    x = np.array([0.5, 2.0, 3.0], np.float32)
    functions: list[Any] = [*REDUCTIONS, np.trapezoid]
    for function in functions:
        graph = dk.trace(function, x)
        assert {node.value.dtype for node in graph.outputs} == {np.dtype(np.float32)}, function
        assert dk.gradient(function, x).dtype == np.float32


@pytest.mark.parametrize("name", ["sum", "prod", "max", "min"])
def test_pullback_of_a_reduction_keeps_the_precision(name: str) -> None:
    x = np.array([[1.5, 2.5], [3.5, 1.25]], np.float32)
    static = {"axis": (1,), "keepdims": False}
    y = PRIMITIVES[name].function(x, **static)
    pulled = PRIMITIVES[name].pull(0, np.ones(2, np.float32), y, (x,), static)
    assert (pulled.dtype, pulled.shape) == (np.float32, (2, 2))


# ---------------------------------------------------------------------- outcomes


def test_outcomes_carry_no_derivative() -> None:
    def f(x: Any) -> Any:
        return np.sum(x) * np.count_nonzero(x > 0) + np.sum(x * np.any(x > 2)) + np.argmax(x)

    x = np.array([1.0, -1.0, 3.0])
    assert dk.gradient(f, x).tolist() == [3.0, 3.0, 3.0]
    taken = dk.gradient(lambda x: x[np.argmax(x)] ** 2 - x[x.argmin()], x)
    assert taken.tolist() == [0.0, -1.0, 6.0]
    assert dk.gradient(lambda x: np.sum(x) if np.all(x > -2) else 0 * x[0], x).tolist() == [1] * 3
    rows = dk.gradient(lambda m: np.sum(np.all(m > 0, axis=1) * m[:, 0]), MATRIX)
    assert not np.any(rows)


# ---------------------------------------------------------------------- the other columns

STATICS = [{"axis": None}, {"axis": (0,)}, {"axis": (1,)}, {"axis": (0, 2)}]
WHOLE = np.arange(-11.0, 13.0).reshape(2, 3, 4)


def as_float(value: Any) -> float:
    return float(bool(value)) if value in (sp.true, sp.false) else float(value)


def columns(name: str, array: Any, static: Any) -> list[Any]:
    """The value in SymPy and in both arithmetics, as plain arrays."""
    row = PRIMITIVES[name]
    results = []
    to_sympy = np.frompyfunc(lambda v: sp.Integer(int(v)), 1, 1)
    if callable(row.sympy):
        results.append(row.sympy(sp, np.asarray(to_sympy(array), object), **static))
    for arithmetic in (MultiPrecision(), FlintSeries()):
        numbers = np.frompyfunc(arithmetic.constant, 1, 1)(array)
        results.append(row.exact(arithmetic, np.asarray(numbers, object), **static))  # type: ignore[operator]
    return [np.vectorize(as_float, otypes=[float])(np.asarray(r, object)) for r in results]


@pytest.mark.parametrize("static", STATICS)
@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("name", ["sum", "prod", "max", "min", "all", "any", "argmax", "argmin"])
def test_every_column_reduces_alike(name: str, keepdims: bool, static: Any) -> None:
    if name.startswith("arg") and static["axis"] is not None and len(static["axis"]) > 1:
        return
    static = {**static, "keepdims": keepdims}
    expected = PRIMITIVES[name].function(WHOLE, **static)
    for actual in columns(name, WHOLE, static):
        assert actual.shape == np.shape(expected)
        np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("name", ["cumsum", "cumprod"])
def test_every_column_accumulates_alike(name: str, axis: int) -> None:
    expected = PRIMITIVES[name].function(WHOLE, axis=axis)
    for actual in columns(name, WHOLE, {"axis": axis}):
        np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize(("name", "neutral"), [("sum", 0), ("prod", 1), ("all", 1), ("any", 0)])
def test_every_column_reduces_nothing_to_the_neutral_number(name: str, neutral: int) -> None:
    for actual in columns(name, np.zeros((2, 0)), {"axis": (1,), "keepdims": False}):
        assert actual.tolist() == [neutral, neutral]


def test_conditions_are_counted_in_sympy() -> None:
    x = sp.Symbol("x", real=True)
    row = PRIMITIVES["sum"]
    count = row.sympy(sp, np.array([x > 0, x > 1], object), axis=None, keepdims=False)  # type: ignore[operator]
    assert [count.subs(x, v) for v in (-1, 1, 2)] == [0, 1, 2]
