"""Truth: derivatives to the last bit, kinks with both sides, and refusals that say why."""

from __future__ import annotations

import math
from collections import namedtuple
from fractions import Fraction

import flint
import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffkit import truth
from diffkit.errors import InvalidInput, InvalidOutput, TruthUnavailable
from diffkit.measures import Enclosure, nearest, ulps
from diffkit.tracing import Missing
from diffkit.tracing.primitives import PRIMITIVES

mp = mpmath.mp.clone()
mp.dps = 60


def known(x):
    """A number of mpmath's, rounded to the nearest double."""
    return nearest(Enclosure.of(x).midpoint, np.float64)


# ---------------------------------------------------------------------- published numbers


@pytest.mark.parametrize(
    ("f", "x", "order", "expected"),
    [
        # Martins, Sturdza, Alonso
        (lambda x: np.exp(x) / np.sqrt(np.sin(x) ** 3 + np.cos(x) ** 3), 1.5, 1, 4.053427893898621),
        (lambda x: np.exp(x) / np.sqrt(np.sin(x) ** 3 + np.cos(x) ** 3), 1.5, 2, 9.463073681596601),
        # Moler 2013
        (lambda x: np.exp(x) / (np.cos(x) ** 3 + np.sin(x) ** 3), np.pi / 4, 1, 3.101766393836051),
        # autograd README
        (np.tanh, 1.0, 1, 0.419974341614026),
        # Baydin et al. 2018, Fig. 3
        (lambda x: 64 * x * (1 - x) * (1 - 2 * x) ** 2 * (1 - 8 * x + 8 * x * x) ** 2, 0.2, 1,
         9.0660864),
    ],
)  # fmt: skip
def test_published_derivatives(f, x, order, expected):
    result = truth.derivative(f, x, order=order)
    assert result.value == pytest.approx(expected, rel=1e-14)
    assert result.certified


@pytest.mark.parametrize(
    ("f", "x", "order", "expected"),
    [
        (lambda x: np.sin(x) * np.exp(-(x**2)), 0.5, 1,
         (mp.cos(0.5) - mp.sin(0.5)) * mp.exp(-mp.mpf(1) / 4)),
        (np.exp, 0.1, 4, mp.exp(0.1)),
        (np.sqrt, 1e-300, 1, 1 / (2 * mp.sqrt(1e-300))),
        (np.expm1, 1e-20, 1, mp.exp(1e-20)),
        (np.expm1, 1e-20, 3, mp.exp(1e-20)),
        (np.log1p, 1e-20, 2, -1 / (1 + mp.mpf(1e-20)) ** 2),
        (np.tanh, 300.0, 1, mp.sech(300) ** 2),
        (np.sin, 1e22, 1, mp.cos(mp.mpf(1e22))),
        (np.sinc, 0.0, 1, mp.mpf(0)),
        (np.sinc, 0.0, 2, -(mp.pi**2) / 3),
        (lambda x: x**2, 0.0, 1, mp.mpf(0)),
        (lambda x: x**2, 0.0, 2, mp.mpf(2)),
        (lambda x: 0.0**x, 2.0, 1, mp.mpf(0)),
        (lambda x: x**3.0, -2.0, 2, mp.mpf(-12)),
        (lambda x: 1.0 - np.cos(x), 1e-8, 1, mp.sin(mp.mpf(1e-8))),
        (lambda x: (x + 1e16) - 1e16, 0.5, 1, mp.mpf(1)),
        (lambda x: np.abs(x) ** 1.5, 0.0, 1, mp.mpf(0)),
        (lambda x: x * np.abs(x), 0.0, 1, mp.mpf(0)),
        (lambda x: np.maximum(x, x), 0.3, 1, mp.mpf(1)),
        (lambda x: np.maximum(np.sin(x), np.sin(x)), 0.3, 1, mp.cos(0.3)),
        (lambda x: np.where(x > 0, 1 / np.where(x > 0, x, 1), 0), -1.0, 1, mp.mpf(0)),
    ],
)  # fmt: skip
def test_the_value_is_the_nearest_number_to_the_true_derivative(f, x, order, expected):
    result = truth.derivative(f, x, order=order)
    assert result.value == known(expected)
    assert result.certified
    assert not result.kinks
    assert not result.note
    [enclosure] = result.enclosures
    assert ulps(result.value, enclosure) <= 0.5
    with mp.workdps(60):
        assert abs(enclosure.midpoint - Enclosure.of(expected).midpoint) <= (
            enclosure.radius + abs(enclosure.midpoint) / 10**40
        )


def test_a_derivative_that_underflows_is_zero_to_the_nearest():
    result = truth.derivative(np.tanh, 1e3)
    assert result.value == 0
    assert 0 < result.enclosures[0].midpoint < Fraction(1, 10**800)


@settings(deadline=None, max_examples=40)
@given(st.floats(-20, 20))
def test_identities_hold_to_the_last_bit(x):
    """(sin^2 + cos^2)' = 0 and (exp(x) exp(-x))' = 0 exactly, however x is rounded."""
    assert truth.derivative(lambda x: np.sin(x) ** 2 + np.cos(x) ** 2, x).value == 0
    assert truth.derivative(lambda x: np.exp(x) * np.exp(-x), x).value == 0


# ---------------------------------------------------------------------- kinks and branches


def relu(x):
    return np.where(x > 0, x, 0)


def branches(x):
    if x > 0:
        return x
    return -2 * x


def rounded_up(x):
    if x >= 1.5:
        return x * x
    return 2.25 + 0 * x


@pytest.mark.parametrize(
    ("f", "x", "left", "right"),
    [
        (np.abs, 0.0, -1, 1),
        (relu, 0.0, 0, 1),
        (branches, 0.0, -2, 1),
        (rounded_up, 1.5, 0, 3),
        (lambda x: np.maximum(x, 1 - x), 0.5, -1, 1),
        (lambda x: np.minimum(x, 2 * x), 0.0, 2, 1),
        (lambda x: np.clip(x, 0, 1), 1.0, 1, 0),
        (lambda x: np.sqrt(x**2), 0.0, -1, 1),
        (lambda x: np.abs(np.sin(x)), 0.0, -1, 1),
        (np.floor, 2.0, math.inf, 0),
        (np.ceil, 2.0, 0, math.inf),
        (lambda x: np.sign(x) + x, 0.0, math.inf, math.inf),
        (lambda x: np.where(x == 1, 2.0, x), 1.0, math.inf, -math.inf),
    ],
)
def test_at_a_kink_both_one_sided_derivatives_are_reported(f, x, left, right):
    result = truth.derivative(f, x)
    assert np.isnan(result.value)
    assert list(result.kinks.values()) == [(left, right)]
    assert list(result.kinks) == list(result.entries)
    assert result.enclosures == (None,)


@pytest.mark.parametrize(
    ("f", "order", "left", "right"),
    [
        (np.abs, 2, math.inf, math.inf),
        (lambda x: -np.abs(x), 3, -math.inf, -math.inf),
        (lambda x: np.maximum(x, 0) ** 2, 2, 0, 2),
        (lambda x: x * np.abs(x), 3, math.inf, math.inf),
    ],
)
def test_above_a_kink_there_are_no_higher_derivatives(f, order, left, right):
    result = truth.derivative(f, 0.0, order=order)
    assert np.isnan(result.value)
    assert list(result.kinks.values()) == [(left, right)]


def test_a_float32_threshold_of_a_recorded_branch_is_crossed_on_one_side_only():
    result = truth.derivative(rounded_up, np.float32(1.5))
    assert list(result.kinks.values()) == [(0, 3)]


def sinc_by_cases(x):
    if x == 0:
        return 1.0 + 0 * x
    return np.sin(x) / x


def test_a_removable_singularity_treated_by_a_branch_is_smooth():
    assert truth.derivative(sinc_by_cases, 0.0).value == 0
    assert truth.derivative(sinc_by_cases, 0.0, order=2).value == known(-mp.mpf(1) / 3)

    def with_where(x):
        return np.where(x == 0, 1.0, np.sin(x) / np.where(x == 0, 1.0, x))

    assert truth.derivative(with_where, 0.0).value == 0


def test_the_gradient_of_a_norm_at_zero_has_kinks_in_every_entry():
    result = truth.gradient(lambda x: np.sqrt(x[0] ** 2 + x[1] ** 2), np.zeros(2))
    assert result.kinks == {"x[0]": (-1, 1), "x[1]": (-1, 1)}


def test_partial_derivatives_without_differentiability_are_not_certified():
    f = lambda x: np.minimum(np.abs(x[0]), np.abs(x[1]))  # noqa: E731
    result = truth.gradient(f, np.zeros(2))
    np.testing.assert_array_equal(result.value, [0, 0])
    assert not result.certified
    assert "not differentiable" in result.note


def test_a_function_that_is_defined_along_the_axes_alone_is_not_certified():
    result = truth.gradient(lambda x: x[0] ** x[1], np.array([0.0, 2.0]))
    np.testing.assert_array_equal(result.value, [0, 0])
    assert not result.certified
    assert "may not be defined" in result.note


def test_loops_indices_and_masks_follow_the_branch_of_each_side():
    def laps(x):
        total, count = 0 * x, 0
        while total < 10:
            total, count = total + x, count + 1
        return total * count

    assert truth.derivative(laps, 3.0).value == 16
    assert truth.derivative(laps, 2.5).kinks == {"laps(x)": (-math.inf, 16)}  # from 62.5 to 40
    assert truth.derivative(lambda x: laps(x) / laps(x) * x, 2.5).value == 1
    tied = truth.gradient(lambda x: x[np.argmax(x)] ** 2, np.array([2.0, 2.0, 0.0]))
    assert tied.kinks == {"x[0]": (0, 4), "x[1]": (0, 4)}
    masked = truth.gradient(lambda x: np.sum(x[x > 1] ** 2), np.array([3.0, 1.0, 2.0]))
    assert list(masked.kinks) == ["x[1]"]
    np.testing.assert_array_equal(masked.value[[0, 2]], [6, 4])


def test_a_tie_that_no_precision_decides_is_assumed_and_not_certified():
    result = truth.derivative(lambda x: np.maximum(np.sin(x) ** 2 + np.cos(x) ** 2, 1), 0.5)
    assert result.value == 0
    assert not result.certified
    assert "taken to be equal" in result.note


# ---------------------------------------------------------------------- structures


Pair = namedtuple("Pair", "a b")


def test_results_have_the_structure_and_dtype_of_the_operators():
    x = {"w": np.float32([[1, 2], [3, 4]]), "p": Pair(0.5, [np.zeros(0)])}

    def f(x):
        return np.sum(x["w"] ** 2) * x["p"].a

    result = truth.gradient(f, x)
    np.testing.assert_array_equal(result.value["w"], np.float32([[1, 2], [3, 4]]))
    assert result.value["w"].dtype == np.float32
    assert isinstance(result.value["p"], Pair)
    assert result.value["p"].a == 30
    assert result.value["p"].b[0].shape == (0,)
    assert result.entries == ("w[0, 0]", "w[0, 1]", "w[1, 0]", "w[1, 1]", "p.a")
    assert len(result.enclosures) == 5


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble])
def test_every_floating_dtype_gets_its_own_nearest_number(dtype):
    x = dtype(0.3)
    result = truth.derivative(np.exp, x)
    with mp.workdps(60):
        exact = Enclosure.of(
            mp.exp(
                mp.mpf(int(Fraction(*x.as_integer_ratio()).numerator))
                / int(Fraction(*x.as_integer_ratio()).denominator)
            )
        )
    assert type(result.value) is dtype
    assert result.value == nearest(exact, dtype)


def test_jacobian_and_hessian_by_hand():
    x = np.array([0.5, 2.0])
    jacobian = truth.jacobian(lambda x: x * x[0], x)
    np.testing.assert_array_equal(jacobian.value, [[1, 0], [2, 0.5]])
    assert jacobian.entries[2].startswith("d ")
    assert jacobian.entries[2].endswith("/ d x[0]")
    hessian = truth.hessian(lambda x: x[0] ** 2 * x[1] ** 3, x)
    np.testing.assert_array_equal(hessian.value, [[16, 12], [12, 3]])
    nested = truth.hessian(lambda d: d["a"] * d["b"][0], {"a": 2.0, "b": np.array([3.0])})
    assert nested.value["a"]["a"] == 0
    np.testing.assert_array_equal(nested.value["b"]["a"], [1])
    np.testing.assert_array_equal(nested.value["b"]["b"], [[0]])


def test_derivative_of_a_vector_valued_function_and_the_value():
    result = truth.derivative(lambda x: np.stack([x**2, x**3]), 2.0)
    np.testing.assert_array_equal(result.value, [4, 12])
    value = truth.value(lambda x: 0.1 + x, 0.2)
    assert value.enclosures[0].midpoint == Fraction(0.1) + Fraction(0.2)
    assert value.value == known(mp.mpf(0.1) + mp.mpf(0.2))


def test_data_count_as_they_are_and_wrt_picks_the_argument():
    data = np.float32([0.1, 0.2])
    result = truth.gradient(lambda w, x: np.sum(w * x), np.ones(2), data)
    np.testing.assert_array_equal(result.value, data.astype(np.float64))
    other = truth.gradient(lambda x, w: np.sum(w * x), data, np.ones(2), wrt=1)
    np.testing.assert_array_equal(other.value, result.value)


def test_data_that_are_not_numbers_may_be_masked():
    data = np.array([1.0, np.nan, 3.0])
    result = truth.gradient(
        lambda w, y: np.sum(np.where(np.isnan(y), 0.0, (w - y) ** 2)), 0.5, data
    )
    assert result.value == -6


def test_casts_inside_the_function_are_reported():
    result = truth.gradient(lambda x: np.sin(x.astype(np.float32))[0], np.array([0.5]))
    assert result.value[0] == known(mp.cos(0.5))
    assert "float32" in result.note


def test_a_network_gradient_agrees_with_the_delta_rule():
    rng = np.random.default_rng(7)
    W, b, V = rng.normal(size=(4, 5)), rng.normal(size=5), rng.normal(size=(5, 3))
    X, Y = rng.normal(size=(6, 4)), np.eye(3)[rng.integers(0, 3, 6)]

    def loss(p, X, Y):
        z = np.tanh(X @ p["W"] + p["b"]) @ p["V"]
        z = z - np.max(z, axis=1, keepdims=True)
        return np.mean(np.log(np.sum(np.exp(z), axis=1)) - np.sum(z * Y, axis=1))

    hidden = np.tanh(X @ W + b)
    exponentials = np.exp(hidden @ V)
    delta = (exponentials / exponentials.sum(1, keepdims=True) - Y) / len(X)
    back = (delta @ V.T) * (1 - hidden**2)
    result = truth.gradient(loss, {"W": W, "b": b, "V": V}, X, Y)
    assert result.certified
    np.testing.assert_allclose(result.value["V"], hidden.T @ delta, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(result.value["W"], X.T @ back, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(result.value["b"], back.sum(0), rtol=1e-12, atol=1e-15)


def test_linear_algebra_is_followed():
    A = np.array([[2.0, 0.5], [0.25, 1.0]])
    result = truth.gradient(lambda A: np.linalg.det(A), A)
    np.testing.assert_array_equal(result.value, [[1.0, -0.25], [-0.5, 2.0]])
    b = np.array([1.0, 2.0])
    inverse = np.linalg.inv(A)
    solved = truth.gradient(lambda b: np.sum(np.linalg.solve(A, b)), b)
    np.testing.assert_allclose(solved.value, inverse.sum(0), rtol=1e-14)


@pytest.mark.parametrize("f", [lambda x: math.floor(x) * 1.0, lambda x: int(x) + 2 * x])
def test_a_jump_between_two_recordings_is_seen(f):
    found = truth.derivative(f, 1.0)
    assert not found.smooth
    assert found.kinks["f(x)"][0] == math.inf


# ---------------------------------------------------------------------- refusals


def test_a_wrong_counterpart_is_found_out():
    sine = PRIMITIVES["sin"]
    kept = sine.exact
    object.__setattr__(sine, "exact", "cos")
    try:
        with pytest.raises(TruthUnavailable, match=r"np\.sin at .*test_truth.py.*does not give"):
            truth.derivative(lambda x: np.sin(x), 0.5)
        object.__setattr__(sine, "exact", lambda A, x: A.floor(x))
        with pytest.raises(TruthUnavailable, match="does not give"):
            truth.derivative(lambda x: x + np.sin(x), 0.5)
        object.__setattr__(sine, "exact", Missing("it is not known"))
        with pytest.raises(TruthUnavailable, match=r"np\.sin at .*it is not known"):
            truth.derivative(lambda x: np.sin(x), 0.5)
        data_only = truth.derivative(lambda x, y: x * np.sin(y), 0.5, np.array(2.0))
        assert data_only.value == np.sin(2.0)
    finally:
        object.__setattr__(sine, "exact", kept)


def newton(x):
    y = x
    while abs(y * y - x) > 1e-16 * x:
        y = (y + x / y) / 2
    return y


def rounding_decides(x):
    if x + 1e16 > 1e16:
        return x
    return 2 * x


@pytest.mark.parametrize(
    ("f", "x", "match"),
    [
        (np.sqrt, 0.0, "no finite derivative"),
        (lambda x: np.cbrt(x), 0.0, "no finite derivative"),
        (rounding_decides, 1.0, "another course in exact arithmetic"),
        (lambda x: math.fabs(x), 0.0, "two sides differ"),
        (lambda x: math.sqrt(x), 0.0, "cannot be recorded"),
        (lambda x: np.random.default_rng().random() * x, 0.5, "different values for the same x"),
        (
            lambda x: np.where(np.sin(x) ** 2 + np.cos(x) ** 2 > 1, x, 2 * x),
            0.5,
            "cannot be decided",
        ),
    ],
)
def test_refusals_say_why(f, x, match):
    with pytest.raises(TruthUnavailable, match=match):
        truth.derivative(f, x)


def test_bad_input_is_refused():
    with pytest.raises(InvalidInput, match="positive integer"):
        truth.derivative(np.sin, 1.0, order=0)
    with pytest.raises(InvalidInput, match="one number"):
        truth.derivative(np.sin, np.ones(2))
    with pytest.raises(InvalidInput, match="not callable"):
        truth.gradient("sin(x)", 1.0)
    with pytest.raises(InvalidInput, match="pass x"):
        truth.gradient(np.sin)
    with pytest.raises(InvalidInput, match="not finite"):
        truth.gradient(np.sin, np.nan)
    with pytest.raises(InvalidOutput, match="one number"):
        truth.gradient(np.sin, np.ones(2))
    with pytest.raises(InvalidOutput, match="one number"):
        truth.hessian(np.sin, np.ones(2))


def test_a_wrong_counterpart_on_integers_is_found_out():
    and_ = PRIMITIVES["bitwise_and"]
    kept = and_.exact
    object.__setattr__(and_, "exact", "logical_and")
    try:
        with pytest.raises(TruthUnavailable, match="bitwise_and"):
            truth.derivative(lambda x, n: x * (n & 6), 0.5, np.array(12))
    finally:
        object.__setattr__(and_, "exact", kept)


def test_an_ill_conditioned_function_has_a_truth_all_the_same():
    """Sixty steps of the logistic map lose every digit of f(x), and none of its derivative."""

    def f(x):
        for _ in range(60):
            x = 4 * x * (1 - x)
        return x

    result = truth.derivative(f, 0.2)
    with mp.workdps(100):
        angle = mp.asin(mp.sqrt(mp.mpf(0.2)))
        t = mp.mpf(2) ** 60
        exact = t * mp.sin(2 * t * angle) / (2 * mp.sqrt(mp.mpf(0.2) * (1 - mp.mpf(0.2))))
        assert result.value == known(exact)


def test_a_value_that_overflows_on_the_way_is_noted():
    with np.errstate(all="ignore"):
        result = truth.derivative(lambda x: np.exp(x) / np.exp(x), 1000.0)
    assert result.value == 0
    assert "not finite in floating point" in result.note


def test_global_precision_is_left_as_it_was():
    flint.ctx.prec, before = 99, mpmath.mp.prec
    truth.derivative(np.sin, 1.0)
    assert (flint.ctx.prec, mpmath.mp.prec) == (99, before)
    flint.ctx.default()


def test_numbers_written_into_an_array_keep_their_truth():
    def f(x):
        y = np.zeros_like(x)
        y[0] = x[0] ** 2
        y[1:] = x[1:] * x[:-1]
        y *= 2
        y[-1] += x[0]
        return np.sum(y**2)

    a, b, c = 1.0, -2.0, 0.5
    found = truth.gradient(f, np.array([a, b, c]))
    last = 2 * b * c + a
    expected = (16 * a**3 + 8 * a * b**2 + 2 * last, 8 * a**2 * b + 4 * c * last, 4 * b * last)
    assert found.certified
    assert [e.midpoint for e in found.enclosures] == list(expected)
