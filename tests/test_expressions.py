"""Text and SymPy expressions become functions, safely and exactly."""

from __future__ import annotations

import ast
import math
import operator
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

import diffkit as dk
from diffkit.expressions.functions import CONSTANTS, FUNCTIONS
from diffkit.expressions.scan import MAX_LENGTH, MAX_NESTING, MAX_OPERATORS

x, y, z = sympy.symbols("x y z")


# ------------------------------------------------------------------ what text means


@pytest.mark.parametrize(
    ("text", "at", "value"),
    [
        ("x", 3.0, 3.0),
        ("-x**2", 3.0, -9.0),
        ("2**-x", 1.0, 0.5),
        ("2**3**2*x", 1.0, 512.0),
        ("x - 1 - 2", 0.0, -3.0),
        ("x / 2 / 4", 16.0, 2.0),
        ("7 % x", 4.0, 3.0),
        ("+x", 2.0, 2.0),
        ("--x", 2.0, 2.0),
        (".5*x + 1. + 1e1", 2.0, 12.0),
        ("x +\n\t1", 2.0, 3.0),
        ("sin(x)*exp(-x**2)", 0.5, math.sin(0.5) * math.exp(-0.25)),
        ("log(e*x) + cos(pi) + sin(tau/4)", 1.0, 1.0),
        ("atan2(x, 1) - arctan2(x, 1)", 2.0, 0.0),
        ("max(x, 2) + min(x, 2)", 5.0, 7.0),
        ("pow(x, 0.5)", 9.0, 3.0),
        ("relu(x)", -1.0, 0.0),
        ("sigmoid(x)", 0.0, 0.5),
        ("softplus(x)", 0.0, math.log(2)),
        ("1 if x > 0 else 2", -1.0, 2.0),
        ("x if 0 < x <= 1 else -x", 2.0, -2.0),
        ("1 if x < 0 or x > 1 and not x == 2 else 0", 2.0, 0.0),
        ("where(x != 1, x, 5)", 1.0, 5.0),
    ],
)
def test_text_means_what_it_means_in_python(text: str, at: float, value: float) -> None:
    result = dk.parse(text)(at)
    assert result == pytest.approx(value, rel=1e-15, abs=1e-15)
    assert isinstance(result, np.float64)


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_every_function_agrees_with_pythons_own(name: str) -> None:
    oracles = {
        "ln": math.log,
        "log1p": math.log1p,
        "abs": abs,
        "sign": lambda t: math.copysign(1, t),
        "max": max,
        "maximum": max,
        "min": min,
        "minimum": min,
        "relu": lambda t: max(t, 0.0),
        "sigmoid": lambda t: 1 / (1 + math.exp(-t)),
        "softplus": lambda t: math.log(1 + math.exp(t)),
    }
    named = name.replace("arc", "a")
    oracle = oracles.get(name) or getattr(math, named)
    point = 1.25 if name.endswith("cosh") else 0.75
    if FUNCTIONS[name].arity == 1:
        assert dk.parse(f"{name}(x)")(point) == pytest.approx(oracle(point), rel=4e-16)
    else:
        got = dk.parse(f"{name}(x, y)")({"x": point, "y": 2.5})
        assert got == pytest.approx(oracle(point, 2.5), rel=4e-16)


def test_one_variable_makes_a_function_of_a_number_or_an_array() -> None:
    f = dk.parse("t**2 + 1")
    assert f.variables == ("t",)
    assert f(3) == 10.0
    np.testing.assert_array_equal(f(np.array([[1.0, 2.0]])), [[2.0, 5.0]])


def test_several_variables_make_a_function_of_a_dict_by_name() -> None:
    f = dk.parse("b*x + a")
    assert f.variables == ("b", "x", "a")
    assert f({"a": 1, "b": 2.0, "x": 3.0}) == 7.0
    with pytest.raises(dk.InvalidInput, match="dict"):
        f(1.0)
    with pytest.raises(dk.InvalidInput, match="no value for the variable 'a'"):
        f({"b": 2.0, "x": 3.0})
    with pytest.raises(dk.InvalidInput, match="no variable 'c'"):
        f({"a": 1, "b": 2.0, "x": 3.0, "c": 4.0})


def test_no_variable_makes_a_constant_function() -> None:
    f = dk.parse("2*pi")
    assert f.variables == ()
    assert f(0.0) == 2 * math.pi
    constant = f(np.zeros((2, 3), np.float32))
    assert (constant.shape, constant.dtype) == ((2, 3), np.float32)


def test_variables_can_be_declared_in_order_and_then_no_other_is_known() -> None:
    assert dk.parse("x", variables="y, x").variables == ("y", "x")
    assert dk.parse("x", variables=["x"])(2.0) == 2.0
    with pytest.raises(dk.ParseError, match="unknown name 'y'; the variables are x"):
        dk.parse("x*y", variables=["x"])
    for names in (["sin"], ["pi"], ["__x"], ["if"], ["x", "x"], [1], ["a b"], ["ñ"]):
        with pytest.raises(dk.ParseError):
            dk.parse("1", variables=names)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble])
@pytest.mark.parametrize(
    "text",
    ["x/3 + 2/3", "sqrt(2)*x", "2", "(1 if x > 0 else 2)*x", "where(x > 0, 1, 2)", "x**-1"],
)
def test_the_dtype_of_the_input_is_kept(text: str, dtype: type) -> None:
    assert dk.parse(text)(dtype(1.5)).dtype == dtype
    assert dk.parse(text)(np.array([1.5, -2.5], dtype)).dtype == dtype


def test_what_is_not_a_real_number_is_refused() -> None:
    f = dk.parse("x")
    for bad in ("1", None, [1.0], {"x": 1.0}, np.array(["a"]), np.array([None]), 10**400):
        with pytest.raises(dk.InvalidInput):
            f(bad)


def test_the_branch_not_taken_is_not_evaluated() -> None:
    f = dk.parse("sqrt(x) if x > 0 and log(x) < 1 else -x")
    assert f(-4.0) == 4.0
    assert f(1.0) == 1.0
    assert dk.parse("log(x) if not x <= 0 else 0")(-1.0) == 0.0
    assert dk.parse("1 if x <= 0 or log(x) < 0 else 2")(-1.0) == 1.0


def test_a_condition_on_an_array_is_taken_entry_by_entry() -> None:
    f = dk.parse("x**2 if 0 <= x < 2 or x == 5 else -1")
    np.testing.assert_array_equal(f(np.array([-1.0, 1.0, 2.0, 5.0])), [-1, 1, -1, 25])


def test_numpys_functions_are_called_so_that_tracing_passes_through() -> None:
    f = dk.parse("sigmoid(x)*tanh(y) if x > y else hypot(x, y)")
    graph = dk.trace(f, {"x": 2.0, "y": 1.0})
    assert graph.nodes
    gradient = dk.gradient(f, {"x": 2.0, "y": 1.0})
    s = 1 / (1 + math.exp(-2))
    assert gradient["x"] == pytest.approx(s * (1 - s) * math.tanh(1), rel=1e-14)
    assert gradient["y"] == pytest.approx(s / math.cosh(1) ** 2, rel=1e-14)


def test_an_expression_is_a_value() -> None:
    f = dk.parse("x*sin(x) if x > 0 else y")
    copy = pickle.loads(pickle.dumps(f))
    assert copy == f
    assert hash(copy) == hash(f)
    assert copy({"x": 1.0, "y": 2.0}) == f({"x": 1.0, "y": 2.0})
    assert f.__qualname__ == f.text == "x*sin(x) if x > 0 else y"
    assert repr(f) == "<Expression 'x*sin(x) if x > 0 else y' of x, y>"
    assert len(dk.parse("x+" * 100 + "x").__qualname__) == 60
    with pytest.raises(AttributeError):
        f.text = "x"  # type: ignore[misc]


def test_along_holds_the_other_variables() -> None:
    f = dk.parse("x*y**2")
    assert f.along("y")(3.0, {"x": 2.0}) == 18.0
    assert dk.parse("t**2").along("t")(3.0, {}) == 9.0
    with pytest.raises(dk.InvalidInput, match="no variable 'z'; its variables are x, y"):
        f.along("z")


# ------------------------------------------------------------------ constants


def test_constants_stay_exact() -> None:
    """SymPy is to see 2 and 0.5 as they were written."""
    graph = dk.trace(dk.parse("2*x**3 + 0.5*x"), 1.0)
    constants = [n.value for n in graph.nodes if n.primitive is None and n.value != 1.0]
    assert sorted(float(c) for c in constants) == [0.5, 2.0, 3.0]
    derivative = dk.prepare(dk.parse("2*x**3 + 0.5*x"), 1.0, backend="symbolic").expression
    assert str(derivative) == "6*x**2 + 1/2"


@pytest.mark.parametrize(
    "text",
    ["1e999", "1e-999", "9" * 310, "9**9**9**9", "10**400", "1/0", "0/0", "0**-1", "log(-1)",
     "sqrt(-1)", "(-1)**0.5", "1e308*10", "x + exp(1000)", "asin(2)"],
)  # fmt: skip
def test_a_constant_that_is_no_finite_number_is_an_error(text: str) -> None:
    with pytest.raises(dk.ParseError):
        dk.parse(text)


def test_large_integers_and_powers_are_taken_as_floats() -> None:
    assert dk.parse("12345678901234567890*x")(1.0) == 12345678901234567890.0
    assert dk.parse("2**1000*x")(1.0) == 2.0**1000


# ------------------------------------------------------------------ what is refused

HOSTILE = {
    "9**9**9**9": "finite",
    "(" * 100_000 + "x" + ")" * 100_000: "characters",
    "1" * 10**6: "characters",
    "-" * 10**6 + "1": "characters",
    "(" * 4_000 + "x" + ")" * 4_000: "nested",
    "-" * 5_000 + "1": "nested",
    "+-" * 4_000 + "x": "nested",
    "x**" * 3_000 + "x": "nested",
    "2**-" * 2_000 + "x": "nested",
    "x if x > 0 else " * 600 + "x": "nested",
    "1 if " + "not " * 2_000 + "x > 0 else 2": "nested",
    "1 if " + "x > 0 and " * 900 + "x > 0 else 2": "nested",
    "1 if " + "x < " * 2_000 + "x else 2": "nested",
    "sin(" * 1_900 + "x" + ")" * 1_900: "nested",
    "x" + "+x" * 4_900: "operators",
    "1" * 401: "401|400",
    "0" * 9_000: "400",
    "a" * 9_000: "60",
    "x\0": "not part",
    "\0": "not part",
    "ｓｉｎ(x)": "not part",
    "x\u200b+1": "not part",
    "x\ud800": "not part",
    "𝐱": "not part",
    "١": "not part",
    "x²": r"use \*\*2",
    "x × 2": r"use \*",
    "x − 2": "use -",
    "x^2": r"use \*\*",
    "f'{x}'": "not part",
    "'x'": "not part",
    'b"x"': "not part",
    "x.real": "not part",
    "x.__class__": "not part",
    "().__class__.__bases__": "missing",
    "x[0]": "round brackets",
    "[x]": "round brackets",
    "{x}": "round brackets",
    "lambda x: x": "meaning in Python",
    "(x := 1)": "not part",
    "x = 1": "use ==",
    "x; x": "not part",
    "x # y": "not part",
    "x @ y": "not part",
    "x // y": "missing before '/'",
    "x & y": "use `and`",
    "~x": "not part",
    "__import__('os')": "cannot be a variable",
    "eval(x)": "not a known function",
    "exec(x)": "not a known function",
    "open(x)": "not a known function",
    "__builtins__": "cannot be a variable",
    "__x": "cannot be a variable",
    "_x": "cannot be a variable",
    "a__b": "cannot be a variable",
    "None": "meaning in Python",
    "True": "meaning in Python",
    "yield": "meaning in Python",
    "await x": "meaning in Python",
    "import os": "meaning in Python",
    "x is y": "missing|meaning",
    "x in y": "missing|meaning",
    "sin(*x)": "missing",
    "sin(**x)": "missing",
    "sin(x=1)": "use ==",
    "sin(x for x in y)": "missing",
    "sin(sin)": "needs its argument",
    "sine(x)": "did you mean sin",
    "arcsn(x)": "did you mean arcsin",
    "x(2)": "not a known function",
    "pi(2)": "not a known function",
    "sin x": "needs its argument",
    "sin": "needs its argument",
    "sin()": "missing",
    "sin(x, x)": "takes 1 argument, not 2",
    "atan2(x)": "takes 2 arguments, not 1",
    "where(x > 0, x)": "takes 3 arguments",
    "where(x, x, x)": "a condition is due",
    "2x": "operator is missing",
    "x y": "operator is missing",
    "(x)(y)": "operator is missing",
    "2(x)": "operator is missing",
    "0x10": "operator is missing",
    "1_000": "operator is missing",
    "2j": "operator is missing",
    "1.2.3": "operator is missing",
    "007": "leading zeros",
    "1if x > 0 else 2": "space is missing",
    "x, y": "comma",
    "(x, y)": "comma",
    "sin(x,)": "missing",
    "(x": "never closed",
    "x)": "never opened",
    ")(": "missing|never opened",
    "()": "missing",
    "x +": "ends",
    "* x": "missing",
    "x + * y": "missing",
    "": "empty",
    " \n ": "empty",
    "x if x > 0": "else",
    "x if x else 1": "condition is due",
    "if x > 0 else 1": "missing",
    "x > 0": "condition stands",
    "(x > 0)*x": "condition stands",
    "x and y": "condition stands",
    "not x > 0": "condition stands",
    "x > (y > 0)": "condition stands",
    "1 + not x": "invalid|condition|parenthesized",
}  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text[:24]))
def test_anything_but_a_formula_is_refused_in_words(text: str) -> None:
    with pytest.raises(dk.ParseError, match=HOSTILE[text]):
        dk.parse(text)


def test_what_exceeds_a_limit_never_reaches_pythons_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ast, "parse", lambda *_, **__: pytest.fail("Python's parser was called"))
    limits = (
        "characters",
        "nested",
        "operators",
        "400",
        "401|400",
        "60",
        "not part",
        "cannot be a variable",
    )
    refused_early = [text for text, reason in HOSTILE.items() if reason in limits]
    assert len(refused_early) > 30
    for text in refused_early:
        with pytest.raises(dk.ParseError):
            dk.parse(text)


@pytest.mark.parametrize("text", [b"x", 1, None, x])
def test_what_is_no_text_is_refused(text: object) -> None:
    with pytest.raises(dk.ParseError, match="must be a text"):
        dk.parse(text)  # type: ignore[arg-type]


def test_the_message_points_at_the_place() -> None:
    with pytest.raises(dk.ParseError) as raised:
        dk.parse("sin(x) + 3 ^ x")
    assert str(raised.value).splitlines() == [
        "'^' is not part of an expression; use ** for a power, at character 12",
        "    sin(x) + 3 ^ x",
        "               ^",
    ]


def test_the_message_shows_a_window_of_a_long_text() -> None:
    with pytest.raises(dk.ParseError) as raised:
        dk.parse("x + " * 100 + "foo(x)" + " + x" * 100)
    _, shown, caret = str(raised.value).splitlines()
    assert len(shown) < 80
    assert shown[caret.index("^") :].startswith("foo(x)")


def test_the_limits_are_far_enough_for_formulas() -> None:
    assert dk.parse("(" * MAX_NESTING + "x" + ")" * MAX_NESTING)(1.0) == 1.0
    many = dk.parse("x" + "+x" * MAX_OPERATORS)
    assert many(1.0) == MAX_OPERATORS + 1
    assert pickle.loads(pickle.dumps(many)) == many
    branches = dk.parse("x if x > 0 else " * 50 + "x")
    assert pickle.loads(pickle.dumps(branches))(-1.0) == -1.0
    assert dk.parse("x" + " " * (MAX_LENGTH - 1))(2.0) == 2.0


def test_no_text_is_ever_run_as_code() -> None:
    for file in Path(dk.parse.__code__.co_filename).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, (ast.Name, ast.Attribute)):
                name = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
                assert name not in ("eval", "exec", "lambdify", "parse_expr", "__import__")
                # The one call to sympify is on Python numbers.
                assert name != "sympify" or file.name == "from_tree.py"


ALPHABET = "xyesinlog0123456789.+-*/%()<>=!,_ \t\nifelsandort^\0'\"[]{}:\\é²×"


@given(st.one_of(st.text(), st.text(alphabet=ALPHABET, max_size=40)))
@settings(max_examples=500, deadline=None)
def test_any_text_is_a_function_or_a_parse_error(text: str) -> None:
    try:
        f = dk.parse(text)
    except dk.ParseError:
        return
    with np.errstate(all="ignore"):
        f(0.5 if len(f.variables) < 2 else dict.fromkeys(f.variables, 0.5))


PIECES = st.sampled_from(
    ["x", "y", "2", "0.5", "pi", "+", "-", "*", "/", "**", "%", "(", ")", "sin(", "max(", ",",
     " if ", " else ", " and ", " or ", " not ", "<", ">=", "==", "where(", "1e3"]
)  # fmt: skip


@given(st.lists(PIECES, max_size=16).map("".join))
@settings(max_examples=500, deadline=None)
def test_any_row_of_tokens_is_a_function_or_a_parse_error(text: str) -> None:
    try:
        f = dk.parse(text)
    except dk.ParseError:
        return
    with np.errstate(all="ignore"):
        f(0.5 if len(f.variables) < 2 else dict.fromkeys(f.variables, 0.5))


Pair = tuple[str, float]
OPERATORS = {"+": operator.add, "-": operator.sub, "*": operator.mul}


def _combined(pairs: st.SearchStrategy[Pair]) -> st.SearchStrategy[Pair]:
    def binary(symbol: str, left: Pair, right: Pair) -> Pair:
        return f"({left[0]}) {symbol} ({right[0]})", OPERATORS[symbol](left[1], right[1])

    def branch(a: Pair, b: Pair, c: Pair) -> Pair:
        return f"({a[0]} if {b[0]} < {c[0]} else -({b[0]}))", a[1] if b[1] < c[1] else -b[1]

    return st.one_of(
        st.builds(binary, st.sampled_from(sorted(OPERATORS)), pairs, pairs),
        st.builds(branch, pairs, pairs, pairs),
        st.builds(lambda p: (f"-({p[0]})", -p[1]), pairs),
        st.builds(lambda p: (f"abs({p[0]})", abs(p[1])), pairs),
        st.builds(lambda p: (f"sin({p[0]})", float(np.sin(np.float64(p[1])))), pairs),
        st.builds(lambda p: (f"({p[0]})**2", p[1] * p[1]), pairs),
        st.builds(lambda p: (f"({p[0]})/4", p[1] / 4), pairs),
        st.builds(lambda p, q: (f"max({p[0]}, {q[0]})", max(p[1], q[1])), pairs, pairs),
    )


POINT = {"x": 1.375, "y": -0.625}
LEAVES = st.one_of(
    st.sampled_from(sorted(POINT.items())),
    st.integers(0, 9).map(lambda i: (str(i), float(i))),
    st.floats(0.001, 100).map(lambda v: (repr(v), v)),
    st.sampled_from(sorted(CONSTANTS.items())),
)


@given(st.recursive(LEAVES, _combined, max_leaves=8))
@settings(max_examples=300, deadline=None)
def test_a_formula_has_the_value_of_pythons_own_arithmetic(pair: Pair) -> None:
    text, value = pair
    result = dk.parse(text, variables=("x", "y"))(POINT)
    assert result == pytest.approx(value, rel=1e-13, abs=1e-300)


# ------------------------------------------------------------------ from SymPy

FROM_SYMPY = [
    sympy.sin(x) / x / y**2 * sympy.Rational(-2, 3),
    x**2 - 3 * x + y / 7 - 1,
    sympy.sqrt(x) + 1 / sympy.sqrt(x) + x ** sympy.Rational(1, 3) + x**-2,
    sympy.exp(-(x**2)) + sympy.pi * sympy.E + sympy.EulerGamma,
    sympy.sec(x) + sympy.csc(x) + sympy.cot(x) + sympy.sech(x) + sympy.csch(x) + sympy.coth(x),
    sympy.asin(x / 2) + sympy.acos(x / 2) + sympy.atan2(y, x) + sympy.atanh(x / 2),
    sympy.asinh(x) + sympy.acosh(1 + x) + sympy.log(x) + sympy.tanh(x) + sympy.tan(x),
    sympy.Max(x, y, sympy.Rational(1, 2)) + sympy.Min(x, y) + sympy.Abs(x - y) + sympy.sign(x - y),
    sympy.floor(10 * x) + sympy.ceiling(10 * x),
    sympy.Piecewise((sympy.sqrt(x), x > y), (x**2, x < y), (sympy.Integer(0), True)),
    sympy.Piecewise((x, (x > 0) & (y < 0)), (y, sympy.Or(x > 5, sympy.Not(y < 0))), (1, True)),
    sympy.Piecewise((x, sympy.Eq(y, 0.75) & (x >= 0) & (x <= 2)), (y, sympy.Ne(x, 3)), (1, True)),
    x**y + 2**x,
    sympy.Float("0.1") * x + sympy.Integer(10) ** 30,
]


@pytest.mark.parametrize("expression", FROM_SYMPY, ids=str)
def test_sympy_expressions_have_sympys_value(expression: sympy.Expr) -> None:
    point = {"x": 0.25, "y": 0.75}
    got = dk.from_sympy(expression, (x, y))(point)
    exact = expression.subs({x: sympy.Rational(1, 4), y: sympy.Rational(3, 4)}).evalf(30)
    assert float(got) == pytest.approx(float(exact), rel=1e-14)


def test_the_symbols_name_the_arguments() -> None:
    assert dk.from_sympy(x + y).variables == ("x", "y")
    assert dk.from_sympy(x + y, [y, "x"]).variables == ("y", "x")
    assert dk.from_sympy(x**2, x)(3) == 9.0
    assert dk.from_sympy(x**2, "x")(3) == 9.0
    assert dk.from_sympy(x**2, (x, y))({"x": 3.0, "y": 0.0}) == 9.0
    assert dk.from_sympy(sympy.Integer(3), x)(np.zeros(2)).tolist() == [3.0, 3.0]
    assert dk.from_sympy(2)(1.0) == 2.0
    positive = sympy.Symbol("x", positive=True)
    assert dk.from_sympy(sympy.sqrt(positive), positive)(4.0) == 2.0
    for expression, symbols in [
        (x + y, [x]),
        (x, [x, x]),
        (x, [1]),
        (positive, [x]),
        (positive + x, None),
        ("x", None),
        (object(), None),
    ]:
        with pytest.raises(dk.InvalidInput):
            dk.from_sympy(expression, symbols)


def test_a_matrix_or_tuple_becomes_an_array() -> None:
    f = dk.from_sympy(sympy.Matrix([[x, 1], [y, x * y]]))
    np.testing.assert_array_equal(f({"x": 2.0, "y": 3.0}), [[2, 1], [3, 6]])
    g = dk.from_sympy((sympy.sin(x), 2), x)
    np.testing.assert_allclose(g(0.5), [math.sin(0.5), 2])
    assert g(np.zeros((3, 4))).shape == (2, 3, 4)
    assert dk.from_sympy(sympy.Matrix(0, 2, []), x)(1.0).shape == (0, 2)
    jacobian = dk.jacobian(f, {"x": 2.0, "y": 3.0})
    np.testing.assert_array_equal(jacobian["x"], [[1, 0], [0, 3]])


def test_shared_subexpressions_are_evaluated_once_and_never_written_out() -> None:
    """Written out, the logistic map of 40 steps has a billion nodes."""
    expression, value = x, 0.2
    for _ in range(40):
        expression = 4 * expression * (1 - expression)
        value = 4 * value * (1 - value)
    f = dk.from_sympy(expression)
    assert f(0.2).shape == ()
    assert len(f.block.steps) < 2_000
    assert f.text == "a SymPy Mul of more than 500 nodes"


def test_piecewise_keeps_out_of_the_branch_not_taken() -> None:
    f = dk.from_sympy(sympy.Piecewise((sympy.log(x), x > 0), (-x, True)))
    assert f(-2.0) == 2.0
    assert dk.derivative(f, -2.0) == -1.0
    assert dk.derivative(f, 4.0) == 0.25


@pytest.mark.parametrize(
    ("expression", "named"),
    [
        (sympy.gamma(x), "gamma"),
        (sympy.Function("f")(x), r"f\(x\)"),
        (sympy.I * x, "ImaginaryUnit"),
        (sympy.oo * sympy.sign(x), "not finite"),
        (sympy.zoo + x, "ComplexInfinity"),
        (sympy.Integral(sympy.exp(x**y), (y, 0, 1)), "Integral"),
        (sympy.Derivative(sympy.Function("f")(x), x), "Derivative"),
        (sympy.Piecewise((x, x > 0)), "no value where"),
        (sympy.Integer(10) ** 400 * x, "float64"),
        (x + sympy.log(-1, evaluate=False), "finite real"),
        (sympy.Piecewise((x, sympy.Xor(x > 0, y > 0)), (y, True)), "condition"),
        (x > 0, "StrictGreaterThan"),
    ],
    ids=str,
)
def test_what_numpy_lacks_is_refused_by_name(expression: object, named: str) -> None:
    with pytest.raises(dk.UnsupportedOperation, match=named):
        dk.from_sympy(expression)


@given(st.recursive(
    st.sampled_from([x, y, sympy.Integer(2), sympy.Rational(-1, 3), sympy.pi]),
    lambda e: st.one_of(
        st.builds(operator.add, e, e),
        st.builds(operator.mul, e, e),
        st.builds(lambda a: sympy.sin(a) - 1, e),
        st.builds(lambda a: 1 / (1 + a**2), e),
        st.builds(lambda a: sympy.sqrt(1 + a**2), e),
        st.builds(lambda a, b: sympy.Piecewise((a, a < b), (b, True)), e, e),
    ),
    max_leaves=6,
))  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_any_sympy_tree_has_the_value_that_evalf_gives(expression: sympy.Expr) -> None:
    point = {x: sympy.Rational(11, 8), y: sympy.Rational(-5, 8)}
    exact = float(expression.subs(point).evalf(30))
    got = dk.from_sympy(expression, (x, y))(POINT)
    assert float(got) == pytest.approx(exact, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(("text", "derivative"), [("sin(x)", np.cos), ("exp(x)", np.exp)])
def test_a_formula_that_is_one_function_has_its_closed_form(text: str, derivative: Any) -> None:
    assert dk.derivative(dk.parse(text), 0.5, backend="analytic") == derivative(0.5)
    tree = sympy.sympify(text)
    assert dk.derivative(dk.from_sympy(tree), 0.5, backend="analytic") == derivative(0.5)
    assert dk.parse(text).alone is not None


@pytest.mark.parametrize("text", ["sin(x) + 1", "sin(2*x)", "x", "sin(x)*y", "3"])
def test_other_formulas_have_none(text: str) -> None:
    assert dk.parse(text).alone is None
