"""NumPy functions that choose or round, written in terms of the rows of `selection`."""

from __future__ import annotations

from typing import Any

import numpy as np

from diffkit.errors import UnsupportedOperation
from diffkit.structure import is_traced
from diffkit.tracing.graph import as_operand
from diffkit.tracing.locations import user_location
from diffkit.tracing.primitives.rows import defines
from diffkit.tracing.primitives.shapes import unboxed


@defines(np.clip)
def _clip(a: Any, a_min: Any = None, a_max: Any = None, *, min: Any = None, max: Any = None) -> Any:
    lower, upper = (a_min if min is None else min), (a_max if max is None else max)
    clipped = np.positive(as_operand(a)) if lower is None else np.maximum(a, lower)
    return clipped if upper is None else np.minimum(clipped, upper)


@defines(np.select)
def _select(condlist: Any, choicelist: Any, default: Any = 0) -> Any:
    if len(condlist) != len(choicelist):
        raise ValueError("list of cases must be same length as list of conditions")
    result = default
    for condition, choice in zip(reversed(condlist), reversed(choicelist), strict=True):
        result = np.where(condition, choice, result)
    return result


@defines(np.piecewise)
def _piecewise(x: Any, condlist: Any, funclist: Any, *args: Any, **kw: Any) -> Any:
    """As NumPy: each function is called on those entries alone for which its condition holds."""
    x = as_operand(x)
    conditions = [_outcome(condition) for condition in _conditions(condlist, np.ndim(x))]
    if len(funclist) == len(conditions) + 1:
        conditions.append(~np.any(conditions, axis=0))
    elif len(funclist) != len(conditions):
        raise ValueError(
            f"with {len(conditions)} condition(s), either {len(conditions)} or "
            f"{len(conditions) + 1} functions are expected"
        )
    result = np.zeros_like(x)
    for condition, function in zip(conditions, funclist, strict=True):
        if not callable(function):
            result[condition] = function
        elif np.any(condition):
            result[condition] = function(x[condition], *args, **kw)
    return result


def _conditions(condlist: Any, ndim: int) -> list[Any]:
    several = isinstance(condlist, (list, tuple)) and (ndim == 0 or np.ndim(condlist[0]) > 0)
    if several or (not isinstance(condlist, (list, tuple)) and np.ndim(condlist) > ndim):
        return list(condlist)
    return [condlist]


def _outcome(condition: Any) -> Any:
    """A condition as a plain boolean array; what it was when recorded becomes a guard."""
    from diffkit.tracing.exits import settle

    condition = as_operand(condition)
    if not is_traced(condition):
        return np.asarray(condition, bool)
    return np.asarray(settle(np.not_equal(condition, 0)), bool)


# ---------------------------------------------------------------------- positions


@defines(np.nonzero)
def _nonzero(a: Any) -> Any:
    return np.nonzero(_outcome(a))


@defines(np.flatnonzero)
def _flatnonzero(a: Any) -> Any:
    return np.flatnonzero(_outcome(a))


@defines(np.argwhere)
def _argwhere(a: Any) -> Any:
    return np.argwhere(_outcome(a))


# ---------------------------------------------------------------------- rounding


@defines(np.round, np.around)
def _round(a: Any, decimals: int = 0) -> Any:
    a = as_operand(a)
    if a.dtype.kind != "f":
        if decimals < 0:
            raise UnsupportedOperation(
                f"np.round of integers to negative decimals at {user_location()} is not "
                "supported; use // and *"
            )
        return a
    if decimals == 0:
        return np.rint(a)
    scale = 10.0 ** abs(decimals)
    return np.rint(a * scale) / scale if decimals > 0 else np.rint(a / scale) * scale


@defines(np.fix)
def _fix(x: Any) -> Any:
    return np.trunc(x)


@defines(np.modf)
def _modf(x: Any, /) -> tuple[Any, Any]:
    whole = np.trunc(x)
    return np.copysign(np.where(np.isinf(x), 0, x - whole), x), whole


@defines(np.divmod)
def _divmod(x1: Any, x2: Any, /) -> tuple[Any, Any]:
    return np.floor_divide(x1, x2), np.remainder(x1, x2)


# ---------------------------------------------------------------------- special values


@defines(np.nan_to_num)
def _nan_to_num(
    x: Any, copy: bool = True, nan: Any = 0.0, posinf: Any = None, neginf: Any = None
) -> Any:
    limits = np.finfo(x.dtype) if x.dtype.kind == "f" else None
    if limits is None:
        return x
    high = limits.max if posinf is None else posinf
    low = limits.min if neginf is None else neginf
    finite = np.where(x == np.inf, high, np.where(x == -np.inf, low, x))
    result = np.where(np.isnan(x), nan, finite)
    if copy:
        return unboxed(result)
    x[...] = result
    return unboxed(x)


@defines(np.isposinf)
def _isposinf(x: Any) -> Any:
    return np.equal(x, np.inf)


@defines(np.isneginf)
def _isneginf(x: Any) -> Any:
    return np.equal(x, -np.inf)


# ---------------------------------------------------------------------- nearly equal


@defines(np.isclose)
def _isclose(a: Any, b: Any, rtol: Any = 1e-05, atol: Any = 1e-08, equal_nan: bool = False) -> Any:
    a, b = as_operand(a), as_operand(b)
    near = np.abs(a - b) <= atol + rtol * np.abs(b)
    close = (np.isfinite(b) & near) | (a == b)
    return close | (np.isnan(a) & np.isnan(b)) if equal_nan else close


@defines(np.allclose)
def _allclose(
    a: Any, b: Any, rtol: Any = 1e-05, atol: Any = 1e-08, equal_nan: bool = False
) -> bool:
    return bool(np.all(_isclose(a, b, rtol, atol, equal_nan)))


@defines(np.array_equal)
def _array_equal(a1: Any, a2: Any, equal_nan: bool = False) -> bool:
    a, b = as_operand(a1), as_operand(a2)
    if np.shape(a) != np.shape(b):
        return False
    same = np.equal(a, b)
    return bool(np.all(same | (np.isnan(a) & np.isnan(b)) if equal_nan else same))
