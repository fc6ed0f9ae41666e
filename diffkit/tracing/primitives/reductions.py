"""Rows that reduce or accumulate along axes, under NumPy's names and as methods of ufuncs."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable
from functools import reduce
from typing import Any, Final

import numpy as np

from diffkit.tracing.graph import Missing, Rule, as_operand
from diffkit.tracing.primitives.counterparts import number, truth
from diffkit.tracing.primitives.lanes import (
    Axes,
    Lane,
    accumulate_objects,
    from_lanes,
    kept_shape,
    lane_length,
    normalized,
    one_axis,
    reduce_objects,
    reduced_shape,
    reverse,
    spread,
    to_lanes,
)
from diffkit.tracing.primitives.rows import defines, row

ABSENT: Final = object()

# ---------------------------------------------------------------------- columns


def _symbolic(reduce_lane: Callable[[Any, Lane], Any]) -> Rule:
    return lambda S, a, *, axis, keepdims: reduce_objects(
        lambda lane: reduce_lane(S, lane), a, axis, keepdims
    )


def _exact(reduce_lane: Callable[[Any, Lane], Any]) -> Rule:
    return lambda A, a, *, axis, keepdims: reduce_objects(
        lambda lane: reduce_lane(A, lane), a, axis, keepdims
    )


def _numbers(S: Any, lane: Lane) -> Lane:
    return [number(S, entry) for entry in lane]


def _truths(S: Any, lane: Lane) -> Lane:
    return [truth(S, entry) for entry in lane]


def _first_best(better: Callable[[Any, Any], Any], lane: Lane) -> int:
    best = 0
    for i in range(1, len(lane)):
        if better(lane[i], lane[best]):
            best = i
    return best


# ---------------------------------------------------------------------- rows

sum_ = row(
    "sum",
    lambda a, *, axis, keepdims: np.add.reduce(a, axis, keepdims=keepdims),
    (lambda g, y, a, *, axis, keepdims: spread(g, np.shape(a), axis),),
    sympy=_symbolic(lambda S, lane: S.Add(*_numbers(S, lane))),
    exact=_exact(lambda A, lane: reduce(A.add, lane, A.constant(0))),
    routes=True,
)


def _product_of_others(lanes: Any) -> Any:
    """For each entry the product of all others of its lane, without a division."""
    last = np.ndim(lanes) - 1
    ones = np.ones_like(lanes[..., :1])
    before = np.cumprod(np.concatenate([ones, lanes[..., :-1]], axis=last), axis=last)
    after = np.cumprod(np.concatenate([ones, reverse(lanes, last)[..., :-1]], axis=last), axis=last)
    return before * reverse(after, last)


prod = row(
    "prod",
    lambda a, *, axis, keepdims: np.prod(a, axis=axis, keepdims=keepdims),
    (
        lambda g, y, a, *, axis, keepdims: (
            spread(g, np.shape(a), axis)
            * from_lanes(_product_of_others(to_lanes(a, axis)), np.shape(a), axis)
        ),
    ),
    sympy=_symbolic(lambda S, lane: S.Mul(*_numbers(S, lane))),
    exact=_exact(lambda A, lane: reduce(A.multiply, lane, A.constant(1))),
)


def _shared_among_extremes(g: Any, y: Any, a: Any, *, axis: Axes, keepdims: bool) -> Any:
    shape = np.shape(a)
    if type(a) is type(g) is np.ndarray:
        extreme = a == np.reshape(y, kept_shape(shape, axis))
        if np.count_nonzero(extreme) == np.size(y) and np.isfinite(np.add.reduce(y, None)):
            return np.where(extreme, np.reshape(g, kept_shape(shape, axis)), 0.0)  # no ties
    extreme = (a == spread(y, shape, axis)) | (a != a)
    count = np.sum(extreme, axis=axis, keepdims=True, dtype=a.dtype)
    return np.where(extreme, np.reshape(g, kept_shape(shape, axis)) / count, 0)


max_ = row(
    "max",
    lambda a, *, axis, keepdims: np.maximum.reduce(a, axis, keepdims=keepdims),
    (_shared_among_extremes,),
    sympy=_symbolic(lambda S, lane: S.Max(*_numbers(S, lane))),
    exact=_exact(lambda A, lane: reduce(A.maximum, lane)),
    routes=True,
)
min_ = row(
    "min",
    lambda a, *, axis, keepdims: np.minimum.reduce(a, axis, keepdims=keepdims),
    (_shared_among_extremes,),
    sympy=_symbolic(lambda S, lane: S.Min(*_numbers(S, lane))),
    exact=_exact(lambda A, lane: reduce(A.minimum, lane)),
    routes=True,
)

cumsum = row(
    "cumsum",
    lambda a, *, axis: np.cumsum(a, axis=axis),
    (lambda g, y, a, *, axis: reverse(np.cumsum(reverse(g, axis), axis=axis), axis),),
    sympy=lambda S, a, *, axis: accumulate_objects(
        lambda lane: list(itertools.accumulate(_numbers(S, lane))), a, axis
    ),
    exact=lambda A, a, *, axis: accumulate_objects(
        lambda lane: list(itertools.accumulate(lane, A.add)), a, axis
    ),
    routes=True,
)


def _cumprod_adjoint(g: Any, y: Any, a: Any, *, axis: int) -> Any:
    """The adjoint of a running product, without a division.

    Entry i receives (product of all before i) * h_i, where h_i = g_i + a_{i+1} h_{i+1}. That
    recurrence is solved for all i at once by doubling the distance it reaches.
    """
    lanes, h = to_lanes(a, (axis,)), to_lanes(g, (axis,))
    last, length = np.ndim(a) - 1, np.shape(a)[axis]
    edge = lanes[..., :1]
    factor = np.concatenate([lanes[..., 1:], np.zeros_like(edge)], axis=last)
    distance = 1
    while distance < length:
        reached = h[..., :-distance] + factor[..., :-distance] * h[..., distance:]
        h = np.concatenate([reached, h[..., -distance:]], axis=last)
        doubled = factor[..., :-distance] * factor[..., distance:]
        factor = np.concatenate([doubled, factor[..., -distance:]], axis=last)
        distance *= 2
    before = np.concatenate([np.ones_like(edge), to_lanes(y, (axis,))[..., :-1]], axis=last)
    return from_lanes(before * h, np.shape(a), (axis,))


cumprod = row(
    "cumprod",
    lambda a, *, axis: np.cumprod(a, axis=axis),
    (_cumprod_adjoint,),
    sympy=lambda S, a, *, axis: accumulate_objects(
        lambda lane: list(itertools.accumulate(_numbers(S, lane), operator.mul)), a, axis
    ),
    exact=lambda A, a, *, axis: accumulate_objects(
        lambda lane: list(itertools.accumulate(lane, A.multiply)), a, axis
    ),
)

_STEP: Final = Missing("piecewise constant: its derivative is zero")

all_ = row(
    "all",
    lambda a, *, axis, keepdims: np.all(a, axis=axis, keepdims=keepdims),
    _STEP,
    sympy=_symbolic(lambda S, lane: S.And(*_truths(S, lane))),
    exact=_exact(lambda A, lane: reduce(A.logical_and, lane, True)),
)
any_ = row(
    "any",
    lambda a, *, axis, keepdims: np.any(a, axis=axis, keepdims=keepdims),
    _STEP,
    sympy=_symbolic(lambda S, lane: S.Or(*_truths(S, lane))),
    exact=_exact(lambda A, lane: reduce(A.logical_or, lane, False)),
)
argmax = row(
    "argmax",
    lambda a, *, axis, keepdims: np.argmax(a, axis=_only(axis), keepdims=keepdims),
    _STEP,
    sympy=Missing("the position of a maximum has no symbolic counterpart"),
    exact=_exact(lambda A, lane: A.constant(_first_best(A.greater, lane))),
)
argmin = row(
    "argmin",
    lambda a, *, axis, keepdims: np.argmin(a, axis=_only(axis), keepdims=keepdims),
    _STEP,
    sympy=Missing("the position of a minimum has no symbolic counterpart"),
    exact=_exact(lambda A, lane: A.constant(_first_best(A.less, lane))),
)


def _only(axis: Axes) -> int | None:
    return None if axis is None else axis[0]


# ---------------------------------------------------------------------- reductions


def operand(a: Any, dtype: Any = None) -> Any:
    a = as_operand(a)
    return a if dtype is None else a.astype(dtype)


@defines(np.sum)
def _sum(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    *,
    keepdims: bool = False,
    initial: Any = 0,
    where: Any = True,
) -> Any:
    a = operand(a, dtype)
    if where is not True:
        a = np.where(where, a, 0)
    total = sum_(a, axis=normalized(axis, np.ndim(a)), keepdims=keepdims)
    return total if initial is ABSENT or _is(initial, 0) else total + initial


@defines(np.prod)
def _prod(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    *,
    keepdims: bool = False,
    initial: Any = 1,
    where: Any = True,
) -> Any:
    a = operand(a, dtype)
    if where is not True:
        a = np.where(where, a, 1)
    product = prod(a, axis=normalized(axis, np.ndim(a)), keepdims=keepdims)
    return product if initial is ABSENT or _is(initial, 1) else product * initial


def _is(value: Any, neutral: int) -> bool:
    return isinstance(value, (int, float)) and value == neutral


def _extremum(primitive: Any, ufunc: np.ufunc) -> Callable[..., Any]:
    def extremum(
        a: Any,
        axis: Any = None,
        *,
        keepdims: bool = False,
        initial: Any = ABSENT,
        where: Any = True,
    ) -> Any:
        a = operand(a)
        if where is not True:
            if initial is ABSENT:
                raise ValueError(
                    f"reduction operation '{ufunc.__name__}' does not have an identity, so to "
                    "use a where mask one has to specify 'initial'"
                )
            a = np.where(where, a, initial)
        axes = normalized(axis, np.ndim(a))
        if initial is not ABSENT and lane_length(np.shape(a), axes) == 0:
            return np.full(reduced_shape(np.shape(a), axes, keepdims), initial)
        best = primitive(a, axis=axes, keepdims=keepdims)
        return best if initial is ABSENT else ufunc(best, initial)

    return extremum


_max = defines(np.max, np.amax)(_extremum(max_, np.maximum))
_min = defines(np.min, np.amin)(_extremum(min_, np.minimum))


def _test(primitive: Any, neutral: bool) -> Callable[..., Any]:
    def test(a: Any, axis: Any = None, *, keepdims: bool = False, where: Any = True) -> Any:
        a = as_operand(a)
        if where is not True:
            a = np.where(where, a, neutral)
        return primitive(a, axis=normalized(axis, np.ndim(a)), keepdims=keepdims)

    return test


_all = defines(np.all)(_test(all_, True))
_any = defines(np.any)(_test(any_, False))


@defines(np.count_nonzero)
def _count_nonzero(a: Any, axis: Any = None, *, keepdims: bool = False) -> Any:
    return np.sum(np.not_equal(as_operand(a), 0), axis=axis, keepdims=keepdims)


def _position(primitive: Any) -> Callable[..., Any]:
    def position(a: Any, axis: Any = None, *, keepdims: bool = False) -> Any:
        a = as_operand(a)
        return primitive(a, axis=_single(axis, np.ndim(a)), keepdims=keepdims)

    return position


_argmax = defines(np.argmax)(_position(argmax))
_argmin = defines(np.argmin)(_position(argmin))


def _single(axis: Any, ndim: int) -> Axes:
    return None if axis is None else (one_axis(axis, ndim),)


# ---------------------------------------------------------------------- accumulations


def _running(primitive: Any) -> Callable[..., Any]:
    def running(a: Any, axis: Any = None, dtype: Any = None) -> Any:
        a = operand(a, dtype)
        if axis is None:
            return primitive(np.reshape(a, (-1,)), axis=0)
        return primitive(a, axis=one_axis(axis, np.ndim(a)))

    return running


_cumsum = defines(np.cumsum)(_running(cumsum))
_cumprod = defines(np.cumprod)(_running(cumprod))
