"""Polynomials by their coefficients, highest power first, written in traceable NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np

from diffkit.tracing.graph import as_operand
from diffkit.tracing.primitives.rows import defines
from diffkit.tracing.primitives.shapes import unsupported


def _coefficients(p: Any) -> Any:
    p = np.atleast_1d(as_operand(p))
    return p if p.dtype.kind == "f" else p.astype(np.float64)


@defines(np.poly)
def _poly(seq_of_zeros: Any) -> Any:
    zeros = np.atleast_1d(as_operand(seq_of_zeros))
    if np.ndim(zeros) != 1:
        raise unsupported(
            "np.poly of a matrix needs its eigenvalues, which", "give the roots themselves"
        )
    product = np.ones(1, zeros.dtype)
    for zero in zeros:
        product = np.convolve(product, np.stack([np.ones((), zeros.dtype), -zero]))
    return product


def _added(a: Any, b: Any, sign: int) -> Any:
    a, b = _coefficients(a), _coefficients(b)
    length = max(np.shape(a)[0], np.shape(b)[0])
    a, b = (np.pad(p, (length - np.shape(p)[0], 0)) for p in (a, b))
    return a + b if sign > 0 else a - b


@defines(np.polyadd)
def _polyadd(a1: Any, a2: Any) -> Any:
    return _added(a1, a2, 1)


@defines(np.polysub)
def _polysub(a1: Any, a2: Any) -> Any:
    return _added(a1, a2, -1)


@defines(np.polymul)
def _polymul(a1: Any, a2: Any) -> Any:
    return np.convolve(_coefficients(a1), _coefficients(a2))


@defines(np.polyder)
def _polyder(p: Any, m: int = 1) -> Any:
    if m < 0:
        raise ValueError("Order of derivative must be positive (see polyint)")
    p = _coefficients(p)
    for _ in range(m):
        p = p[:-1] * np.arange(np.shape(p)[0] - 1, 0, -1).astype(p.dtype)
    return p


@defines(np.polyint)
def _polyint(p: Any, m: int = 1, k: Any = None) -> Any:
    if m < 0:
        raise ValueError("Order of integral must be positive (see polyder)")
    p = _coefficients(p)
    constants = np.zeros(m) if k is None else np.atleast_1d(as_operand(k))
    if np.shape(constants)[0] == 1:
        constants = np.broadcast_to(constants, (m,))
    for constant in constants[:m]:
        raised = p / np.arange(np.shape(p)[0], 0, -1).astype(p.dtype)
        p = np.concatenate([raised, np.reshape(constant, (1,)).astype(p.dtype)])
    return p


@defines(np.polyfit)
def _polyfit(
    x: Any,
    y: Any,
    deg: int,
    rcond: float | None = None,
    full: bool = False,
    w: Any = None,
    cov: Any = False,
) -> Any:
    """As NumPy: least squares with columns scaled to length one."""
    if full or cov:
        raise unsupported("np.polyfit with full or cov", "ask for the coefficients alone")
    x, y = _coefficients(x), _coefficients(y)
    matrix = np.vander(x, deg + 1)
    if w is not None:
        w = _coefficients(w)
        matrix, y = matrix * w[:, None], y * (w[:, None] if np.ndim(y) == 2 else w)
    lengths = np.sqrt(np.sum(np.square(matrix), axis=0))
    cutoff = np.shape(x)[0] * float(np.finfo(x.dtype).eps) if rcond is None else rcond
    fitted = np.linalg.lstsq(matrix / lengths, y, cutoff)[0]
    return (fitted.T / lengths).T
