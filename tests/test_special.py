"""The ufuncs of scipy.special: values are SciPy's, derivatives those of the value.

Oracles: differences of SciPy's own values, and mpmath's functions differentiated in high
precision.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest
import scipy.special as sp
from primitive_checks import assert_close, assert_derivatives, central_jacobian

import diffkit as dk
from diffkit import truth
from diffkit.tracing.graph import Missing, Primitive
from diffkit.tracing.primitives.special import SPECIAL

Function = Callable[..., Any]
ANY, POSITIVE = np.array([-2.3, -0.4, 0.3, 1.7]), np.array([0.2, 0.9, 1.6, 4.1])
UNIT, INNER = np.array([0.05, 0.4, 0.77, 0.95]), np.array([-0.9, -0.2, 0.3, 0.8])
OTHER = np.array([1.3, 0.6, 2.2, 0.9])

ONE: dict[str, tuple[Function, Any]] = {
    "expm1": (sp.expm1, ANY),
    "log1p": (sp.log1p, POSITIVE),
    "exp2": (sp.exp2, ANY),
    "exp10": (sp.exp10, ANY),
    "cbrt": (sp.cbrt, POSITIVE),
    "cosm1": (sp.cosm1, ANY),
    "sindg": (sp.sindg, 40 * ANY),
    "cosdg": (sp.cosdg, 40 * ANY),
    "tandg": (sp.tandg, 20 * ANY),
    "cotdg": (sp.cotdg, 40 * POSITIVE),
    "erf": (sp.erf, ANY),
    "erfc": (sp.erfc, ANY),
    "erfi": (sp.erfi, ANY),
    "erfinv": (sp.erfinv, INNER),
    "erfcinv": (sp.erfcinv, 2 * UNIT),
    "erfcx": (sp.erfcx, ANY),
    "dawsn": (sp.dawsn, ANY),
    "ndtr": (sp.ndtr, ANY),
    "log_ndtr": (sp.log_ndtr, ANY),
    "ndtri": (sp.ndtri, UNIT),
    "expit": (sp.expit, ANY),
    "logit": (sp.logit, UNIT),
    "log_expit": (sp.log_expit, ANY),
    "psi": (sp.digamma, POSITIVE),
    "gammaln": (sp.gammaln, np.array([-1.4, 0.3, 1.6, 4.1])),
    "loggamma": (sp.loggamma, POSITIVE),
    "gamma": (sp.gamma, np.array([-1.4, 0.3, 1.6, 4.1])),
    "rgamma": (sp.rgamma, POSITIVE),
    "entr": (sp.entr, POSITIVE),
    "j0": (sp.j0, ANY),
    "j1": (sp.j1, ANY),
    "y0": (sp.y0, POSITIVE),
    "y1": (sp.y1, POSITIVE),
    "i0": (sp.i0, ANY),
    "i1": (sp.i1, ANY),
    "k0": (sp.k0, POSITIVE),
    "k1": (sp.k1, POSITIVE),
    "i0e": (sp.i0e, ANY),
    "i1e": (sp.i1e, ANY),
    "jv": (lambda x: sp.jv(2, x), ANY),
    "yv": (lambda x: sp.yv(2, x), POSITIVE),
    "iv": (lambda x: sp.iv(1.5, x), POSITIVE),
    "kv": (lambda x: sp.kv(2, x), POSITIVE),
    "ive": (lambda x: sp.ive(2, x), ANY),
    "gammainc": (lambda x: sp.gammainc(2.5, x), POSITIVE),
    "gammaincc": (lambda x: sp.gammaincc(2.5, x), POSITIVE),
    "betainc": (lambda x: sp.betainc(2.5, 1.5, x), UNIT),
    "_zeta": (lambda x: sp.zeta(3.0, x), POSITIVE),
    "exprel": (sp.exprel, ANY),
    "expi": (sp.expi, POSITIVE),
    "exp1": (sp.exp1, POSITIVE),
    "expn": (lambda x: sp.expn(3, x), POSITIVE),
    "yn": (lambda x: sp.yn(2, x), POSITIVE),
    "kn": (lambda x: sp.kn(2, x), POSITIVE),
    "boxcox": (lambda x: sp.boxcox(x, 0.7), POSITIVE),
    "boxcox1p": (lambda x: sp.boxcox1p(x, 0.7), POSITIVE),
}
TWO: dict[str, tuple[Function, Any, Any]] = {
    "beta": (sp.beta, POSITIVE, OTHER),
    "betaln": (sp.betaln, POSITIVE, OTHER),
    "xlogy": (sp.xlogy, ANY, OTHER),
    "xlog1py": (sp.xlog1py, ANY, OTHER),
    "rel_entr": (sp.rel_entr, POSITIVE, OTHER),
    "kl_div": (sp.kl_div, POSITIVE, OTHER),
    "huber": (sp.huber, OTHER, ANY),
    "pseudo_huber": (sp.pseudo_huber, OTHER, ANY),
    "powm1": (sp.powm1, POSITIVE, OTHER),
    "boxcox": (sp.boxcox, POSITIVE, OTHER),
    "boxcox1p": (sp.boxcox1p, POSITIVE, OTHER),
}


def test_every_row_has_a_case() -> None:
    assert set(SPECIAL) == set(ONE) | set(TWO) | {"_riemann_zeta", "round"}
    for name, function in SPECIAL.items():
        if name.startswith("_"):
            continue
        assert isinstance(getattr(sp, name), np.ufunc)
        assert callable(function)


@pytest.mark.parametrize("name", ONE)
def test_first_and_second_derivatives(name: str) -> None:
    f, x = ONE[name]
    scale = 20 if name.endswith("dg") else 1
    assert_derivatives(lambda t: f(scale * t), x / scale)


@pytest.mark.parametrize("name", TWO)
def test_derivatives_by_both_arguments(name: str) -> None:
    f, x, y = TWO[name]
    assert_derivatives(lambda t: f(t[:4], t[4:]), np.concatenate([x, y]))


@pytest.mark.parametrize("name", ONE)
def test_single_precision_stays(name: str) -> None:
    f, x = ONE[name]
    x = x.astype(np.float32)
    value, pulled = dk.vjp(f, x, np.ones(4, np.float32), value=True)
    assert value.dtype == f(x).dtype
    assert pulled.dtype == np.float32


@pytest.mark.parametrize("name", ONE)
def test_a_prepared_gradient_calls_scipy_with_new_values(name: str) -> None:
    f, x = ONE[name]
    prepared = dk.prepare(lambda x: np.sum(f(x)), x)
    for factor in (1.0, 1.0, 0.99):
        expected = dk.jvp(f, factor * x, np.ones(4))
        assert_close(prepared.gradient(factor * x), expected, 1e-14)


# ---------------------------------------------------------------------- against mpmath

HARD: dict[str, tuple[Function, Function, list[float]]] = {
    "erfcx": (
        sp.erfcx,
        lambda x: mpmath.exp(x * x) * mpmath.erfc(x),
        [-5.0, 0.0, 3.0, 29.9, 30.1, 1e3, 1e8],
    ),
    "dawsn": (
        sp.dawsn,
        lambda x: mpmath.sqrt(mpmath.pi) / 2 * mpmath.exp(-x * x) * mpmath.erfi(x),
        [-100.0, 0.0, 3.0, 29.9, 30.1, 1e3],
    ),
    "log_ndtr": (
        sp.log_ndtr,
        lambda x: mpmath.log(mpmath.erfc(-x / mpmath.sqrt(2)) / 2),
        [-1e4, -40.0, -1.0, 0.0, 5.0, 36.0],
    ),
    "i0e": (
        sp.i0e,
        lambda x: mpmath.exp(-abs(x)) * mpmath.besseli(0, x),
        [-1e6, -30.0, -1e-3, 1e-3, 99.0, 101.0, 1e7],
    ),
    "i1e": (
        sp.i1e,
        lambda x: mpmath.exp(-abs(x)) * mpmath.besseli(1, x),
        [-1e6, -30.0, 1e-3, 99.0, 101.0, 1e7],
    ),
    "exprel": (
        sp.exprel,
        lambda x: (mpmath.exp(x) - 1) / x if x else mpmath.mpf(1),
        [-800.0, -1.0, -1e-9, 1e-9, 0.9, 1.1, 30.0],
    ),
    "log_expit": (sp.log_expit, lambda x: -mpmath.log1p(mpmath.exp(-x)), [-800.0, 0.0, 700.0]),
    "expit": (sp.expit, lambda x: 1 / (1 + mpmath.exp(-x)), [-700.0, 0.0, 700.0]),
    "erfcinv": (
        sp.erfcinv,
        lambda x: mpmath.findroot(lambda y: mpmath.log(mpmath.erfc(y)) - mpmath.log(x), 6),
        [1e-20, 1e-10],
    ),
}


@pytest.mark.parametrize(
    ("name", "x"), [(name, x) for name, (_, _, points) in HARD.items() for x in points]
)
def test_formulas_that_would_cancel_keep_their_digits(name: str, x: float) -> None:
    f, exact, _ = HARD[name]
    with mpmath.workdps(80):
        expected = float(mpmath.diff(exact, mpmath.mpf(x), h=mpmath.mpf(10) ** -30 * (abs(x) + 1)))
    assert dk.derivative(f, x) == pytest.approx(expected, rel=3e-12)


def test_limits_at_zero() -> None:
    assert dk.gradient(lambda v: sp.xlogy(v[0], v[1]), np.array([0.0, 2.0]))[1] == 0
    assert dk.gradient(lambda y: sp.xlogy(0.0, y), 0.0) == 0
    assert dk.derivative(sp.exprel, 0.0) == 0.5
    assert dk.derivative(lambda x: sp.boxcox(x, 0.0), 2.0) == 0.5
    assert dk.derivative(lambda t: sp.boxcox(2.0, t), 0.0) == pytest.approx(np.log(2) ** 2 / 2)
    with pytest.raises(dk.NonFiniteDerivative):
        dk.derivative(sp.entr, 0.0)


# ---------------------------------------------------------------------- the other columns


def test_every_function_has_a_truth() -> None:
    rows = [row for row in SPECIAL.values() if isinstance(row, Primitive)]
    assert not [row.name for row in rows if isinstance(row.exact, Missing)]


@pytest.mark.parametrize("name", ONE)
def test_the_truth_of_a_function_of_one_number(name: str) -> None:
    f, points = ONE[name]
    for order in (1, 2):
        for x in (points[0], points[2]):
            reference = truth.derivative(f, float(x), order=order)
            assert reference.certified
            found = dk.derivative(f, float(x), order=order)
            assert found == pytest.approx(float(reference.value), rel=1e-11, abs=1e-13)


@pytest.mark.parametrize("name", TWO)
def test_the_truth_of_a_function_of_two_numbers(name: str) -> None:
    f, x, y = TWO[name]
    point = np.array([x[2], y[2]])
    reference = truth.gradient(lambda v: f(v[0], v[1]), point)
    assert_close(dk.gradient(lambda v: f(v[0], v[1]), point), reference.value, 1e-12)


SECOND_KIND: list[tuple[Function, Function, list[float]]] = [
    (sp.y0, lambda x: mpmath.bessely(0, x), [1e-3, 2.404825557695773, 40.0]),  # by a zero of J
    (sp.y1, lambda x: mpmath.bessely(1, x), [0.3, 3.831705970207512]),
    (lambda x: sp.yv(-2.5, x), lambda x: mpmath.bessely(mpmath.mpf(-2.5), x), [0.7]),
    (lambda x: sp.yv(-1.0, x), lambda x: mpmath.bessely(-1, x), [0.7]),
    (sp.k0, lambda x: mpmath.besselk(0, x), [1e-3, 50.0]),
    (lambda x: sp.kv(-1.5, x), lambda x: mpmath.besselk(mpmath.mpf(1.5), x), [0.7]),
    (sp.expi, mpmath.ei, [-2.0, 0.4, 30.0]),
    (lambda x: sp.expn(0, x), lambda x: mpmath.expint(0, x), [0.4]),
    (lambda x: sp.expn(3, np.sin(x)), lambda x: mpmath.expint(3, mpmath.sin(x)), [0.4]),
    (lambda s: sp.zeta(s, 2.5), lambda s: mpmath.zeta(s, 2.5), [1.5]),  # no backend has that
    (lambda q: sp.zeta(3.5, q * q), lambda q: mpmath.zeta(3.5, q * q), [0.4, 3.0]),
]


@pytest.mark.parametrize(("f", "exact", "points"), SECOND_KIND)
def test_truth_made_of_series_is_that_of_mpmath(
    f: Function, exact: Function, points: list[float]
) -> None:
    for x in points:
        for order in (1, 2, 3):
            with mpmath.workdps(60):
                expected = float(mpmath.diff(exact, mpmath.mpf(x), order))
            found = truth.derivative(f, x, order=order)
            assert found.certified
            assert float(found.value) == pytest.approx(expected, rel=3e-16)


@pytest.mark.parametrize("f", [sp.y0, sp.k1, sp.exp1, lambda x: sp.expn(2, x)])
@pytest.mark.parametrize("x", [0.0, -1.0])
def test_where_a_function_is_not_defined_there_is_no_truth(f: Function, x: float) -> None:
    with pytest.raises(dk.TruthUnavailable):
        truth.derivative(f, x)


@pytest.mark.parametrize("x", [0.0, 0.7])
def test_the_truth_of_a_derivative_is_a_higher_one(x: float) -> None:
    """The derivatives of np.sinc and np.i0 are functions of their own once `f` takes them."""
    for f in (np.sinc, np.i0):
        nested = truth.derivative(lambda t, f=f: dk.derivative(f, t), x)
        assert nested.value == truth.derivative(f, x, order=2).value


SYMBOLIC = [name for name in ONE if name not in ("betainc", "_zeta")]


@pytest.mark.parametrize("name", SYMBOLIC)
def test_the_symbolic_backend_agrees(name: str) -> None:
    f, points = ONE[name]
    x = float(points[2])
    found = dk.derivative(f, x, backend="symbolic")
    assert found == pytest.approx(dk.derivative(f, x), rel=1e-9)


# ---------------------------------------------------------------------- refusals


@pytest.mark.parametrize("f", [sp.agm, sp.fresnel, sp.ellipk])
def test_other_ufuncs_are_refused_by_name(f: Any) -> None:
    with pytest.raises(dk.UnsupportedOperation, match=f.__name__):
        dk.derivative(lambda x: f(*[x] * f.nin), 0.5)


@pytest.mark.parametrize(
    ("f", "parameter"),
    [
        (lambda v: sp.jv(v, 1.5), "order"),
        (lambda a: sp.gammainc(a, 1.5), "a"),
        (lambda s: sp.zeta(s, 1.5), "exponent"),
        (lambda s: sp.zeta(s), "exponent"),
    ],
)
def test_parameters_without_a_formula_are_refused(f: Function, parameter: str) -> None:
    with pytest.raises(dk.UnsupportedOperation, match=parameter):
        dk.derivative(f, 2.5)


def test_softmax_is_right() -> None:
    def f(x: Any) -> Any:
        return sp.softmax(x)[0]

    x = np.array([0.3, 1.2, 0.7])
    assert_close(dk.gradient(f, x), central_jacobian(f, x), 1e-8)


@pytest.mark.parametrize(
    "f",
    [
        lambda x: sp.logsumexp(x),
        lambda x: sp.log_softmax(x)[0],
        lambda x: sp.polygamma(1, x)[0],
        lambda x: sp.comb(x, 2)[0],
    ],
)
def test_functions_that_do_not_dispatch_are_refused_with_the_way_out(f: Function) -> None:
    with pytest.raises(dk.TracingError, match=r"scipy.*np\.logaddexp\.reduce"):
        dk.gradient(f, np.array([0.3, 1.2, 0.7]))


def test_the_way_out_is_right() -> None:
    x = np.array([[0.3, 1.2, 0.7], [1e3, 0.0, -1e3]])
    found = dk.gradient(lambda x: np.sum(np.logaddexp.reduce(x, axis=1)), x)
    assert_close(found, sp.softmax(x, axis=1), 1e-15)


def test_softplus_dispatches() -> None:
    assert dk.derivative(sp.softplus, 0.5) == pytest.approx(sp.expit(0.5), rel=1e-15)


def test_scipy_is_not_imported() -> None:
    code = (
        "import sys, numpy as np, diffkit as dk;"
        "dk.gradient(lambda x: np.sum(np.exp(x)), np.ones(3));"
        "sys.exit(any(m.startswith('scipy') for m in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
