"""Products of arrays, written in terms of the rows of `linear_algebra`."""

from __future__ import annotations

import itertools
import string
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from diffkit.structure import concrete, is_traced
from diffkit.tracing.graph import SAME, Primitive, as_operand
from diffkit.tracing.primitives.linear_algebra import contraction, inv, matmul, solve_matrix
from diffkit.tracing.primitives.rows import defines, row
from diffkit.tracing.primitives.shapes import scatter_positions, unboxed, unsupported

# ---------------------------------------------------------------------- dot and its kin


def _array(a: Any) -> Any:
    """As an array: here a Python number has the dtype of an array of it, float64."""
    a = as_operand(a)
    return a if is_traced(a) else np.asarray(a)


@defines(np.dot)
def _dot(a: Any, b: Any) -> Any:
    a, b = _array(a), _array(b)
    if np.ndim(a) == 0 or np.ndim(b) == 0:
        return np.multiply(a, b)
    return matmul(a, b) if np.ndim(b) <= 2 else np.tensordot(a, b, axes=(-1, -2))


@defines(np.vdot)
def _vdot(a: Any, b: Any, /) -> Any:
    return matmul(np.ravel(as_operand(a)), np.ravel(as_operand(b)))


@defines(np.inner)
def _inner(a: Any, b: Any, /) -> Any:
    a, b = _array(a), _array(b)
    if np.ndim(a) == 0 or np.ndim(b) == 0:
        return np.multiply(a, b)
    return unboxed(np.tensordot(a, b, axes=(-1, -1)))


@defines(np.outer)
def _outer(a: Any, b: Any) -> Any:
    a, b = np.ravel(as_operand(a)), np.ravel(as_operand(b))
    return np.multiply(np.expand_dims(a, 1), b)


@defines(np.linalg.outer)
def _linalg_outer(x1: Any, x2: Any, /) -> Any:
    return _outer(x1, x2)


@defines(np.tensordot)
def _tensordot(a: Any, b: Any, axes: Any = 2) -> Any:
    a, b = as_operand(a), as_operand(b)
    left, right = _paired_axes(axes, np.ndim(a), np.ndim(b))
    rest_a = [i for i in range(np.ndim(a)) if i not in left]
    rest_b = [i for i in range(np.ndim(b)) if i not in right]
    shape_a = tuple(np.shape(a)[i] for i in rest_a)
    shape_b = tuple(np.shape(b)[i] for i in rest_b)
    inner = int(np.prod([np.shape(a)[i] for i in left], dtype=int))
    rows = np.reshape(np.transpose(a, (*rest_a, *left)), (int(np.prod(shape_a, dtype=int)), inner))
    columns = np.reshape(
        np.transpose(b, (*right, *rest_b)), (inner, int(np.prod(shape_b, dtype=int)))
    )
    return np.reshape(matmul(rows, columns), shape_a + shape_b)


@defines(np.linalg.tensordot)
def _linalg_tensordot(x1: Any, x2: Any, /, *, axes: Any = 2) -> Any:
    return _tensordot(x1, x2, axes)


def _paired_axes(axes: Any, ndim_a: int, ndim_b: int) -> tuple[list[int], list[int]]:
    """Which axes of `a` are summed against which axes of `b`."""
    if isinstance(axes, (int, np.integer)):
        count = int(axes)
        return list(range(ndim_a - count, ndim_a)), list(range(count))
    left, right = (
        [int(i) for i in side] if isinstance(side, Sequence) else [int(side)] for side in axes
    )
    return (
        [normalize_axis_index(i, ndim_a) for i in left],
        [normalize_axis_index(i, ndim_b) for i in right],
    )


@defines(np.kron)
def _kron(a: Any, b: Any) -> Any:
    a, b = as_operand(a), as_operand(b)
    ndim = max(np.ndim(a), np.ndim(b))
    shape_a = (1,) * (ndim - np.ndim(a)) + np.shape(a)
    shape_b = (1,) * (ndim - np.ndim(b)) + np.shape(b)
    left = np.reshape(a, [part for n in shape_a for part in (n, 1)])
    right = np.reshape(b, [part for n in shape_b for part in (1, n)])
    full = np.multiply(left, right)
    return np.reshape(full, tuple(m * n for m, n in zip(shape_a, shape_b, strict=True)))


@defines(np.cross)
def _cross(
    a: Any, b: Any, axisa: int = -1, axisb: int = -1, axisc: int = -1, axis: int | None = None
) -> Any:
    if axis is not None:
        axisa = axisb = axisc = axis
    a, b = np.moveaxis(as_operand(a), axisa, -1), np.moveaxis(as_operand(b), axisb, -1)
    p, q = ([v[..., i] for i in range(np.shape(v)[-1])] for v in (a, b))
    third = p[0] * q[1] - p[1] * q[0]
    if len(p) == len(q) == 2:
        return third
    p2, q2 = (v[2] if len(v) == 3 else np.zeros_like(v[0]) for v in (p, q))
    return np.stack([p[1] * q2 - p2 * q[1], p2 * q[0] - p[0] * q2, third], axis=axisc)


@defines(np.linalg.cross)
def _linalg_cross(x1: Any, x2: Any, /, *, axis: int = -1) -> Any:
    return _cross(x1, x2, axis=axis)


@defines(np.trace)
def _trace(a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1, dtype: Any = None) -> Any:
    return np.sum(np.diagonal(as_operand(a), offset, axis1, axis2), axis=-1, dtype=dtype)


@defines(np.linalg.trace)
def _linalg_trace(x: Any, /, *, offset: int = 0, dtype: Any = None) -> Any:
    return _trace(x, offset, -2, -1, dtype)


@defines(np.vecdot)
def _vecdot(x1: Any, x2: Any, /, *, axis: int = -1, keepdims: bool = False) -> Any:
    x1, x2 = np.moveaxis(as_operand(x1), axis, -1), np.moveaxis(as_operand(x2), axis, -1)
    product = matmul(np.expand_dims(x1, -2), np.expand_dims(x2, -1))[..., 0, 0]
    return np.expand_dims(product, axis) if keepdims else unboxed(product)


@defines(np.linalg.vecdot)
def _linalg_vecdot(x1: Any, x2: Any, /, *, axis: int = -1) -> Any:
    return _vecdot(x1, x2, axis=axis)


def _matvec(x1: Any, x2: Any, /) -> Any:
    return matmul(as_operand(x1), np.expand_dims(as_operand(x2), -1))[..., 0]


def _vecmat(x1: Any, x2: Any, /) -> Any:
    return matmul(np.expand_dims(as_operand(x1), -2), as_operand(x2))[..., 0, :]


if hasattr(np, "matvec"):  # new in NumPy 2.2
    defines(np.matvec)(_matvec)
    defines(np.vecmat)(_vecmat)

# ---------------------------------------------------------------------- einsum

einsum_view: Primitive = row(
    "einsum_view",
    lambda a, *, subscripts: np.einsum(subscripts, a),
    (
        lambda g, y, a, *, subscripts: scatter_positions(
            g, einsum_view, a, {"subscripts": subscripts}
        ),
    ),
    sympy=SAME,
    exact=SAME,
    movement=True,
)


@defines(np.einsum)
def _einsum(*operands: Any, optimize: Any = False) -> Any:
    spec, arrays = _subscripts_and_arrays(operands)
    arrays = [_array(a) for a in arrays]
    dtype = np.result_type(*(a.dtype for a in arrays))
    arrays = [a if a.dtype == dtype else a.astype(dtype) for a in arrays]
    terms, target = _explicit(spec, arrays)
    lengths = _lengths(spec, terms, arrays)
    if len(arrays) == 1 and set(terms[0]) == set(target):
        return einsum_view(arrays[0], subscripts=f"{terms[0]}->{target}")
    for i, a in enumerate(arrays):
        arrays[i], terms[i] = _pruned(a, terms[i], lengths)
    for i, a in enumerate(arrays):
        needed = set(target).union(*terms[:i], *terms[i + 1 :])
        alone = tuple(k for k, letter in enumerate(terms[i]) if letter not in needed)
        if alone:
            arrays[i] = np.sum(a, axis=alone)
            terms[i] = "".join(letter for letter in terms[i] if letter in needed)
    subscripts = f"{','.join(terms)}->{target}"
    if len(arrays) == 1:
        return einsum_view(arrays[0], subscripts=subscripts)
    return contraction(*arrays, subscripts=subscripts)


_LETTERS: Final = string.ascii_uppercase + string.ascii_lowercase


def _subscripts_and_arrays(operands: Sequence[Any]) -> tuple[str, list[Any]]:
    """The subscripts as text, whichever of einsum's two calling forms was used."""
    if isinstance(operands[0], str):
        return operands[0].replace(" ", ""), list(operands[1:])

    def text(sublist: Any) -> str:
        return "".join("..." if part is Ellipsis else _LETTERS[part] for part in sublist)

    count = len(operands) // 2
    spec = ",".join(text(sublist) for sublist in operands[1 : 2 * count : 2])
    if len(operands) % 2:
        spec += "->" + text(operands[-1])
    return spec, list(operands[0 : 2 * count : 2])


def _explicit(spec: str, arrays: Sequence[Any]) -> tuple[list[str], str]:
    """The letters of each operand and of the result, ellipses and implicit result spelt out."""
    left, arrow, target = spec.partition("->")
    terms = left.split(",")
    if len(terms) != len(arrays):
        _refuse_subscripts(spec, arrays)
    hidden = [np.ndim(a) - len(t.replace("...", "")) for t, a in zip(terms, arrays, strict=True)]
    if any(n < 0 or (n and "..." not in t) for t, n in zip(terms, hidden, strict=True)):
        _refuse_subscripts(spec, arrays)
    widest = max(hidden)
    dots = "".join(itertools.islice((c for c in _LETTERS if c not in spec), widest))
    terms = [t.replace("...", dots[widest - n :]) for t, n in zip(terms, hidden, strict=True)]
    if not arrow:
        named = "".join(terms)
        once = sorted(c for c in set(named) - set(dots) if named.count(c) == 1)
        return terms, dots + "".join(once)
    full = target.replace("...", dots)
    if not set(full) <= set("".join(terms)) or len(set(full)) < len(full) or set(dots) - set(full):
        _refuse_subscripts(spec, arrays)
    return terms, full


def _lengths(spec: str, terms: Sequence[str], arrays: Sequence[Any]) -> dict[str, int]:
    """The length that each letter runs over; an axis of length 1 is broadcast."""
    lengths: dict[str, int] = {}
    for term, a in zip(terms, arrays, strict=True):
        own: dict[str, int] = {}
        for letter, n in zip(term, np.shape(a), strict=True):
            if own.setdefault(letter, n) != n or (n != 1 and lengths.get(letter, 1) not in (1, n)):
                _refuse_subscripts(spec, arrays)
            lengths[letter] = n if lengths.get(letter, 1) == 1 else lengths[letter]
    return lengths


def _pruned(a: Any, term: str, lengths: dict[str, int]) -> tuple[Any, str]:
    """The operand with distinct letters, and without axes that are only broadcast."""
    letters = "".join(dict.fromkeys(term))
    if letters != term:
        a = einsum_view(a, subscripts=f"{term}->{letters}")
    spread = tuple(k for k, c in enumerate(letters) if np.shape(a)[k] == 1 and lengths[c] != 1)
    if spread:
        a = np.squeeze(a, spread)
        letters = "".join(c for k, c in enumerate(letters) if k not in spread)
    return a, letters


def _refuse_subscripts(spec: str, arrays: Sequence[Any]) -> None:
    np.einsum(spec, *(concrete(a) for a in arrays))  # NumPy's own error says what is wrong
    raise unsupported(f"np.einsum({spec!r})", "spell out the subscripts, with '->' and no '...'")


# ---------------------------------------------------------------------- chains of products


@defines(np.linalg.matrix_power)
def _matrix_power(a: Any, n: int) -> Any:
    a = as_operand(a)
    n = int(n)
    if n < 0:
        a, n = inv(a), -n
    if n == 0:
        return np.zeros_like(a) + np.eye(np.shape(a)[-1], dtype=a.dtype)
    result = None
    while n:
        if n % 2:
            result = a if result is None else matmul(result, a)
        n //= 2
        if n:
            a = matmul(a, a)
    return result


@defines(np.linalg.multi_dot)
def _multi_dot(arrays: Sequence[Any]) -> Any:
    chain = [as_operand(a) for a in arrays]
    row, column = np.ndim(chain[0]) == 1, np.ndim(chain[-1]) == 1
    if row:
        chain[0] = np.expand_dims(chain[0], 0)
    if column:
        chain[-1] = np.expand_dims(chain[-1], 1)
    product = _chain_product(chain)
    if column:
        product = product[:, 0]
    return product[0] if row else product


def _chain_product(chain: Sequence[Any]) -> Any:
    """The product of matrices in the cheapest order (dynamic programming over the splits)."""
    sizes = [np.shape(a)[0] for a in chain] + [np.shape(chain[-1])[1]]
    best: dict[tuple[int, int], tuple[int, int]] = {(i, i): (0, i) for i in range(len(chain))}
    for width in range(1, len(chain)):
        for i in range(len(chain) - width):
            j = i + width
            best[i, j] = min(
                (
                    best[i, k][0] + best[k + 1, j][0] + sizes[i] * sizes[k + 1] * sizes[j + 1],
                    k,
                )
                for k in range(i, j)
            )

    def product(i: int, j: int) -> Any:
        if i == j:
            return chain[i]
        split = best[i, j][1]
        return matmul(product(i, split), product(split + 1, j))

    return product(0, len(chain) - 1)


@defines(np.linalg.tensorsolve)
def _tensorsolve(a: Any, b: Any, axes: Any = None) -> Any:
    a, b = as_operand(a), as_operand(b)
    if axes is not None:
        moved = [i % np.ndim(a) for i in axes]
        a = np.transpose(a, [i for i in range(np.ndim(a)) if i not in moved] + moved)
    unknown = np.shape(a)[np.ndim(b) :]
    size = int(np.prod(unknown, dtype=int))
    solution = solve_matrix(np.reshape(a, (size, size)), np.reshape(b, (size, 1)))
    return np.reshape(solution, unknown)


@defines(np.linalg.tensorinv)
def _tensorinv(a: Any, ind: int = 2) -> Any:
    a = as_operand(a)
    rows, columns = np.shape(a)[:ind], np.shape(a)[ind:]
    matrix = np.reshape(a, (int(np.prod(rows, dtype=int)), -1))
    return np.reshape(inv(matrix), columns + rows)
