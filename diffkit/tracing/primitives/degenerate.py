"""What a decomposition leaves undefined where eigenvalues or singular values coincide.

The vectors of a value that occurs twice are an arbitrary basis of their space, so no derivative
may depend on them; nor do such values have derivatives of their own, only those functions of
them that treat all alike (their sum). The rows here give NaN, which is refused, wherever a
derivative would rest on the arbitrary choice.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from diffkit.tracing.graph import Missing, Primitive
from diffkit.tracing.primitives.rows import row
from diffkit.tracing.primitives.shapes import object_array

TIED: Final = 16  # units of round-off per row, relative to the largest value
ALIKE: Final = 1e3  # units of round-off, relative to the largest adjoint


def resolution(w: Any) -> Any:
    """How far apart two values must be to count as different, for each stack of values."""
    n, eps = np.shape(w)[-1], np.finfo(w.dtype).eps
    return TIED * n * float(eps) * np.max(np.abs(w), axis=-1, keepdims=True, initial=0.0)


def tied_pairs(w: Any) -> Any:
    """For each pair of values whether they coincide; each does with itself."""
    gaps = np.abs(np.expand_dims(w, -1) - np.expand_dims(w, -2))
    return gaps <= np.expand_dims(resolution(w), -1)


def _vanishing(w: Any, null: bool) -> Any:
    """For each value whether it is zero and has a kink there, as singular values do."""
    return np.abs(w) <= resolution(w) if null else np.zeros(np.shape(w), bool)


def _coincident(w: Any, *, null: bool) -> Any:
    """Of values in order, so that those which coincide are neighbours."""
    least, near = resolution(w), np.zeros(np.shape(w), bool)
    neighbours = np.abs(w[..., 1:] - w[..., :-1]) <= least
    near[..., 1:] = neighbours
    near[..., :-1] |= neighbours
    return near | (np.abs(w) <= least) if null else near


coincident: Primitive = row(
    "coincident",  # for each value whether it equals another, or (`null`) vanishes
    _coincident,
    Missing("piecewise constant: its derivative is zero"),
    sympy=lambda S, w, *, null: np.full(np.shape(w), S.false),
    # Exact values that cannot be told apart are refused where they are made.
    exact=lambda A, w, *, null: np.full(np.shape(w), False, object),
)


def divided_by_gaps(matrix: Any, gaps: Any, pairs: Any) -> Any:
    """`matrix / gaps`, and 0 for pairs of values that coincide; what is not finite stays."""
    return np.where(pairs, 0.0 * matrix, matrix / np.where(pairs, 1.0, gaps))


def nothing_from(g: Any) -> Any:
    """Zero for each stack of adjoints that are not used; NaN where one of them is not finite."""
    return 0.0 * np.sum(g, axis=(-2, -1), keepdims=True)


def _steady(v: Any, undefined: Any) -> Any:
    return np.positive(v)


# Marks columns that are an arbitrary choice. The reverse walk asks which entries of an adjoint
# can be other than zero when it meets NaN, so columns that nothing is made of do no harm.
steady: Primitive = row(
    "steady",
    _steady,
    (lambda g, y, v, undefined: g * np.where(undefined, np.nan, 1.0), None),
    sympy=lambda S, v, undefined: v,
    exact=lambda A, v, undefined: v,
    elementwise=True,
)


def _differ(a: Any, b: Any, scale: Any) -> Any:
    return np.abs(a - b) > ALIKE * np.finfo(np.asarray(scale).dtype).eps * scale


def _spread(g: Any, w: Any, *, null: bool) -> Any:
    identity = np.eye(np.shape(w)[-1], dtype=g.dtype)
    if not np.any(_coincident(w, null=null)):
        return np.expand_dims(g, -1) * identity
    scale = np.max(np.abs(g), axis=-1, keepdims=True, initial=0.0)
    apart = _differ(np.expand_dims(g, -1), np.expand_dims(g, -2), np.expand_dims(scale, -1))
    undefined = np.any(tied_pairs(w) & apart, axis=-1) | (
        _vanishing(w, null) & _differ(g, 0, scale)
    )
    diagonal = np.where(undefined, np.nan, g).astype(g.dtype)
    return np.expand_dims(diagonal, -1) * identity


def _diagonal_part(h: Any, w: Any, *, null: bool) -> Any:
    scale = np.max(np.abs(h), axis=(-2, -1), initial=0.0)[..., None]
    diagonal = np.diagonal(h, axis1=-2, axis2=-1)
    n = np.shape(w)[-1]
    rest = h - np.expand_dims(diagonal, -1) * np.eye(n, dtype=h.dtype)
    apart = _differ(np.expand_dims(diagonal, -1), np.expand_dims(diagonal, -2), scale[..., None])
    coupled = apart | _differ(rest, 0, scale[..., None])
    undefined = np.any(tied_pairs(w) & coupled, axis=-1)
    undefined |= _vanishing(w, null) & _differ(diagonal, 0, scale)
    return np.where(undefined, np.nan, diagonal).astype(h.dtype)


def _object_diagonal(zero: Any, g: Any) -> Any:
    n = np.shape(g)[-1]
    out = np.empty((*np.shape(g), n), object)
    out.fill(zero)
    out[..., np.arange(n), np.arange(n)] = g
    return out


def _diagonal_of(h: Any) -> Any:
    n = np.shape(h)[-1]
    entries = h[..., np.arange(n), np.arange(n)]
    return object_array(list(entries.flat), np.shape(entries))


spread: Primitive = row(
    "onto_diagonal",  # the adjoints of values; NaN where those of values that coincide differ
    _spread,
    (lambda g, y, h, w, *, null: diagonal_part(g, w, null=null), None),
    sympy=lambda S, g, w, *, null: _object_diagonal(S.Integer(0), g),
    exact=lambda A, g, w, *, null: _object_diagonal(A.constant(0), g),
)
diagonal_part: Primitive = row(
    "diagonal_part",  # the derivatives of values; NaN where those that coincide part
    _diagonal_part,
    (lambda g, y, h, w, *, null: spread(g, w, null=null), None),
    sympy=lambda S, h, w, *, null: _diagonal_of(h),
    exact=lambda A, h, w, *, null: _diagonal_of(h),
)
