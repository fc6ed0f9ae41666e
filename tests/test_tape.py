"""The tape: programs and guards, nesting, broadcasting, chains."""

from __future__ import annotations

import copy
import functools
import pickle
import sys
import threading
import types
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import diffkit as dk
from diffkit.errors import InvalidInput, NonFiniteDerivative, UnsupportedOperation
from diffkit.tracing.refusals import running


def test_a_prepared_branch_follows_the_point() -> None:
    prepared = dk.prepare(lambda x: x**2 if x > 0 else -3 * x, 1.0)
    assert [float(prepared.derivative(x)) for x in (1.0, -1.0, 2.0, -4.0, 3.0)] == [
        2.0,
        -3.0,
        4.0,
        -3.0,
        6.0,
    ]


def test_a_prepared_function_handles_a_singular_matrix_where_it_occurs() -> None:
    b = np.array([3.0, 4.0])

    def f(x):
        try:
            return np.linalg.solve(np.diag(x), b) @ x[::-1]
        except np.linalg.LinAlgError:
            return np.sum(x**3)

    regular, singular = np.array([1.0, 2.0]), np.array([0.0, 2.0])
    slopes = {1.0: [-6.0 + 2.0, 3.0 - 1.0], 0.0: [0.0, 12.0]}
    for first in (regular, singular):
        prepared = dk.prepare(f, first)
        for x in [regular, singular] * 4:
            np.testing.assert_allclose(prepared.gradient(x), slopes[x[0]], rtol=1e-12)
            prepared.hvp(x, b)


def careful(x: Any) -> Any:
    """The sum of e^x where that can be computed, else 2 sum x."""
    try:
        return np.sum(np.exp(x))
    except FloatingPointError:
        return 2 * np.sum(x)


def test_a_prepared_function_handles_errors_of_arithmetic_where_they_occur() -> None:
    modes = {"over": "raise"}

    def literally(x: Any) -> Any:
        with np.errstate(over="raise"):
            return careful(x)

    def indirectly(x: Any) -> Any:
        with np.errstate(**modes):
            return careful(x)

    moderate, large = np.array([1.0, 2.0]), np.array([1000.0, 2.0])
    for f in (literally, indirectly):
        for first in (moderate, large):
            prepared = dk.prepare(f, first)
            for _ in range(4):
                for derive in (prepared.gradient, functools.partial(dk.gradient, f)):
                    np.testing.assert_allclose(derive(moderate), np.exp(moderate), rtol=1e-14)
                    assert derive(large).tolist() == [2.0, 2.0]


def test_a_function_that_silences_numpy_is_recorded_once() -> None:
    def f(x: Any) -> Any:
        with np.errstate(divide="ignore"):
            return np.sum(np.where(x > 0, np.log(x), x))

    prepared = dk.prepare(f, np.array([0.0, 2.0]))
    graph = prepared.graph
    assert prepared.gradient(np.array([-1.0, 4.0])).tolist() == [1.0, 0.25]
    assert prepared.graph is graph


@pytest.mark.filterwarnings("ignore::diffkit.errors.KinkWarning")
def test_a_prepared_loop_runs_as_often_as_it_must() -> None:
    def halve(x):
        while x > 1:
            x = x / 2
        return x

    prepared = dk.prepare(halve, 8.0)
    for x, slope in ((8.0, 1 / 8), (3.0, 1 / 4), (0.5, 1.0), (9.0, 1 / 16)):
        assert prepared.derivative(x) == slope


@pytest.mark.filterwarnings("ignore::diffkit.errors.KinkWarning")
def test_prepared_orders_and_ties_are_seen_again() -> None:
    prepared = dk.prepare(lambda x: np.sort(x) @ np.array([1.0, 10.0, 100.0]), np.arange(3.0))
    assert np.array_equal(prepared.gradient(np.array([3.0, 1.0, 2.0])), [100.0, 1.0, 10.0])
    largest = dk.prepare(lambda x: x[np.argmax(x)] ** 2, np.array([1.0, 2.0]))
    assert np.array_equal(largest.gradient(np.array([3.0, 2.0])), [6.0, 0.0])
    assert np.array_equal(largest.gradient(np.array([2.0, 2.0])), [2.0, 2.0])


def test_prepared_at_one_size_and_called_at_another() -> None:
    prepared = dk.prepare(lambda x: np.sum(x**2), np.ones(3))
    assert np.array_equal(prepared.gradient(np.ones(5)), np.full(5, 2.0))
    assert prepared.gradient(np.ones(2, np.float32)).dtype == np.float32


def test_data_change_between_calls() -> None:
    def loss(w, X, y, kind, power):
        error = X @ w - y
        return np.mean(error**power) if kind == "mean" else np.sum(error**power)

    rng = np.random.default_rng(0)
    w, X, y = rng.normal(size=3), rng.normal(size=(4, 3)), rng.normal(size=4)
    prepared = dk.prepare(loss, w, X, y, "sum", 2)
    for rows, kind, power in ((4, "sum", 2), (4, "mean", 2), (2, "sum", 2), (4, "sum", 4)):
        Xr, yr = rng.normal(size=(rows, 3)), rng.normal(size=rows)
        e = Xr @ w - yr
        expected = power * e ** (power - 1) @ Xr / (rows if kind == "mean" else 1)
        np.testing.assert_allclose(prepared.gradient(w, Xr, yr, kind, power), expected, rtol=1e-12)


FACTOR = 2.0


def test_globals_and_closures_are_checked_by_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    scale = 3.0

    def f(x):
        return FACTOR * scale * x

    prepared = dk.prepare(f, 1.0)
    assert prepared.derivative(1.0) == 6.0
    scale = 5.0
    assert prepared.derivative(1.0) == 10.0
    monkeypatch.setitem(globals(), "FACTOR", 7.0)
    assert prepared.derivative(1.0) == 35.0


def test_a_bounded_number_of_programs_is_kept() -> None:
    prepared = dk.prepare(lambda x: x * int(x), 1.0, backend=dk.Tape(programs=2))
    for n in range(1, 6):
        assert prepared.derivative(n + 0.5) == n
    with pytest.raises(InvalidInput, match="at least 1"):
        dk.Tape(programs=0)


def test_derivatives_nest_to_any_order() -> None:
    def f(x):
        return np.exp(2 * x) * np.sin(x)

    # The derivatives of e^{2x} sin x are 5^{n/2} e^{2x} sin(x + n atan(1/2)).
    for order in range(1, 6):
        expected = 5 ** (order / 2) * np.exp(0.6) * np.sin(0.3 + order * np.arctan(0.5))
        assert dk.derivative(f, 0.3, order=order) == pytest.approx(expected, rel=1e-12)


def test_no_perturbation_confusion() -> None:
    assert dk.derivative(lambda x: x * dk.derivative(lambda y: x + y, 1.0), 1.0) == 1.0
    assert dk.derivative(
        lambda x: dk.derivative(lambda y: x * dk.derivative(lambda z: x * y * z, y), x), 2.0
    ) == pytest.approx(4.0)


@pytest.mark.parametrize("outer", ["gradient", "jvp", "vjp", "hvp"])
@pytest.mark.parametrize("inner", ["gradient", "jvp", "vjp", "hvp"])
def test_every_pairing_of_operators_nests(outer: str, inner: str) -> None:
    a = np.array([0.5, -0.25, 1.0])
    v = np.array([1.0, 2.0, -1.0])

    def f(x):
        return np.sum(x**4)

    inner_value = {
        "gradient": lambda x: np.sum(dk.gradient(f, x) * a),
        "jvp": lambda x: dk.jvp(f, x, a),
        "vjp": lambda x: np.sum(dk.vjp(lambda y: y**4, x, a)),
        "hvp": lambda x: np.sum(dk.hvp(f, x, a)),
    }[inner]
    power, factor = (2, 12.0) if inner == "hvp" else (3, 4.0)
    x = np.array([1.0, 2.0, 3.0])
    gradient = factor * power * x ** (power - 1) * a
    hessian = np.diag(factor * power * (power - 1) * x ** (power - 2) * a)
    result, expected = {
        "gradient": lambda: (dk.gradient(inner_value, x), gradient),
        "jvp": lambda: (dk.jvp(inner_value, x, v), gradient @ v),
        "vjp": lambda: (dk.vjp(inner_value, x, 2.0), 2 * gradient),
        "hvp": lambda: (dk.hvp(inner_value, x, v), hessian @ v),
    }[outer]()
    np.testing.assert_allclose(result, expected, rtol=1e-12)


def test_differentiating_through_gradient_descent() -> None:
    def minimum(c):
        x = 0.0 * c
        while np.abs(dk.derivative(lambda y: (y - c) ** 2 + 0.1 * (y - c) ** 4, x)) > 1e-10:
            x = x - 0.3 * dk.derivative(lambda y: (y - c) ** 2 + 0.1 * (y - c) ** 4, x)
        return x

    assert dk.derivative(minimum, 0.8) == pytest.approx(1.0, abs=1e-8)


def test_a_long_chain_needs_no_recursion() -> None:
    def f(x):
        for _ in range(100_000):
            x = x * 1.00001
        return x

    assert dk.derivative(f, 1.0) == pytest.approx(1.00001**100_000, rel=1e-10)


def test_broadcasting_is_undone() -> None:
    X, y = np.arange(6.0).reshape(3, 2), np.ones((1, 2))
    p = {"a": np.ones((3, 1)), "b": np.ones(2), "c": 2.0}
    gradient = dk.gradient(lambda p: np.sum((X * p["a"] + p["b"]) * y * p["c"]), p)
    assert np.array_equal(gradient["a"], 2 * X.sum(axis=1, keepdims=True))
    assert np.array_equal(gradient["b"], [6.0, 6.0])
    assert gradient["c"] == np.sum(X + 1)


def test_an_empty_write_that_broadcasts_carries_no_adjoint() -> None:
    def f(x):
        y = np.stack([x, x])
        x[1:] = y[:-1]
        return np.sum(x**2) + np.sum(y)

    assert np.array_equal(dk.gradient(f, np.array([[1.0, 2.0]])), [[4.0, 6.0]])


def test_batched_products() -> None:
    x = np.array([1.0, 2.0])
    J = dk.jacobian(lambda x: np.array([x[0] * x[1], x[0] ** 2, x[1]]), x)
    pushed = dk.jvp(lambda x: np.array([x[0] * x[1], x[0] ** 2, x[1]]), x, np.eye(2), batched=True)
    pulled = dk.vjp(lambda x: np.array([x[0] * x[1], x[0] ** 2, x[1]]), x, np.eye(3), batched=True)
    assert np.array_equal(pushed, J.T)
    assert np.array_equal(pulled, J)
    H = dk.hvp(lambda x: x[0] ** 2 * x[1], x, np.eye(2), batched=True)
    assert np.array_equal(H, [[4.0, 2.0], [2.0, 0.0]])


def test_wrt_picks_the_arguments() -> None:
    def f(a, b, c):
        return np.sum(a * b**2 * c)

    a, b, c = np.ones(2), np.full(2, 3.0), 2.0
    assert np.array_equal(dk.gradient(f, a, b, c, wrt=1), [12.0, 12.0])
    by_a, by_c = dk.gradient(f, a, b, c, wrt=(0, 2))
    assert np.array_equal(by_a, [18.0, 18.0])
    assert by_c == 18.0


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble])
def test_every_dtype_comes_back(dtype: Any) -> None:
    x = np.array([0.5, 1.5], dtype)
    gradient = dk.gradient(lambda x: np.sum(np.exp(x) * 2.0), x)
    assert gradient.dtype == dtype
    np.testing.assert_allclose(gradient, 2 * np.exp(x), rtol=4 * float(np.finfo(dtype).eps))
    assert dk.derivative(np.exp, dtype(0.5)).dtype == dtype


def test_results_do_not_alias_inputs_or_each_other() -> None:
    prepared = dk.prepare(lambda x: np.sum(x), np.ones(3))
    x = np.ones(3)
    first = prepared.gradient(x)
    first[:] = 7
    assert np.array_equal(prepared.gradient(x), np.ones(3))
    w = np.ones(3)
    pulled = dk.vjp(lambda x: x, x, w)
    pulled[:] = 5
    assert np.array_equal(w, np.ones(3))
    assert np.array_equal(x, np.ones(3))


def test_a_non_finite_derivative_carries_the_rest() -> None:
    with pytest.raises(NonFiniteDerivative, match="tape") as caught:
        dk.jacobian(lambda x: np.sqrt(x), np.array([0.0, 4.0]))
    assert caught.value.value[1, 1] == 0.25
    assert caught.value.entries == ("d f(x)[0] / d x[0]",)


def test_prepared_functions_serve_several_threads() -> None:
    prepared = dk.prepare(lambda x: np.sum(x**3) if x[0] > 0 else np.sum(x), np.ones(4))
    wrong: list[Any] = []

    def work(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(50):
            x = rng.normal(size=4)
            expected = 3 * x**2 if x[0] > 0 else np.ones(4)
            if not np.allclose(prepared.gradient(x), expected, rtol=1e-12):
                wrong.append(x)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


UNTAKEN = {
    "log": (lambda x: np.where(x > 0, np.log(np.maximum(x, 0)), 0.0), [0.0, 0.0, 0.5]),
    "sqrt": (lambda x: np.where(x > 0, np.sqrt(np.abs(x)), x), [1.0, 1.0, 2**-1.5]),
    "reciprocal": (lambda x: np.where(x == 0, 2 * x, 1 / x), [-1.0, 2.0, -0.25]),
    "relu of a power": (lambda x: np.maximum(x, 1.0) ** 0.5, [0.0, 0.0, 2**-1.5]),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["log", "sqrt", "reciprocal", "relu of a power"])
def test_an_infinite_slope_where_nothing_flows_does_no_harm(name: str) -> None:
    f, slopes = UNTAKEN[name]
    x = np.array([-1.0, 0.0, 2.0])
    np.testing.assert_allclose(dk.gradient(lambda x: np.sum(f(x)), x), slopes, rtol=1e-14)
    np.testing.assert_allclose(dk.jacobian(f, x), np.diag(slopes), rtol=1e-14)


def test_a_zero_weight_does_not_hide_an_infinite_slope() -> None:
    # sqrt(x)**2 is x, with slope 1; through sqrt the chain rule says 0 times infinity at 0.
    with pytest.raises(NonFiniteDerivative):
        dk.derivative(lambda x: np.sqrt(x) ** 2, 0.0)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("operator", ["derivative", "gradient", "jacobian", "hessian"])
def test_outside_the_domain_there_is_no_derivative(operator: str) -> None:
    with pytest.raises(NonFiniteDerivative, match="log"):
        getattr(dk, operator)(np.log, -1.0)


# ---------------------------------------------------------------------- outside state


class Model:
    """An object whose attributes the function reads."""

    offset = 0.0
    __slots__ = ("__dict__", "slot")

    def __init__(self) -> None:
        self.weight = 2.0
        self.slot = 1.0
        self.inner: Any = None

    @property
    def twice(self) -> float:
        return 2 * self.weight

    def __call__(self, x: Any) -> Any:
        return self.scaled(x) * self.slot + self.offset * x

    def scaled(self, x: Any) -> Any:
        return self.weight * x


def read_through(model: Any, x: Any) -> Any:
    return model.inner.weight * x


def changed_attribute() -> tuple[Any, Any, tuple[Any, ...]]:
    model = Model()
    return model, lambda: setattr(model, "weight", 5.0), ()


def changed_slot() -> tuple[Any, Any, tuple[Any, ...]]:
    model = Model()
    model.weight = 1.0
    return model, lambda: setattr(model, "slot", 5.0), ()


def shadowed_class_attribute() -> tuple[Any, Any, tuple[Any, ...]]:
    model = Model()
    return model, lambda: setattr(model, "offset", 3.0), ()


def changed_attribute_of_a_bound_method() -> tuple[Any, Any, tuple[Any, ...]]:
    model = Model()
    return model.scaled, lambda: setattr(model, "weight", 5.0), ()


def changed_attribute_behind_a_property() -> tuple[Any, Any, tuple[Any, ...]]:
    model = Model()
    return lambda x: model.twice * x, lambda: setattr(model, "weight", 2.5), ()


def changed_attribute_of_an_attribute() -> tuple[Any, Any, tuple[Any, ...]]:
    model = Model()
    model.inner = Model()
    f = functools.partial(read_through, model)
    return f, lambda: setattr(model.inner, "weight", 5.0), ()


def changed_attribute_of_a_datum() -> tuple[Any, Any, tuple[Any, ...]]:
    model = Model()
    return lambda x, m: m.scaled(x), lambda: setattr(model, "weight", 5.0), (model,)


def changed_module() -> tuple[Any, Any, tuple[Any, ...]]:
    module = types.ModuleType("settings")
    module.rate = 2.0  # type: ignore[attr-defined]
    return lambda x: module.rate * x, lambda: setattr(module, "rate", 5.0), ()


def changed_closure_of_a_datum() -> tuple[Any, Any, tuple[Any, ...]]:
    rate = 2.0

    def times(x: Any) -> Any:
        return rate * x

    def change() -> None:
        nonlocal rate
        rate = 5.0

    return lambda x, g: g(x), change, (times,)


def changed_closure_behind_functools() -> tuple[Any, Any, tuple[Any, ...]]:
    rate = 2.0

    def times(x: Any) -> Any:
        return rate * x

    @functools.wraps(times)
    def wrapped(*arguments: Any) -> Any:
        return times(*arguments)

    def change() -> None:
        nonlocal rate
        rate = 5.0

    return functools.partial(wrapped), change, ()


def changed_defaults() -> tuple[Any, Any, tuple[Any, ...]]:
    def f(x: Any, rate: float = 2.0) -> Any:
        return rate * x

    return f, lambda: setattr(f, "__defaults__", (5.0,)), ()


def changed_dict() -> tuple[Any, Any, tuple[Any, ...]]:
    settings = {"rate": 2.0}
    return lambda x: settings["rate"] * x, lambda: settings.update(rate=5.0), ()


def changed_list() -> tuple[Any, Any, tuple[Any, ...]]:
    layers = [lambda x: 2 * x]
    f = lambda x: functools.reduce(lambda y, layer: layer(y), layers, x)  # noqa: E731
    return f, lambda: layers.append(lambda x: 2.5 * x), ()


def changed_deque() -> tuple[Any, Any, tuple[Any, ...]]:
    rates = deque([2.0])
    return lambda x: rates[0] * x, lambda: rates.__setitem__(0, 5.0), ()


def refilled_array() -> tuple[Any, Any, tuple[Any, ...]]:
    rates = np.array([1.0, 1.0])
    return lambda x: np.sum(rates * x), lambda: rates.__setitem__(0, 4.0), ()


def changed_attribute_by_getattr() -> tuple[Any, Any, tuple[Any, ...]]:
    held = types.SimpleNamespace(rate=2.0)
    return lambda x: getattr(held, "rate") * x, lambda: setattr(held, "rate", 5.0), ()  # noqa: B009


def changed_attribute_by_vars() -> tuple[Any, Any, tuple[Any, ...]]:
    held = types.SimpleNamespace(rate=2.0)
    return lambda x: vars(held)["rate"] * x, lambda: setattr(held, "rate", 5.0), ()


def changed_attribute_by_dict() -> tuple[Any, Any, tuple[Any, ...]]:
    held = types.SimpleNamespace(rate=2.0)
    return lambda x: held.__dict__["rate"] * x, lambda: setattr(held, "rate", 5.0), ()


def captured_prepared_function() -> tuple[Any, Any, tuple[Any, ...]]:
    rate = 2.0
    inner = dk.prepare(lambda x: rate * x**2 / 2, 1.0)

    def change() -> None:
        nonlocal rate
        rate = 5.0

    return lambda x: inner.derivative(x), change, ()


@pytest.mark.parametrize(
    "case",
    [
        changed_attribute, changed_slot, shadowed_class_attribute,
        changed_attribute_of_a_bound_method, changed_attribute_behind_a_property,
        changed_attribute_of_an_attribute, changed_attribute_of_a_datum, changed_module,
        changed_closure_of_a_datum, changed_closure_behind_functools, changed_defaults,
        changed_dict, changed_list, changed_deque, refilled_array, captured_prepared_function,
        changed_attribute_by_getattr, changed_attribute_by_vars, changed_attribute_by_dict,
    ],
    ids=lambda case: case.__name__,
)  # fmt: skip
@pytest.mark.parametrize("calls", range(1, 7))  # after some, a quick check is made of them
def test_a_change_outside_is_seen_at_the_next_call(case: Any, calls: int) -> None:
    f, change, data = case()
    prepared = dk.prepare(f, 1.0, *data)
    before = [prepared.derivative(1.0, *data) for _ in range(calls)][-1]
    change()
    assert before in (1.0, 2.0, 4.0)
    assert prepared.derivative(1.0, *data) == 5.0


def test_a_change_outside_is_seen_by_second_derivatives(monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = dk.prepare(functools.partial(lambda a, x: FACTOR * a * x**2, 0.5), 1.0)
    assert prepared.hvp(1.0, 1.0) == prepared.hessian(1.0) == 2.0
    monkeypatch.setitem(globals(), "FACTOR", 7.0)
    assert prepared.hvp(1.0, 1.0) == prepared.hessian(1.0) == 7.0


def test_what_stays_the_same_outside_costs_no_new_recording() -> None:
    recorded: list[Any] = []  # changed by the function itself, and so no reason to record again
    rates = np.array([1.0, 2.0])

    def f(x, d):
        recorded.append(1)
        return np.sum(x**2 * rates * d)

    d = np.ones(2)
    prepared = dk.prepare(f, np.ones(2), d)
    calls = len(recorded)
    for i in range(5):
        d[:] = i  # data may be refilled
        assert np.array_equal(prepared.gradient(np.ones(2), d), 2 * rates * i)
    assert len(recorded) == calls


# ---------------------------------------------------------------------- memory and threads


def test_the_point_may_be_refilled_between_calls() -> None:
    x = np.ones(3)
    prepared = dk.prepare(lambda x: np.sum(x**2), x)
    x[:] = 5.0
    assert np.array_equal(prepared.gradient(x), [10.0, 10.0, 10.0])


def test_the_order_in_memory_is_part_of_the_point() -> None:
    def f(x):
        x.ravel()[0] = 5.0  # a copy of a Fortran-ordered array, a view of another
        return np.sum(x**2)

    c, fortran = np.ones((2, 2)), np.asfortranarray(np.ones((2, 2)))
    prepared = dk.prepare(f, c)
    assert np.array_equal(prepared.gradient(c), [[0.0, 2.0], [2.0, 2.0]])
    assert np.array_equal(prepared.gradient(fortran), [[2.0, 2.0], [2.0, 2.0]])


def test_data_tell_signed_zeros_and_nan_apart() -> None:
    prepared = dk.prepare(lambda x, d: x * float(np.copysign(1.0, d)), 1.0, 0.0)
    assert prepared.derivative(1.0, -0.0) == -1.0
    asks = dk.prepare(lambda x, d: x * (2.0 if np.isnan(d) else 3.0), 1.0, np.nan)
    assert [asks.derivative(1.0, d) for d in (np.nan, 1.0, np.nan)] == [2.0, 3.0, 2.0]


def test_threads_share_a_prepared_function_with_few_programs() -> None:
    prepared = dk.prepare(lambda x: x * int(x), 1.0, backend=dk.Tape(programs=2))
    wrong: list[Any] = []

    def work(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for n in rng.integers(1, 6, size=100):
            try:
                if prepared.derivative(n + 0.5) != n:
                    wrong.append(n)
            except Exception as error:
                wrong.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert not wrong


def test_a_function_may_use_threads_of_its_own() -> None:
    def f(x):
        with ThreadPoolExecutor(4) as pool:
            return sum(pool.map(lambda t: np.sin(t) * sum(t * j for j in range(30)), x))

    x = np.linspace(0.0, 1.0, 8)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        gradient = dk.gradient(f, x)
    finally:
        sys.setswitchinterval(interval)
    np.testing.assert_allclose(gradient, 435 * (np.cos(x) * x + np.sin(x)), rtol=1e-12)


def test_a_derivative_taken_in_a_thread_of_the_function() -> None:
    def f(x):
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(dk.derivative, lambda y: x * y * y, x).result()

    assert dk.derivative(f, 3.0) == 12.0  # of 2 x^2


def cubes(x: Any) -> Any:
    return np.sum(x**3)


def test_a_prepared_function_can_be_pickled_and_copied() -> None:
    x = np.array([1.0, 2.0])
    prepared = dk.prepare(cubes, x)
    prepared.hvp(x, x)
    for other in (pickle.loads(pickle.dumps(prepared)), copy.deepcopy(prepared)):
        assert np.array_equal(other.gradient(x), 3 * x**2)
        assert np.array_equal(other.hvp(x, x), 6 * x**2)


def test_an_exception_leaves_no_trace_running() -> None:
    for f in (
        lambda x: 1 / 0,
        lambda x: np.sum(np.real(np.linalg.eig(x)[0])),
        lambda x: dk.gradient(lambda y: 1 / 0, x),
    ):
        with pytest.raises((ZeroDivisionError, UnsupportedOperation)):
            dk.gradient(f, np.eye(2))
    assert not running()


def test_a_zero_dimensional_result_has_one_structure_with_every_backend() -> None:
    def f(x):
        return np.where(x > 0, x * x, 0 * x)

    for backend in ("finite", "symbolic", "tape"):
        derivative = dk.derivative(f, 1.5, backend=backend)
        assert derivative == pytest.approx(3.0)
        assert type(derivative) is type(f(1.5))


@pytest.mark.filterwarnings("ignore::diffkit.errors.KinkWarning")
@pytest.mark.parametrize("operator", ["gradient", "jacobian", "hessian", "jvp", "vjp", "hvp"])
def test_what_was_dropped_at_one_point_flows_at_another(operator: str) -> None:
    """Recorded where a slope is infinite but dropped, used where it is finite and counts."""

    def f(x: Any) -> Any:
        return np.sum(np.where(x > 0, np.sqrt(np.abs(x)), x))

    there, here = np.array([0.0, 2.0]), np.array([3.0, 2.0])
    extra = {"jvp": (np.ones(2),), "hvp": (np.ones(2),), "vjp": (2.0,)}.get(operator, ())
    for first, then in ((there, here), (here, there)):
        prepared = getattr(dk.prepare(f, first), operator)
        for _ in range(3):
            prepared(first, *extra)
        expected = getattr(dk, operator)(f, then, *extra)
        np.testing.assert_allclose(prepared(then, *extra), expected, rtol=1e-14)
    slope = {"gradient": 0.5 / np.sqrt(3), "hessian": -0.25 * 3**-1.5}.get(operator)
    if slope is not None:
        result = getattr(dk, operator)(f, here)
        assert result.flat[0] == pytest.approx(slope, rel=1e-14)


@pytest.mark.parametrize("operator", ["derivative", "gradient", "jacobian", "hessian"])
def test_a_prepared_function_inside_another_brings_its_guards_along(operator: str) -> None:
    def cube_or_line(y: Any) -> Any:
        return y**3 if y > 0 else -5 * y

    inner = dk.prepare(cube_or_line, 1.0)
    for _ in range(3):
        getattr(inner, operator)(1.0)
    power = 1 if operator == "hessian" else 2
    factor = 6.0 if operator == "hessian" else 3.0
    outer = dk.prepare(lambda x: getattr(inner, operator)(x) * x, 1.0)
    for x in (1.0, 2.0, -1.0, 3.0, -2.0):
        right = factor * (power + 1) * x**power if x > 0 else 0.0 if power == 1 else -5.0
        assert outer.gradient(x) == pytest.approx(right, rel=1e-14)


# ---------------------------------------------------------------------- how far rounding goes


@pytest.mark.parametrize(
    ("f", "x", "exact"),
    [
        (lambda x: np.sin(x) / x, 1e-5, -3.3333333333e-6),
        (lambda x: (1 - np.cos(x)) / x**2, 0.01, -8.3332777779e-4),
        (lambda x: np.polyval([1.0, -6.0, 15.0, -20.0, 15.0, -6.0, 1.0], x), 0.99, -6e-10),
    ],
    ids=["sin(x)/x", "(1 - cos(x))/x^2", "(x - 1)^6 multiplied out"],
)
def test_an_estimate_tells_what_cancellation_took(f, x, exact):
    estimate = dk.prepare(f, x).estimate(x)
    assert estimate.status == {"x": "noisy"}
    assert 0 < abs(estimate.value - exact) <= estimate.error + 1e-10 * abs(exact)
    assert estimate.error <= 1e-3 * abs(exact)


def test_an_estimate_of_a_well_conditioned_derivative_is_a_few_units_in_the_last_place():
    estimate = dk.prepare(np.sin, 0.5).estimate(0.5)
    assert estimate.status == {"x": "converged"}
    assert abs(estimate.value - np.cos(0.5)) <= estimate.error <= 16 * np.finfo(float).eps


def test_an_estimate_of_a_jacobian_names_and_nests_its_entries_like_that_of_differences():
    def f(p):
        return {"square": p["w"] ** 2, "wave": np.sin(p["v"])}

    x = {"w": 2.0, "v": np.array([0.1, 0.2])}
    by_tape, by_differences = (
        dk.prepare(f, x, backend=backend).estimate(x) for backend in ("tape", "finite")
    )
    assert set(by_tape.status) == set(by_differences.status)
    assert set(by_tape.status.values()) == {"converged"}
    assert by_tape.error["wave"]["v"].shape == (2, 2)
    assert by_tape.error["square"]["w"] > 0 == by_tape.error["square"]["v"][0]


def test_adjoints_of_an_array_without_axes_are_all_added() -> None:
    """Added to, it is a number, which cannot be added to in place."""

    def f(x: Any) -> Any:
        total = np.squeeze(np.sum(np.sin(x), keepdims=True))
        return np.sum(total[np.newaxis] * x) + (total - np.sum(total))

    x = np.array([0.3, 0.7, 1.0])
    expected = np.sum(np.sin(x)) + np.cos(x) * np.sum(x)
    assert dk.gradient(f, x) == pytest.approx(expected, rel=1e-14)
