"""Medians and quantiles of what is not NaN, and covariances, written in traceable NumPy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from diffkit.structure import is_traced
from diffkit.tracing.graph import as_operand
from diffkit.tracing.primitives.rows import defines
from diffkit.tracing.primitives.shapes import unsupported
from diffkit.tracing.primitives.statistics import at_levels

# ---------------------------------------------------------------------- NaN left out


@defines(np.nanquantile)
def _nanquantile(
    a: Any,
    q: Any,
    axis: Any = None,
    overwrite_input: bool = False,
    method: str = "linear",
    keepdims: bool = False,
    *,
    weights: Any = None,
) -> Any:
    if method != "linear" or weights is not None or is_traced(q):
        raise unsupported(
            "np.nanquantile with another method than 'linear', with weights or with traced q",
            "select the entries that are not NaN, and use np.sort",
        )
    a = as_operand(a)
    a = a if a.dtype.kind == "f" else a.astype(np.float64)
    return at_levels(a, q, axis, keepdims, _at_level)


def _at_level(ordered: Any, level: Any) -> Any:
    """The quantile of the entries of each sorted lane that are not NaN; of none, NaN."""
    count = np.sum(np.logical_not(np.isnan(ordered)), axis=-1, keepdims=True)
    last = np.maximum(count - 1, 0)
    place = float(level) * last
    below = np.floor(place)
    fraction = (place - below).astype(ordered.dtype)
    low = np.take_along_axis(ordered, below.astype(np.intp), axis=-1)
    high = np.take_along_axis(ordered, np.minimum(below + 1, last).astype(np.intp), axis=-1)
    return (low + (high - low) * fraction)[..., 0]


@defines(np.nanpercentile)
def _nanpercentile(a: Any, q: Any, *arguments: Any, **options: Any) -> Any:
    level = q if is_traced(q) else q / 100 if isinstance(q, (int, float)) else np.asarray(q) / 100
    return _nanquantile(a, level, *arguments, **options)


@defines(np.nanmedian)
def _nanmedian(
    a: Any, axis: Any = None, out: Any = None, overwrite_input: bool = False, keepdims: Any = False
) -> Any:
    return _nanquantile(a, 0.5, axis, keepdims=keepdims is True)


# ---------------------------------------------------------------------- covariances


@defines(np.cov)
def _cov(
    m: Any,
    y: Any = None,
    rowvar: bool = True,
    bias: bool = False,
    ddof: int | None = None,
    fweights: Any = None,
    aweights: Any = None,
    *,
    dtype: Any = None,
) -> Any:
    if ddof is None:
        ddof = int(not bias)
    x = _variables(m, rowvar, dtype)
    if y is not None:
        x = np.concatenate([x, _variables(y, rowvar, dtype)], axis=0)
    weights = _weights(fweights, aweights)
    if weights is None:
        total, factor = np.shape(x)[1], np.shape(x)[1] - ddof
        mean = np.sum(x, axis=1, keepdims=True) / total
        centred = x - mean
        weighted = centred
    else:
        total = np.sum(weights)
        mean = np.sum(x * weights, axis=1, keepdims=True) / total
        lost = total if aweights is None else np.sum(weights * as_operand(aweights))
        factor = total - ddof * (1 if aweights is None else lost / total)
        centred = x - mean
        weighted = centred * weights
    return np.squeeze(np.matmul(centred, weighted.T) / factor)


def _variables(m: Any, rowvar: bool, dtype: Any) -> Any:
    """One row for each variable."""
    m = as_operand(m)
    if np.ndim(m) > 2:
        raise ValueError("m has more than 2 dimensions")
    m = m.astype(np.result_type(m.dtype, np.float64) if dtype is None else dtype)
    rows = np.atleast_2d(m)
    return rows if rowvar or np.ndim(m) < 2 else rows.T


def _weights(fweights: Any, aweights: Any) -> Any:
    given = [as_operand(w) for w in (fweights, aweights) if w is not None]
    return math.prod(given) * 1.0 if given else None


@defines(np.corrcoef)
def _corrcoef(x: Any, y: Any = None, rowvar: bool = True, *, dtype: Any = None) -> Any:
    covariance = _cov(x, y, rowvar, dtype=dtype)
    if np.ndim(covariance) == 0:
        return covariance / covariance
    deviations = np.sqrt(np.diagonal(covariance))
    return covariance / deviations[:, None] / deviations[None, :]
