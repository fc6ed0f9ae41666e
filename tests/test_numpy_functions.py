"""NumPy's less common functions: statistics, polynomials, ufunc methods, writes; and refusals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest
from primitive_checks import assert_close, assert_derivatives

import diffkit as dk

Function = Callable[[Any], Any]
V = np.array([0.3, 0.7, 0.55, 0.2])
M = np.array([[2.0, 0.3, 0.1], [0.3, 1.5, 0.2], [0.1, 0.2, 1.1], [0.4, 0.6, 0.9]])
HOLED = np.array([[1.0, np.nan, 3.0, 2.0], [np.nan, 0.5, 0.1, 0.7]])
FILLED = np.nan_to_num(HOLED)


def holed(x: Any) -> Any:
    return np.where(np.isnan(HOLED), np.nan, x)


STATISTICS: dict[str, tuple[Function, Any]] = {
    "cov": (np.cov, M),
    "cov of two": (lambda x: np.cov(x, 2 * x**2), V),
    "cov, weighted": (lambda x: np.cov(x.T, aweights=V, fweights=[1, 2, 1, 3]), M),
    "cov of columns, biased": (lambda x: np.cov(x, rowvar=False, bias=True), M),
    "corrcoef": (np.corrcoef, M),
    "corrcoef of two": (lambda x: np.corrcoef(x, x**2)[0, 1], V),
    "nanmedian": (lambda x: np.nanmedian(holed(x), axis=1), FILLED),
    "nanquantile": (lambda x: np.nanquantile(holed(x), [0.3, 0.5, 1.0], axis=1), FILLED),
    "nanquantile of all": (lambda x: np.nanquantile(holed(x), 0.3), FILLED),
    "nanpercentile": (lambda x: np.nanpercentile(holed(x), 70, axis=1, keepdims=True), FILLED),
    "nanprod": (lambda x: np.nanprod(holed(x), axis=0), FILLED),
    "nancumsum": (lambda x: np.nancumsum(holed(x), axis=1), FILLED),
}
POLYNOMIALS: dict[str, tuple[Function, Any]] = {
    "poly": (np.poly, V),
    "polyadd": (lambda x: np.polyadd(x, x[:2] ** 2), V),
    "polysub": (lambda x: np.polysub(x[:2], x), V),
    "polymul": (lambda x: np.polymul(x, x[1:]), V),
    "polyder": (lambda x: np.polyder(x, 2), V),
    "polyint": (lambda x: np.polyint(x, 2, [3.0, 1.0]), V),
    "polyfit by abscissae": (lambda x: np.polyfit(x, x**2 + np.arange(4.0), 2), V),
    "polyfit, weighted": (lambda x: np.polyfit(np.arange(4.0), x, 1, w=V), V),
    "polyval": (lambda x: np.polyval(x, x[0]), V),
}
SAMPLES: dict[str, tuple[Function, Any]] = {
    "geomspace": (lambda x: np.geomspace(x[0], x[1], 5), V),
    "geomspace of arrays": (lambda x: np.geomspace(x, 2.0, 5, axis=-1), V),
    "unwrap": (lambda x: np.unwrap(20 * x), V),
    "unwrap with a period": (lambda x: np.unwrap(7 * x, period=2, axis=0, discont=1.5), M),
    "interp": (lambda x: np.interp(x, [0, 0.5, 1], [1.0, 3.0, 2.0]), V),
    "interp by values": (lambda x: np.interp([0.1, 0.7], [0, 0.3, 0.6, 1], x), V),
    "interp by knots": (lambda x: np.interp([0.31, 0.62], np.sort(x), [1.0, 4, 2, 5]), V),
    "gradient": (lambda x: np.gradient(x, x**2), V),
    "ediff1d": (lambda x: np.ediff1d(x, to_end=x[0]), V),
    "i0": (np.i0, 5 * V),
    "trim_zeros": (lambda x: np.trim_zeros(np.concatenate([[0.0, 0], x, [0.0]])) ** 2, V),
}
METHODS: dict[str, tuple[Function, Any]] = {
    "cumulative_sum": (lambda x: np.cumsum(x), V),
    "add.reduceat": (lambda x: np.add.reduceat(x, [0, 2, 1]), V),
    "multiply.reduceat": (lambda x: np.multiply.reduceat(x, [0, 2], axis=1), M),
    "maximum.accumulate": (np.maximum.accumulate, V),
    "minimum.accumulate": (lambda x: np.minimum.accumulate(x, axis=1), M),
    "logaddexp.accumulate": (np.logaddexp.accumulate, V),
    "logaddexp.reduce": (lambda x: np.logaddexp.reduce(x, axis=1), M),
    "hypot.accumulate": (np.hypot.accumulate, V),
    "multiply.outer": (lambda x: np.multiply.outer(x, x**2), V),
    "all differences": (lambda x: (np.expand_dims(2 * x, -1) - np.expand_dims(2 * x, -2)) ** 3, V),
    "maximum.outer": (lambda x: np.maximum.outer(x, x[:2] + 0.1), V),
    "out and where": (lambda x: np.add(x, x, where=x > 0.5, out=np.zeros_like(x)), V),
}
if hasattr(np, "cumulative_sum"):  # new in NumPy 2.1
    METHODS["cumulative_sum"] = (lambda x: np.cumulative_sum(x, include_initial=True), V)
    METHODS["cumulative_prod"] = (lambda x: np.cumulative_prod(x, axis=1), M)
    METHODS["astype"] = (lambda x: np.astype(x, np.float64) ** 2, V)


def at(x: Any) -> Any:
    y = np.zeros_like(x)
    np.add.at(y, [0, 1, 1, 3], x * x)
    np.subtract.at(y, [2, 2], 3 * x[0])
    return y


def diagonal_filled(x: Any) -> Any:
    y = np.zeros_like(np.outer(x, x))
    np.fill_diagonal(y, x)
    return y


def put_along_axis(x: Any) -> Any:
    y = x * 1
    np.put_along_axis(y, np.array([[0], [1], [2], [0]]), x[:, :1] ** 2, 1)
    return y


def put(x: Any) -> Any:
    y = x * 1
    np.putmask(y, x > 0.5, x**2)
    np.place(y, x < 0.25, [7.0])
    np.put(y, [1], x[0])
    return y


def flat(x: Any) -> Any:
    y = x * 1
    y.flat[2] = x[0, 0] ** 2
    y.flat[4:6] = x[0, :2] ** 3
    return y * sum(t**2 for t in x.flat) + x.flat[1:3][0] * len(x.flat)


WRITES: dict[str, tuple[Function, Any]] = {
    "add.at": (at, V),
    "fill_diagonal": (diagonal_filled, V),
    "put_along_axis": (put_along_axis, M),
    "put, putmask and place": (put, V),
    "flat": (flat, M),
    "block": (lambda x: np.block([[x, x**2], [x, 2 * x]]), M),
    "indices from": (lambda x: x[np.tril_indices_from(x)] * x[np.diag_indices_from(x)][0], M[:3]),
    "apply_along_axis": (lambda x: np.apply_along_axis(lambda r: r.sum() ** 2, 0, x), M),
    "apply_over_axes": (lambda x: np.apply_over_axes(np.sum, x, [0, 1]), M),
    "vectorize": (lambda x: np.vectorize(lambda t: t**2)(x), V),
    "piecewise": (
        lambda x: np.piecewise(x, [x < 0.5, x >= 0.5], [lambda t: t**2, lambda t: 3 * t]),
        V,
    ),
    "select": (lambda x: np.select([x > 0.6, x > 0.4], [x**2, x * 3], 1.0), V),
}
CASES = {**STATISTICS, **POLYNOMIALS, **SAMPLES, **METHODS, **WRITES}


@pytest.mark.parametrize(("f", "x"), CASES.values(), ids=CASES)
def test_first_and_second_derivatives(f: Function, x: Any) -> None:
    assert_derivatives(f, x)


@pytest.mark.parametrize(("f", "x"), CASES.values(), ids=CASES)
def test_prepared_gradients_hold_at_other_points(f: Function, x: Any) -> None:
    def total(x: Any) -> Any:
        y = f(x)
        return np.sum(np.cos(np.arange(np.size(y))).reshape(np.shape(y)) * y)

    prepared = dk.prepare(total, x)
    for scale in (1.0, 1.0, 1.05):
        assert_close(prepared.gradient(scale * x), dk.gradient(total, scale * x), 1e-12)


@pytest.mark.parametrize("x", [1e-8, 0.5, 3.0, 30.0, -200.0, 690.0])
def test_the_modified_bessel_function_keeps_its_digits(x: float) -> None:
    for order in (1, 2, 3):
        exact = (-1.0) ** (order * (x < 0)) * float(mpmath.besseli(0, abs(x), derivative=order))
        assert dk.derivative(np.i0, x, order=order) == pytest.approx(exact, rel=1e-13)


@pytest.mark.filterwarnings("ignore:All-NaN slice")
def test_quantiles_of_lanes_that_hold_nothing_are_not_finite() -> None:
    with pytest.raises(dk.NonFiniteDerivative):
        dk.gradient(lambda x: np.nanmedian(x * np.nan), V)


# ---------------------------------------------------------------------- refusals


def multiplied_at(x: Any) -> Any:
    y = x * 1
    np.multiply.at(y, [0], 2.0)
    return y[0]


def added_to_plain_zeros(x: Any) -> Any:
    y = np.zeros(4)
    np.add.at(y, [0], x[:1])
    return y[0]


REFUSED: dict[str, Function] = {
    "np.histogram": lambda x: np.histogram(x)[1][0],
    "np.roots": lambda x: np.roots(x)[0].real,
    "np.union1d": lambda x: np.union1d(x, x)[0],
    "np.frexp": lambda x: np.frexp(x)[0][0],
    "np.nextafter": lambda x: np.nextafter(x, 1)[0],
    "np.subtract.accumulate": lambda x: np.subtract.accumulate(x)[0],
    "np.multiply.at": multiplied_at,
    "np.polydiv": lambda x: np.polydiv(x, x[:2])[0][0],
    "np.linalg.eigvals": lambda x: np.linalg.eigvals(np.outer(x, x))[0].real,
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_in_the_table_is_refused_by_name(name: str) -> None:
    with pytest.raises(dk.UnsupportedOperation, match=name.replace(".", r"\.")):
        dk.gradient(REFUSED[name], V)


CLEAR: dict[str, tuple[Function, str]] = {
    "mean of a list": (lambda x: np.mean([x[0], x[1]]), r"np\.stack"),
    "determinant of lists": (lambda x: np.linalg.det([[x[0], x[1]], [x[1], x[0]]]), r"np\.stack"),
    "asarray with a dtype": (lambda x: np.asarray(x, float)[0], r"np\.asarray"),
    "add.at on a plain array": (added_to_plain_zeros, "zeros_like"),
    "polyfit with covariance": (lambda x: np.polyfit(V, x, 1, cov=True)[0][0], "coefficients"),
    "roots of a matrix": (lambda x: np.poly(np.outer(x, x))[0], "roots"),
    "nanquantile by another method": (
        lambda x: np.nanquantile(x, 0.3, method="lower"),
        r"np\.sort",
    ),
}


@pytest.mark.parametrize("name", CLEAR)
def test_refusals_tell_the_way_out(name: str) -> None:
    f, message = CLEAR[name]
    with pytest.raises((dk.TracingError, dk.UnsupportedOperation), match=message):
        dk.gradient(f, V)
