"""Law 3: whatever leaves the graph, or comes in malformed, gives the right number or an error.

Each row is a way in which people write functions, or hand in input. It names either the exact
gradient at x = (1, 2, 3), written by hand, or the error and what the error must say.
"""

from __future__ import annotations

import copy
import functools
import math
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import diffkit as dk
from diffkit.errors import (
    DiffkitError,
    InvalidInput,
    InvalidOutput,
    NonFiniteDerivative,
    TracingError,
    UnsupportedOperation,
)

X = np.array([1.0, 2.0, 3.0])

# ---------------------------------------------------------------------- right numbers


def fills_zeros_like(x):
    out = np.zeros_like(x)
    for i in range(len(x)):
        out[i] = x[i] ** 2
    return np.sum(out)


def writes_through_a_view(x):
    out = np.zeros_like(x)
    view = out[1:]
    view += x[1:] ** 2
    return np.sum(out * x)


def writes_through_a_transposed_view(x):
    square = np.outer(x, x)
    rows = square.T
    rows[0] = x
    return np.sum(square[:, 0] ** 2)


def writes_through_a_view_of_a_view(x):
    square = np.outer(x, x)
    lower = square[1:]
    lower[:, 1:] *= 2
    return np.sum(square)


def writes_through_reshape(x):
    column = np.zeros_like(x, shape=(3, 1))
    column.reshape(-1)[:] = x**2
    return np.sum(column)


def scales_rows_in_a_loop(x):
    square = np.outer(x, np.ones(3))
    for row in square:
        row *= x[0]
    return np.sum(square)


def updates_an_alias(x):
    a = x * 2
    b = a
    b += x
    return np.sum(a)


def updates_a_copy(x):
    a = x * 2
    b = a.copy()
    b += x
    c = copy.deepcopy(a)
    c[0] = 100.0
    return np.sum(a)


def a_scalar_is_no_alias(x):
    s = x[0]
    t = s
    t += 1
    return s * t


def changes_its_argument(x):
    x += 1
    return np.sum(x**2)


def assigns_by_mask(x):
    y = x * 1
    y[y > 1.5] = 0
    return np.sum(y**3)


def assigns_an_entry_twice(x):
    y = x * 1
    y[[0, 0, 1]] = x**2
    return np.sum(y)


def refills_a_buffer(x):
    buffer = np.zeros(3)
    total = 0.0
    for i in range(3):
        buffer[:] = i
        total = total + x @ buffer
    return total


def array_of_traced(x):
    return np.sum(np.array([[x[0], 1.0], [x[1], x[2]]]) @ np.array([[1.0, 2.0], [3.0, 4.0]]))


def ufunc_of_an_array_of_traced(x):
    return np.sum(np.exp(np.array([x[0], x[1]])))


def as_array(x):
    return np.sum(np.sin(np.asarray(x)))


def full_of_traced(x):
    return np.sum(np.full(3, x[0]) * x)


def joined_by_r(x):
    return np.sum(np.r_[x, x[0], 1.0] ** 2)


def vectorized_branch(x):
    return np.sum(np.vectorize(lambda t: t**2 if t > 1.5 else t)(x))


def item_and_tolist(x):
    return x[0].item() ** 2 + sum(t**2 for t in x.tolist())


def python_sort_and_max(x):
    return sorted(x, key=lambda t: -t)[0] * max(x) * min(x)


def integer_from_a_value(x):
    return x[0] * int(x[2] + 0.25) + x[0] * math.floor(x[1] + 0.5)


def one_hot_of_argmax(x):
    return np.sum(np.eye(3)[np.argmax(x)] * x**2)


def writes_with_out(x):
    y = np.zeros_like(x)
    np.sin(x, out=y)
    return np.sum(y)


def reduces_in_python(x):
    return functools.reduce(lambda a, b: a * b, x)


def chained_comparison(x):
    return x[1] ** 2 if 0 < x[0] < 5 else x[2]


RIGHT: list[tuple[Callable[[Any], Any], Any]] = [
    (fills_zeros_like, 2 * X),
    (writes_through_a_view, [0.0, 12.0, 27.0]),
    (writes_through_a_transposed_view, 2 * X),
    (writes_through_a_view_of_a_view, [12.0, 22.0, 22.0]),
    (writes_through_reshape, 2 * X),
    (scales_rows_in_a_loop, [3 * 6.0 + 3.0, 3.0, 3.0]),
    (updates_an_alias, [3.0, 3.0, 3.0]),
    (updates_a_copy, [2.0, 2.0, 2.0]),
    (a_scalar_is_no_alias, [3.0, 0.0, 0.0]),
    (changes_its_argument, 2 * (X + 1)),
    (assigns_by_mask, [3.0, 0.0, 0.0]),
    (assigns_an_entry_twice, [0.0, 4.0, 7.0]),
    (refills_a_buffer, [3.0, 3.0, 3.0]),
    (array_of_traced, [3.0, 3.0, 7.0]),
    (ufunc_of_an_array_of_traced, [math.e, math.e**2, 0.0]),
    (as_array, np.cos(X)),
    (full_of_traced, [7.0, 1.0, 1.0]),
    (joined_by_r, [4.0, 4.0, 6.0]),
    (vectorized_branch, [1.0, 4.0, 6.0]),
    (item_and_tolist, [4.0, 4.0, 6.0]),
    (python_sort_and_max, [9.0, 0.0, 6.0]),
    (integer_from_a_value, [5.0, 0.0, 0.0]),
    (one_hot_of_argmax, [0.0, 0.0, 6.0]),
    (writes_with_out, np.cos(X)),
    (reduces_in_python, [6.0, 3.0, 2.0]),
    (chained_comparison, [0.0, 4.0, 0.0]),
]


@pytest.mark.parametrize(("f", "gradient"), RIGHT, ids=lambda v: getattr(v, "__name__", ""))
def test_right_number(f: Any, gradient: Any) -> None:
    x = X.copy()
    np.testing.assert_allclose(dk.gradient(f, x), gradient, rtol=1e-14, atol=1e-14)
    assert np.array_equal(x, X), "the caller's array was changed"


# ---------------------------------------------------------------------- errors while tracing


def through_math(x):
    return math.sin(x[0])


def through_float(x):
    return float(x[0]) ** 2


def through_numpy_float(x):
    return np.float64(x[0]) ** 2


def through_complex(x):
    return abs(complex(x[0]))


def through_text(x):
    return float(f"{x[0]}")


def through_fromiter(x):
    return np.fromiter((t for t in x), float).sum()


def through_a_dict_key(x):
    return {x[0]: 1.0}[x[0]] * x[1]


def through_lru_cache(x):
    return functools.lru_cache(lambda t: t**2)(x[0])


def through_pickle(x):
    return pickle.loads(pickle.dumps(x)).sum()


def through_the_bytes(x):
    return np.sum(x.view(np.int64))


def into_an_ordinary_array(x):
    out = np.zeros(3)
    out[0] = x[0]
    return out.sum()


def rows_into_an_ordinary_array(x):
    out = np.zeros((2, 3))
    out[0] = x
    return out.sum()


def added_to_an_ordinary_array(x):
    total = np.zeros(3)
    total += x
    return total.sum()


def out_is_an_ordinary_array(x):
    y = np.zeros(3)
    np.sin(x, out=y)
    return y.sum()


def swallows_our_error(x):
    try:
        s = math.sin(x[0])
    except Exception:
        s = 0.0
    return s + x[1]


def swallows_a_refusal_of_a_definition(x):
    try:
        return np.pad(x, 1, mode="empty")[1]
    except Exception:
        return x[0]


def swallows_a_refusal_to_copy(x):
    out = np.zeros(3)
    try:
        np.copyto(out, x)
    except Exception:
        out[0] = 1.0
    return np.sum(x) + 0 * np.sum(out)


def swallows_a_refusal_to_join(x):
    pair = np.array([x, None], dtype=object)
    try:
        return np.sum(x * pair[:2])
    except Exception:
        return np.sum(x)


def mean_of_a_list(x):
    return np.mean([x[0], x[1]])


def deviation_of_an_array_of_traced(x):
    return np.array([x[0], x[1]]).std()


def foreign_ufunc(x):
    return np.sum(np.frompyfunc(math.erf, 1, 1)(x))


def masked_array(x):
    return (x * np.ma.masked_array(np.ones(3), [True, False, False])).sum()


def matrix(x):
    return np.sum(np.matrix(np.eye(3)) * x[:, None])


def writes_through_asarray(x):
    np.asarray(x)[0] = 0
    return np.sum(x**2)


def asks_for_the_type(x):
    return np.sum(x) if isinstance(x, np.ndarray) else 2 * np.sum(x)


def is_random(x):
    return np.sum(x) * np.random.default_rng().random()


def determinant_of_lists(x):
    return np.linalg.det([[x[0], x[1]], [x[1], x[0]]])


def complex_inside(x):
    return np.abs(np.sqrt(x[0] * 1j + x[1]))


def unknown_function(x):
    return np.sum(np.roots(x).real)


def unknown_ufunc_method(x):
    return np.sum(np.subtract.reduceat(x, [0, 1]))


def object_array(x):
    return np.sum(x * np.array([None, "a", 1.0], dtype=object))


def too_many_entries(x):
    return np.sum(np.asarray(np.broadcast_to(x, (4000, 3))) + x)


TRACING: list[tuple[Callable[[Any], Any], type[DiffkitError], str]] = [
    (through_math, TracingError, "np.sin for math.sin"),
    (through_float, TracingError, "takes a traced value out of the graph"),
    (through_numpy_float, TracingError, "takes a traced value out of the graph"),
    (through_complex, TracingError, r"complex\(\)"),
    (through_text, TracingError, "fails on traced ones"),
    (through_fromiter, TracingError, "takes a traced value out of the graph"),
    (through_a_dict_key, TracingError, "hashed"),
    (through_lru_cache, TracingError, "hashed"),
    (through_pickle, TracingError, "pickled"),
    (through_the_bytes, TracingError, r"\.view cannot be followed"),
    (into_an_ordinary_array, TracingError, "np.zeros_like"),
    (rows_into_an_ordinary_array, TracingError, "np.zeros_like"),
    (added_to_an_ordinary_array, TracingError, r"a = a \+ t"),
    (out_is_an_ordinary_array, TracingError, "ordinary array"),
    (swallows_our_error, TracingError, "math"),
    (swallows_a_refusal_of_a_definition, UnsupportedOperation, r"np\.pad"),
    (swallows_a_refusal_to_copy, TracingError, r"np\.copyto"),
    (swallows_a_refusal_to_join, UnsupportedOperation, "object array"),
    (mean_of_a_list, TracingError, r"np\.mean\(np\.stack"),
    (deviation_of_an_array_of_traced, TracingError, r"np\.std .* np\.stack"),
    (foreign_ufunc, UnsupportedOperation, "the ufunc erf"),
    (masked_array, UnsupportedOperation, "MaskedArray"),
    (matrix, UnsupportedOperation, "matrix"),
    (writes_through_asarray, TracingError, "np.asarray"),
    (asks_for_the_type, TracingError, "isinstance"),
    (is_random, TracingError, "random"),
    (determinant_of_lists, TracingError, "np.stack"),
    (complex_inside, UnsupportedOperation, "complex"),
    (unknown_function, UnsupportedOperation, r"np\.roots"),
    (unknown_ufunc_method, UnsupportedOperation, r"np\.subtract\.reduceat"),
]


@pytest.mark.parametrize(("f", "error", "says"), TRACING, ids=lambda v: getattr(v, "__name__", ""))
@pytest.mark.parametrize("backend", ["tape", "symbolic"])
@pytest.mark.filterwarnings("ignore")
def test_refusal_names_the_line(f: Any, error: Any, says: str, backend: str) -> None:
    with pytest.raises(error, match=says) as caught:
        dk.gradient(f, X, backend=backend)
    lines = range(f.__code__.co_firstlineno, f.__code__.co_firstlineno + 12)
    message = str(caught.value)
    if "when traced" not in message:
        assert any(f"{__file__}:{line}" in message for line in lines), message


def test_an_array_of_very_many_traced_scalars_is_refused() -> None:
    with pytest.raises(UnsupportedOperation, match="limit is 10000"):
        dk.gradient(too_many_entries, X)


def test_an_object_array_in_the_function() -> None:
    with pytest.raises(TypeError):  # NumPy's own, from the plain function
        dk.gradient(object_array, X)


# ---------------------------------------------------------------------- bad input and output

ALL = ("finite", "symbolic", "tape")
BAD_INPUT: list[tuple[str, Any, str]] = [
    ("NaN", np.array([1.0, np.nan]), r"x\[1\] is not finite"),
    ("infinity", {"a": {"b": np.array([[1.0, 2.0], [3.0, np.inf]])}}, r"a\.b\[1, 1\]"),
    ("object array", np.array([1.0, None], dtype=object), "object array"),
    ("string", "1.0", "of type str"),
    ("None", None, "of type NoneType"),
    ("nested None", {"w": None}, "w is of type NoneType"),
    ("set", {1.0, 2.0}, "of type set"),
    ("complex number", 1.0 + 2.0j, "complex"),
    ("complex array", np.ones(2, complex), "complex"),
    ("integer leaf", {"n": 3}, "pass it as data"),
    ("boolean", True, "boolean"),
    ("boolean array", np.array([True]), "boolean"),
    ("text array", np.array(["a"]), "dtype"),
    ("dates", np.array(["2020-01-01"], dtype="datetime64[D]"), "dtype"),
    ("masked array", np.ma.masked_array([1.0], [True]), "MaskedArray"),
    ("integer beyond floats", 10**400, "too large"),
]


@pytest.mark.parametrize("backend", ALL)
@pytest.mark.parametrize(("x", "says"), [r[1:] for r in BAD_INPUT], ids=[r[0] for r in BAD_INPUT])
def test_bad_input(x: Any, says: str, backend: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        dk.gradient(lambda x: np.sum(x), x, backend=backend)


@pytest.mark.parametrize("backend", ALL)
@pytest.mark.parametrize(
    ("result", "says"),
    [
        (None, "returned None"),
        ("text", "of type str"),
        (1j, "complex"),
        ({"a": [None]}, "NoneType"),
    ],
    ids=["None", "text", "complex", "None inside"],
)
def test_bad_output(result: Any, says: str, backend: str) -> None:
    with pytest.raises(InvalidOutput, match=says):
        dk.jacobian(lambda x: result, X, backend=backend)


@pytest.mark.parametrize("backend", ALL)
def test_an_exception_of_the_function_passes_unchanged(backend: str) -> None:
    class StopError(Exception):
        pass

    def f(x):
        raise StopError("on purpose")

    with pytest.raises(StopError, match="on purpose"):
        dk.gradient(f, X, backend=backend)


@pytest.mark.parametrize("backend", ALL)
def test_an_infinite_derivative_is_named(backend: str) -> None:
    with pytest.raises(NonFiniteDerivative, match=r"x\[1\]") as caught:
        dk.gradient(lambda x: x[0] ** 2 + np.sqrt(x[1]), np.array([3.0, 0.0]), backend=backend)
    assert caught.value.entries == ("x[1]",)
    assert caught.value.value[0] == pytest.approx(6.0)


@pytest.mark.parametrize("backend", ALL)
def test_wrong_directions(backend: str) -> None:
    def f(x):
        return x**2

    with pytest.raises(InvalidInput, match=r"tangent has shape \(2,\)"):
        dk.jvp(f, X, np.ones(2), backend=backend)
    with pytest.raises(InvalidInput, match=r"cotangent has shape \(2,\)"):
        dk.vjp(f, X, np.ones(2), backend=backend)
    with pytest.raises(InvalidInput, match="nested differently"):
        dk.jvp(f, X, [X], backend=backend)
    with pytest.raises(InvalidInput, match="not finite"):
        dk.jvp(f, X, X * np.nan, backend=backend)
    with pytest.raises(InvalidInput, match="leading axis"):
        dk.jvp(f, X, 1.0, batched=True, backend=backend)


def test_wrong_calls() -> None:
    with pytest.raises(InvalidInput, match=r"use dk\.parse"):
        dk.gradient("x**2", 1.0)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="no point"):
        dk.gradient(np.sum)
    with pytest.raises(InvalidInput, match="unknown backend 'tapes'"):
        dk.gradient(np.sum, X, backend="tapes")
    with pytest.raises(InvalidInput, match="wrt=2"):
        dk.gradient(np.sum, X, wrt=2)
    with pytest.raises(InvalidInput, match="order=0"):
        dk.derivative(np.sin, 1.0, order=0)


def test_data_written_into_is_refused_by_black_boxes() -> None:
    def f(x, data):
        data *= 2
        return np.sum(x * data)

    with pytest.raises(InvalidInput, match="writes into one of its data"):
        dk.gradient(f, X, X.copy(), backend="finite")


def test_a_traced_value_kept_outside_is_refused_later() -> None:
    kept: list[Any] = []

    def keeps(x):
        kept.append(x)
        return np.sum(x)

    dk.gradient(keeps, X)
    with pytest.raises(TracingError, match="after the function it belongs to had returned"):
        np.sum(kept[-1] * 2)


def test_finite_differences_inside_a_traced_function_are_refused() -> None:
    with pytest.raises(TracingError, match="backend='tape'"):
        dk.gradient(lambda x: dk.derivative(np.sin, x[0], backend="finite"), X)
