"""Moving, joining, selecting and ordering entries: values are NumPy's, derivatives theirs.

Also the completeness of two columns of the table: every row that is not elementwise gives
NumPy's value on SymPy's rational numbers and in arbitrary precision.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import sympy as sp
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes
from numpy.lib.stride_tricks import sliding_window_view
from primitive_checks import (
    assert_close,
    assert_derivatives,
    assert_pullback,
    assert_single_precision,
    central_jacobian,
)
from sympy.logic.boolalg import BooleanAtom

import diffkit as dk
from diffkit.arithmetic import FlintSeries, MultiPrecision
from diffkit.tracing.graph import Missing, Primitive, Same
from diffkit.tracing.primitives import PRIMITIVES
from diffkit.tracing.primitives.gathering import BY_VALUE

Function = Callable[[Any], Any]


def numbers(*shape: int) -> Any:
    """Numbers without structure, the same for the same shape."""
    return np.random.default_rng(shape).normal(size=shape)


V, W = numbers(3), numbers(4)
A = numbers(3, 3)
B = numbers(3, 4)
BOX = numbers(2, 3, 4)
KNOTS = [-1.0, 0.0, 0.5, 2.0]
BETWEEN_KNOTS = np.array([-2.0, -0.3, 0.2, 1.7, 3.0])

RESHAPING: dict[str, tuple[Function, Any]] = {
    "reshape": (lambda x: np.reshape(x, (2, -1)), B),
    "reshape in Fortran order": (lambda x: x.reshape((4, 3), order="F"), B),
    "ravel": (np.ravel, B),
    "ravel in Fortran order": (lambda x: np.ravel(x, "F"), B),
    "flatten": (lambda x: x.flatten(), B),
    "squeeze": (np.squeeze, numbers(1, 3, 1)),
    "squeeze one axis": (lambda x: np.squeeze(x, 0), numbers(1, 3, 1)),
    "expand_dims": (lambda x: np.expand_dims(x, (0, 2)), B),
    "transpose": (lambda x: np.transpose(x, (1, -1, 0)), BOX),
    "swapaxes": (lambda x: np.swapaxes(x, 0, 2), BOX),
    "moveaxis": (lambda x: np.moveaxis(x, [0, 1], [-1, 0]), BOX),
    "rollaxis": (lambda x: np.rollaxis(x, 2, 0), BOX),
    "matrix_transpose": (np.matrix_transpose, BOX),
    "atleast_1d": (lambda x: np.atleast_1d(x[0, 0]), B),
    "atleast_2d": (np.atleast_2d, V),
    "atleast_2d of several": (lambda x: np.atleast_2d(x, x[0])[1], V),
    "atleast_3d of a matrix": (np.atleast_3d, B),
    "atleast_3d of a vector": (np.atleast_3d, V),
    "flip": (np.flip, B),
    "flip one axis": (lambda x: np.flip(x, 1), B),
    "fliplr": (np.fliplr, B),
    "flipud": (np.flipud, B),
    **{f"rot90 by {k}": (lambda x, k=k: np.rot90(x, k), B) for k in (-1, 0, 1, 2, 3)},
    "broadcast_to": (lambda x: np.broadcast_to(x, (2, 3, 4)), numbers(3, 1)),
    "broadcast_arrays": (lambda x: np.broadcast_arrays(x, B)[0], W),
    "meshgrid": (lambda x: np.meshgrid(x, W)[0], V),
    "meshgrid ij": (lambda x: np.meshgrid(W, x, indexing="ij")[1], V),
    "sparse meshgrid": (lambda x: np.meshgrid(x, W, sparse=True)[0], V),
}

JOINING: dict[str, tuple[Function, Any]] = {
    "concatenate": (lambda x: np.concatenate([x, B, x * 2], 1), B),
    "concatenate flat": (lambda x: np.concatenate((x, W), None), B),
    "concatenate along the last axis": (lambda x: np.concatenate((x, B), axis=-1), B),
    "concatenate the rows of an array": (np.concatenate, BOX),
    "stack": (lambda x: np.stack([x, B], -1), B),
    "stack of numbers": (lambda x: np.stack([x[0], 2.0, x[1]]), V),
    "vstack": (lambda x: np.vstack([x, W]), B),
    "hstack": (lambda x: np.hstack([x, V[:, None]]), B),
    "hstack of vectors": (lambda x: np.hstack([x, x[0]]), V),
    "dstack": (lambda x: np.dstack([x, B]), B),
    "column_stack": (lambda x: np.column_stack([x, B, x]), V),
    "block": (lambda x: np.block([[x, np.zeros((3, 3))], [x * 2, A]]), A),
    "block of vectors": (lambda x: np.block([x, 1.0, x]), V),
    "append": (lambda x: np.append(x, [1.0, 2.0]), B),
    "append rows": (lambda x: np.append(x, B, axis=0), B),
    "split": (lambda x: np.split(x, 2, 1)[1], B),
    "array_split": (lambda x: np.array_split(x, 3, 1)[0], B),
    "array_split at": (lambda x: np.array_split(x, [1, 3])[1], W),
    "hsplit": (lambda x: np.hsplit(x, 2)[0], B),
    "vsplit": (lambda x: np.vsplit(x, 3)[2], B),
    "dsplit": (lambda x: np.dsplit(x, 2)[1], BOX),
    "repeat": (lambda x: np.repeat(x, 2), B),
    "repeat rows": (lambda x: np.repeat(x, [1, 0, 2], axis=0), B),
    "tile": (lambda x: np.tile(x, (2, 1, 2)), B),
    "roll": (lambda x: np.roll(x, 1), B),
    "roll along axes": (lambda x: np.roll(x, (1, 2), axis=(0, 1)), B),
    "resize": (lambda x: np.resize(x, (2, 5)), V),
    **{
        f"pad {mode}": (lambda x, m=mode: np.pad(x, ((2, 1), (1, 3)), m), B)
        for mode in ("constant", "edge", "reflect", "symmetric", "wrap")
    },
    "pad by more than the length": (lambda x: np.pad(x, 7, "reflect"), V),
    "pad with a constant": (lambda x: np.pad(x, 2, constant_values=5.0), B),
    "pad with two constants": (
        lambda x: np.pad(x, 2, mode="constant", constant_values=(1, 2)),
        np.arange(1.0, 7.0).reshape(2, 3),
    ),
    "insert": (lambda x: np.insert(x, 1, 7.0), V),
    "insert traced values": (lambda x: np.insert(B, [1, 3], x[:, :2], axis=1), B),
    "insert a row": (lambda x: np.insert(x, 1, x[0], axis=0), B),
    "insert at a slice": (lambda x: np.insert(x, slice(0, 2), 5, axis=1), B),
    "delete": (lambda x: np.delete(x, 1, 1), B),
    "delete several": (lambda x: np.delete(x, [0, 5]), B),
    "delete by mask": (lambda x: np.delete(x, np.array([True, False, True]), axis=0), B),
}

if hasattr(np, "unstack"):  # new in NumPy 2.1
    JOINING["unstack"] = (lambda x: np.unstack(x, axis=1)[1], B)

SELECTING: dict[str, tuple[Function, Any]] = {
    "diag of a vector": (lambda x: np.diag(x, 1), V),
    "diag of a matrix": (np.diag, B),
    "diagonal": (lambda x: np.diagonal(x, 1, 0, 2), BOX),
    "linalg.diagonal": (np.linalg.diagonal, BOX),
    "diagflat": (np.diagflat, B),
    "tril": (lambda x: np.tril(x, -1), BOX),
    "triu": (np.triu, B),
    "take": (lambda x: np.take(x, [0, 2, 0, -1], axis=1), B),
    "take flat": (lambda x: np.take(x, [[0, 5], [5, 1]]), B),
    "take one": (lambda x: np.take(x, 1, axis=1), B),
    "take, wrap": (lambda x: np.take(x, [7, -9], axis=1, mode="wrap"), B),
    "take, clip": (lambda x: np.take(x, [7, -9], axis=1, mode="clip"), B),
    "take_along_axis": (
        lambda x: np.take_along_axis(x, np.argsort(x, axis=0)[:2], axis=0),
        B,
    ),
    "take_along_axis flat": (lambda x: np.take_along_axis(x, np.array([3, 3, 0]), None), B),
    "choose": (lambda x: np.choose(np.array([0, 1, 2, 0]), [x, W, x * x]), W),
    "choose rows": (lambda x: np.choose(np.array([[0], [1], [2]]), x), B),
    "choose, wrap": (lambda x: np.choose([3, -1, 4, 1], [x, W, x * x], mode="wrap"), W),
    "compress": (lambda x: np.compress([True, False, True], x, axis=1), B),
    "compress flat": (lambda x: np.compress([True, False, True], x), B),
    "extract": (lambda x: np.extract(x > 0, x), B),
    "boolean mask": (lambda x: x[x > 0], B),
    "bincount": (lambda x: np.bincount([0, 2, 2], x, 5), V),
    "unravel_index": (lambda x: x[np.unravel_index(np.argmax(x), x.shape)] * x, B),
    "ix_": (lambda x: x[np.ix_(np.argsort(x[:, 0]), [0, 2])], B),
    "sliding_window_view": (lambda x: sliding_window_view(x, (2, 2)), B),
    "sliding_window_view, axis": (lambda x: sliding_window_view(x, 2, -1), B),
    "sliding_window_view, an axis twice": (lambda x: sliding_window_view(x, (2, 2), (1, 1)), B),
    "sliding_window_view, long": (lambda x: sliding_window_view(x, 40), np.sin(np.arange(43.0))),
}

ORDERING: dict[str, tuple[Function, Any]] = {
    "sort": (np.sort, B),
    "sort columns": (lambda x: np.sort(x, 0), B),
    "sort flat": (lambda x: np.sort(x, None), B),
    "partition": (lambda x: np.partition(x, 2), W),
    "argsort": (lambda x: x[np.argsort(x)], W),
    "argpartition": (lambda x: x[np.argpartition(x, 1)], W),
    "lexsort": (lambda x: x[np.lexsort((x, np.zeros(4)))], W),
    "searchsorted": (lambda x: x * np.searchsorted(np.sort(x), 0.1), W),
    "digitize": (lambda x: x * np.digitize(x, [-1.0, 0.0, 1.0]), W),
    "unique": (np.unique, W),
    "unique with counts": (lambda x: np.unique(x, return_counts=True)[0], W),
    "array_equiv": (lambda x: x * 2 if np.array_equiv(x, W) else x, W + 1),
}

SAMPLES: dict[str, tuple[Function, Any]] = {
    "convolve": (lambda x: np.convolve(x, W), V),
    "gradient": (np.gradient, W),
    "gradient of an axis": (lambda x: np.gradient(x, 0.5, axis=1), B),
    "gradient of every axis": (lambda x: np.gradient(x)[0], B),
    "gradient, edges of second order": (lambda x: np.gradient(x, 0.1, edge_order=2), W),
    "gradient at traced coordinates": (
        lambda x: np.gradient(np.sin(x), np.cumsum(np.exp(x)), edge_order=2),
        W,
    ),
    "gradient at coordinates": (lambda x: np.gradient(x, np.array(KNOTS), axis=1), B),
    "interp": (lambda x: np.interp(x, KNOTS, [1, 3, 2, 5.0]), BETWEEN_KNOTS),
    "interp by the values": (lambda x: np.interp([*BETWEEN_KNOTS, 2.0, -1.0, 0.0], KNOTS, x), W),
    "interp by the knots": (lambda x: np.interp(BETWEEN_KNOTS, x, W, left=0), np.array(KNOTS)),
    "interp, periodic": (
        lambda x: np.interp(x, KNOTS, [1, 3, 2, 5.0], period=3.3),
        np.append(BETWEEN_KNOTS, 8.0),
    ),
    "interp between fixed ends": (
        lambda x: np.interp(x, KNOTS, [1, 3, 2, 5.0], left=-9, right=9) * x,
        BETWEEN_KNOTS,
    ),
    "interp with one knot": (lambda x: np.interp(x, [1.0], [2.0]) * x, V),
    "polyval": (lambda x: np.polyval([1.0, 2, 3], x), B),
    "polyval by the coefficients": (lambda x: np.polyval(x, 0.7), V),
    "vander": (np.vander, V),
    "vander, increasing": (lambda x: np.vander(x, 5, increasing=True), V),
    "apply_along_axis": (lambda x: np.apply_along_axis(lambda r: np.outer(r, r), 1, x), B),
    "apply_along_axis to numbers": (lambda x: np.apply_along_axis(np.sum, 0, x), B),
    "ediff1d": (lambda x: np.ediff1d(x, to_end=[9.0]), B),
    "linspace": (lambda x: np.linspace(0, x, 5), V),
    "linspace without end": (lambda x: np.linspace(x[0], x[1], 5, endpoint=False), V),
    "logspace": (lambda x: np.logspace(x[0], x[1], 5), V / 2),
}

EMPTY: dict[str, tuple[Function, Any]] = {
    "concatenate": (lambda x: np.concatenate([x, x[1:]]), np.zeros((2, 0))),
    "stack": (lambda x: np.stack([x, x]), np.zeros(0)),
    "tile": (lambda x: np.tile(x, 3), np.zeros(0)),
    "sort": (np.sort, np.zeros(0)),
    "take": (lambda x: np.take(x, [], axis=0), B),
    "split": (lambda x: np.split(x, [0], axis=0)[0], B),
    "repeat": (lambda x: np.repeat(x, 0), B),
    "tril": (np.tril, np.zeros((0, 3))),
    "diag": (np.diag, np.zeros(0)),
    "resize": (lambda x: np.resize(x, (2, 2)), np.zeros(0)),
    "pad": (lambda x: np.pad(x, 1), np.zeros((0, 2))),
    "flip": (np.flip, np.zeros((0, 2))),
    "array_split": (lambda x: np.array_split(x, 5)[4], V),
}


def writing(write: Callable[[Any, Any], None]) -> Function:
    """The function that fills zeros like `x` by one of NumPy's in-place functions."""

    def f(x: Any) -> Any:
        out = np.zeros_like(x)
        write(out, x)
        return out

    return f


WRITING: dict[str, tuple[Function, Any]] = {
    "put": (writing(lambda out, x: np.put(out, [0, 5], x[0])), B),
    "put_along_axis": (
        writing(lambda out, x: np.put_along_axis(out, np.array([[0], [1], [2]]), x[:, :1], 1)),
        B,
    ),
    "place": (writing(lambda out, x: np.place(out, B > 0, x[0])), B),
    "putmask": (writing(lambda out, x: np.putmask(out, B > 0, x[0])), B),
    "fill_diagonal": (writing(lambda out, x: np.fill_diagonal(out, x[0])), A),
    "add.at": (writing(lambda out, x: np.add.at(out, [0, 0, 2], x)), A),
    "subtract.at": (
        writing(lambda out, x: np.subtract.at(out, (slice(None), [1, 1]), x[:, :2])),
        A,
    ),
}


def by_view(write: Callable[[Any], None]) -> Function:
    """The function that changes a copy of `x` through a view of it."""

    def f(x: Any) -> Any:
        y = x * 1.0
        write(y)
        return y

    return f


def _split_rows(y: Any) -> None:
    np.split(y, 3)[1][...] = y[0:1] ** 2


def _unravel(y: Any) -> None:
    np.ravel(y)[3] = y[0, 0] ** 3


def _flip_rows(y: Any) -> None:
    np.flip(y)[0] = y[0] ** 2


def _squeeze_row(y: Any) -> None:
    np.squeeze(y[None])[0] = y[1] ** 2


def _turn(y: Any) -> None:
    np.rot90(y)[0] *= 3


def _grow(y: Any) -> None:
    np.atleast_3d(y)[0] = 5


def _read_after_write(y: Any) -> None:
    columns = np.moveaxis(y, 0, 1)
    y *= 2
    columns[0] = columns[1] * y[0]


VIEWS = {
    write.__name__: (by_view(write), A)
    for write in (
        _split_rows, _unravel, _flip_rows, _squeeze_row, _turn, _grow, _read_after_write
    )
}  # fmt: skip

CASES = {
    f"{family}: {name}": case
    for family, table in {
        "reshaping": RESHAPING,
        "joining": JOINING,
        "selecting": SELECTING,
        "ordering": ORDERING,
        "samples": SAMPLES,
        "empty": EMPTY,
        "writing": WRITING,
        "view": VIEWS,
    }.items()
    for name, case in table.items()
}


@pytest.mark.parametrize(("f", "x"), CASES.values(), ids=CASES)
def test_first_and_second_derivatives(f: Function, x: Any) -> None:
    assert_derivatives(f, x)


@pytest.mark.parametrize(("f", "x"), CASES.values(), ids=CASES)
def test_single_precision_stays(f: Function, x: Any) -> None:
    assert_single_precision(f, x)


@pytest.mark.parametrize("mode", ["full", "same", "valid"])
@pytest.mark.parametrize("product", [np.convolve, np.correlate])
@pytest.mark.parametrize("lengths", [(3, 4), (4, 3), (5, 2), (2, 5), (1, 3), (3, 3)])
def test_convolution_has_numpys_modes(product: Any, mode: str, lengths: tuple[int, int]) -> None:
    a, v = numbers(lengths[0], 1)[:, 0], numbers(lengths[1], 2)[:, 0]
    assert_derivatives(lambda x: product(x, v, mode), a)
    assert_derivatives(lambda x: product(a, x, mode), v)


# ---------------------------------------------------------------------- laws


@given(array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=3), st.data())
def test_movements_pull_back_by_their_transpose(shape: tuple[int, ...], data: Any) -> None:
    """<g, move(x)> = <pull(g), x> for each of the movements of one array."""
    name, static = data.draw(
        st.sampled_from(
            [
                ("reshape", {"shape": (-1,)}) if 0 not in shape else ("tril", {}),
                ("transpose", {}),
                ("broadcast_to", {"shape": (2, *shape)}),
                ("tile", {"reps": (2, 2)}),
                ("repeat", {"repeats": 2, "axis": 0}),
                ("roll", {"shift": 1}),
                ("tril", {"k": -1}),
                ("triu", {}),
                ("diagflat", {"k": 1}),
                ("resize", {"new_shape": (2, 3)}),
                ("index", {"index": (slice(None, None, -1),)}),
                ("pad", {"pad_width": 1, "mode": "constant"}),
            ]
        )
    )
    x = numbers(*shape, 1)[..., 0]
    primitive = PRIMITIVES[name]
    y = primitive.function(x, **static)
    g = numbers(*np.shape(y), 2)[..., 0]
    pulled = np.asarray(primitive.pull(0, g, y, (x,), static))
    pulled = pulled.sum(axis=tuple(range(pulled.ndim - x.ndim)))
    assert pulled.shape == x.shape
    np.testing.assert_allclose(np.sum(g * y), np.sum(pulled * x), atol=1e-12)


def test_unique_keeps_its_outcomes_apart() -> None:
    labels = np.array([2.0, 1.0, 2.0])

    def f(x: Any, labels: Any) -> Any:
        values, inverse, counts = np.unique(labels, return_inverse=True, return_counts=True)
        return np.sum(x * values[inverse] * counts[inverse])

    np.testing.assert_allclose(dk.gradient(f, V, labels), [4.0, 1.0, 4.0])


@pytest.mark.parametrize(
    "f",
    [
        lambda x, y: np.take_along_axis(x, y[:, None], 1),
        lambda x, y: np.take(x, y, axis=1),
        lambda x, y: x[np.arange(3), y],
        lambda x, y: np.eye(4)[y] * x,
        lambda x, y: np.choose(y, x.T),
        lambda x, y: np.repeat(x, y, axis=0),
        lambda x, y: np.insert(x, y[:1], 7.0, axis=1),
        lambda x, y: np.delete(x, y, axis=1),
        lambda x, y: np.roll(x, y[0]),
        lambda x, y: np.compress(np.isin(y, [1, 2]), x, axis=0),
        lambda x, y: np.compress(y, x, axis=0),
        lambda x, y: x[np.isin(x, x[:1])],
        lambda x, y: np.bincount(y, x[:, 0]),
        lambda x, y: np.extract(y > 0, x[:, 0]),
        lambda x, y: np.split(x, y[:1], axis=1)[0],
        lambda x, y: np.pad(x, y[0]),
        lambda x, y: np.tril(x, y[0]),
    ],
)
def test_indices_may_be_data(f: Callable[[Any, Any], Any]) -> None:
    first, second = np.array([2, 0, 1]), np.array([1, 3, 0])
    prepared = dk.prepare(f, B, first)
    for labels in (first, second, first):
        expected = central_jacobian(lambda x, y=labels: f(x, y), B)
        assert_close(prepared.jacobian(B, labels), expected)


@pytest.mark.filterwarnings("ignore::diffkit.errors.KinkWarning")
def test_slope_at_a_knot_is_the_mean_of_its_two_segments() -> None:
    slopes = dk.gradient(
        lambda x: np.sum(np.interp(x, [0.0, 1.0, 3.0], [0.0, 2.0, 0.0])), np.array([0, 1.0, 3])
    )
    np.testing.assert_allclose(slopes, [1.0, 0.5, -0.5])


def test_an_order_is_a_guard() -> None:
    prepared = dk.prepare(lambda x: np.sort(x)[0] ** 2, np.array([1.0, 2.0]))
    np.testing.assert_array_equal(prepared.gradient(np.array([3.0, 2.0])), [0.0, 4.0])
    np.testing.assert_array_equal(prepared.gradient(np.array([3.0, 4.0])), [6.0, 0.0])


# ---------------------------------------------------------------------- refusals


def into_plain_zeros(write: Callable[[Any, Any], None]) -> Function:
    """The function that writes into an array that is not traced."""

    def f(x: Any) -> Any:
        out = np.zeros((3, 4))
        write(out, x)
        return out

    return f


@pytest.mark.parametrize(
    ("f", "message"),
    [
        (lambda x: np.pad(x, 1, "mean"), "np.pad"),
        (lambda x: np.pad(x, 1, "reflect", reflect_type="odd"), "np.pad"),
        (lambda x: np.ravel(x.T, "K"), "order='K'"),
        (lambda x: np.reshape(x, -1, order="A"), "order='A'"),
        (lambda x: np.unique(np.stack([x, x])), "np.unique"),
        (into_plain_zeros(lambda out, x: np.put(out, [0], x[0, :1])), "np.put"),
        (into_plain_zeros(lambda out, x: np.putmask(out, B > 0, x[0, 0])), "np.putmask"),
        (into_plain_zeros(lambda out, x: np.add.at(out, [0], x[0])), "np.add.at"),
        (into_plain_zeros(lambda out, x: np.fill_diagonal(out, x[0, 0])), "out of the graph"),
    ],
)
def test_refused_with_the_line(f: Function, message: str) -> None:
    with pytest.raises((dk.UnsupportedOperation, dk.TracingError), match=message) as caught:
        dk.jacobian(f, B)
    assert "test_primitives_shapes.py" in str(caught.value)


# ---------------------------------------------------------------------- the other columns

Q = [Fraction(i, 4) for i in (3, -7, 2, 5, 9, -1, 4, 6, -3, 8, 11, -5)]


def rationals(*shape: int, start: int = 0) -> Any:
    """Short dyadic fractions, exact in every kind of number."""
    out = np.empty(int(np.prod(shape)), object)
    out[:] = [Q[(start + i) % len(Q)] for i in range(out.size)]
    return out.reshape(shape)


SYMMETRIC = np.array([[Fraction(4), Fraction(1)], [Fraction(1), Fraction(3)]], object)
SQUARE = rationals(3, 3)
LARGE = np.array(
    [[Fraction((3 * i + 5 * j) % 7 + 9 * (i == j)) for j in range(5)] for i in range(5)]
)

SAMPLE_CALLS: dict[str, list[tuple[tuple[Any, ...], dict[str, Any]]]] = {
    "index": [((rationals(3, 2),), {"index": (slice(None), 1)}), ((rationals(3),), {"index": 1})],
    "add_at": [((rationals(3),), {"index": ([0, 2, 2],), "shape": (4,)})],
    "index_update": [((rationals(4), rationals(2, start=5)), {"index": slice(1, 3)})],
    "stack_scalars": [((rationals(), rationals(start=3)), {"shape": (2, 1)})],
    "reshape": [((rationals(2, 3),), {"shape": (3, 2), "order": "F"})],
    "transpose": [((rationals(2, 3),), {})],
    "laid_out": [((rationals(2, 3),), {"order": "F"})],
    "broadcast_to": [((rationals(3),), {"shape": (2, 3)})],
    "astype": [((rationals(3),), {"dtype": np.float64})],
    "to_integer": [((rationals(3),), {"dtype": np.int64})],
    "concatenate": [((rationals(2), rationals(3, start=2)), {"axis": 0})],
    "stack": [((rationals(2), rationals(2, start=2)), {"axis": 1}), ((rationals(),), {"axis": 0})],
    "repeat": [((rationals(3),), {"repeats": [1, 0, 2]})],
    "tile": [((rationals(3),), {"reps": 2})],
    "roll": [((rationals(3),), {"shift": 1})],
    "delete": [((rationals(3),), {"obj": 1})],
    "resize": [((rationals(3),), {"new_shape": (2, 2)}), ((rationals(0),), {"new_shape": (2,)})],
    "pad": [((rationals(2, 2),), {"pad_width": 1, "mode": "constant"})],
    "diag": [((rationals(2),), {}), ((rationals(2, 2),), {"k": 1})],
    "diagflat": [((rationals(2),), {"k": -1})],
    "tril": [((rationals(2, 3),), {"k": 0})],
    "triu": [((rationals(2, 3),), {"k": 1})],
    "diagonal": [((rationals(2, 3),), {})],
    "sliding_window_view": [((rationals(4),), {"window_shape": 2})],
    "einsum_view": [((rationals(2, 2),), {"subscripts": "ii->i"})],
    "matmul": [
        ((rationals(2, 3), rationals(3, 2)), {}),
        ((rationals(3), rationals(3)), {}),
        ((rationals(2, 0), rationals(0, 2)), {}),
    ],
    "contraction": [
        ((rationals(2, 3), rationals(3, 2)), {"subscripts": "ij,jk->ki"}),
        ((rationals(2, 0), rationals(0, 2)), {"subscripts": "ij,jk->ki"}),
        ((rationals(2), rationals(2, 2), rationals(2)), {"subscripts": "i,ij,j->"}),
    ],
    "convolution": [((rationals(2), rationals(3)), {})],
    "solve": [
        ((SQUARE, rationals(3, 2)), {}),
        ((LARGE, rationals(5, 1)), {}),
        ((np.stack([SQUARE, SQUARE * 2]), rationals(3, 1)), {}),
    ],
    "inv": [((SQUARE,), {}), ((np.stack([SQUARE, SQUARE * 2]),), {})],
    "inv_or_nan": [((SQUARE,), {})],
    "det": [((SQUARE,), {}), ((LARGE,), {}), ((rationals(2, 0, 0),), {})],
    "large_cofactors": [((SQUARE,), {})],
    "log_abs_det": [((SQUARE,), {})],
    "sign_of_det": [((SQUARE,), {}), ((np.stack([SQUARE, SQUARE[::-1]]),), {})],
    "cholesky": [((SYMMETRIC,), {}), ((np.stack([SYMMETRIC, SYMMETRIC * 2]),), {})],
    "linalg.eigh": [((SYMMETRIC,), {"uplo": "L"}), ((np.stack([SYMMETRIC] * 2),), {"uplo": "U"})],
    "eigenvalues": [((SYMMETRIC, rationals(3, 2)), {"uplo": "L"})],
    "eigenvectors": [((SYMMETRIC, rationals(3, 2)), {"uplo": "L"})],
    "linalg.eigvalsh": [((SYMMETRIC,), {"uplo": "L"})],
    "linalg.svd": [((rationals(3, 2),), {"full": False}), ((rationals(2, 3),), {"full": False})],
    "singular_values": [((rationals(3, 2), rationals(15)), {"full": True})],
    "left_vectors": [((rationals(3, 2), rationals(15)), {"full": True})],
    "right_vectors": [((rationals(3, 2), rationals(15)), {"full": True})],
    "linalg.svdvals": [((rationals(3, 2),), {})],
    "coincident": [((rationals(3),), {"null": True})],
    "onto_diagonal": [((rationals(3), rationals(3, start=2)), {"null": False})],
    "diagonal_part": [((rationals(3, 3), rationals(3)), {"null": False})],
    "linalg.qr": [((rationals(3, 2),), {"complete": False})],
    "q_part": [((rationals(3, 2), rationals(10)), {"complete": False})],
    "r_part": [((rationals(3, 2), rationals(10)), {"complete": False})],
    "linalg.pinv": [((rationals(3, 2),), {}), ((rationals(2, 3),), {})],
    "linalg.lstsq": [((rationals(3, 2), rationals(3, 1)), {"rcond": None})],
    "fft.fft": [
        ((rationals(3, 2),), {"axis": 0, "norm": "ortho", "inverse": False}),
        ((rationals(2, 4, 2),), {"axis": 1, "norm": "backward", "inverse": True}),
    ],
    "fft.rfft": [((rationals(2, 5),), {"axis": 1, "norm": "forward"})],
    "fft.irfft": [((rationals(3, 2),), {"n": n, "axis": 0, "norm": "backward"}) for n in (4, 5)],
    "argsort": [((rationals(2, 3),), {"axis": 0})],
    "argpartition": [((rationals(4),), {"kth": 1})],
    "lexsort": [((rationals(4), rationals(4, start=2)), {"axis": -1})],
    "searchsorted": [((np.sort(rationals(4)), rationals(2)), {"side": "right"})],
    "digitize": [((rationals(3), np.sort(rationals(4))), {"right": False})],
    "unique_index": [((rationals(4),), {})],
    "unique_inverse": [((np.array([Q[0], Q[1], Q[0]]),), {})],
    "unique_counts": [((np.array([Q[0], Q[1], Q[0]]),), {})],
    "sum": [((rationals(2, 3),), {"axis": (1,), "keepdims": False})],
    "prod": [((rationals(2, 3),), {"axis": (0,), "keepdims": True})],
    "max": [((rationals(2, 3),), {"axis": (1,), "keepdims": False})],
    "min": [((rationals(2, 3),), {"axis": None, "keepdims": False})],
    "cumsum": [((rationals(2, 3),), {"axis": 1})],
    "cumprod": [((rationals(2, 3),), {"axis": 0})],
    "all": [((rationals(3),), {"axis": None, "keepdims": False})],
    "any": [((rationals(3),), {"axis": None, "keepdims": False})],
    "euclidean": [((rationals(2, 3),), {"axis": (1,), "keepdims": False})],
    "argmax": [((rationals(2, 3),), {"axis": (1,), "keepdims": False})],
    "argmin": [((rationals(2, 3),), {"axis": None, "keepdims": False})],
}

CALLS = [
    pytest.param(PRIMITIVES[name], arguments, static, id=f"{name} {i}")
    for name, calls in SAMPLE_CALLS.items()
    if name in PRIMITIVES
    for i, (arguments, static) in enumerate(calls)
]


def test_every_row_of_arrays_is_sampled() -> None:
    rows = {
        name
        for name, primitive in PRIMITIVES.items()
        if not primitive.elementwise and primitive.exact is not BY_VALUE
    }
    assert rows == set(SAMPLE_CALLS)


def column_value(
    primitive: Primitive, column: Any, module: Any, arguments: Any, static: Any
) -> list[float]:
    """What a column gives, as floating-point numbers in C order."""
    if isinstance(column, Same):
        value = primitive.function(*arguments, **static)
    elif isinstance(column, str):
        value = getattr(module, column)(*arguments, **static)
    else:
        value = column(module, *arguments, **static)
    entries = list(value.flat) if isinstance(value, np.ndarray) else [value]
    return [float(bool(e) if isinstance(e, BooleanAtom) else e) for e in entries]


def expected_value(primitive: Primitive, arguments: Any, static: Any) -> list[float]:
    plain = [a.astype(np.float64) for a in arguments]
    return [float(v) for v in np.ravel(primitive.function(*plain, **static))]


def converted(arguments: Any, convert: Callable[[Fraction], Any]) -> list[Any]:
    results = []
    for argument in arguments:
        out = np.empty(argument.size, object)
        for i, entry in enumerate(argument.flat):
            out[i] = convert(entry)
        results.append(out.reshape(argument.shape))
    return results


@pytest.mark.parametrize(("primitive", "arguments", "static"), CALLS)
def test_symbolic_column(primitive: Primitive, arguments: Any, static: Any) -> None:
    expected = expected_value(primitive, arguments, static)
    if isinstance(primitive.sympy, Missing):
        assert primitive.sympy.reason
        return
    exact = converted(arguments, lambda q: sp.Rational(q.numerator, q.denominator))
    actual = column_value(primitive, primitive.sympy, sp, exact, static)
    assert_close(actual, expected, 1e-14)


@pytest.mark.parametrize(("primitive", "arguments", "static"), CALLS)
def test_exact_column(primitive: Primitive, arguments: Any, static: Any) -> None:
    expected = expected_value(primitive, arguments, static)
    if isinstance(primitive.exact, Missing):
        assert primitive.exact.reason
        return
    for arithmetic in (nullcontext(MultiPrecision(40)), FlintSeries()):
        with arithmetic as A:
            exact = converted(arguments, lambda q, A=A: A.constant(float(q)))
            actual = column_value(primitive, primitive.exact, A, exact, static)
        assert_close(actual, expected, 1e-14)


@pytest.mark.parametrize(
    ("name", "arguments", "static"),
    [
        ("index", (B,), {"index": (slice(None), [0, 0, 2])}),
        ("add_at", (V,), {"index": ([1, 1, 0],), "shape": (4,)}),
        ("index_update", (W, numbers(2)), {"index": [0, 2]}),
        ("stack_scalars", (numbers(), numbers(1)[0]), {"shape": (2,)}),
        ("concatenate", (B, A), {"axis": 1}),
        ("stack", (V, V + 1), {"axis": 1}),
        ("reshape", (B,), {"shape": (4, 3), "order": "F"}),
        ("transpose", (BOX,), {"axes": (2, 0, 1)}),
        ("broadcast_to", (V,), {"shape": (2, 3)}),
        ("pad", (A,), {"pad_width": 2, "mode": "reflect"}),
        ("diag", (V,), {"k": 1}),
        ("resize", (V,), {"new_shape": (2, 4)}),
    ],
)
def test_pullback_of_a_row(name: str, arguments: tuple[Any, ...], static: dict[str, Any]) -> None:
    assert_pullback(PRIMITIVES[name], *arguments, **static)
