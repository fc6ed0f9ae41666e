"""Fourier transforms and complex intermediates of real functions: right, or refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from primitive_checks import assert_close, assert_derivatives

import diffkit as dk
from diffkit import truth

Function = Callable[[Any], Any]
F: Any = np.fft


def numbers(*shape: int) -> Any:
    """Numbers without structure, the same for the same shape."""
    return np.random.default_rng(shape).normal(size=shape)


EVEN, ODD, MATRIX, BOX = numbers(8), numbers(7), numbers(3, 4), numbers(2, 3, 4)
FILTER = np.array([1 + 2j, 0.5 - 1j, 3j, 1, 2 - 1j])
WAVES = np.exp(-2j * np.pi * np.outer(np.arange(8), np.arange(8)) / 8)


def low_pass(x: Any) -> Any:
    z = F.rfft(x)
    z[2:] = 0
    return F.irfft(z, 8)


def filtered_in_place(x: Any) -> Any:
    z = F.rfft(x)
    z *= FILTER
    w = z[1:]
    w[...] = w * 2
    return F.irfft(z, 8)


TRANSFORMS: dict[str, tuple[Function, Any]] = {
    "power spectrum": (lambda x: np.abs(F.rfft(x)) ** 2, EVEN),
    "power spectrum, odd length": (lambda x: np.abs(F.rfft(x)) ** 2, ODD),
    "real part": (lambda x: F.rfft(x).real, EVEN),
    "imaginary part": (lambda x: np.imag(F.rfft(x)), ODD),
    "z conj(z)": (lambda x: (lambda z: np.real(z * np.conj(z)))(F.rfft(x)), EVEN),
    "filter": (lambda x: F.irfft(F.rfft(x) * FILTER, 8), EVEN),
    "filter, odd length": (lambda x: F.irfft(F.rfft(x) * FILTER[:4], 7), ODD),
    "orthonormal": (lambda x: F.rfft(x, norm="ortho").real, EVEN),
    "scaled forward": (
        lambda x: F.irfft(F.rfft(x, norm="forward") * FILTER, 8, norm="ortho"),
        EVEN,
    ),
    "cut off": (lambda x: np.abs(F.rfft(x, 5)), EVEN),
    "filled up": (lambda x: np.abs(F.rfft(x, 11)), EVEN),
    "fft": (lambda x: np.abs(F.fft(x)), EVEN),
    "fft, filled up": (lambda x: F.fft(x, 12).imag, EVEN),
    "ifft": (lambda x: F.ifft(F.fft(x) * np.arange(8)).real, EVEN),
    "ifft, orthonormal": (lambda x: F.ifft(x, norm="ortho").imag, EVEN),
    "fft2": (lambda x: np.abs(F.fft2(x)), MATRIX),
    "ifft2": (lambda x: F.ifft2(F.fft2(x) ** 2).real, MATRIX),
    "rfft2": (lambda x: F.rfft2(x).imag, MATRIX),
    "irfft2": (lambda x: F.irfft2(F.rfft2(x) * (1 + 2j), s=(3, 4)), MATRIX),
    "fftn": (lambda x: F.fftn(x).real, BOX),
    "ifftn": (lambda x: F.ifftn(x, axes=(0, 2)).imag, BOX),
    "rfftn": (lambda x: F.rfftn(x, s=(4, 5), axes=(0, 2)).real, BOX),
    "irfftn": (lambda x: F.irfftn(F.rfftn(x)), BOX),
    "another axis": (lambda x: np.abs(F.rfft(x, axis=0)), MATRIX),
    "hfft": (lambda x: F.hfft(F.rfft(x)), EVEN),
    "ihfft": (lambda x: F.ihfft(x).imag, EVEN),
    "irfft of real numbers": (F.irfft, EVEN),
    "shifts": (lambda x: np.abs(F.ifftshift(F.fftshift(F.fft(x))[1:6])), EVEN),
    "convolution": (
        lambda x: F.irfft(F.rfft(x, 15) * F.rfft(np.arange(8.0), 15), 15),
        EVEN,
    ),
}
COMPLEX: dict[str, tuple[Function, Any]] = {
    "angle": (lambda x: np.angle(F.rfft(x)[1:4]), EVEN),
    "angle in degrees": (lambda x: np.angle(F.rfft(x)[1:4], deg=True), EVEN),
    "exp": (lambda x: np.exp(F.rfft(x) / 10).real, EVEN),
    "log": (lambda x: np.log(F.rfft(x)[1:4]).imag, EVEN),
    "quotient": (lambda x: (F.rfft(x) / (F.rfft(x**2) + FILTER)).real, EVEN),
    "quotient by real numbers": (lambda x: (F.rfft(x) / x[0]).imag, EVEN),
    "reciprocal": (lambda x: (1 / F.rfft(x)).real, EVEN),
    "negative power": (lambda x: (F.rfft(x) ** -2).real, EVEN),
    "third power": (lambda x: (F.rfft(x) ** 3).imag, EVEN),
    "power 0": (lambda x: (F.rfft(x) ** 0).real * x[0], EVEN),
    "imaginary unit": (lambda x: np.abs(np.sum(np.exp(1j * x) * FILTER[:1])), EVEN),
    "transform by hand": (lambda x: np.abs(WAVES @ x), EVEN),
    "entries assigned": (low_pass, EVEN),
    "in place": (filtered_in_place, EVEN),
    "mean": (lambda x: np.mean(F.rfft(x)).imag, EVEN),
    "mean along an axis": (lambda x: np.abs(F.rfft(x).mean(axis=0)), MATRIX),
    "vdot": (lambda x: np.vdot(F.rfft(x), F.rfft(x**2)).imag, EVEN),
    "norm": (lambda x: np.linalg.norm(F.rfft(x)), EVEN),
    "Frobenius norm": (lambda x: np.linalg.norm(F.rfft(x)), MATRIX),
    "where": (lambda x: np.abs(np.where(np.arange(5) > 2, F.rfft(x), x[:5])), EVEN),
    "joined": (lambda x: np.abs(np.concatenate([F.rfft(x), x])), EVEN),
    "with real numbers": (lambda x: (x[:5] * F.rfft(x) + x[:5]).imag, EVEN),
    "einsum": (lambda x: np.abs(np.einsum("i,ij->j", F.fft(x[:3]), MATRIX + 1j)), EVEN),
    "outer": (lambda x: np.outer(F.rfft(x), x).imag, EVEN),
    "one by one": (lambda x: np.abs(sum(z * z for z in F.rfft(x))), EVEN),
    "transposed": (lambda x: np.abs(F.rfft(x).T.reshape(-1)[::2].conj()), MATRIX),
    "zeros like": (lambda x: np.abs(np.zeros_like(F.rfft(x)) + F.rfft(x)), EVEN),
}
CASES = {**TRANSFORMS, **COMPLEX}


@pytest.mark.parametrize(("f", "x"), CASES.values(), ids=CASES)
def test_first_and_second_derivatives(f: Function, x: Any) -> None:
    assert_derivatives(f, x)


@pytest.mark.parametrize(("f", "x"), TRANSFORMS.values(), ids=TRANSFORMS)
def test_single_precision_stays(f: Function, x: Any) -> None:
    x = x.astype(np.float32)
    value = f(x)
    traced, pulled = dk.vjp(f, x, np.ones(value.shape, np.float32), value=True)
    assert traced.dtype == value.dtype
    assert pulled.dtype == np.float32


@pytest.mark.parametrize(("f", "x"), CASES.values(), ids=CASES)
def test_prepared_gradients_hold_at_other_points(f: Function, x: Any) -> None:
    def loss(x: Any) -> Any:
        return np.sum(f(x) ** 2)

    prepared = dk.prepare(loss, x)
    for scale in (1.0, 1.0, 1.1):
        assert_close(prepared.gradient(scale * x), dk.gradient(loss, scale * x), 1e-12)


def test_the_energy_of_a_spectrum_is_that_of_the_signal() -> None:
    """Parseval: the sum of |X_k|² over all frequencies is n times that of x_j²."""
    for x in (EVEN, ODD):
        gradient = dk.gradient(lambda x: np.sum(np.abs(F.fft(x)) ** 2), x)
        assert_close(gradient, 2 * len(x) * x, 1e-14)


def test_a_filter_is_its_own_derivative() -> None:
    columns = np.stack([F.irfft(F.rfft(e) * FILTER, 8) for e in np.eye(8)], axis=1)
    assert_close(dk.jacobian(TRANSFORMS["filter"][0], EVEN), columns, 1e-14)


def test_gradient_through_a_nested_gradient() -> None:
    def inner(x: Any) -> Any:
        return np.sum(np.abs(F.rfft(x)) ** 3)

    def outer(x: Any) -> Any:
        return np.sum(dk.gradient(inner, x) ** 2)

    step = 1e-6 * np.eye(8)
    expected = np.array([(outer(EVEN + h) - outer(EVEN - h)) / 2e-6 for h in step])
    assert_close(dk.gradient(outer, EVEN), expected, 1e-7)


def test_complex_data_may_change_between_calls() -> None:
    def loss(x: Any, h: Any) -> Any:
        return np.sum(np.abs(F.rfft(x) * h))

    prepared = dk.prepare(loss, EVEN, FILTER)
    for h in (FILTER, FILTER, 2j * FILTER, FILTER + 1):
        assert_close(prepared.gradient(EVEN, h), dk.gradient(loss, EVEN, h), 1e-14)
    h *= 3
    assert_close(prepared.gradient(EVEN, h), dk.gradient(loss, EVEN, h), 1e-14)


# ---------------------------------------------------------------------- other backends, truth


@pytest.mark.parametrize("name", ["power spectrum, odd length", "filter", "fft2", "hfft", "irfftn"])
def test_truth_and_symbolic_backend_agree(name: str) -> None:
    f, x = TRANSFORMS[name]

    def loss(x: Any) -> Any:
        return np.sum(np.sin(f(x) / 4))

    gradient = dk.gradient(loss, x)
    reference = truth.gradient(loss, x)
    assert reference.certified
    assert_close(gradient, reference.value, 1e-13)
    assert_close(dk.gradient(loss, x, backend="symbolic"), reference.value, 1e-12)


# ---------------------------------------------------------------------- refusals


def write_into_real_array(x: Any) -> Any:
    y = np.zeros_like(x)
    y[0] = F.rfft(x)[0]
    return y


REFUSED: dict[str, tuple[Function, str]] = {
    "square root": (lambda x: np.sqrt(F.rfft(x)).real, r"np\.sqrt"),
    "sine": (lambda x: np.sin(F.rfft(x)).real, r"np\.sin"),
    "sort": (lambda x: np.sort(F.rfft(x)).real, "sort"),
    "maximum": (lambda x: np.max(F.rfft(x)).real, "max"),
    "comparison": (lambda x: (F.rfft(x) > 0) * x[:5], "greater"),
    "variance": (lambda x: np.var(F.rfft(x)), "var"),
    "decomposition": (lambda x: np.linalg.svd(F.fft2(x.reshape(2, 4)))[1], "svd"),
    "spectral norm": (lambda x: np.linalg.norm(F.fft2(x.reshape(2, 4)), 2), "singular values"),
    "fractional power": (lambda x: (F.rfft(x) ** 0.5).real, "power"),
    "truth value": (lambda x: x[0] if F.rfft(x)[0] else x[1], "bool"),
    "number": (lambda x: complex(F.rfft(x)[0]).real, "complex"),
    "hash": (lambda x: {F.rfft(x)[0]: 1}, "hash"),
    "write into a real array": (write_into_real_array, "real array"),
    "cast": (lambda x: F.rfft(x).astype(float), "imaginary"),
    "conversion": (lambda x: np.asarray(F.rfft(x)).real, r"np\.stack"),
    "array of a list": (lambda x: np.array([F.rfft(x)[0], x[0]]).real, r"np\.stack"),
}


@pytest.mark.filterwarnings("ignore::numpy.exceptions.ComplexWarning")
@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_followed_is_refused(name: str) -> None:
    f, message = REFUSED[name]
    with pytest.raises((dk.UnsupportedOperation, dk.TracingError, dk.InvalidOutput), match=message):
        dk.jacobian(f, EVEN)


def test_complex_results_are_refused() -> None:
    with pytest.raises(dk.InvalidOutput, match="complex"):
        dk.jacobian(F.rfft, EVEN)


def test_numpys_own_errors_pass() -> None:
    for f in (lambda x: F.rfft(x, 0), lambda x: F.rfft(x, norm="other")):
        with pytest.raises(ValueError, match="Invalid"):
            dk.jacobian(lambda x, f=f: f(x).real, EVEN)
    with pytest.raises(TypeError):
        dk.jacobian(lambda x: F.rfft(F.rfft(x)).real, EVEN)
