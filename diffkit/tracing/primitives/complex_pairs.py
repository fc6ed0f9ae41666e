"""Complex arrays on the way between real ones: a pair of traced real arrays.

No node of a graph is complex: what NumPy would compute on complex numbers is recorded as what
it does to real and imaginary parts, so every rule, and the derivative of a real function of
real numbers, stays real. The set of operations is closed: `+ - * /`, products of arrays, conj,
real, imag, abs, angle, exp, log, integer powers, sums, means, and what moves entries. Anything
else is refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar, Final, NoReturn

import numpy as np

from diffkit.errors import UnsupportedOperation
from diffkit.structure import concrete, is_traced
from diffkit.tracing.array_methods import ArrayMethods
from diffkit.tracing.graph import Primitive, as_operand
from diffkit.tracing.primitives.linear_algebra import matmul
from diffkit.tracing.primitives.rows import FUNCTIONS
from diffkit.tracing.refusals import refuse

LARGEST_POWER: Final = 64


class ComplexPair(ArrayMethods):
    """A complex array under recording: its real and its imaginary part, both traced.

    It passes for a traced array of a recording of its own, which hands every primitive on to
    the two parts.
    """

    __diffkit_traced__: ClassVar[bool] = True
    __slots__ = ("parts",)

    def __init__(self, real: Any, imag: Any) -> None:
        shape = np.broadcast_shapes(np.shape(real), np.shape(imag))
        self.parts = [_spread(part, shape) for part in (real, imag)]

    # ------------------------------------------------------------------ what it is

    @property
    def value(self) -> Any:
        """The plain complex array, to ask about shapes and types."""
        real, imag = (np.asarray(concrete(part)) for part in self.parts)
        return (real + 1j * imag).astype(self.dtype)

    @property
    def recorder(self) -> Any:
        return COMPLEX

    @property
    def node(self) -> NoReturn:
        refuse(
            "a complex traced value would leave the graph here, which would lose its "
            "derivative; use its real and imaginary parts, or np.abs",
        )

    def __array__(self, dtype: Any = None, copy: Any = None) -> NoReturn:
        refuse(
            "a complex traced value was converted to a plain array (np.asarray, or a list of "
            "such values); join them with np.stack"
        )

    @property
    def shape(self) -> tuple[int, ...]:
        return np.shape(self.parts[0])

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.result_type(self.parts[0].dtype, self.parts[1].dtype, np.complex64)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def real(self) -> Any:
        return self.parts[0]

    @property
    def imag(self) -> Any:
        return self.parts[1]

    @property
    def _is_array(self) -> bool:
        return bool(self.shape)

    def lift(self, array: Any) -> Any:
        """A constant as a traced array beside this one, so that it can be written into."""
        traced = next(part for part in self.parts if is_traced(part))
        if array.dtype.kind != "c":
            return traced.lift(array)
        return ComplexPair(traced.lift(array.real.copy()), traced.lift(array.imag.copy()))

    # ------------------------------------------------------------------ NumPy's dispatch

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        from diffkit.tracing.dispatch import call_ufunc

        return call_ufunc(ufunc, method, inputs, options)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        from diffkit.tracing.dispatch import call_function

        if func in OWN:
            return OWN[func](*args, **kwargs)
        if func not in FOLLOWED:
            _refuse_operation(func.__name__)
        return call_function(func, args, kwargs)

    # ------------------------------------------------------------------ as a container

    def __len__(self) -> int:
        return len(self.parts[0])

    def __iter__(self) -> Any:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index: Any) -> Any:
        return ComplexPair(*(part[index] for part in self.parts))

    def __setitem__(self, index: Any, value: Any) -> None:
        for part, new in zip(self.parts, parts_of(as_operand(value)), strict=True):
            part[index] = new

    def _update(self, ufunc: np.ufunc, other: Any) -> Any:
        result = ufunc(self, other)
        if not self._is_array:
            return result
        self[...] = result
        return self

    def __bool__(self) -> bool:
        _refuse_operation("bool")

    def __float__(self) -> float:
        _refuse_operation("float")

    def __complex__(self) -> complex:
        _refuse_operation("complex")

    def __hash__(self) -> int:
        _refuse_operation("hash")

    def __repr__(self) -> str:
        return f"Traced({self.value!r})"

    # ------------------------------------------------------------------ methods

    def conj(self) -> Any:
        return np.conjugate(self)

    conjugate = conj

    def copy(self, order: Any = "C") -> Any:
        return ComplexPair(*(part.copy(order) for part in self.parts))

    def astype(self, dtype: Any, **options: Any) -> Any:
        kind = np.dtype(dtype)
        if kind.kind != "c":
            refuse(f".astype({kind}) drops the imaginary part; write z.real")
        real = np.zeros(0, kind).real.dtype
        return ComplexPair(*(part.astype(real) for part in self.parts))


def _spread(part: Any, shape: tuple[int, ...]) -> Any:
    part = part if hasattr(part, "dtype") else np.asarray(part, np.float64)
    return part if np.shape(part) == shape else np.broadcast_to(part, shape)


def parts_of(value: Any) -> tuple[Any, Any]:
    """Real and imaginary part of a pair, a traced real array or a plain array."""
    if isinstance(value, ComplexPair):
        return value.real, value.imag
    if is_traced(value):
        return value, np.zeros(np.shape(value), value.dtype)[()]
    plain = np.asarray(value)
    if isinstance(value, (int, float)):
        return value, 0.0
    if isinstance(value, complex):
        return value.real, value.imag
    return plain.real[()], plain.imag[()]


def is_complex(value: Any) -> bool:
    if isinstance(value, (ComplexPair, complex)):
        return True
    return not is_traced(value) and np.asarray(value).dtype.kind == "c"


def _refuse_operation(name: str) -> NoReturn:
    refuse(
        f"{name} of complex traced values is not followed; take real and imaginary parts "
        "(z.real, z.imag, np.abs(z)) first",
        UnsupportedOperation,
    )


class _ComplexTrace:
    """Stands for a recording of complex values: it hands what is applied on to their parts."""

    level: ClassVar[float] = math.inf

    def record(self, primitive: Primitive, operands: tuple[Any, ...], static: Any) -> Any:
        """Apply a primitive to operands of which one is complex."""
        name = primitive.name
        rule = RULES.get(name)
        if rule is not None:
            return rule(*operands, **static)
        if name in BILINEAR and len(operands) == 2:
            return _bilinear(primitive, *operands, **static)
        if primitive.movement or name in LINEAR:
            return _on_both(primitive, operands, static)
        _refuse_operation(primitive.called)


COMPLEX: Final = _ComplexTrace()

# ---------------------------------------------------------------------- primitives on parts

LINEAR: Final = frozenset({
    "add", "subtract", "negative", "positive", "sum", "cumsum", "concatenate", "stack",
    "stack_scalars", "add_at", "laid_out",
})  # fmt: skip
BILINEAR: Final = frozenset(("multiply", "matmul", "contraction", "convolution"))


def _on_both(primitive: Primitive, operands: tuple[Any, ...], static: Any) -> Any:
    pairs = [parts_of(operand) for operand in operands]
    return ComplexPair(
        primitive(*(real for real, _ in pairs), **static),
        primitive(*(imag for _, imag in pairs), **static),
    )


def _bilinear(primitive: Primitive, a: Any, b: Any, **static: Any) -> Any:
    (p, q), (r, s) = parts_of(a), parts_of(b)

    def times(x: Any, y: Any) -> Any:
        return primitive(x, y, **static)

    if not is_complex(a):
        return ComplexPair(times(p, r), times(p, s))
    if not is_complex(b):
        return ComplexPair(times(p, r), times(q, r))
    return ComplexPair(times(p, r) - times(q, s), times(p, s) + times(q, r))


def _divide(a: Any, b: Any) -> Any:
    if not is_complex(b):
        return ComplexPair(*(part / b for part in parts_of(a)))
    (p, q), (r, s) = parts_of(a), parts_of(b)
    size = np.square(r) + np.square(s)
    return ComplexPair((p * r + q * s) / size, (q * r - p * s) / size)


def _power(a: Any, n: Any) -> Any:
    if is_traced(n) or np.ndim(n) or not float(n).is_integer() or abs(n) > LARGEST_POWER:
        _refuse_operation("np.power, other than a small integer one,")
    result = None
    for bit in bin(abs(int(n)))[2:]:
        result = None if result is None else result * result
        if bit == "1":
            result = a if result is None else result * a
    if result is None:
        return np.ones_like(a)
    return 1 / result if n < 0 else result


def _exp(a: Any) -> Any:
    real, imag = parts_of(a)
    size = np.exp(real)
    return ComplexPair(size * np.cos(imag), size * np.sin(imag))


def _where(condition: Any, a: Any, b: Any) -> Any:
    if is_complex(condition):
        _refuse_operation("a condition")
    pairs = zip(parts_of(a), parts_of(b), strict=True)
    return ComplexPair(*(np.where(condition, x, y) for x, y in pairs))


def _index_update(a: Any, value: Any, *, index: Any) -> Any:
    refuse("a complex value was written into a real array; write its .real, or its np.abs")


def _cast(a: Any, *, dtype: Any) -> Any:
    return a.astype(dtype)


def _absolute(a: Any) -> Any:
    return np.hypot(a.real, a.imag)


RULES: Final[dict[str, Callable[..., Any]]] = {
    "divide": _divide,
    "reciprocal": lambda a: _divide(1.0, a),
    "square": lambda a: a * a,
    "power": _power,
    "exp": _exp,
    "log": lambda a: ComplexPair(np.log(_absolute(a)), _angle(a)),
    "conjugate": lambda a: ComplexPair(a.real, -a.imag),
    "absolute": _absolute,
    "where": _where,
    "index_update": _index_update,
    "astype": _cast,
}

# ---------------------------------------------------------------------- NumPy's functions


def _angle(z: Any, deg: bool = False) -> Any:
    real, imag = parts_of(z)
    angle = np.arctan2(imag, real)
    return np.rad2deg(angle) if deg else angle


def _mean(a: Any, axis: Any = None, *, keepdims: bool = False) -> Any:
    total = np.sum(a, axis=axis, keepdims=keepdims)
    return total / (a.size / max(total.size, 1))


def _norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    if not _is_entrywise(x, ord, axis):
        _refuse_operation("np.linalg.norm of matrices by singular values,")
    return np.linalg.norm(_absolute(x), ord, axis, keepdims)


def _is_entrywise(x: Any, order: Any, axis: Any) -> bool:
    """Whether a norm depends on the sizes of the entries alone."""
    return order not in (2, -2, "nuc") or np.ndim(x) == 1 or isinstance(axis, int)


def _vdot(a: Any, b: Any, /) -> Any:
    return matmul(np.conjugate(np.ravel(as_operand(a))), np.ravel(as_operand(b)))


OWN: Final[dict[Any, Callable[..., Any]]] = {
    np.real: lambda val: val.real,
    np.imag: lambda val: val.imag,
    np.angle: _angle,
    np.mean: _mean,
    np.linalg.norm: _norm,
    np.vdot: _vdot,
    np.iscomplexobj: lambda x: True,
    np.isrealobj: lambda x: False,
}
FUNCTIONS[np.angle] = _angle

FOLLOWED: Final = frozenset({
    np.sum, np.cumsum, np.diff, np.trapezoid, np.dot, np.inner, np.outer, np.tensordot, np.einsum,
    np.kron, np.trace, np.convolve, np.linalg.multi_dot, np.linalg.matrix_power, np.where,
    np.reshape, np.ravel, np.transpose, np.swapaxes, np.moveaxis, np.rollaxis, np.squeeze,
    np.expand_dims, np.atleast_1d, np.atleast_2d, np.atleast_3d, np.broadcast_to, np.rot90,
    np.broadcast_arrays, np.flip, np.flipud, np.fliplr, np.roll, np.repeat, np.tile, np.delete,
    np.concatenate, np.stack, np.hstack, np.vstack, np.dstack, np.column_stack, np.append,
    np.split, np.array_split, np.hsplit, np.vsplit, np.dsplit, np.pad, np.take, np.diag,
    np.take_along_axis, np.diagonal, np.tril, np.triu, np.shape, np.ndim, np.size, np.copy,
    np.zeros_like, np.ones_like, np.empty_like, np.full_like, np.result_type,
    *(getattr(np.fft, name) for name in np.fft.__all__),
})  # fmt: skip
"""The functions whose definitions hold for complex numbers as they stand."""
