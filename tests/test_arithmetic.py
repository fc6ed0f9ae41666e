"""The two arithmetics: series in balls and multiprecision numbers, against mpmath and by hand."""

from __future__ import annotations

import threading
from fractions import Fraction

import flint
import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffkit.arithmetic import FlintSeries, LengthNeeded, MultiPrecision, PrecisionNeeded
from diffkit.errors import InvalidInput
from diffkit.measures import Enclosure

mp = mpmath.mp.clone()
mp.dps = 60

SMOOTH = [
    # name, the function in mpmath, points
    ("exp", mp.exp, (0.7, -30.0, 1e-20)),
    ("exp2", lambda x: mp.mpf(2) ** x, (0.7, -3.0)),
    ("expm1", mp.expm1, (0.7, 1e-20, -40.0)),
    ("log", mp.log, (0.7, 1e-300, 1e300)),
    ("log1p", mp.log1p, (0.7, 1e-20, -0.9)),
    ("log2", lambda x: mp.log(x) / mp.log(2), (0.7, 8.0)),
    ("log10", lambda x: mp.log(x) / mp.log(10), (0.7, 1000.0)),
    ("sqrt", mp.sqrt, (0.7, 1e-300)),
    ("cbrt", lambda x: mp.sign(x) * mp.cbrt(abs(x)), (0.7, -2.0)),
    ("square", lambda x: x * x, (0.7, -2.0)),
    ("reciprocal", lambda x: 1 / x, (0.7, -2.0)),
    ("sin", mp.sin, (0.7, 1e22)),
    ("cos", mp.cos, (0.7, -3.0)),
    ("tan", mp.tan, (0.7, 2.0)),
    ("arcsin", mp.asin, (0.7, -0.999)),
    ("arccos", mp.acos, (0.7, -0.999)),
    ("arctan", mp.atan, (0.7, -1e10)),
    ("sinh", mp.sinh, (0.7, 1e-10, -40.0)),
    ("cosh", mp.cosh, (0.7, -40.0)),
    ("tanh", mp.tanh, (0.7, 1e-10, 300.0, -300.0)),
    ("arcsinh", mp.asinh, (0.7, 1e-10, 1e150, -1e150)),
    ("arccosh", mp.acosh, (1.7, 1e10)),
    ("arctanh", mp.atanh, (0.7, 1e-10, -0.999)),
    ("sinc", mp.sincpi, (0.3, -2.5, 1e-10)),
    ("erf", mp.erf, (0.3, -3.0)),
    ("erfc", mp.erfc, (0.3, 5.0)),
    ("gamma", mp.gamma, (0.3, 5.0, -1.5)),
    ("lgamma", lambda x: mp.log(abs(mp.gamma(x))), (0.3, 5.0, -1.5)),
    ("digamma", mp.digamma, (0.3, 5.0, -1.5)),
    ("sigmoid", lambda x: 1 / (1 + mp.exp(-x)), (0.7, -40.0, 40.0)),
    ("deg2rad", lambda x: x * mp.pi / 180, (0.7,)),
    ("rad2deg", lambda x: x * 180 / mp.pi, (0.7,)),
]
CASES = [(name, f, x) for name, f, points in SMOOTH for x in points]
IDS = [f"{name}({x})" for name, _, x in CASES]

PAIRS = [
    ("power", lambda a, b: a**b, (1.7, 2.3)),
    ("hypot", mp.hypot, (3.5, -4.1)),
    ("arctan2", mp.atan2, (1.0, 2.0)),
    ("arctan2", mp.atan2, (3.0, -0.5)),
    ("arctan2", mp.atan2, (-3.0, 0.5)),
    ("arctan2", mp.atan2, (0.25, -5.0)),
    ("arctan2", mp.atan2, (-0.25, -5.0)),
    ("logaddexp", lambda a, b: mp.log(mp.exp(a) + mp.exp(b)), (1.5, -20.0)),
    ("logaddexp2", lambda a, b: mp.log(mp.mpf(2) ** a + mp.mpf(2) ** b) / mp.log(2), (1.5, 3.0)),
    ("fmod", lambda a, b: a - mp.mpf(int(a / b)) * b, (-7.5, 2.25)),
    ("remainder", lambda a, b: a - mp.floor(a / b) * b, (-7.5, 2.25)),
]


def series(name, *points, length=4, side=1, precision=512, along=None):
    """The exact coefficients (as rationals) of a function along the first argument."""
    speeds = along or (1,) + (0,) * (len(points) - 1)
    with FlintSeries(length, side, precision) as A:
        arguments = [A.variable(x, v) for x, v in zip(points, speeds, strict=True)]
        return [Enclosure.of(c) for c in A.coefficients(getattr(A, name)(*arguments))]


def rational(x):
    return Enclosure.of(x).midpoint


def floats(A, x):
    return [float(rational(c)) for c in A.coefficients(x)]


def derivatives(f, x, orders):
    """Central differences with so many digits that the comparisons need far fewer."""
    with mp.workdps(300 if 1e-30 < abs(x) < 100 else 1000):
        x = mp.mpf(x)
        h = (abs(x) or 1) * mp.mpf(10) ** -50
        for k in range(orders + 1):
            terms = [
                (-1) ** j * mp.binomial(k, j) * f(x + (mp.mpf(k) / 2 - j) * h) for j in range(k + 1)
            ]
            yield rational(mp.fsum(terms) / h**k)


def close(a, b, digits=40):
    return abs(a - b) <= Fraction(1, 10**digits) * (abs(b) if a else Fraction(1, 10**80))


@pytest.mark.parametrize(("name", "f", "x"), CASES, ids=IDS)
def test_the_coefficients_of_a_series_are_the_derivatives_over_factorials(name, f, x):
    factorial = 1
    for k, (c, expected) in enumerate(zip(series(name, x), derivatives(f, x, 3), strict=True)):
        factorial *= max(k, 1)
        assert close(c.midpoint * factorial, expected), (k, float(c.midpoint), float(expected))
        assert c.radius <= abs(c.midpoint) / 2**100


@pytest.mark.parametrize(("name", "f", "x"), CASES, ids=IDS)
def test_both_arithmetics_give_the_same_values(name, f, x):
    constant = series(name, x, side=0, length=1)[0]
    plain = rational(getattr(MultiPrecision(60), name)(x))
    with mp.workdps(90):
        assert close(constant.midpoint, rational(f(mp.mpf(x))), 55)
    assert close(plain, constant.midpoint, 50)


@pytest.mark.parametrize(("name", "f", "point"), PAIRS)
@pytest.mark.parametrize("along", [(1, 0), (0, 1), (2, -3)])
def test_functions_of_two_numbers_along_any_direction(name, f, point, along):
    coefficients = series(name, *point, along=along, length=3)

    def ray(t):
        return f(*(mp.mpf(x) + v * t for x, v in zip(point, along, strict=True)))

    assert close(rational(getattr(MultiPrecision(60), name)(*point)), coefficients[0].midpoint)
    with mp.workdps(200):
        h = mp.mpf(10) ** -50
        slope = rational((ray(h) - ray(-h)) / (2 * h))
        curve = rational((ray(h) - 2 * ray(0) + ray(-h)) / h**2)
    assert abs(coefficients[1].midpoint - slope) < Fraction(1, 10**40)
    assert abs(2 * coefficients[2].midpoint - curve) < Fraction(1, 10**40)


# ---------------------------------------------------------------------- numbers


@pytest.mark.parametrize(
    ("x", "exact"),
    [
        (0.1, Fraction(0.1)),
        (np.float32(0.1), Fraction(float(np.float32(0.1)))),
        (np.float16(0.1), Fraction(float(np.float16(0.1)))),
        (np.longdouble(1) / 3, Fraction(*(np.longdouble(1) / 3).as_integer_ratio())),
        (5e-324, Fraction(5e-324)),
        (10**40 + 1, Fraction(10**40 + 1)),
        (np.int8(-3), Fraction(-3)),
        (True, Fraction(1)),
        (np.False_, Fraction(0)),
    ],
)
def test_a_constant_is_the_number_that_its_bits_are(x, exact):
    with FlintSeries(precision=16) as A:
        assert Enclosure.of(A.constant(x)) == Enclosure(exact, Fraction(0))
    assert rational(MultiPrecision(60).constant(x)) == exact


@pytest.mark.parametrize("x", ["1", 1j, None, [1.0]])
def test_a_constant_must_be_a_real_number(x):
    with pytest.raises(InvalidInput, match="not a real number"):
        FlintSeries().constant(x)


def test_infinities_are_ordered_and_nan_is_not():
    for A in (FlintSeries(side=0), MultiPrecision()):
        infinite, nan = A.constant(np.inf), A.constant(np.nan)
        assert A.less(3, infinite)
        assert A.greater(3, -infinite)
        assert A.isinf(infinite)
        assert A.isnan(nan)
        assert not A.isfinite(nan)
        assert A.isfinite(A.constant(1.0))
        assert A.compare(nan, 1) is None
        assert A.not_equal(nan, nan)
        assert A.isnan(A.maximum(nan, 1))


@pytest.mark.parametrize("name", ["log", "sqrt", "arcsin", "arccosh", "log1p", "arctanh"])
def test_outside_a_domain_lies_nan_not_an_exception(name):
    x = 0.5 if name == "arccosh" else -2.0
    with FlintSeries() as A:
        assert not A.coefficients(getattr(A, name)(A.variable(x)))[0].is_finite()
    M = MultiPrecision()
    assert M.isnan(getattr(M, name)(x))
    assert M.isnan(M.divide(1, 0))
    assert M.isnan(M.gamma(-1))


def test_the_flint_context_is_restored_and_held():
    flint.ctx.prec, flint.ctx.cap = 77, 9
    with FlintSeries(length=3, precision=300) as outer:
        assert (flint.ctx.prec, flint.ctx.cap) == (300, 3)
        with FlintSeries(length=2, precision=100), outer:
            assert flint.ctx.prec == 300
        assert flint.ctx.prec == 300
        entered = threading.Event()

        def other():
            with FlintSeries(precision=50):
                entered.set()

        thread = threading.Thread(target=other)
        thread.start()
        assert not entered.wait(0.05)
    thread.join()
    assert entered.is_set()
    assert (flint.ctx.prec, flint.ctx.cap) == (77, 9)
    flint.ctx.default()


def test_multiprecision_leaves_the_global_context_alone():
    before = mpmath.mp.prec
    A = MultiPrecision(200)
    A.sin(1)
    assert mpmath.mp.prec == before
    assert type(A.number(1)) is not mpmath.mpf


@pytest.mark.parametrize("options", [{"side": 2}, {"length": 0}, {"precision": 1}])
def test_impossible_series_are_refused(options):
    with pytest.raises(InvalidInput):
        FlintSeries(**options)
    with pytest.raises(InvalidInput):
        MultiPrecision(0)


# ---------------------------------------------------------------------- zeros and powers


def test_integer_powers_are_exact_for_negative_bases_and_zero():
    assert [c.midpoint for c in series("power", -2.0, 3.0, length=3)] == [-8, 12, -6]
    assert series("power", -2.0, -1.0, length=3)[0].midpoint == Fraction(-1, 2)
    assert [c.midpoint for c in series("power", 0.0, 2.0, length=3)] == [0, 0, 1]
    assert [c.midpoint for c in series("power", 0.0, 0.0, length=2)] == [1, 0]
    assert series("power", 1.0, 2.0**40, length=1)[0].midpoint == 1
    with FlintSeries() as A:
        assert A.greater(A.power(-2.0, 2.0**40), 0)
    for A in (FlintSeries(side=0), MultiPrecision()):
        assert A.equal(A.power(0, 0), 1)
        assert A.equal(A.power(0.0, 2.5), 0)
        assert A.equal(A.power(-2, 3), -8)


def test_real_powers_at_zero():
    assert [c.midpoint for c in series("power", 0.0, 1.5, length=2)] == [0, 0]
    assert [c.midpoint for c in series("power", 0.0, 2.5, along=(0, 1), length=2)] == [0, 0]
    with FlintSeries() as A:
        square = A.square(A.variable(0.0))
        assert not A.coefficients(A.sqrt(A.variable(0.0)))[1].is_finite()
        assert not A.coefficients(A.power(A.variable(0.0), -0.5))[0].is_finite()
        assert A.coefficients(A.power(square, 0.75))[0] == 0


@pytest.mark.parametrize("side", [1, -1])
def test_the_root_of_a_square_is_the_absolute_value(side):
    with FlintSeries(length=4, side=side) as A:
        t = A.variable(0.0)
        assert floats(A, A.sqrt(9 * A.square(t)))[:2] == pytest.approx([0, 3 * side])
        assert A.one_sided
        assert floats(A, A.cbrt(8 * A.power(t, 3)))[:2] == pytest.approx([0, 2])
        assert floats(A, A.power(A.square(t), 1.5))[3] == pytest.approx(side)


def test_removable_singularities_are_removed():
    with FlintSeries(length=5) as A:
        t = A.variable(0.0)
        quotient = A.coefficients(A.sin(t) / t)
        assert len(quotient) == 4
        assert quotient[:2] == [1, 0]
        assert A.coefficients(A.divide(t, A.number(0)))[0].is_nan()
        assert A.coefficients(1 / t)[0].is_nan()


def test_sinc_at_zero_is_a_whole_series():
    coefficients = series("sinc", 0.0, length=4)
    with mp.workdps(60):
        assert close(coefficients[2].midpoint, rational(-(mp.pi**2) / 6), 50)
    assert [coefficients[k].midpoint for k in (0, 1, 3)] == [1, 0, 0]


def test_zero_times_a_series_is_constant():
    with FlintSeries() as A:
        assert A.multiply(0.0, A.variable(2.0)) == 0


def test_logarithms_of_powers_of_the_base_are_exact():
    for x, name, expected in [(8.0, "log2", 3), (0.25, "log2", -2), (1000.0, "log10", 3)]:
        assert series(name, x)[0] == Enclosure(Fraction(expected))
        assert rational(getattr(MultiPrecision(), name)(x)) == expected


# ---------------------------------------------------------------------- comparisons and kinks


@pytest.mark.parametrize("side", [1, -1])
def test_a_tie_is_decided_by_the_side(side):
    with FlintSeries(side=side) as A:
        t = A.variable(0.0)
        assert A.less(0, t) == (side > 0)
        assert A.greater_equal(t, 0) == (side > 0)
        assert A.sign(t) == side
        assert A.not_equal(t, 0)
        assert A.coefficients(A.absolute(t)) == [0, side]
        assert A.coefficients(A.maximum(t, 2 * t)) == [0, 2 if side > 0 else 1]
        assert A.coefficients(A.minimum(t, 2 * t)) == [0, 1 if side > 0 else 2]
        assert A.heaviside(t, 0.5) == (side > 0)
        assert A.one_sided


def test_what_does_not_depend_on_the_side_says_so():
    with FlintSeries(length=3) as A:
        t = A.variable(0.0)
        assert A.greater(A.square(t), 0)
        assert A.maximum(t, t) is t
        assert A.less(t, 1)
        assert not A.one_sided


def test_at_the_point_itself_a_tie_is_a_tie():
    with FlintSeries(side=0) as A:
        x = A.variable(0.0)
        assert A.equal(x, 0)
        assert A.sign(x) == 0
        assert A.heaviside(x, 0.5) == 0.5


def test_overlapping_balls_need_precision():
    with FlintSeries(precision=64) as A:
        third = A.divide(1, 3)
        with pytest.raises(PrecisionNeeded):
            A.less(third * 3, 1)
        with pytest.raises(PrecisionNeeded):
            A.maximum(third * 3, 1)
        with pytest.raises(PrecisionNeeded):
            A.floor(third * 3)
        with pytest.raises(PrecisionNeeded):
            A.isnan(A.divide(0, 0))
    with FlintSeries(precision=64, final=True) as A:
        A.maximum(A.divide(1, 3) * 3, 1)
        assert A.assumed
        assert A.isnan(A.divide(0, 0))
        with pytest.raises(PrecisionNeeded):
            A.less(A.divide(1, 3) * 3, 1)


def test_series_that_agree_need_length_before_they_count_as_equal():
    with FlintSeries(length=2) as A:
        x = A.variable(0.5)
        with pytest.raises(LengthNeeded):
            A.less(x * x, x * x)
        assert A.equal(x, x)
    with FlintSeries(length=16) as A:
        x = A.variable(0.5)
        assert A.equal(x * x, x * x)


@pytest.mark.parametrize(
    ("name", "x", "left", "right"),
    [
        ("floor", 3.0, 2, 3),
        ("ceil", 3.0, 3, 4),
        ("trunc", 3.0, 2, 3),
        ("trunc", -3.0, -3, -2),
        ("trunc", 0.0, 0, 0),
        ("rint", 2.5, 2, 3),
        ("rint", 3.5, 3, 4),
        ("rint", 3.0, 3, 3),
        ("floor", 2.7, 2, 2),
        ("rint", -2.7, -3, -3),
    ],
)
def test_rounding_on_either_side_and_at_the_point(name, x, left, right):
    assert series(name, x, side=-1)[0].midpoint == left
    assert series(name, x, side=1)[0].midpoint == right
    at = {"floor": np.floor, "ceil": np.ceil, "trunc": np.trunc, "rint": np.rint}[name](x)
    assert series(name, x, side=0)[0].midpoint == at
    assert rational(getattr(MultiPrecision(), name)(x)) == at


def test_logic_and_choice():
    for A in (FlintSeries(side=0), MultiPrecision()):
        assert A.truth(A.number(2))
        assert not A.truth(False)
        assert A.logical_and(True, A.number(1))
        assert A.logical_or(A.number(0), True)
        assert A.logical_xor(True, False)
        assert A.logical_not(A.number(0))
        assert A.equal(A.where(A.less(1, 2), 5, 6), 5)
        assert A.equal(A.copysign(3, -2), -3)
        assert A.equal(A.copysign(-3, 2), 3)
        assert A.equal(A.sign(-2), -1)
        assert A.equal(A.fmin(1, 2), 1)
        assert A.equal(A.fmax(1, 2), 2)
        assert A.equal(A.floor_divide(-7, 2), -4)
        assert A.equal(A.remainder(-7, 3), 2)
        assert A.equal(A.fmod(-7, 3), -1)
        assert A.equal(A.add(A.positive(1), A.subtract(5, A.negative(2))), 8)


@settings(deadline=None, max_examples=60)
@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_comparisons_are_those_of_the_floats(a, b):
    for A in (FlintSeries(side=0), MultiPrecision()):
        assert A.less(a, b) == (a < b)
        assert A.less_equal(a, b) == (a <= b)
        assert A.equal(a, b) == (a == b)
        assert A.equal(A.maximum(a, b), max(a, b))
        assert A.equal(A.rint(a), np.rint(a))
        assert A.equal(A.trunc(a), np.trunc(a))


# ---------------------------------------------------------------------- arrays


def objects(A, array):
    result = np.empty(np.shape(array), object)
    for index, x in np.ndenumerate(np.asarray(array, float)):
        result[index] = A.number(x)
    return result


def test_numpy_adds_and_multiplies_arrays_of_series():
    with FlintSeries() as A:
        v = objects(A, [1.0, 2.0, 3.0])
        v[1] = A.variable(2.0)
        assert A.coefficients(v @ v) == [14, 4]
        assert A.coefficients(np.sum(v)) == [6, 1]
        assert A.coefficients((1 - v / 2)[1]) == [0, -0.5]
        assert A.coefficients((4 / v)[1]) == [2, -1]
        assert "Taylor" in repr(v[1])


MATRIX = np.array([[4.0, 1.0, -2.0], [1.0, 3.0, 0.5], [-2.0, 0.5, 5.0]])


@pytest.mark.parametrize("kind", [lambda: FlintSeries(side=0), MultiPrecision])
def test_linear_algebra_is_that_of_numpy(kind):
    A = kind()
    matrix, right = objects(A, MATRIX), objects(A, [1.0, 2.0, 3.0])

    def plain(array):
        return np.vectorize(lambda x: float(rational(x)))(array)

    np.testing.assert_allclose(
        plain(A.solve(matrix, right)), np.linalg.solve(MATRIX, [1.0, 2.0, 3.0]), rtol=1e-14
    )
    np.testing.assert_allclose(plain(A.inv(matrix)), np.linalg.inv(MATRIX), rtol=1e-14)
    np.testing.assert_allclose(plain(A.cholesky(matrix)), np.linalg.cholesky(MATRIX), rtol=1e-14)
    np.testing.assert_allclose(plain(A.det(matrix)), np.linalg.det(MATRIX), rtol=1e-14)
    sign, logarithm = A.slogdet(-matrix)
    np.testing.assert_allclose(
        [plain(sign), plain(logarithm)], np.linalg.slogdet(-MATRIX), rtol=1e-14
    )
    stacked = np.stack([matrix, matrix @ matrix])
    assert A.solve(stacked, np.stack([matrix, matrix])).shape == (2, 3, 3)
    np.testing.assert_allclose(plain(A.solve(stacked, stacked))[1], np.eye(3), atol=1e-14)
    assert A.isnan(A.inv(objects(A, np.ones((2, 2))))[0, 0])


def test_the_derivative_of_a_determinant_by_an_entry_is_its_cofactor():
    for matrix in (MATRIX, np.outer([1.0, 2.0, 4.0], [1.0, 1.0, 3.0]), np.zeros((3, 3))):
        with FlintSeries() as A:
            array = objects(A, matrix)
            array[0, 1] = A.variable(matrix[0, 1])
            coefficients = A.coefficients(A.det(array)[()])
        minor = np.delete(np.delete(matrix, 0, 0), 1, 1)
        assert float(rational(coefficients[1])) == pytest.approx(-np.linalg.det(minor), abs=1e-12)
