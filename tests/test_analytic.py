"""The analytic backend: what it finds, what follows from it, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import pi
from typing import Any

import mpmath
import numpy as np
import pytest

from diffkit.backends import analytic
from diffkit.backends.analytic import Analytic, register
from diffkit.backends.formulas import TABLES
from diffkit.backends.formulas.elementary import ELEMENTARY
from diffkit.errors import (
    DiffkitError,
    InvalidInput,
    InvalidOutput,
    NoClosedForm,
    NonFiniteDerivative,
)
from diffkit.nn import (
    LOSSES,
    MEAN_SQUARED_ERROR,
    RELU,
    SIGMOID,
    SOFTMAX_CROSS_ENTROPY,
    TANH,
    Dense,
    Network,
    fully_connected,
    iris,
    softmax,
)
from diffkit.nn.zoo import network
from diffkit.operators import (
    derivative,
    gradient,
    hessian,
    hvp,
    jacobian,
    jvp,
    prepare,
    value_and_gradient,
    vjp,
)
from diffkit.problems import PROBLEMS
from diffkit.structure import flatten

BACKEND = Analytic()


@pytest.fixture(autouse=True)
def _clean_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is forgotten after it."""
    monkeypatch.setattr(analytic, "REGISTERED", dict(analytic.REGISTERED))


def parabola(x: Any) -> Any:
    return x**2 + 2 * x + 1


# ------------------------------------------------------------------ registering


def test_the_example_of_the_readme() -> None:
    def f(x: Any) -> Any:
        return x**2 + 2 * x + 1

    def g(x: Any) -> Any:
        return 2 * x + 2

    assert register(f, derivative=g) is f
    assert derivative(f, 3, backend="analytic") == 8


def test_register_as_a_decorator() -> None:
    @register(derivative=lambda x: 3 * x**2)
    def cube(x: Any) -> Any:
        return x**3

    assert cube(2.0) == 8
    assert derivative(cube, 2.0, backend=BACKEND) == 12


def test_registering_again_replaces() -> None:
    register(parabola, derivative=lambda x: -1.0)
    register(parabola, derivative=lambda x: 2 * x + 2)
    assert derivative(parabola, 3.0, backend=BACKEND) == 8


def test_a_form_of_ones_own_goes_before_a_shipped_one() -> None:
    register(np.sin, derivative=lambda x: 42.0)
    assert derivative(np.sin, 0.0, backend=BACKEND) == 42


def test_functions_are_held_so_that_their_identity_cannot_pass_to_others() -> None:
    for k in range(100):
        register(lambda x, k=k: k * x, derivative=lambda x, k=k: float(k))
        with pytest.raises(NoClosedForm):
            derivative(lambda x: x, 1.0, backend=BACKEND)


def test_callables_that_cannot_be_hashed() -> None:
    @dataclass
    class Line:
        slope: float

        def __call__(self, x: Any) -> Any:
            return self.slope * x

    one, equal = Line(2.0), Line(2.0)
    register(one, derivative=lambda x: 2.0)
    assert derivative(one, 1.0, backend=BACKEND) == 2
    with pytest.raises(NoClosedForm):
        derivative(equal, 1.0, backend=BACKEND)


def test_bound_methods_are_known_by_owner_and_function() -> None:
    class Line:
        def __init__(self, slope: float) -> None:
            self.slope = slope

        def at(self, x: Any) -> Any:
            return self.slope * x

    one, other = Line(2.0), Line(3.0)
    register(one.at, derivative=lambda x: 2.0)
    assert derivative(one.at, 1.0, backend=BACKEND) == 2
    with pytest.raises(NoClosedForm):
        derivative(other.at, 1.0, backend=BACKEND)


@pytest.mark.parametrize(
    ("f", "forms"),
    [
        (parabola, {}),
        (None, {}),
        (parabola, {"derivative": ()}),
        (parabola, {"derivative": 3.0}),
        (parabola, {"derivative": (np.sin, None)}),
        (parabola, {"gradient": "x"}),
        ("x**2", {"derivative": np.sin}),
    ],
)
def test_what_cannot_be_registered_is_refused(f: Any, forms: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        register(f, **forms)


# ------------------------------------------------------------------ what follows from what


def test_everything_that_follows_from_a_derivative() -> None:
    register(parabola, derivative=lambda x: 2 * x + 2)
    assert derivative(parabola, 3.0, backend=BACKEND) == 8
    assert gradient(parabola, 3.0, backend=BACKEND) == 8
    assert jacobian(parabola, 3.0, backend=BACKEND) == 8
    assert jvp(parabola, 3.0, 0.5, backend=BACKEND) == 4
    assert vjp(parabola, 3.0, 0.25, backend=BACKEND) == 2
    assert value_and_gradient(parabola, 3.0, backend=BACKEND) == (16, 8)
    for operator in (hessian, lambda *a, **k: hvp(*a, 1.0, **k)):
        with pytest.raises(NoClosedForm, match="hessian="):
            operator(parabola, 3.0, backend=BACKEND)


def test_several_derivatives_in_turn() -> None:
    register(parabola, derivative=(lambda x: 2 * x + 2, lambda x: 2.0, lambda x: 0.0))
    assert [derivative(parabola, 3.0, order=k, backend=BACKEND) for k in (1, 2, 3)] == [8, 2, 0]
    assert hessian(parabola, 3.0, backend=BACKEND) == 2
    assert hvp(parabola, 3.0, 5.0, backend=BACKEND) == 10
    with pytest.raises(NoClosedForm, match=r"order 4.*derivative=\(f', f'', f''', f''''\)"):
        derivative(parabola, 3.0, order=4, backend=BACKEND)


def test_a_number_to_a_structure() -> None:
    def f(t: Any) -> Any:
        return {"circle": np.stack([np.cos(t), np.sin(t)]), "square": t**2}

    register(f, derivative=lambda t: {"circle": np.stack([-np.sin(t), np.cos(t)]), "square": 2 * t})
    got = derivative(f, 0.0, backend=BACKEND)
    np.testing.assert_array_equal(got["circle"], [0, 1])
    assert got["square"] == 0
    pulled = vjp(f, 0.0, {"circle": np.array([5.0, 3.0]), "square": 1.0}, backend=BACKEND)
    assert pulled == 3


def bowl(x: Any, scale: Any) -> Any:
    return scale * np.sum(x["a"] ** 2) + x["b"]


def bowl_gradient(x: Any, scale: Any) -> Any:
    return {"a": 2 * scale * x["a"], "b": 1.0}


def bowl_hessian(x: Any, scale: Any) -> Any:
    n = len(x["a"])
    return {
        "a": {"a": 2 * scale * np.eye(n), "b": np.zeros(n)},
        "b": {"a": np.zeros(n), "b": 0.0},
    }


X = {"a": np.array([1.0, 2.0]), "b": 3.0}
V = {"a": np.array([1.0, -1.0]), "b": 0.5}


def test_everything_that_follows_from_a_gradient_with_data() -> None:
    register(bowl, gradient=bowl_gradient)
    got = gradient(bowl, X, 2.0, backend=BACKEND)
    np.testing.assert_array_equal(got["a"], [4, 8])
    assert got["b"] == 1
    assert jvp(bowl, X, V, 2.0, backend=BACKEND) == 4 - 8 + 0.5
    np.testing.assert_array_equal(vjp(bowl, X, 0.5, 2.0, backend=BACKEND)["a"], [2, 4])
    np.testing.assert_array_equal(jacobian(bowl, X, 2.0, backend=BACKEND)["a"], [4, 8])
    with pytest.raises(NoClosedForm, match="hessian="):
        hvp(bowl, X, V, 2.0, backend=BACKEND)


def test_a_gradient_by_a_number_gives_the_derivative() -> None:
    register(parabola, gradient=lambda x: 2 * x + 2)
    assert derivative(parabola, 3.0, backend=BACKEND) == 8
    with pytest.raises(NoClosedForm, match=r"derivative of order 2.*derivative=\(f', f''\)"):
        derivative(parabola, 3.0, order=2, backend=BACKEND)


def test_everything_that_follows_from_a_hessian() -> None:
    register(bowl, hessian=bowl_hessian)
    np.testing.assert_array_equal(
        hessian(bowl, X, 2.0, backend=BACKEND)["a"]["a"], [[4, 0], [0, 4]]
    )
    value, product = hvp(bowl, X, V, 2.0, value=True, backend=BACKEND)
    assert value == 13
    np.testing.assert_array_equal(product["a"], [4, -4])
    assert product["b"] == 0
    with pytest.raises(NoClosedForm, match=r"gradient=.*jacobian="):
        gradient(bowl, X, 2.0, backend=BACKEND)


def test_a_hessian_by_a_number_is_the_second_derivative() -> None:
    register(parabola, hessian=lambda x: 2.0)
    assert derivative(parabola, 3.0, order=2, backend=BACKEND) == 2
    with pytest.raises(NoClosedForm, match="derivative="):
        derivative(parabola, 3.0, backend=BACKEND)


def polar(p: Any) -> Any:
    return {"x": p[0] * np.cos(p[1]), "y": p[0] * np.sin(p[1])}


def polar_jacobian(p: Any) -> Any:
    c, s = np.cos(p[1]), np.sin(p[1])
    return {"x": np.stack([c, -p[0] * s]), "y": np.stack([s, p[0] * c])}


def test_everything_that_follows_from_a_jacobian() -> None:
    register(polar, jacobian=polar_jacobian)
    p = np.array([2.0, pi / 2])
    got = jacobian(polar, p, backend=BACKEND)
    np.testing.assert_allclose(got["x"], [0, -2], atol=1e-15)
    along = jvp(polar, p, np.array([1.0, 1.0]), backend=BACKEND)
    assert along["x"] == pytest.approx(-2)
    assert along["y"] == pytest.approx(1)
    pulled = vjp(polar, p, {"x": 1.0, "y": 10.0}, backend=BACKEND)
    np.testing.assert_allclose(pulled, [10, -2])
    with pytest.raises(InvalidOutput):
        gradient(polar, p, backend=BACKEND)


def test_the_jacobian_of_a_scalar_function_is_its_gradient() -> None:
    register(parabola, jacobian=lambda x: 2 * x + 2)
    assert gradient(parabola, 3.0, backend=BACKEND) == 8
    assert derivative(parabola, 3.0, backend=BACKEND) == 8


def test_several_tangents_at_once() -> None:
    register(polar, jacobian=polar_jacobian)
    p, tangents = np.array([2.0, 0.0]), np.eye(2)
    got = jvp(polar, p, tangents, batched=True, backend=BACKEND)
    np.testing.assert_array_equal(got["y"], [0, 2])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble])
def test_derivatives_come_in_the_dtype_of_the_point(dtype: Any) -> None:
    register(parabola, derivative=lambda x: np.float64(2) * x + 2)
    assert type(derivative(parabola, dtype(3), backend=BACKEND)) is dtype


def test_nothing_in_and_nothing_out() -> None:
    register(np.sum, gradient=np.ones_like)
    assert gradient(np.sum, np.ones(0), backend=BACKEND).shape == (0,)
    register(lambda_constant := (lambda x: 1.0), gradient=lambda x: {})
    assert gradient(lambda_constant, {}, backend=BACKEND) == {}


def test_a_prepared_derivative_may_be_called_at_other_points_and_counts_calls_of_f() -> None:
    register(parabola, derivative=lambda x: 2 * x + 2)
    prepared = prepare(parabola, 0.0, backend=BACKEND)
    assert prepared.gradient(1.0) == 4
    assert prepared.gradient(2.0) == 6
    assert prepared.cost.evaluations == 2
    assert prepared.value(2.0) == 9


# ------------------------------------------------------------------ refusals


def test_an_unknown_function_is_refused_with_the_way_to_register_it() -> None:
    def cube(x: Any) -> Any:
        return x**3

    says = r"known for cube; .* dk\.register\(f, derivative=\.\.\.\)"
    with pytest.raises(NoClosedForm, match=says):
        derivative(cube, 1.0, backend=BACKEND)


@pytest.mark.parametrize("wrt", [1, (0, 1), (0,)])
def test_another_argument_than_the_first_is_refused(wrt: Any) -> None:
    register(bowl, gradient=bowl_gradient)
    with pytest.raises(NoClosedForm, match="first argument"):
        gradient(bowl, X, 2.0, wrt=wrt, backend=BACKEND)


def test_a_derivative_by_a_number_says_nothing_of_arrays() -> None:
    """f(x)[i] may depend on any x[j]; taking it for elementwise would be a guess."""
    register(parabola, derivative=lambda x: 2 * x + 2)
    for operator in (jacobian, lambda *a, **k: jvp(*a, np.ones(2), **k)):
        with pytest.raises(NoClosedForm, match=r"jacobian="):
            operator(parabola, np.ones(2), backend=BACKEND)


@pytest.mark.parametrize(
    ("form", "message"),
    [
        (lambda x, s: {"a": np.zeros(3), "b": 1.0}, r"gradient= form of bowl.*\(3,\).*a.*\(2,\)"),
        (lambda x, s: {"a": np.zeros(2)}, "gradient= form of bowl.*nested differently"),
        (lambda x, s: np.zeros(3), "gradient= form of bowl.*nested differently"),
        (lambda x, s: None, "gradient= form of bowl: .* returned None"),
        (lambda x, s: {"a": np.zeros(2), "b": "1"}, "gradient= form of bowl.*str"),
        (lambda x, s: {"a": np.zeros(2), "b": 1j}, "gradient= form of bowl.*complex"),
    ],
)
def test_a_form_of_the_wrong_structure_is_refused(form: Any, message: str) -> None:
    register(bowl, gradient=form)
    with pytest.raises(InvalidOutput, match=message):
        gradient(bowl, X, 2.0, backend=BACKEND)


@pytest.mark.parametrize("keyword", ["derivative", "gradient", "jacobian", "hessian"])
def test_each_form_is_named_when_its_shape_is_wrong(keyword: str) -> None:
    register(parabola, **{keyword: lambda x: np.zeros(2)})
    operator = hessian if keyword == "hessian" else gradient
    with pytest.raises(InvalidOutput, match=rf"{keyword}= form of parabola .*\(2,\).*\(\)"):
        operator(parabola, 3.0, backend=BACKEND)


def test_a_gradient_for_a_function_of_several_values_is_refused() -> None:
    register(polar, gradient=lambda p: p)
    for operator in (gradient, jacobian):
        with pytest.raises(InvalidOutput, match="must return one number"):
            operator(polar, np.ones(2), backend=BACKEND)


def test_derivatives_that_are_not_finite_are_named_without_a_warning() -> None:
    with pytest.raises(NonFiniteDerivative, match=r"x\[1\]"):
        vjp(np.log, np.array([1.0, 5e-324]), np.ones(2), backend=BACKEND)


def test_errors_of_the_form_itself_pass_through() -> None:
    def broken(x: Any) -> Any:
        raise KeyError("mine")

    register(parabola, derivative=broken)
    with pytest.raises(KeyError, match="mine"):
        derivative(parabola, 1.0, backend=BACKEND)


def test_a_form_cannot_change_the_point_or_the_data() -> None:
    def spoil(x: Any, y: Any) -> Any:
        x *= 0
        return x

    register(lambda_sum := (lambda x, y: np.sum(x * y)), gradient=spoil)
    x, y = np.ones(3), np.ones(3)
    gradient(lambda_sum, x, y, backend=BACKEND)
    np.testing.assert_array_equal(x, 1)

    def spoil_data(x: Any, y: Any) -> Any:
        y *= 0
        return y

    register(lambda_sum, gradient=spoil_data)
    with pytest.raises(InvalidInput, match="data"):
        gradient(lambda_sum, x, y, backend=BACKEND)


# ------------------------------------------------------------------ shipped: NumPy's functions

MPMATH: dict[Any, Callable[[Any], Any]] = {
    np.positive: lambda x: x,
    np.negative: lambda x: -x,
    np.square: lambda x: x**2,
    np.sqrt: mpmath.sqrt,
    np.cbrt: lambda x: mpmath.sign(x) * abs(x) ** (mpmath.mpf(1) / 3),
    np.reciprocal: lambda x: 1 / x,
    np.exp: mpmath.exp,
    np.exp2: lambda x: mpmath.mpf(2) ** x,
    np.expm1: mpmath.expm1,
    np.log: mpmath.log,
    np.log2: lambda x: mpmath.log(x, 2),
    np.log10: mpmath.log10,
    np.log1p: mpmath.log1p,
    np.sin: mpmath.sin,
    np.cos: mpmath.cos,
    np.tan: mpmath.tan,
    np.arcsin: mpmath.asin,
    np.arccos: mpmath.acos,
    np.arctan: mpmath.atan,
    np.sinh: mpmath.sinh,
    np.cosh: mpmath.cosh,
    np.tanh: mpmath.tanh,
    np.arcsinh: mpmath.asinh,
    np.arccosh: mpmath.acosh,
    np.arctanh: mpmath.atanh,
    np.absolute: abs,
    np.fabs: abs,
    np.deg2rad: lambda x: x * mpmath.pi / 180,
    np.rad2deg: lambda x: x * 180 / mpmath.pi,
    np.radians: lambda x: x * mpmath.pi / 180,
    np.degrees: lambda x: x * 180 / mpmath.pi,
}
POSITIVE = {np.sqrt, np.log, np.log2, np.log10}


def domain(f: Any) -> list[float]:
    if f is np.arccosh:
        return [1.25, 3.0, 40.0]
    if f in POSITIVE:
        return [1e-3, 0.7, 90.0]
    if f in {np.arcsin, np.arccos, np.arctanh}:
        return [-0.999, 0.3, 0.9]
    if f is np.log1p:
        return [-0.9, 1e-9, 8.0]
    return [-2.5, -0.25, 0.5, 8.0]


def test_every_elementary_function_has_a_reference() -> None:
    assert set(MPMATH) == set(ELEMENTARY)


@pytest.mark.parametrize("f", MPMATH, ids=lambda f: f.__name__)
@pytest.mark.parametrize("order", [1, 2])
def test_elementary_functions_to_a_few_ulps(f: Any, order: int) -> None:
    for x in domain(f):
        with mpmath.workdps(60):
            want = float(mpmath.diff(MPMATH[f], mpmath.mpf(x), order))
        got = derivative(f, x, order=order, backend=BACKEND)
        np.testing.assert_allclose(got, want, rtol=2e-15, atol=1e-30)


@pytest.mark.parametrize("f", ELEMENTARY, ids=lambda f: f.__name__)
@pytest.mark.parametrize("shape", [(), (0,), (1,), (2, 3)])
def test_elementary_functions_of_arrays_are_differentiated_entry_by_entry(
    f: Any, shape: tuple[int, ...]
) -> None:
    x = np.resize(np.array(domain(f), np.float32), shape)
    v = np.resize(np.array([0.5, -2.0], np.float32), shape)
    slope = np.reshape([derivative(f, t, backend=BACKEND) for t in x.flat], shape)
    slope = slope.astype(np.float32)
    for product in (jvp, vjp):
        got = product(f, x, v, backend=BACKEND)
        assert got.shape == shape
        assert got.dtype == np.float32
        np.testing.assert_array_equal(got, slope * v)
    full = jacobian(f, x, backend=BACKEND)
    assert full.shape == shape + shape
    np.testing.assert_array_equal(full.reshape(x.size, x.size), np.diag(slope.ravel()))


def test_an_elementwise_function_of_an_array_has_no_gradient() -> None:
    for operator in (gradient, hessian):
        with pytest.raises(InvalidOutput, match="one number"):
            operator(np.sin, np.ones(2), backend=BACKEND)


# ------------------------------------------------------------------ shipped: networks, problems


@pytest.mark.parametrize("phi", [TANH, SIGMOID, RELU], ids=str)
def test_activations_are_known_as_objects_and_as_functions(phi: Any) -> None:
    for f in (phi, phi.function):
        assert derivative(f, 0.75, backend=BACKEND) == phi.derivative(0.75)
        assert derivative(f, 0.75, order=2, backend=BACKEND) == phi.second(0.75)


def test_softmax_is_known() -> None:
    np.testing.assert_allclose(
        jvp(softmax, np.zeros(2), np.array([1.0, 0.0]), backend=BACKEND), [0.25, -0.25]
    )


@pytest.mark.parametrize("loss", LOSSES.values(), ids=str)
def test_losses_are_known_as_objects_and_as_functions(loss: Any) -> None:
    outputs, targets = np.array([[1.0, 2.0]]), np.array([[1.0, 1.0]])
    for f in (loss, loss.function):
        np.testing.assert_array_equal(
            gradient(f, outputs, targets, backend=BACKEND), loss.gradient(outputs, targets)
        )


def test_the_loss_of_a_network_is_found_by_owner_and_function() -> None:
    case = network("iris-mlp")
    value, got = value_and_gradient(case.loss, case.parameters, *case.data, backend="analytic")
    assert value == case.loss(case.parameters, *case.data)
    assert flatten(got)[0] == flatten(case.parameters)[0]
    other = fully_connected((4, 2, 3), SOFTMAX_CROSS_ENTROPY, RELU)
    data = iris()
    small = gradient(other.loss, other.initial(0, np.float32), data.X, data.y, backend=BACKEND)
    assert small["layer1"]["W"].dtype == np.float32


def test_the_gradient_comes_in_the_order_of_the_parameters() -> None:
    net = fully_connected((2, 2, 1), MEAN_SQUARED_ERROR, TANH)
    p = net.initial(1)
    turned = {name: dict(reversed(p[name].items())) for name in reversed(p)}
    got = gradient(net.loss, turned, np.ones((3, 2)), np.ones((3, 1)), backend=BACKEND)
    assert flatten(got)[0] == flatten(turned)[0]


def test_what_is_not_a_plain_network_is_not_taken_for_one() -> None:
    @dataclass(frozen=True)
    class Doubled(Network):
        def predict(self, parameters: Any, X: Any) -> Any:
            return 2 * super().predict(parameters, X)

    @dataclass(frozen=True)
    class Scaled(Dense):
        def preactivation(self, parameters: Any, x: Any) -> Any:
            return 3 * super().preactivation(parameters, x)

    plain = fully_connected((2, 1), MEAN_SQUARED_ERROR, TANH)
    others = [
        Doubled(plain.layers, plain.criterion).loss,
        Network((Scaled(2, 1),), MEAN_SQUARED_ERROR).loss,
    ]
    for f in others:
        with pytest.raises(NoClosedForm):
            gradient(f, plain.initial(), np.ones((1, 2)), np.ones((1, 1)), backend=BACKEND)
    with pytest.raises(NoClosedForm, match=r"Network\.predict"):
        jacobian(plain.predict, plain.initial(), np.ones((1, 2)), backend=BACKEND)


@pytest.mark.parametrize("name", sorted(PROBLEMS))
def test_every_problem_has_its_closed_form(name: str) -> None:
    p = PROBLEMS[name]
    got = jacobian(p.f, *p.arguments, backend=BACKEND)
    form: Any = p.gradient or p.jacobian or p.derivatives[0]
    for a, b in zip(flatten(got)[1], flatten(form(*p.arguments))[1], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-15)
    if p.hessian:
        np.testing.assert_array_equal(
            hessian(p.f, *p.arguments, backend=BACKEND), p.hessian(*p.arguments)
        )


def test_corrupting_a_shipped_form_changes_what_the_backend_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table: Any = next(t for t in TABLES if np.exp in t)
    assert derivative(np.exp, 0.0, backend=BACKEND) == 1
    monkeypatch.setitem(table, np.exp, table[np.sin])
    assert derivative(np.exp, pi, backend=BACKEND) == -1


def test_a_point_is_checked_as_by_every_backend() -> None:
    for x in (np.nan, 1j, "1", None):
        with pytest.raises(DiffkitError):
            derivative(np.sin, x, backend=BACKEND)


# ------------------------------------------------------------------ within other derivatives


@pytest.mark.parametrize("name", sorted(n for n, p in PROBLEMS.items() if p.derivatives))
def test_a_derivative_in_closed_form_can_be_differentiated_again(name: str) -> None:
    p = PROBLEMS[name]

    def first(x: Any, *data: Any) -> Any:
        return derivative(p.f, x, *data, backend="analytic")

    got = derivative(first, *p.arguments, backend="tape")
    np.testing.assert_allclose(got, p.derivatives[1](*p.arguments), rtol=1e-13)


@pytest.mark.parametrize("name", sorted(n for n, p in PROBLEMS.items() if p.hessian))
def test_a_gradient_in_closed_form_can_be_differentiated_again(name: str) -> None:
    p = PROBLEMS[name]
    assert p.hessian is not None

    def first(x: Any, *data: Any) -> Any:
        return gradient(p.f, x, *data, backend="analytic")

    want = p.hessian(*p.arguments)
    got = jacobian(first, *p.arguments, backend="tape")
    np.testing.assert_allclose(got, want, rtol=1e-13, atol=1e-13 * np.abs(want).max())


def test_backpropagation_can_be_differentiated_again() -> None:
    """d/dt of the gradient along v, against a central difference of the closed form itself."""
    case = network("mazur")
    layout, leaves = flatten(case.parameters)
    v = np.linspace(-1, 1, layout.size)

    def gradient_at(t: Any) -> Any:
        moved = [a + t * d for a, d in zip(leaves, layout.unravel(v), strict=True)]
        found = gradient(case.loss, layout.unflatten(moved), *case.data, backend="analytic")
        return found["layer1"]["W"]

    got = derivative(gradient_at, 0.0, backend="tape")
    np.testing.assert_allclose(got, (gradient_at(1e-5) - gradient_at(-1e-5)) / 2e-5, rtol=1e-7)
