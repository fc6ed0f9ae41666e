"""Ulps, digits, time and size: each measured against an exact reference."""

from __future__ import annotations

import math
from fractions import Fraction

import flint
import mpmath
import numpy as np
import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

from diffkit.errors import InvalidInput
from diffkit.measures import (
    Enclosure,
    ExpressionSize,
    Growth,
    ProgramSize,
    correct_digits,
    expression_size,
    growth,
    nearest,
    program_size,
    timed,
    ulp,
    ulps,
)

FLOATS = [np.float16, np.float32, np.float64, np.longdouble]


@pytest.mark.parametrize("dtype", FLOATS)
def test_the_ulp_is_the_spacing_of_the_dtype(dtype):
    info = np.finfo(dtype)
    smallest = Fraction(*info.smallest_subnormal.as_integer_ratio())
    for x in (1, 1.5, 2, 1000, 0.1, info.tiny, info.tiny / 4):
        spacing = np.spacing(np.abs(dtype(x)))
        assert ulp(dtype(x), dtype) == Fraction(*spacing.as_integer_ratio())
        assert ulp(-dtype(x), dtype) == ulp(dtype(x), dtype)
    assert ulp(0, dtype) == smallest
    assert ulp(smallest / 1000, dtype) == smallest
    below_overflow = Fraction(*info.max.as_integer_ratio())
    assert ulp(below_overflow, dtype) == ulp(16 * below_overflow, dtype)


def test_just_below_a_power_of_two_the_ulp_halves():
    assert ulp(Fraction(1) - Fraction(1, 10**30), float) == Fraction(1, 2**53)
    assert ulp(1, float) == Fraction(1, 2**52)


def test_errors_are_fractions_of_an_ulp_against_the_unrounded_reference():
    third = Fraction(1, 3)
    assert ulps(1 / 3, third) == pytest.approx(1 / 3)
    assert ulps(np.nextafter(1 / 3, 1), third) == pytest.approx(2 / 3)
    assert ulps(np.float32(1) / 3, third) == pytest.approx(1 / 3)
    assert ulps(0.1, Fraction(1, 10)) == pytest.approx(0.4)
    assert ulps(-0.1, Fraction(-1, 10)) == pytest.approx(0.4)
    assert ulps(np.float64(np.float32(0.1)), Fraction(1, 10), np.float32) == pytest.approx(0.2)


def test_ulps_through_zero_and_among_subnormals():
    assert ulps(0.0, 0) == 0
    assert ulps(-0.0, 0) == 0
    assert ulps(5e-324, 0) == 1
    assert ulps(-5e-324, Fraction(5e-324)) == 2
    assert 0 < ulps(0.0, Fraction(1, 10**330)) < 1e-5


def test_infinite_and_undefined_values():
    overflow = Fraction(2) ** 1024
    assert ulps(np.inf, overflow) == 0
    assert ulps(-np.inf, overflow) == math.inf
    assert ulps(np.inf, overflow / 2) == math.inf
    assert ulps(np.finfo(float).max, overflow) == 1
    assert ulps(np.nan, 1) == math.inf
    assert ulps(1e308, Fraction(1, 10**400)) == math.inf


@pytest.mark.parametrize(
    "reference",
    [
        Enclosure(Fraction(-1, 4)),
        Fraction(-1, 4),
        -0.25,
        np.float32(-0.25),
        mpmath.mpf(-0.25),
        flint.arb(-0.25),
        (Fraction(-1, 4), Fraction(1, 2**100)),
        (mpmath.mpf(-0.25), mpmath.mpf(2) ** -100),
        (-0.25, 0),
    ],
)
def test_every_kind_of_exact_reference(reference):
    assert ulps(np.nextafter(-0.25, -1), reference) == 1
    assert Enclosure.of(reference).midpoint == Fraction(-1, 4)


def test_integers_are_references():
    assert Enclosure.of(np.int64(3)) == Enclosure.of(3) == Enclosure(Fraction(3))
    assert Enclosure.of(mpmath.mpf(0)).midpoint == 0


def test_a_ball_keeps_its_radius():
    ball = flint.arb(1) / 3
    enclosure = Enclosure.of(ball)
    assert enclosure.radius > 0
    assert abs(enclosure.midpoint - Fraction(1, 3)) <= enclosure.radius


@pytest.mark.parametrize(
    "reference",
    ["1", None, math.inf, math.nan, mpmath.inf, mpmath.nan, flint.arb.nan(), flint.arb.pos_inf()],
)
def test_what_is_no_finite_number_is_no_reference(reference):
    with pytest.raises(InvalidInput, match="reference"):
        ulps(1.0, reference)


def test_a_vague_reference_measures_nothing():
    with pytest.raises(InvalidInput, match="not known well enough"):
        ulps(1.0, (Fraction(1), Fraction(1, 2**52)))


@pytest.mark.parametrize("dtype", FLOATS)
def test_nearest_rounds_once_and_to_even(dtype):
    one, step = dtype(1), np.finfo(dtype).eps
    half = Fraction(*step.as_integer_ratio()) / 2
    assert nearest(1 + half, dtype) == one
    assert nearest(1 + 3 * half, dtype) == one + 2 * step
    assert nearest(1 + half + Fraction(1, 10**60), dtype) == one + step
    assert type(nearest(Fraction(-1, 3), dtype)) is dtype
    assert nearest(Fraction(-1, 3), dtype) == -(one / dtype(3))


def test_nearest_overflows_where_rounding_does():
    limit = Fraction(2) ** 1024 - Fraction(2) ** 970
    assert nearest(limit, float) == np.inf
    assert nearest(-limit, float) == -np.inf
    assert nearest(limit - 1, float) == np.finfo(float).max


@settings(deadline=None, max_examples=200)
@given(st.fractions(), st.sampled_from(FLOATS))
def test_the_nearest_number_is_within_half_an_ulp(t, dtype):
    value = nearest(t, dtype)
    if np.isfinite(value):
        assert ulps(value, t) <= 0.5
    else:
        assert ulps(value, t) == 0


@settings(deadline=None, max_examples=200)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_float_is_nearest_to_itself(x):
    assert nearest(x, float) == x
    assert ulps(x, x) == 0
    assert correct_digits(x, x) == math.inf


def test_correct_digits():
    assert correct_digits(3.14159, Fraction(355, 113)) == pytest.approx(5.96, abs=0.1)
    assert correct_digits(1.001, 1) == pytest.approx(3.0)
    assert correct_digits(5.0, 1) == 0
    assert correct_digits(1.0, 0) == 0
    assert correct_digits(math.nan, 1) == 0
    assert correct_digits(math.inf, 1) == 0
    assert correct_digits(0.0, Fraction(1, 10**400)) == 0


def test_timed_is_the_shortest_of_several_calls():
    calls = []
    assert timed(lambda: calls.append(1), budget=0.001) >= 0
    assert len(calls) > 1
    assert timed(lambda: None, budget=0.0001) < 0.1


def test_timed_makes_one_call_where_another_would_not_fit_and_no_more_than_it_may():
    calls = []
    timed(lambda: calls.append(1), budget=0.0)
    assert len(calls) == 1
    timed(lambda: calls.append(1), budget=10.0, calls=4)
    assert len(calls) == 5


def test_the_size_of_the_logistic_map_is_as_published():
    """Baydin et al. (2018), Table 1: count_ops of l_n and its derivative, n = 1..6."""
    x = sympy.Symbol("x")
    expression, functions, derivatives = x, [], []
    for _ in range(6):
        functions.append(expression_size(expression))
        derivatives.append(expression_size(sympy.diff(expression, x)))
        expression = 4 * expression * (1 - expression)
    assert [size.tree for size in functions] == [0, 3, 8, 18, 38, 78]
    assert [size.tree for size in derivatives] == [0, 2, 21, 82, 264, 768]
    assert functions[3] == ExpressionSize(tree=18, dag=7, compiled=9)
    growth = np.diff([size.compiled for size in functions])
    assert max(growth) == 3
    assert derivatives[5].compiled < 100


def test_several_expressions_share_what_they_have_in_common():
    x = sympy.Symbol("x")
    one = expression_size(sympy.sin(x) ** 2)
    both = expression_size([sympy.sin(x) ** 2, sympy.sin(x) ** 3])
    assert one == ExpressionSize(tree=2, dag=2, compiled=2)
    assert (both.tree, both.dag, both.compiled) == (4, 3, 3)


# ---------------------------------------------------------------------- programs


def test_the_size_of_a_program():
    source = """
def program(x, k):
    x0 = x[0]
    v0 = x0*x0
    v1 = v0 + 1
    v2 = numpy.sin(v1)*v1
    return (v2, -v0, )
"""
    # v2 is sin(x*x + 1)*(x*x + 1), with 6 operations, and -v0 has 2.
    found = program_size(source)
    assert found == ProgramSize(tree=8, dag=5, operations=5, lines=5, bytes=len(source))


def test_equal_parts_of_a_program_are_counted_once_among_the_different_ones():
    found = program_size("def f(x):\n    a = x*x\n    b = x*x\n    return a + b")
    assert (found.tree, found.dag, found.operations) == (3, 2, 3)


def test_checks_and_moves_are_no_operations():
    source = """
def program(x, data):
    if not isfinite(x[0] + 1): return None
    v0 = x.reshape((2, 2)).T
    v1 = v0[0, :]
    result = numpy.zeros((2, 2))
    result[0, 0] = v1*2
    result[0, 1] = v1*v1*3
    return result
"""
    found = program_size(source)
    assert (found.tree, found.operations) == (3, 3)


def test_a_program_may_be_cut_into_functions():
    source = """
def program(x):
    kept = {}
    if not part_0(x, kept): return None
    return part_1(kept)

def part_0(x, kept):
    v1 = x*x
    kept['v1'] = v1
    return True

def part_1(kept):
    v1 = kept['v1']
    v2 = v1*v1
    v2 += v1
    return v2
"""
    found = program_size(source)
    assert (found.tree, found.dag, found.operations) == (5, 3, 3)


def test_parts_may_be_nested_deeply():
    found = program_size("def f(x):\n    return " + " + ".join(["x"] * 800))
    assert found.tree == found.dag == 799


def test_a_source_without_a_function_is_refused():
    with pytest.raises(InvalidInput, match="no function"):
        program_size("x = 1")


# ---------------------------------------------------------------------- growth


@given(st.floats(1.1, 9.0), st.floats(0.01, 1e6), st.integers(5, 12))
@settings(max_examples=40, deadline=None)
def test_an_exponential_is_found(factor, scale, count):
    sizes = range(1, count + 1)
    fit = growth(sizes, [scale * factor**n for n in sizes])
    assert (fit.kind, fit.decided) == ("exponential", True)
    assert fit.rate == pytest.approx(factor)
    assert fit.low <= fit.rate <= fit.high
    assert fit.at(count) == pytest.approx(scale * factor**count)


@given(st.floats(0.5, 6.0), st.floats(0.01, 1e6), st.integers(5, 12))
@settings(max_examples=40, deadline=None)
def test_a_power_is_found(degree, scale, count):
    sizes = range(1, count + 1)
    fit = growth(sizes, [scale * n**degree for n in sizes])
    assert (fit.kind, fit.decided) == ("power", True)
    assert fit.rate == pytest.approx(degree)


def test_an_offset_does_not_hide_the_degree():
    fit = growth(range(1, 9), [7 * n + 100 for n in range(1, 9)])
    assert (fit.kind, round(fit.rate, 6)) == ("power", 1.0)
    assert fit.offset == pytest.approx(100)
    fit = growth(range(1, 9), [3**n + 100 for n in range(1, 9)])
    assert (fit.kind, round(fit.rate, 6)) == ("exponential", 3.0)


def test_the_interval_holds_the_rate_nineteen_times_in_twenty():
    generator = np.random.default_rng(5)
    n = np.arange(1, 9)
    held = 0
    for _ in range(200):
        noisy = 3.0 * 2.0**n * np.exp(0.1 * generator.normal(size=n.size))
        fit = growth(list(n), list(noisy))
        held += fit.kind == "exponential" and fit.low <= 2.0 <= fit.high
    assert held >= 160  # the choice of the model costs some of the 190


def test_what_does_not_grow_is_constant():
    fit = growth(range(1, 7), [4] * 6)
    assert (fit.kind, fit.rate, str(fit)) == ("constant", 0.0, "constant")
    assert fit.at(3) == 4


def test_few_points_are_no_growth():
    assert growth([1, 2, 3, 4], [1, 2, 4, 8]) is None
    assert growth([1, 2, 3, 4, 5], [0, 2, 4, 8, math.inf]) is None


def test_growth_says_nothing_beyond_the_sizes_it_was_fitted_to():
    fit = growth(range(2, 8), [2**n for n in range(2, 8)])
    assert fit.sizes == (2, 7)
    assert math.isnan(fit.at(8))
    assert math.isnan(fit.at(1))
    assert str(fit) == "times 2 (2 to 2) a step"


def test_growth_of_either_kind_says_so():
    fit = growth([4, 5, 6, 7, 8], [10, 14, 15, 21, 23])
    assert isinstance(fit, Growth)
    assert not fit.decided
    assert str(fit).endswith("fits as well")
