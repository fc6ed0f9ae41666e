"""The symbolic backend: right, readable, and never silently wrong."""

from __future__ import annotations

import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import mpmath
import numpy as np
import pytest
import scipy.special
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st

import diffkit as dk
from diffkit.backends.symbolic import Symbolic
from diffkit.nn.activations import TANH
from diffkit.nn.losses import HALF_SQUARED_ERROR, SOFTMAX_CROSS_ENTROPY
from diffkit.nn.network import fully_connected
from diffkit.tracing import trace
from diffkit.tracing.to_sympy import exact_number, to_sympy

X = sp.Symbol("x", real=True)


def prepared(f: Any, *arguments: Any, **options: Any) -> Any:
    return dk.prepare(f, *arguments, backend=Symbolic(**options))


def derivative(f: Any, x: Any, order: int = 1) -> Any:
    return dk.derivative(f, x, order=order, backend="symbolic")


def gradient(f: Any, *arguments: Any) -> Any:
    return dk.gradient(f, *arguments, backend="symbolic")


def logistic_map(n: int) -> Any:
    def l_n(x: Any) -> Any:
        for _ in range(n - 1):
            x = 4 * x * (1 - x)
        return x

    return l_n


# ---------------------------------------------------------------------- published facts

# Baydin, Pearlmutter, Radul, Siskind, JMLR 18(153), 2018, Table 1, simplified derivatives.
TABLE_1 = {
    1: sp.Integer(1),
    2: 4 - 8 * X,
    3: 16 * (1 - 10 * X + 24 * X**2 - 16 * X**3),
    4: 64
    * (
        1
        - 42 * X
        + 504 * X**2
        - 2640 * X**3
        + 7040 * X**4
        - 9984 * X**5
        + 7168 * X**6
        - 2048 * X**7
    ),
}


@pytest.mark.parametrize("n", TABLE_1)
def test_logistic_map_has_the_derivatives_of_the_survey(n: int) -> None:
    assert sp.expand(prepared(logistic_map(n), 0.2).expression - TABLE_1[n]) == 0


def test_logistic_map_swells_as_published() -> None:
    expressions = [prepared(logistic_map(n), 0.2) for n in range(1, 7)]
    assert [sp.count_ops(p.function_expression) for p in expressions] == [0, 3, 8, 18, 38, 78]
    assert [sp.count_ops(p.expression) for p in expressions] == [0, 2, 21, 82, 264, 768]


def test_logistic_map_does_not_swell_when_it_is_computed() -> None:
    p = prepared(logistic_map(40), 0.2)
    p.derivative(0.2)
    assert p.cost.operations < 40 * 12
    with pytest.raises(dk.ExpressionTooLarge):
        _ = p.expression


def test_derivatives_of_martins_sturdza_alonso() -> None:
    p = prepared(lambda x: np.exp(x) / np.sqrt(np.sin(x) ** 3 + np.cos(x) ** 3), 1.5)
    assert p.derivative(1.5) == pytest.approx(4.053427893898621, rel=4e-16)
    assert p.derivative(1.5, order=2) == pytest.approx(9.463073681596601, rel=1e-15)


def test_trace_of_the_survey() -> None:
    def f(x: Any) -> Any:
        return np.log(x[0]) + x[0] * x[1] - np.sin(x[1])

    expected = [5.5, 2 - np.cos(5.0)]
    np.testing.assert_allclose(gradient(f, np.array([2.0, 5.0])), expected, rtol=1e-15)


# ---------------------------------------------------------------------- constants and names


def test_constants_keep_every_bit() -> None:
    p = prepared(lambda x: (0.1 + 0.2) * x, 1.0)
    assert p.derivative(1.0) == 0.1 + 0.2 != 0.3
    assert list(p.constants.values()) == [0.1 + 0.2]
    assert p.expression == sp.Symbol("c_0", real=True)


def test_short_exact_fractions_are_numbers_and_nothing_is_a_float() -> None:
    p = prepared(lambda x: 0.25 * x**2 + 3 * x + x**1.5 + 0.1 * x, 2.0)
    (c,) = p.constants
    assert sp.simplify(p.expression - (X / 2 + 3 + sp.sqrt(X) * sp.Rational(3, 2) + c)) == 0
    assert not p.expression.atoms(sp.Float)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (3, sp.Integer(3)),
        (np.int8(-2), sp.Integer(-2)),
        (0.5, sp.Rational(1, 2)),
        (np.float32(-1.25), sp.Rational(-5, 4)),
        (0.1, None),
        (np.pi, None),
        (2.0**-11, None),
        (2.0**21, None),
        (-0.0, None),
        (float("inf"), None),
        (float("nan"), None),
    ],
)
def test_exact_numbers(value: Any, expected: Any) -> None:
    assert exact_number(value) == expected


@given(st.floats(-1e6, 1e6), st.floats(-3, 3))
@settings(deadline=None, max_examples=30)
def test_a_captured_constant_is_the_derivative_of_its_multiple(c: float, x: float) -> None:
    assert derivative(lambda t: c * t, x) == c


def test_names_that_sympy_and_python_reserve() -> None:
    def f(p: Any) -> Any:
        return p["S"] * p["I"] ** 2 + p["E"] * np.sin(p["N"]) * p["lambda"] + p["x0"] * p["v0"]

    at = {"S": 1.0, "I": 2.0, "E": 3.0, "N": 4.0, "lambda": 5.0, "x0": 6.0, "v0": 7.0}
    p = prepared(f, at)
    S, I = sp.Symbol("S", real=True), sp.Symbol("I", real=True)  # noqa: E741
    assert p.expression["S"] == I**2
    assert p.expression["I"] == 2 * I * S
    got = p.gradient(at)
    assert (got["S"], got["I"], got["x0"], got["v0"]) == (4.0, 4.0, 7.0, 6.0)
    assert got["lambda"] == 3 * np.sin(4.0)


def test_entries_have_readable_names_each_once() -> None:
    def f(p: Any) -> Any:
        return np.sum(p["layer1"]["W"]) + p["a.b"] * p["a"]["b"] + p["not an identifier!"]

    at = {
        "layer1": {"W": np.ones((2, 2))},
        "a.b": 1.0,
        "a": {"b": 2.0},
        "not an identifier!": 1.0,
    }
    names = {str(s) for s in prepared(f, at).function_expression.free_symbols}
    assert names == {
        *("layer1_W_0_0", "layer1_W_0_1", "layer1_W_1_0", "layer1_W_1_1"),
        *("a_b", "a_b_", "not_an_identifier"),
    }


def test_the_compiled_code_holds_generated_names_only() -> None:
    from diffkit.backends.symbolic.code import compiled

    graph = trace(lambda p: np.sin(p["exec('boom')"]) * 0.1, {"exec('boom')": 1.0})
    program = to_sympy(graph, [], budget=100)
    groups = {"x": program.inputs, "b": list(program.bound)}
    definitions = program.shared.reachable(program.outputs[0])
    code = compiled(definitions, groups, program.outputs[0])
    assert "boom" not in code.source
    assert "0.1" not in code.source
    assert code(np.dtype(np.float64), [np.float64(2.0)], [0.1]) == (np.sin(2.0) * 0.1,)


# ---------------------------------------------------------------------- what can be looked at


def test_expression_of_a_scalar_function() -> None:
    p = prepared(lambda x: np.sin(x) * np.exp(-(x**2)), 0.5)
    assert p.function_expression == sp.sin(X) * sp.exp(-(X**2))
    assert p.expression == sp.diff(p.function_expression, X)
    assert p.latex() == sp.latex(p.expression)


def test_simplify_changes_what_is_shown_and_not_what_is_computed() -> None:
    def f(x: Any) -> Any:
        return np.sin(x) ** 2 + np.cos(x) ** 2

    assert prepared(f, 0.3, simplify="full").expression == 0
    assert prepared(f, 0.3).derivative(0.3) == prepared(f, 0.3, simplify="full").derivative(0.3)


def test_expressions_come_in_the_structure_of_the_derivative() -> None:
    def f(p: Any) -> Any:
        return {"u": p["a"] * p["b"], "v": np.sum(p["b"])}

    p = prepared(f, {"a": 1.0, "b": np.ones(2)})
    a, b0, b1 = (sp.Symbol(name, real=True) for name in ("a", "b_0", "b_1"))
    assert p.function_expression["u"].tolist() == [a * b0, a * b1]
    assert p.expression["u"]["a"].tolist() == [b0, b1]
    assert p.expression["u"]["b"].tolist() == [[a, 0], [0, a]]
    assert p.expression["v"]["a"] == 0
    assert r"\text{u.b} &: " + sp.latex(p.expression["u"]["b"]) in p.latex()


def test_matrix_gradient_as_expressions() -> None:
    p = prepared(lambda x: np.sum(x @ x), np.ones((2, 2)))
    x = [[sp.Symbol(f"x_{i}_{j}", real=True) for j in range(2)] for i in range(2)]
    assert p.expression[0, 1] == x[0][0] + 2 * x[1][0] + x[1][1]


def test_the_absolute_value_of_a_logarithm_stays_real() -> None:
    p = prepared(lambda x: np.abs(np.log(x)), 0.3)
    assert p.expression == sp.sign(sp.log(X)) / X


def test_data_are_symbols_named_after_the_parameters() -> None:
    def f(x: Any, weight: Any) -> Any:
        return np.sum(weight * x**2)

    p = prepared(f, np.ones(2), np.array([2.0, 3.0]))
    x0, w0 = sp.Symbol("x_0", real=True), sp.Symbol("weight_0", real=True)
    assert p.expression[0] == 2 * w0 * x0
    assert list(p.constants.values()) == [2.0, 3.0]
    expected = [10.0, 14.0]
    np.testing.assert_array_equal(p.gradient(np.ones(2), np.array([5.0, 7.0])), expected)


def test_new_data_are_not_derived_again(monkeypatch: pytest.MonkeyPatch) -> None:
    p = prepared(lambda x, d: np.sum(d * np.sin(x)), np.ones(2), np.ones(2))
    p.gradient(np.ones(2), np.ones(2))
    monkeypatch.setattr(sp, "diff", None)
    np.testing.assert_array_equal(p.gradient(np.zeros(2), np.array([4.0, 5.0])), [4.0, 5.0])


def test_nested_data_are_named_by_their_keys_and_masks_choose() -> None:
    def f(x: Any, options: Any) -> Any:
        return np.sum(np.where(options["mask"], options["scales"][0] * x, x**2))

    options = {"mask": np.array([True, False]), "scales": [2.5, "ignored"]}
    p = prepared(f, np.ones(2), options)
    names = {str(symbol) for symbol in p.constants}
    assert names == {"options_mask_0", "options_mask_1", "options_scales_0"}
    np.testing.assert_array_equal(p.gradient(np.array([1.0, 3.0]), options), [2.5, 6.0])


def test_a_function_whose_parameters_cannot_be_told() -> None:
    p = prepared(np.multiply, 2.0, 3.0)
    assert {str(s) for s in p.expression.free_symbols} <= {"x1", "x2", "data0"}
    assert p.gradient(2.0, 3.0) == 3.0


def test_what_depends_on_data_alone_may_be_anything() -> None:
    def f(x: Any, y: Any) -> Any:
        return np.sum(np.eye(3)[y] * x) + np.sum(np.sort(y)) * x[0]

    p = prepared(f, np.ones(3), np.array([0, 2]))
    np.testing.assert_array_equal(p.gradient(np.ones(3), np.array([0, 2])), [3.0, 0.0, 1.0])
    np.testing.assert_array_equal(p.gradient(np.ones(3), np.array([1, 1])), [2.0, 2.0, 0.0])


# ---------------------------------------------------------------------- branches


def test_a_branch_states_its_domain_and_is_followed_when_it_flips() -> None:
    def f(x: Any) -> Any:
        return x**2 if x > 0 else -x

    p = prepared(f, 1.0)
    assert p.derivative(2.0) == 4.0
    assert [str(condition) for condition in p.domain] == ["x > 0"]
    assert p.derivative(-3.0) == -1.0
    assert [str(condition) for condition in p.domain] == ["x <= 0"]
    assert p.derivative(5.0) == 10.0
    assert p.domain[0].location.code.co_name == "f"


def test_a_program_is_kept_for_each_course(monkeypatch: pytest.MonkeyPatch) -> None:
    p = prepared(lambda x: x**2 if x > 0 else -x, 1.0)
    assert (p.derivative(1.0), p.derivative(-1.0)) == (2.0, -1.0)
    monkeypatch.setattr(sp, "diff", None)
    assert (p.derivative(3.0), p.derivative(-3.0)) == (6.0, -1.0)


def test_more_courses_than_are_kept() -> None:
    def f(x: Any) -> Any:
        for _ in range(int(x)):
            x = x + x
        return x

    p = prepared(f, 0.5)
    assert [p.derivative(n + 0.5) for n in (*range(12), 0)] == [*(2.0**n for n in range(12)), 1.0]


def test_a_rebound_closure_variable_is_seen() -> None:
    factor = 2.0

    def f(x: Any) -> Any:
        return factor * x

    p = prepared(f, 1.0)
    assert p.derivative(1.0) == 2.0
    factor = 3.0
    assert p.derivative(1.0) == 3.0


def test_where_becomes_piecewise() -> None:
    p = prepared(lambda x: np.where(x > 1, x**2, 3 * x), 2.0)
    assert p.expression == sp.Piecewise((2 * X, X > 1), (3, True))
    assert (p.derivative(2.0), p.derivative(0.5)) == (4.0, 3.0)


@pytest.mark.parametrize("x", [-2.0, -0.5, 0.5, 2.0])
def test_conditions_are_joined(x: float) -> None:
    def f(t: Any) -> Any:
        first = np.where((t > 0) & (t < 1) | ~(t > -1), t**2, t)
        return np.where(np.logical_xor(t > 1, t > 0), 3 * first, first)

    factor = 3 if 0 < x <= 1 else 1
    assert derivative(f, x) == factor * (2 * x if 0 < x < 1 or x <= -1 else 1)


def test_a_branch_not_taken_does_no_harm() -> None:
    def f(x: Any) -> Any:
        with np.errstate(all="ignore"):
            return np.where(x > 0, np.log(x) + np.sqrt(x), -x)

    assert derivative(f, -1.0) == -1.0
    assert derivative(f, 1.0) == 1.5
    assert [derivative(f, x, order=2) for x in (-1.0, 1.0)] == [0.0, -1.25]
    got = dk.hessian(lambda x: np.sum(f(x)), np.array([-1.0, 1.0]), backend="symbolic")
    np.testing.assert_array_equal(got, [[0.0, 0.0], [0.0, -1.25]])


def test_an_infinite_slope_is_not_hidden_by_a_factor_of_zero() -> None:
    with pytest.raises(dk.NonFiniteDerivative):
        derivative(lambda x: np.sqrt(x) ** 2, 0.0)


@pytest.mark.parametrize(
    ("f", "x", "expected"),
    [
        (np.abs, -2.0, -1.0),
        (lambda x: np.maximum(x, 1), 2.0, 1.0),
        (lambda x: np.minimum(x, 1), 2.0, 0.0),
        (lambda x: np.clip(x, -1, 1) ** 2, 0.25, 0.5),
        (lambda x: np.clip(x, -1, 1) ** 2, 4.0, 0.0),
        (lambda x: np.floor(x) * x, 2.5, 2.0),
        (lambda x: x % 1, 2.5, 1.0),
        (lambda x: 5.5 % x, 1.5, -3.0),
        (lambda x: np.rint(x) * x, 1.6, 2.0),
        (lambda x: np.sign(x) * x**2, -3.0, 6.0),
        (np.cbrt, -8.0, 1 / 12),
    ],
)
def test_kinks_and_steps(f: Any, x: float, expected: float) -> None:
    assert derivative(f, x) == pytest.approx(expected, rel=1e-15)


def test_maximum_shares_the_derivative_between_equals() -> None:
    with pytest.warns(dk.KinkWarning):
        got = gradient(lambda x: np.maximum(x[0], x[1]), np.array([1.0, 1.0]))
    np.testing.assert_array_equal(got, [0.5, 0.5])


@pytest.mark.parametrize("form", ["shared", "expanded", "array"])
@pytest.mark.parametrize(
    ("f", "expected"),
    [(np.abs, 0.0), (lambda x: np.maximum(x, 0), 0.5), (lambda x: x if x > 0 else 2 * x, 1.5)],
)
def test_a_kink_is_told_at_each_call(f: Any, expected: float, form: str) -> None:
    p = prepared(f, 0.0, form=form)
    for _ in range(3):
        assert p.derivative(-1.0) == p.derivative(-2.0)  # by the fast way, once it is compiled
        with pytest.warns(dk.KinkWarning, match="no derivative there"):
            assert p.derivative(0.0) == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("form", ["shared", "array"])
@pytest.mark.parametrize(
    ("f", "expected"),
    [
        (lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))), 1),
        (lambda x: np.maximum(x, 0) - np.maximum(-x, 0), 1),
        (lambda x: np.abs(x) ** 1.5, 0),
        (lambda x: np.logaddexp(x, -x), 0),
        (lambda x: np.where(x > 0, np.sin(x), x), 1),
    ],
)
def test_where_all_sides_of_a_tie_agree_that_is_the_derivative(
    f: Any, expected: float, form: str
) -> None:
    assert prepared(f, 0.0, form=form).derivative(0.0) == pytest.approx(expected, abs=1e-15)
    x = np.array([0.0, 0.5, 0.0])
    p = prepared(lambda x: np.sum(f(x)), x, form=form)
    for _ in range(3):
        got = p.gradient(x)
        np.testing.assert_allclose(got[[0, 2]], expected, atol=1e-14)
    assert p.jvp(x, np.array([1.0, 0.0, 2.0])) == pytest.approx(3 * expected, abs=1e-14)
    np.testing.assert_allclose(p.vjp(x, 2.0)[[0, 2]], 2 * expected, atol=1e-14)


def test_second_derivatives_beside_a_kink() -> None:
    def f(x: Any) -> Any:
        return np.sum(np.maximum(x, 0) ** 2)

    got = dk.hessian(f, np.array([-1.0, 2.0]), backend="symbolic")
    np.testing.assert_array_equal(got, [[0.0, 0.0], [0.0, 2.0]])
    assert derivative(np.abs, 2.0, order=2) == 0


@pytest.mark.parametrize("f", [np.abs, lambda x: np.maximum(x, 0) ** 2, lambda x: np.sign(x) * x])
def test_second_derivatives_at_a_kink_are_refused(f: Any) -> None:
    with pytest.raises(dk.NonFiniteDerivative):
        derivative(f, 0.0, order=2)


def test_steps_are_refused_where_they_jump() -> None:
    with pytest.raises(dk.UnsupportedOperation, match="where x equals floor"):
        derivative(lambda x: np.floor(x) * x, 2.0)


@pytest.mark.parametrize("form", ["shared", "expanded", "array"])
@pytest.mark.parametrize(
    ("x", "first", "second"),
    [
        (-6.0, 6.158482604544597, -0.9760123632108193),
        (-20.0, 20.049753068527853, -0.9975367383849898),
        (8.0, 5.052271083536896e-15, -4.041816866829519e-14),
    ],
)
def test_the_lower_tail_of_the_normal_distribution_does_not_cancel(
    x: float, first: float, second: float, form: str
) -> None:
    p = prepared(scipy.special.log_ndtr, x, form=form)
    assert p.derivative(x) == pytest.approx(first, rel=1e-13)
    assert p.derivative(x, order=2) == pytest.approx(second, rel=1e-10)
    if form == "array":
        with pytest.raises(dk.NonFiniteDerivative):
            p.derivative(-40.0)
    else:
        assert p.derivative(-40.0) == pytest.approx(40.02496884720726, rel=1e-13)


def test_a_difference_is_not_multiplied_out_by_default() -> None:
    assert gradient(lambda x: 3 * (x - 0.1) ** 2, 0.1 + 1e-10) == 6 * (0.1 + 1e-10 - 0.1)
    x = np.array([1e8, 1e8 + 1, 1e8 + 2])
    np.testing.assert_array_equal(gradient(np.var, x), [-2 / 3, 0, 2 / 3])


# ---------------------------------------------------------------------- removable singularities


def unnormalised_sinc(x: Any) -> Any:
    with np.errstate(all="ignore"):
        return np.where(x == 0, 1, np.sin(x) / x)


def guarded_quotient(x: Any) -> Any:
    return np.where(x != 0, np.sin(x) / np.where(x != 0, x, 1), 1)


@pytest.mark.parametrize(("order", "expected"), [(1, 0), (2, -1 / 3), (3, 0), (4, 1 / 5)])
@pytest.mark.parametrize(
    ("f", "scale"), [(np.sinc, np.pi), (unnormalised_sinc, 1), (guarded_quotient, 1)]
)
def test_sinc_has_its_derivatives_at_zero(
    f: Any, scale: float, order: int, expected: float
) -> None:
    assert derivative(f, 0.0, order) == pytest.approx(expected * scale**order, rel=1e-14)


@pytest.mark.parametrize("x", [1e-9, 1e-4, 0.1, 0.3183, 0.3184, 1.5])
def test_sinc_keeps_its_digits_near_zero(x: float) -> None:
    exact = [sp.diff(sp.sin(sp.pi * X) / (sp.pi * X), X, k) for k in (1, 2)]
    point = sp.Rational(*x.as_integer_ratio())
    expected = [float(e.subs(X, point).evalf(30, maxn=200)) for e in exact]
    got = [derivative(np.sinc, x, k) for k in (1, 2)]
    np.testing.assert_allclose(got, expected, rtol=4e-15)


def test_singularities_are_filled_entry_by_entry_and_with_data() -> None:
    def f(x: Any, c: Any) -> Any:
        with np.errstate(all="ignore"):
            return np.sum(np.where(x == 0, c, np.sin(c * x) / x))

    p = prepared(f, np.array([0.0, 1.0]), 2.0)
    hessian = p.hessian(np.array([0.0, 1.0]), 2.0)
    second = -4 * np.sin(2) - 4 * np.cos(2) + 2 * np.sin(2)
    np.testing.assert_allclose(hessian, [[-8 / 3, 0], [0, second]], rtol=1e-13)


@pytest.mark.parametrize(
    "f",
    [
        lambda x: np.where(x == 0, 5, np.sin(x)),
        lambda x: np.where(x == 0, 0, np.abs(x)),
        lambda x: np.where(x == 0, 0, x ** (1 / 3)),
        lambda x: 0 * x if x == 0 else np.sin(x),
    ],
)
def test_a_formula_for_one_point_is_not_believed(f: Any) -> None:
    with pytest.raises(dk.DiffkitError, match=r"x equals 0|not finite"):
        derivative(f, 0.0)


def test_a_formula_for_a_line_is_not_believed() -> None:
    def f(x: Any) -> Any:
        return np.where(x[0] == x[1], 0, x[0] * x[1])

    with pytest.raises(dk.UnsupportedOperation, match="x_0 equals x_1"):
        gradient(f, np.array([1.0, 1.0]))
    np.testing.assert_array_equal(gradient(f, np.array([1.0, 2.0])), [2.0, 1.0])


def test_equality_of_steps_is_no_singularity() -> None:
    assert derivative(lambda x: np.where(np.floor(x) == 1, x**2, x), 1.5) == 3.0
    assert derivative(lambda x: x**2 if np.sign(x) == 1 else x, 1.5) == 3.0


def test_no_derivative_where_the_function_has_no_value() -> None:
    def f(x: Any) -> Any:
        with np.errstate(all="ignore"):
            return x / x

    with pytest.raises(dk.NonFiniteDerivative):
        derivative(f, 0.0)


# ---------------------------------------------------------------------- floating point


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble])
def test_derivatives_keep_the_dtype(dtype: Any) -> None:
    def f(x: Any) -> Any:
        return np.sum(0.1 * np.exp(x) + x**2 / 3)

    x = np.array([0.25, 0.5], dtype)
    got = gradient(f, x)
    assert got.dtype == dtype
    wide = x.astype(np.longdouble)
    expected = 0.1 * np.exp(wide) + 2 * wide / 3
    np.testing.assert_allclose(got, expected, rtol=4 * float(np.finfo(dtype).eps))


def test_longdouble_constants_are_longdouble() -> None:
    x = np.longdouble("0.3")
    expected = np.cos(np.longdouble(2) ** x) * np.longdouble(2) ** x * np.log(np.longdouble(2))
    got = derivative(lambda t: np.sin(np.exp2(t)), x)
    assert abs(got - expected) <= 8 * np.finfo(np.longdouble).eps


@pytest.mark.parametrize(
    ("f", "x", "expected"),
    [
        (np.tanh, 15.0, 1 / np.cosh(15.0) ** 2),
        (np.arcsin, 1 - 2.0**-40, 1 / np.sqrt((2.0**-40) * (2 - 2.0**-40))),
        (lambda x: np.expm1(x) ** 2, 1e-9, 2e-9 * (1 + 1.5e-9)),
        (lambda x: np.logaddexp(0, x), 800.0, 1.0),
        (lambda x: np.logaddexp(0, x), -800.0, 0.0),
        (lambda x: np.exp(-np.logaddexp(0, -x)), 800.0, 0.0),
        (lambda x: np.hypot(x, 1e200), 1e200, np.sqrt(0.5)),
        (lambda x: x**2.3, 0.0, 0.0),
    ],
)
def test_digits_survive_cancellation_and_overflow(f: Any, x: float, expected: float) -> None:
    with np.errstate(all="ignore"):
        assert derivative(f, x) == pytest.approx(expected, rel=1e-14)


def test_second_derivative_of_softplus_in_its_tail() -> None:
    expected = np.exp(-35.0) / (1 + np.exp(-35.0)) ** 2
    got = derivative(lambda x: np.logaddexp(0, x), 35.0, order=2)
    assert got == pytest.approx(expected, rel=1e-14)


# ---------------------------------------------------------------------- operators and structures


class Pair(NamedTuple):
    left: Any
    right: Any


def test_every_operator_on_a_nested_point() -> None:
    def f(p: Any) -> Any:
        return np.sum(p.left**2 * p.right["w"])

    at = Pair(np.array([1.0, 2.0]), {"w": np.array([3.0, 4.0])})
    v = Pair(np.array([1.0, 0.0]), {"w": np.array([0.0, 1.0])})
    p = prepared(f, at)
    value, got = p.value_and_gradient(at)
    assert value == 19.0
    np.testing.assert_array_equal(got.left, [6.0, 16.0])
    np.testing.assert_array_equal(got.right["w"], [1.0, 4.0])
    assert p.jvp(at, v) == 6.0 + 4.0
    np.testing.assert_array_equal(p.vjp(at, 2.0).left, [12.0, 32.0])
    product = p.hvp(at, v)
    np.testing.assert_array_equal(product.left, [6.0, 4.0])
    np.testing.assert_array_equal(product.right["w"], [2.0, 0.0])
    hessian = p.hessian(at)
    np.testing.assert_array_equal(hessian.left.left, [[6.0, 0.0], [0.0, 8.0]])
    np.testing.assert_array_equal(hessian.left.right["w"], [[2.0, 0.0], [0.0, 4.0]])


def test_jacobian_of_more_outputs_than_inputs_and_of_fewer() -> None:
    def widen(x: Any) -> Any:
        return np.array([[np.sin(x), np.sin(3 * x)], [np.sin(2 * x), x]])

    expected = [[np.cos(0.42), 3 * np.cos(1.26)], [2 * np.cos(0.84), 1.0]]
    got = dk.jacobian(widen, 0.42, backend="symbolic")
    np.testing.assert_allclose(got, expected, rtol=1e-15)
    banded = dk.jacobian(lambda x: np.diff(x) ** 2, np.arange(4.0) ** 2, backend="symbolic")
    np.testing.assert_array_equal(banded, [[-2, 2, 0, 0], [0, -6, 6, 0], [0, 0, -10, 10]])


@pytest.mark.parametrize(
    ("f", "x", "shape"),
    [
        (lambda x: np.sum(x**2), np.zeros((0, 3)), (0, 3)),
        (lambda x: x[:0], np.ones(3), (0, 3)),
        (lambda x: 7.5, np.ones(3), (3,)),
        (lambda x: x, np.ones(2), (2, 2)),
    ],
)
def test_shapes_of_nothing(f: Any, x: Any, shape: tuple[int, ...]) -> None:
    assert dk.jacobian(f, x, backend="symbolic").shape == shape


def test_an_array_filled_entry_by_entry() -> None:
    def f(x: Any) -> Any:
        out = np.zeros_like(x)
        for i in range(len(x)):
            out[i] = x[i] ** 2 * (out[i - 1] if i else 1)
        return out[-1]

    np.testing.assert_array_equal(gradient(f, np.array([1.0, 2.0, 3.0])), [72.0, 36.0, 24.0])


@pytest.mark.parametrize("n", [2, 5, 7])
def test_determinant_has_its_cofactors(n: int) -> None:
    a = np.random.default_rng(n).normal(size=(n, n))
    expected = np.linalg.det(a) * np.linalg.inv(a).T
    np.testing.assert_allclose(gradient(np.linalg.det, a), expected, rtol=1e-11)


def sum_of_solution(a: Any) -> Any:
    return np.sum(np.linalg.solve(a, np.ones(5)))


def test_systems_are_solved_with_the_pivots_of_the_recording() -> None:
    a = np.random.default_rng(5).normal(size=(5, 5))
    for corner in (a[0, 0], 1e-17, 0.0):
        a[0, 0] = corner
        inverse = np.linalg.inv(a)
        expected = -np.outer(inverse.sum(axis=0), inverse.sum(axis=1))
        np.testing.assert_allclose(gradient(sum_of_solution, a), expected, rtol=1e-10)


@pytest.mark.parametrize("form", ["shared", None])
def test_pivots_that_fail_at_another_point_are_chosen_anew(form: str | None) -> None:
    a = np.eye(5) + 0.1
    p = prepared(sum_of_solution, a, form=form)
    np.testing.assert_allclose(p.gradient(a), -np.full((5, 5), 1 / 1.5**2), rtol=1e-13)
    turned = np.roll(a, 1, axis=0) - 0.1
    inverse = np.linalg.inv(turned)
    expected = -np.outer(inverse.sum(axis=0), inverse.sum(axis=1))
    np.testing.assert_allclose(p.gradient(turned), expected, rtol=1e-13)
    np.testing.assert_allclose(p.gradient(a), -np.full((5, 5), 1 / 1.5**2), rtol=1e-13)


def test_systems_are_computed_to_all_digits_where_no_pivot_keeps_them() -> None:
    a = np.linalg.matrix_power(np.vander(np.linspace(1, 2, 6)), 2)
    f = lambda a: np.sum(np.linalg.inv(a))  # noqa: E731
    with mpmath.workdps(60):
        exact = mpmath.matrix(a.tolist()) ** -1
        columns = [mpmath.fsum(exact[:, j]) for j in range(6)]
        rows = [mpmath.fsum(exact[i, :]) for i in range(6)]
        expected = [[float(-columns[i] * rows[j]) for j in range(6)] for i in range(6)]
    got = prepared(f, a, form="shared").gradient(a)
    np.testing.assert_allclose(got, expected, rtol=1e-13)
    with pytest.raises(dk.UnsupportedOperation, match="digits"):
        prepared(f, a, form="shared", refine=False).gradient(a)


@pytest.mark.parametrize("rank", [3, 4, 5])
def test_determinants_of_singular_matrices(rank: int) -> None:
    a = np.zeros((5, 5))
    a[np.arange(rank), np.arange(rank)[::-1]] = 2.0
    expected = np.zeros((5, 5))
    for i, j in np.ndindex(5, 5):
        minor = np.delete(np.delete(a, i, axis=0), j, axis=1)
        expected[i, j] = (-1) ** (i + j) * np.linalg.det(minor)
    np.testing.assert_allclose(gradient(np.linalg.det, a), expected, rtol=1e-13)


def test_a_determinant_that_no_short_formula_has() -> None:
    np.testing.assert_array_equal(gradient(np.linalg.det, np.zeros((12, 12))), 0)
    with pytest.raises(dk.ExpressionTooLarge, match="nearly singular"):
        prepared(np.linalg.det, np.zeros((12, 12)), form="shared")


def gaussian_process(n: int) -> Any:
    """The negative log-likelihood of ones, by length scale and noise (constant left out)."""
    places = np.linspace(0, 1, n)
    squares = (places[:, None] - places[None, :]) ** 2
    y = np.ones(n)

    def f(t: Any) -> Any:
        kernel = np.exp(-squares / (2 * t[0] ** 2)) + t[1] * np.eye(n)
        return (y @ np.linalg.solve(kernel, y) + np.linalg.slogdet(kernel)[1]) / 2

    return f


@pytest.mark.parametrize("n", [3, 8, 12])
def test_likelihood_of_a_gaussian_process_does_not_swell(n: int) -> None:
    places = np.linspace(0, 1, n)
    squares = (places[:, None] - places[None, :]) ** 2
    scale, noise = 0.5, 0.1
    smooth = np.exp(-squares / (2 * scale**2))
    inverse = np.linalg.inv(smooth + noise * np.eye(n))
    inner = inverse - np.outer(inverse.sum(axis=0), inverse.sum(axis=0))
    expected = [np.sum(inner * smooth * squares) / scale**3 / 2, np.trace(inner) / 2]
    p = prepared(gaussian_process(n), np.array([scale, noise]))
    np.testing.assert_allclose(p.gradient(np.array([scale, noise])), expected, rtol=1e-11)
    assert p.cost.operations < 5 * n**3


@pytest.mark.parametrize("n", [5, 12])
@pytest.mark.parametrize(
    ("f", "expected"),
    [
        (lambda a: np.linalg.slogdet(a)[1], lambda a: np.linalg.inv(a).T),
        (lambda a: np.sum(np.linalg.inv(a)), lambda a: -np.outer(*2 * [np.linalg.inv(a).sum(0)])),
        (
            lambda a: np.sum(np.log(np.diagonal(np.linalg.cholesky(a)))),
            lambda a: np.tril(np.linalg.inv(a)) - np.diag(np.diag(np.linalg.inv(a))) / 2,
        ),
    ],
)
def test_linear_algebra_of_many_rows(f: Any, expected: Any, n: int) -> None:
    a = np.eye(n) * n + 1 / (1 + np.add.outer(np.arange(n), np.arange(n)))
    np.testing.assert_allclose(gradient(f, a), expected(a), rtol=1e-11, atol=1e-15)


def test_product_of_many_factors_stays_linear() -> None:
    p = prepared(np.prod, np.full(300, 1.01))
    got = p.gradient(np.full(300, 1.01))
    np.testing.assert_allclose(got, 1.01**299, rtol=1e-12)
    assert p.cost.operations < 300 * 6


# ---------------------------------------------------------------------- refusals


def test_beyond_the_budget() -> None:
    with pytest.raises(dk.ExpressionTooLarge, match=r"budget is 50; .*max_operations"):
        prepared(lambda x: np.sum(np.sin(x) ** 2), np.ones(100), form="shared", max_operations=50)


def test_the_budget_is_checked_before_the_work() -> None:
    with pytest.raises(dk.ExpressionTooLarge):
        prepared(lambda x: np.sum(x @ x), np.ones((200, 200)), form="shared")


def test_a_primitive_without_counterpart_is_named_with_its_line() -> None:
    with pytest.raises(dk.UnsupportedOperation, match=r"to_integer at .*test_symbolic\.py:\d+"):
        derivative(lambda x: x * x.astype(int), 1.5)


def test_no_nesting_inside_a_trace() -> None:
    with pytest.raises(dk.TracingError, match="symbolic"):
        dk.derivative(lambda x: derivative(np.sin, x), 0.5, backend="tape")


@pytest.mark.parametrize("budget", [0, -1, 2.5, True])
def test_a_bad_budget(budget: Any) -> None:
    with pytest.raises(dk.InvalidInput):
        Symbolic(max_operations=budget)


def test_no_derivative_rule_of_ours_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    from diffkit.tracing.primitives import PRIMITIVES

    for primitive in PRIMITIVES.values():
        if primitive.differentiable:
            object.__setattr__(primitive, "_kept", primitive.pullbacks)
            object.__setattr__(primitive, "pullbacks", ())
    try:
        assert derivative(lambda x: np.sin(x) * x, 0.5) == np.cos(0.5) * 0.5 + np.sin(0.5)
    finally:
        for primitive in PRIMITIVES.values():
            if hasattr(primitive, "_kept"):
                object.__setattr__(primitive, "pullbacks", primitive._kept)
                object.__delattr__(primitive, "_kept")


def test_sympy_is_imported_only_when_it_is_used() -> None:
    code = "import sys, diffkit.backends.symbolic; sys.exit('sympy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# ---------------------------------------------------------------------- networks


def network_case(criterion: Any) -> tuple[Any, Any, Any, Any]:
    generator = np.random.default_rng(7)
    network = fully_connected((4, 16, 3), criterion, TANH)
    return network, network.initial(3), generator.normal(size=(150, 4)), np.arange(150) % 3


def by_hand(P: Any, X: Any, outputs_gradient: Any) -> dict[str, Any]:
    """The delta rule for one hidden tanh layer."""
    hidden = np.tanh(X @ P["layer1"]["W"] + P["layer1"]["b"])
    delta2 = outputs_gradient(hidden @ P["layer2"]["W"] + P["layer2"]["b"])
    delta1 = (delta2 @ P["layer2"]["W"].T) * (1 - hidden**2)
    return {
        "layer1": {"W": X.T @ delta1, "b": delta1.sum(axis=0)},
        "layer2": {"W": hidden.T @ delta2, "b": delta2.sum(axis=0)},
    }


def assert_same(got: Any, expected: Any, rtol: float) -> None:
    for layer, parts in expected.items():
        for name, array in parts.items():
            np.testing.assert_allclose(got[layer][name], array, rtol=rtol, atol=rtol)


@pytest.mark.parametrize("one_hot", [False, True])
def test_loss_of_a_network_over_all_samples(one_hot: bool) -> None:
    network, P, X, y = network_case(SOFTMAX_CROSS_ENTROPY)
    targets = np.eye(3)[y] if one_hot else y
    p = prepared(network.loss, P, X, targets)
    value, got = p.value_and_gradient(P, X, targets)
    assert value == network.loss(P, X, targets)

    def outputs_gradient(z: Any) -> Any:
        e = np.exp(z - z.max(axis=1, keepdims=True))
        return (e / e.sum(axis=1, keepdims=True) - np.eye(3)[y]) / len(y)

    assert_same(got, by_hand(P, X, outputs_gradient), 1e-13)
    assert p.cost.operations < 1000  # one sample's, whatever the batch


def test_loss_of_a_network_on_another_batch_and_along_a_direction() -> None:
    network, P, X, y = network_case(HALF_SQUARED_ERROR)
    targets = np.eye(3)[y]
    p = prepared(network.loss, P, X, targets)
    got = p.gradient(P, X[:7], targets[:7])
    expected = by_hand(P, X[:7], lambda z: (z - targets[:7]) / 7)
    assert_same(got, expected, 1e-13)
    product = p.hvp(P, P, X[:7], targets[:7])
    h = 1e-6
    scaled = [
        {name: {k: v * (1 + s * h) for k, v in part.items()} for name, part in P.items()}
        for s in (1, -1)
    ]
    up, down = (by_hand(Q, X[:7], lambda z: (z - targets[:7]) / 7) for Q in scaled)
    difference = {
        name: {k: (up[name][k] - down[name][k]) / (2 * h) for k in part} for name, part in P.items()
    }
    assert_same(product, difference, 1e-8)


def test_another_loss_of_that_size_is_beyond_the_budget() -> None:
    network, P, X, y = network_case(SOFTMAX_CROSS_ENTROPY)
    with pytest.raises(dk.ExpressionTooLarge, match="array"):
        prepared(lambda p: network.loss(p, X, y), P, form="shared")


def test_a_single_sample_of_a_network_is_written_with_its_data_as_symbols() -> None:
    network = fully_connected((2, 1), HALF_SQUARED_ERROR, TANH)
    P = network.initial(0)
    p = prepared(network.loss, P, np.ones((4, 2)), np.ones((4, 1)))
    names = {str(s) for s in p.function_expression.free_symbols}
    assert names == {"layer1_W_0_0", "layer1_W_1_0", "layer1_b_0", "X_0_0", "X_0_1", "y_0_0"}


# ---------------------------------------------------------------------- forms


def bump(x: Any) -> Any:
    return np.sin(x[0] * x[1]) * np.exp(-(x[0] ** 2)) + np.sqrt(x[1])


def test_the_form_is_picked_by_size_and_told() -> None:
    assert prepared(lambda x: 3 * x**2, 1.0).form == "expanded"
    assert prepared(logistic_map(4), 0.2).form == "expanded"
    assert prepared(logistic_map(20), 0.2).form == "shared"
    assert prepared(np.tanh, 0.2).form == "shared"  # 1 - tanh² would lose digits
    assert prepared(lambda x: np.sqrt(x) ** 2, 0.2).form == "shared"
    assert prepared(np.tanh, 0.2, form="expanded").form == "expanded"


def test_both_forms_agree_on_every_operator() -> None:
    at, v = np.array([0.7, 1.3]), np.array([2.0, -1.0])
    shared, expanded = (prepared(bump, at, form=form) for form in ("shared", "expanded"))
    for operator in ("gradient", "jacobian", "hessian"):
        got, expected = getattr(expanded, operator)(at), getattr(shared, operator)(at)
        np.testing.assert_allclose(got, expected, rtol=1e-13)
    np.testing.assert_allclose(expanded.hvp(at, v), shared.hvp(at, v), rtol=1e-13)
    curve = prepared(lambda x: np.sin(x) / x, 0.5, form="expanded")
    t = sp.Rational(1, 2)
    for order in (1, 2, 3):
        exact = float(sp.diff(sp.sin(X) / X, X, order).subs(X, t).evalf(30))
        assert curve.derivative(0.5, order=order) == pytest.approx(exact, rel=1e-12)


@pytest.mark.parametrize("x", [-2.0, 0.5, 3.0])
def test_branches_and_steps_in_the_expanded_form(x: float) -> None:
    def f(t: Any) -> Any:
        return np.where(t > 1, t**2, np.abs(t)) + np.floor(t / 4) * t

    p = prepared(f, x, form="expanded")
    assert p.derivative(x) == prepared(f, x, form="shared").derivative(x)


def test_ties_are_refused_in_the_expanded_form() -> None:
    p = prepared(lambda x: np.floor(x) * x, 1.5, form="expanded")
    assert p.derivative(1.5) == 1.0
    with pytest.raises(dk.UnsupportedOperation, match="where x equals floor"):
        p.derivative(2.0)


def test_the_expanded_form_is_refused_before_it_is_written() -> None:
    with pytest.raises(dk.ExpressionTooLarge, match="form='shared'"):
        prepared(logistic_map(60), 0.2, form="expanded").derivative(0.2)


@pytest.mark.parametrize("how", ["together", "factor", "full"])
def test_simplified_forms(how: str) -> None:
    p = prepared(lambda x: (x + 1) ** 3 - x**3, 0.5, form="expanded", simplify=how)
    assert sp.expand(p.expression - (6 * X + 3)) == 0
    assert p.derivative(0.5) == pytest.approx(6.0, rel=1e-15)
    if how != "together":
        assert sp.count_ops(p.expression) <= 2


def test_simplification_is_ended_when_its_time_is_over() -> None:
    p = prepared(lambda x: np.sin(x), 0.5, simplify="full", max_seconds=1e-3)
    with pytest.raises(dk.ExpressionTooLarge, match="max_seconds"):
        _ = p.expression
    assert p.derivative(0.5) == np.cos(0.5)


@pytest.mark.parametrize(
    "options",
    [{"form": "arrays"}, {"simplify": True}, {"max_seconds": 0}, {"max_seconds": "1"}],
)
def test_bad_options(options: Any) -> None:
    with pytest.raises(dk.InvalidInput, match=next(iter(options))):
        Symbolic(**options)


def test_a_derivation_that_was_broken_off_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    p = prepared(bump, np.array([0.7, 1.3]), form="shared")

    def interrupted(*_: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sp, "diff", interrupted)
        with pytest.raises(KeyboardInterrupt):
            p.gradient(np.array([0.7, 1.3]))
    expected = gradient(bump, np.array([0.7, 1.3]))
    np.testing.assert_array_equal(p.gradient(np.array([0.7, 1.3])), expected)


def test_an_order_beyond_the_budget_leaves_the_lower_ones() -> None:
    p = prepared(lambda x: np.sin(x) * np.exp(x), 0.5, max_operations=60)
    with pytest.raises(dk.ExpressionTooLarge):
        p.derivative(0.5, order=9)
    assert p.derivative(0.5) == pytest.approx(np.exp(0.5) * (np.sin(0.5) + np.cos(0.5)), rel=1e-15)


# ---------------------------------------------------------------------- source


def with_branches(x: Any, c: Any) -> Any:
    first = np.sum(c * np.sin(x)) + 0.1 * x[0] ** 3 / 7
    second = np.where(x[1] > 0, np.maximum(x[0], x[1]) * np.floor(3 * x[0]), x[1] % x[0])
    return np.array([first, second, np.sign(x[0]) * np.tanh(x[1])])


AT = np.array([0.7, 1.3]), np.array([2.0, 3.0])


@pytest.mark.parametrize("form", ["shared", "expanded"])
def test_python_source_computes_the_jacobian(form: str) -> None:
    p = prepared(with_branches, *AT, form=form)
    namespace: dict[str, Any] = {}
    exec(p.source(), namespace)
    for x in (AT[0], np.array([0.3, -1.4]), np.array([-0.7, 0.4])):
        got = namespace["derivative"](x, list(p.constants.values()))
        np.testing.assert_allclose(got, p.jacobian(x, AT[1]), rtol=1e-14)


@pytest.mark.parametrize("language", ["python", "c", "latex", "mathematica"])
def test_source_holds_generated_names_only(language: str) -> None:
    p = prepared(lambda q: np.sin(q["boom"]) * 0.1 + q["W"] ** 2, {"boom": 1.0, "W": 2.0})
    text = p.source(language)
    assert "boom" not in text
    assert "W" not in text
    assert "0.1" not in text


def test_source_of_a_product_in_each_language() -> None:
    p = prepared(lambda x: x[0] ** 3 * x[1], np.ones(2), form="expanded")
    assert "result[0] = 3.0*pow(x[0], 2.0)*x[1];" in p.source("c")
    assert r"\partial_{0} f_{0} &= 3 x_{0}^{2} x_{1}" in p.source("latex")
    assert "{{3*x[[1]]^2*x[[2]], x[[1]]^3}}" in p.source("mathematica")
    assert "result[0, 1] = x[0]**3" in p.source("python")


def test_c_divides_floating_point_numbers_and_takes_remainders_as_numpy_does() -> None:
    text = prepared(lambda x: x / (2 + np.sign(x)) + (x % 3) * x, 1.5, form="expanded").source("c")
    assert "2.0" in text
    assert "fmod" not in text


def test_an_unknown_language() -> None:
    with pytest.raises(dk.InvalidInput, match="python, mpmath, c, latex, mathematica"):
        prepared(np.sin, 1.0).source("fortran")


# ---------------------------------------------------------------------- threads and outside state


def test_several_threads_derive_at_once() -> None:
    def f(x: Any) -> Any:
        return np.sum(np.sin(x) ** 2) if x[0] > 0 else np.prod(np.cos(x))

    points = [np.array([s, 0.5, 1.0]) for s in (-1.0, 1.0)] * 8
    p = prepared(f, points[0])
    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(lambda x: (p.gradient(x), p.hessian(x)), points))
    for x, (g, h) in zip(points, got, strict=True):
        np.testing.assert_allclose(g, gradient(f, x), rtol=1e-14)
        np.testing.assert_allclose(h, dk.hessian(f, x, backend="tape"), rtol=1e-12, atol=1e-14)
    assert p.cost.evaluations >= 16  # of each Hessian, if every gradient was computed at once


class Holder:
    scale = 2.0


def test_objects_given_as_data_are_watched() -> None:
    holder = Holder()
    p = prepared(lambda x, other: other.scale * x**2, 3.0, holder)
    assert p.derivative(3.0, holder) == 12.0
    holder.scale = 5.0
    assert p.derivative(3.0, holder) == 30.0


def test_an_array_outside_that_is_written_to_is_seen() -> None:
    weights = np.ones(2)
    p = prepared(lambda x: np.sum(weights * x**2), np.ones(2))
    np.testing.assert_array_equal(p.gradient(np.ones(2)), [2.0, 2.0])
    weights[1] = 4.0
    np.testing.assert_array_equal(p.gradient(np.ones(2)), [2.0, 8.0])


def test_prepared_functions_can_be_pickled() -> None:
    p = pickle.loads(pickle.dumps(prepared(bump, np.array([0.7, 1.3]))))
    with pytest.raises(dk.UnsupportedOperation, match="unpickled"):
        _ = p.expression
    got = p.gradient(np.array([0.7, 1.3]))
    np.testing.assert_array_equal(got, gradient(bump, np.array([0.7, 1.3])))
    assert p.form == "shared"
