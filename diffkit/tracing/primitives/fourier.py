"""Discrete Fourier transforms, as linear maps of real arrays.

A complex array is held with real and imaginary parts along a last axis of length 2. Such a map
is its own derivative, and its adjoint for the real inner product is the transform back, with
the scale on the other side; of a real transform the frequencies that occur once weigh twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, Final

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from diffkit.tracing.graph import Primitive, as_operand
from diffkit.tracing.primitives.complex_pairs import ComplexPair, parts_of
from diffkit.tracing.primitives.rows import defines, row

OPPOSITE: Final = {"backward": "forward", "ortho": "ortho", "forward": "backward"}

# ---------------------------------------------------------------------- values


def _joined(pairs: Any) -> Any:
    return pairs[..., 0] + 1j * pairs[..., 1]


def _parted(z: Any) -> Any:
    return np.stack([z.real, z.imag], axis=-1)


def _dft(p: Any, *, axis: int, norm: Any, inverse: bool) -> Any:
    transform = np.fft.ifft if inverse else np.fft.fft
    return _parted(transform(_joined(p), axis=axis, norm=norm))


def _rfft(x: Any, *, axis: int, norm: Any) -> Any:
    return _parted(np.fft.rfft(x, axis=axis, norm=norm))


def _irfft(p: Any, *, n: int, axis: int, norm: Any) -> Any:
    return np.fft.irfft(_joined(p), n, axis, norm)


# ---------------------------------------------------------------------- exact values

Circle = list[tuple[Any, Any]]


def _circle_in_sympy(S: Any, n: int) -> Circle:
    """Cosine and sine of each n-th part of the circle."""
    angles = [2 * S.pi * S.Rational(m, n) for m in range(n)]
    return [(S.cos(angle), S.sin(angle)) for angle in angles]


def _circle(A: Any, n: int) -> Circle:
    quarters = [(1, 0), (0, 1), (-1, 0), (0, -1)]

    def point(m: int) -> tuple[Any, Any]:
        if 4 * m % n == 0:
            cosine, sine = quarters[4 * m // n]
            return A.constant(cosine), A.constant(sine)
        angle = A.exact(Fraction(2 * m, n)) * A.pi
        return A.cos(angle), A.sin(angle)

    return [point(m) for m in range(n)]


def _scale_in_sympy(S: Any, n: int, power: Fraction) -> Any:
    return S.Integer(n) ** -S.Rational(power.numerator, power.denominator)


def _scale(A: Any, n: int, power: Fraction) -> Any:
    return A.divide(1, A.power(A.constant(n), A.exact(power)))


def _power_of_length(norm: str, inverse: bool) -> Fraction:
    """By which power of its length a transform is divided."""
    if norm == "ortho":
        return Fraction(1, 2)
    return Fraction(int((norm == "backward") == inverse))


def _turned_by(circle: Circle, rows: int, columns: int) -> tuple[Any, Any]:
    """The matrices of cosines and sines of 2π j k / n."""
    n = len(circle)
    cosines, sines = (np.empty((rows, columns), object) for _ in range(2))
    for j, k in np.ndindex(rows, columns):
        cosines[j, k], sines[j, k] = circle[j * k % n]
    return cosines, sines


def _along(axis: int, transform: Callable[..., Any], *arrays: Any) -> Any:
    """Apply a map of the last axis of object arrays along another."""
    moved = [np.moveaxis(a, axis, -1) for a in arrays]
    results = transform(*moved)
    back = [np.moveaxis(a, -1, axis) for a in results]
    return back[0] if len(back) == 1 else np.stack(back, axis=-1)


def _dft_objects(circle: Circle, scale: Any, p: Any, axis: int, inverse: bool) -> Any:
    cosines, sines = _turned_by(circle, len(circle), len(circle))
    if not inverse:
        sines = -sines

    def transform(real: Any, imag: Any) -> Any:
        return (real @ cosines - imag @ sines) * scale, (real @ sines + imag @ cosines) * scale

    return _along(axis, transform, p[..., 0], p[..., 1])


def _rfft_objects(circle: Circle, scale: Any, x: Any, axis: int) -> Any:
    cosines, sines = _turned_by(circle, len(circle), len(circle) // 2 + 1)
    return _along(axis, lambda a: (a @ cosines * scale, -(a @ sines) * scale), x)


def _irfft_objects(circle: Circle, scale: Any, p: Any, axis: int) -> Any:
    n = len(circle)
    cosines, sines = _turned_by(circle, n // 2 + 1, n)
    twice = _weights(n, 2)[:, None].astype(int).astype(object)
    cosines, sines = cosines * twice, sines * twice
    return _along(axis, lambda a, b: ((a @ cosines - b @ sines) * scale,), p[..., 0], p[..., 1])


def _dft_column(circle: Callable[..., Any], scale: Callable[..., Any]) -> Callable[..., Any]:
    def column(N: Any, p: Any, *, axis: int, norm: str, inverse: bool) -> Any:
        n = np.shape(p)[axis]
        divisor = scale(N, n, _power_of_length(norm, inverse))
        return _dft_objects(circle(N, n), divisor, p, axis, inverse)

    return column


def _rfft_column(circle: Callable[..., Any], scale: Callable[..., Any]) -> Callable[..., Any]:
    def column(N: Any, x: Any, *, axis: int, norm: str) -> Any:
        n = np.shape(x)[axis]
        return _rfft_objects(circle(N, n), scale(N, n, _power_of_length(norm, False)), x, axis)

    return column


def _irfft_column(circle: Callable[..., Any], scale: Callable[..., Any]) -> Callable[..., Any]:
    def column(N: Any, p: Any, *, n: int, axis: int, norm: str) -> Any:
        return _irfft_objects(circle(N, n), scale(N, n, _power_of_length(norm, True)), p, axis)

    return column


# ---------------------------------------------------------------------- rows


def _weights(n: int, inside: float) -> Any:
    """1 for a frequency of a real signal of length n that occurs once, `inside` for others."""
    weights = np.full(n // 2 + 1, inside)
    weights[0] = 1
    if n % 2 == 0:
        weights[-1] = 1
    return weights


def _weighted(pairs: Any, n: int, axis: int, inside: float) -> Any:
    shape = [1] * np.ndim(pairs)
    shape[axis] = -1
    return pairs * _weights(n, inside).astype(pairs.dtype).reshape(shape)


def _rfft_adjoint(g: Any, y: Any, x: Any, *, axis: int, norm: str) -> Any:
    n = np.shape(x)[axis]
    return irfft(_weighted(g, n, axis, 0.5), n=n, axis=axis, norm=OPPOSITE[norm])


def _irfft_adjoint(g: Any, y: Any, p: Any, *, n: int, axis: int, norm: str) -> Any:
    return _weighted(rfft(g, axis=axis, norm=OPPOSITE[norm]), n, axis, 2.0)


dft: Primitive = row(
    "fft.fft",
    _dft,
    (
        lambda g, y, p, *, axis, norm, inverse: dft(
            g, axis=axis, norm=OPPOSITE[norm], inverse=not inverse
        ),
    ),
    sympy=_dft_column(_circle_in_sympy, _scale_in_sympy),
    exact=_dft_column(_circle, _scale),
)
rfft: Primitive = row(
    "fft.rfft",
    _rfft,
    (_rfft_adjoint,),
    sympy=_rfft_column(_circle_in_sympy, _scale_in_sympy),
    exact=_rfft_column(_circle, _scale),
)
irfft: Primitive = row(
    "fft.irfft",
    _irfft,
    (_irfft_adjoint,),
    sympy=_irfft_column(_circle_in_sympy, _scale_in_sympy),
    exact=_irfft_column(_circle, _scale),
)

# ---------------------------------------------------------------------- one axis


def _pairs(a: Any) -> Any:
    """A real or complex array with real and imaginary parts along a last axis."""
    real, imag = parts_of(as_operand(a))
    return np.stack([real, imag + 0.0 * real], axis=-1)


def _complex(pairs: Any) -> ComplexPair:
    return ComplexPair(pairs[..., 0], pairs[..., 1])


def _fitted(a: Any, n: int, axis: int) -> Any:
    """An axis cut off, or filled up with zeros, to a length."""
    length = np.shape(a)[axis]
    if n < 1:
        raise ValueError(f"Invalid number of FFT data points ({n}) specified.")
    if n == length:
        return a
    before = (slice(None),) * axis
    if n < length:
        return a[(*before, slice(n))]
    shape = list(np.shape(a))
    shape[axis] = n - length
    return np.concatenate([a, np.zeros(shape, a.dtype)], axis=axis)


def _checked(norm: str | None) -> str:
    norm = norm or "backward"
    if norm not in OPPOSITE:
        raise ValueError(f'Invalid norm value {norm}; should be "backward","ortho" or "forward".')
    return norm


def _whole(a: Any, n: int | None, axis: int, norm: str | None, inverse: bool) -> ComplexPair:
    pairs = _pairs(a)
    axis = normalize_axis_index(axis, np.ndim(pairs) - 1)
    pairs = _fitted(pairs, np.shape(pairs)[axis] if n is None else n, axis)
    return _complex(dft(pairs, axis=axis, norm=_checked(norm), inverse=inverse))


@defines(np.fft.fft)
def _fft(a: Any, n: int | None = None, axis: int = -1, norm: str | None = None) -> Any:
    return _whole(a, n, axis, norm, False)


@defines(np.fft.ifft)
def _ifft(a: Any, n: int | None = None, axis: int = -1, norm: str | None = None) -> Any:
    return _whole(a, n, axis, norm, True)


@defines(np.fft.rfft)
def _rfft_of(a: Any, n: int | None = None, axis: int = -1, norm: str | None = None) -> Any:
    a = as_operand(a)
    if isinstance(a, ComplexPair):
        raise TypeError("ufunc 'rfft_n_even' did not contain a loop with a complex signature")
    axis = normalize_axis_index(axis, np.ndim(a))
    a = _fitted(a, np.shape(a)[axis] if n is None else n, axis)
    return _complex(rfft(a, axis=axis, norm=_checked(norm)))


@defines(np.fft.irfft)
def _irfft_of(a: Any, n: int | None = None, axis: int = -1, norm: str | None = None) -> Any:
    pairs = _pairs(a)
    axis = normalize_axis_index(axis, np.ndim(pairs) - 1)
    n = 2 * (np.shape(pairs)[axis] - 1) if n is None else n
    return irfft(_fitted(pairs, n // 2 + 1, axis), n=n, axis=axis, norm=_checked(norm))


@defines(np.fft.hfft)
def _hfft(a: Any, n: int | None = None, axis: int = -1, norm: str | None = None) -> Any:
    n = 2 * (np.shape(a)[axis] - 1) if n is None else n
    return _irfft_of(np.conjugate(a), n, axis, OPPOSITE[_checked(norm)])


@defines(np.fft.ihfft)
def _ihfft(a: Any, n: int | None = None, axis: int = -1, norm: str | None = None) -> Any:
    return np.conjugate(_rfft_of(a, n, axis, OPPOSITE[_checked(norm)]))


# ---------------------------------------------------------------------- several axes


def _lengths(a: Any, s: Any, axes: Any, real: bool = False) -> tuple[list[int], list[int]]:
    """The lengths and the axes that NumPy would transform."""
    ndim = np.ndim(a)
    if axes is None:
        axes = range(ndim) if s is None else range(ndim - len(s), ndim)
    axes = [normalize_axis_index(axis, ndim) for axis in axes]
    known = [np.shape(a)[axis] for axis in axes]
    if s is None:
        lengths = list(known)
        if real:
            lengths[-1] = 2 * (known[-1] - 1)
    else:
        lengths = [k if n in (None, -1) else n for n, k in zip(s, known, strict=True)]
    return lengths, axes


def _over_axes(transform: Callable[..., Any], a: Any, s: Any, axes: Any, norm: Any) -> Any:
    lengths, axes = _lengths(a, s, axes)
    for n, axis in reversed(list(zip(lengths, axes, strict=True))):
        a = transform(a, n, axis, norm)
    return a


def _real_over_axes(a: Any, s: Any, axes: Any, norm: Any) -> Any:
    lengths, axes = _lengths(a, s, axes)
    a = _rfft_of(a, lengths[-1], axes[-1], norm)
    for n, axis in reversed(list(zip(lengths[:-1], axes[:-1], strict=True))):
        a = _fft(a, n, axis, norm)
    return a


def _back_to_real(a: Any, s: Any, axes: Any, norm: Any) -> Any:
    lengths, axes = _lengths(a, s, axes, real=True)
    for n, axis in zip(lengths[:-1], axes[:-1], strict=True):
        a = _ifft(a, n, axis, norm)
    return _irfft_of(a, lengths[-1], axes[-1], norm)


def _define_over_axes(function: Any, default: Sequence[int] | None, run: Any) -> None:
    @defines(function)
    def transform(a: Any, s: Any = None, axes: Any = default, norm: str | None = None) -> Any:
        return run(a if isinstance(a, ComplexPair) else as_operand(a), s, axes, norm)


for _name, _run in (
    ("fft", lambda *arguments: _over_axes(_fft, *arguments)),
    ("ifft", lambda *arguments: _over_axes(_ifft, *arguments)),
    ("rfft", _real_over_axes),
    ("irfft", _back_to_real),
):
    _define_over_axes(getattr(np.fft, f"{_name}2"), (-2, -1), _run)
    _define_over_axes(getattr(np.fft, f"{_name}n"), None, _run)

# ---------------------------------------------------------------------- shifts


def _shifted(x: Any, axes: Any, half: Callable[[int], int]) -> Any:
    axes = range(np.ndim(x)) if axes is None else (axes,) if isinstance(axes, int) else axes
    axes = tuple(axes)
    return np.roll(x, [half(np.shape(x)[axis]) for axis in axes], axes)


@defines(np.fft.fftshift)
def _fftshift(x: Any, axes: Any = None) -> Any:
    return _shifted(as_operand(x), axes, lambda n: n // 2)


@defines(np.fft.ifftshift)
def _ifftshift(x: Any, axes: Any = None) -> Any:
    return _shifted(as_operand(x), axes, lambda n: -(n // 2))
