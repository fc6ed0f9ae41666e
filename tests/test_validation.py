"""`validate`: right gradients are accepted, wrong ones accused, the rest left open."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import diffkit as dk

Params = Any


# ---------------------------------------------------------------------- gradients by hand


def rosenbrock(x: Any) -> Any:
    return np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def rosenbrock_gradient(x: Any) -> Any:
    gradient = np.zeros_like(x)
    gradient[:-1] = -400 * x[:-1] * (x[1:] - x[:-1] ** 2) - 2 * (1 - x[:-1])
    gradient[1:] += 200 * (x[1:] - x[:-1] ** 2)
    return gradient


def least_squares(w: Any, X: Any, y: Any) -> Any:
    return np.mean((X @ w - y) ** 2)


def least_squares_gradient(w: Any, X: Any, y: Any) -> Any:
    return 2 * X.T @ (X @ w - y) / len(y)


def normal_equations_gradient(w: Any, X: Any, y: Any) -> Any:
    """The same, in a form that cancels where the residual is small."""
    return (2 * (X.T @ X) @ w - 2 * X.T @ y) / len(y)


def network(p: Params, X: Any, Y: Any) -> Any:
    z = np.tanh(X @ p["W1"] + p["b1"]) @ p["W2"] + p["b2"]
    z = z - np.max(z, axis=1, keepdims=True)
    return -np.mean(np.sum(Y * (z - np.log(np.sum(np.exp(z), axis=1, keepdims=True))), axis=1))


def network_gradient(p: Params, X: Any, Y: Any) -> Any:
    h = np.tanh(X @ p["W1"] + p["b1"])
    z = h @ p["W2"] + p["b2"]
    e = np.exp(z - z.max(axis=1, keepdims=True))
    dz = (e / e.sum(axis=1, keepdims=True) - Y) / len(X)
    dh = (dz @ p["W2"].T) * (1 - h**2)
    return {"W1": X.T @ dh, "b1": dh.sum(axis=0), "W2": h.T @ dz, "b2": dz.sum(axis=0)}


def sigmoid_of_sum(x: Any) -> Any:
    return 1 / (1 + np.exp(-np.sum(x)))


def sigmoid_of_sum_gradient(x: Any) -> Any:
    s = sigmoid_of_sum(x)
    return s * (1 - s) * np.ones_like(x)


def log_sum_exp(x: Any) -> Any:
    return np.log(np.sum(np.exp(x)))


def softmax(x: Any) -> Any:
    e = np.exp(x - np.max(x))
    return e / np.sum(e)


def random(*shape: int, dtype: Any = np.float64, seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def network_case(dtype: Any = np.float64) -> tuple[Params, Any, Any]:
    params = {
        "W1": random(4, 5, dtype=dtype, seed=1),
        "b1": random(5, dtype=dtype, seed=2),
        "W2": random(5, 3, dtype=dtype, seed=3),
        "b2": random(3, dtype=dtype, seed=4),
    }
    labels = np.arange(12) % 3
    return params, random(12, 4, dtype=dtype, seed=5), np.eye(3, dtype=dtype)[labels]


def fitted_line(dtype: Any = np.float64) -> tuple[Any, Any, Any]:
    """Least squares at its minimum, to rounding: every entry of the gradient cancels."""
    X = random(40, 3, dtype=dtype, seed=6)
    w = np.array([0.7, -1.3, 2.9], dtype)
    return w + dtype(1e-3), X, X @ w


RIGHT: list[tuple[str, Any, Any, tuple[Any, ...]]] = [
    ("rosenbrock", rosenbrock, rosenbrock_gradient, (random(10),)),
    ("rosenbrock, float32", rosenbrock, rosenbrock_gradient, (random(10, dtype=np.float32),)),
    ("least squares", least_squares, least_squares_gradient,
     (random(3), random(40, 3, seed=1), random(40, seed=2))),
    ("near the minimum", least_squares, least_squares_gradient, fitted_line()),
    ("near the minimum, cancelling", least_squares, normal_equations_gradient, fitted_line()),
    ("near the minimum, float32", least_squares, normal_equations_gradient,
     fitted_line(np.float32)),
    ("network", network, network_gradient, network_case()),
    ("network, float32", network, network_gradient, network_case(np.float32)),
    ("saturated sigmoid", sigmoid_of_sum, sigmoid_of_sum_gradient, (np.array([9.3, 11.1]),)),
    ("saturated sigmoid, far out", sigmoid_of_sum, sigmoid_of_sum_gradient,
     (np.array([15.3, 17]),)),
    ("saturated tanh, float32", lambda x: np.sum(np.tanh(x)), lambda x: 1 - np.tanh(x) ** 2,
     (np.array([14.3, -0.2, -9.0], np.float32),)),
    ("saturated tanh", lambda x: np.sum(np.tanh(x)), lambda x: 1 - np.tanh(x) ** 2,
     (np.array([14.3, -0.2, -9.0]),)),
    ("log-sum-exp", log_sum_exp, softmax, (np.array([0.3, -30.2, 12.5, 12.6]),)),
    ("a scalar", lambda x: x**3, lambda x: 3 * x**2, (1.7,)),
    ("half precision", lambda x: np.sum(np.sin(x)), np.cos, (random(6, dtype=np.float16),)),
    ("extended precision", rosenbrock, rosenbrock_gradient, (random(4, dtype=np.longdouble),)),
    ("zero", lambda x: np.sum(x**2), lambda x: 2 * x, (np.zeros(3),)),
    ("no derivative at all", lambda x: np.sum(np.sign(x)), np.zeros_like, (random(3),)),
]  # fmt: skip


@pytest.mark.filterwarnings("ignore::diffkit.errors.StepWarning")
@pytest.mark.parametrize(("loss", "gradient", "arguments"), [case[1:] for case in RIGHT],
                         ids=[case[0] for case in RIGHT])  # fmt: skip
def test_a_right_gradient_agrees(loss: Any, gradient: Any, arguments: Any) -> None:
    verdict = dk.validate(loss, arguments[0], gradient, *arguments[1:])
    assert verdict.verdict == "agree", str(verdict)
    as_array = dk.validate(loss, arguments[0], gradient(*arguments), *arguments[1:])
    assert as_array == verdict


@pytest.mark.parametrize("relative", [1e-3, 1e-5, -1e-5, 1e-9])
@pytest.mark.parametrize("entry", range(0, 44, 7))
def test_one_entry_off_is_found_by_name(entry: int, relative: float) -> None:
    params, X, Y = network_case()
    gradient = network_gradient(params, X, Y)
    names = [
        f"{leaf}[{', '.join(map(str, i))}]"
        for leaf in ("W1", "b1", "W2", "b2")
        for i in np.ndindex(gradient[leaf].shape)
    ]
    leaf, index = names[entry].split("[")
    position = tuple(int(i) for i in index[:-1].split(","))
    gradient[leaf][position] *= 1 + relative
    verdict = dk.validate(network, params, gradient, X, Y)
    assert verdict.verdict == "disagree"
    assert verdict.worst == names[entry]
    assert [v.name for v in verdict.leaves if v.verdict == "disagree"] == [leaf]


@given(
    x=st.lists(st.floats(-3, 3), min_size=3, max_size=6),
    mistake=st.sampled_from(["sign", "double", "drop", "1e-5"]),
    position=st.integers(0, 2),
)
def test_right_is_right_and_wrong_is_wrong_anywhere(
    x: list[float], mistake: str, position: int
) -> None:
    point = np.array(x)

    def loss(x: Any) -> Any:
        return np.sum(np.exp(x) * np.cos(x)) + np.sum(x) ** 2

    right = np.exp(point) * (np.cos(point) - np.sin(point)) + 2 * np.sum(point)
    assert dk.validate(loss, point, right).verdict == "agree"
    wrong = right.copy()
    wrong[position] *= {"sign": -1, "double": 2, "drop": 0, "1e-5": 1 + 1e-5}[mistake]
    if abs(right[position]) > 1e-6:
        assert dk.validate(loss, point, wrong).verdict == "disagree"


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda g: {k: -v for k, v in g.items()}, "sign is flipped"),
        (lambda g: {k: 12 * v for k, v in g.items()}, "12 times"),
        (lambda g: {k: v / 2 for k, v in g.items()}, "1/2 of"),
        (lambda g: {**g, "W1": 0 * g["W1"]}, "zero"),
        (lambda g: {**g, "W1": g["W1"][::-1]}, "another order"),
        (lambda g: {**g, "b1": 3.7 * g["b1"]}, "3.7 times"),
        (lambda g: {**g, "W1": np.where(np.arange(5) == 2, 0, g["W1"])}, "4 entries are zero"),
    ],
)
def test_a_simple_mistake_is_named(spoil: Any, words: str) -> None:
    params, X, Y = network_case()
    verdict = dk.validate(network, params, spoil(network_gradient(params, X, Y)), X, Y)
    assert verdict.verdict == "disagree"
    assert words in verdict.reason


def test_a_transposed_square_matrix_is_named() -> None:
    A, W = random(3, 3, seed=1), random(3, 3, seed=2)
    verdict = dk.validate(lambda W: np.sum(np.sin(A * W)), W, (A * np.cos(A * W)).T)
    assert verdict.verdict == "disagree"
    assert "transposed" in verdict.reason


# ---------------------------------------------------------------------- published mistakes


def aps_f02(x: Any) -> Any:
    i = np.arange(1, 21)
    return -2 * np.sum((2 * i - 5) ** 2 / (x - i**2) ** 3)


def aps_f02_derivative(x: Any) -> Any:
    i = np.arange(1, 21)
    return 6 * np.sum((2 * i - 5) ** 2 / (x - i**2) ** 4)


def aps_f02_second_as_published(x: Any) -> Any:
    i = np.arange(1, 21)
    return 24 * np.sum((2 * i - 5) ** 2 / (x - i**2) ** 5)


def aps_f09_derivative(x: Any, n: float) -> Any:
    """Of (1 + (1 - n)⁴) x - (1 - n x)⁴."""
    return 1 + (1 - n) ** 4 + 4 * n * (1 - n * x) ** 3


def aps_f10_derivative(x: Any, n: float) -> Any:
    """Of exp(-n x) (x - 1) + xⁿ."""
    return np.exp(-n * x) * (1 - n * (x - 1)) + n * x ** (n - 1)


def aps_f10_second(x: Any, n: float, last: Any) -> Any:
    return np.exp(-n * x) * (-n * (1 - n * (x - 1)) - last) + n * (n - 1) * x ** (n - 2)


def aps_f15(x: Any, n: float) -> Any:
    """Constant on both sides of a window of width 0.002 / (1 + n)."""
    if x < 0:
        return -0.859 + 0 * x
    if x > 2e-3 / (1 + n):
        return np.e - 1.859 + 0 * x
    return np.exp((n + 1) * x / 2 * 1000) - 1.859


def ackley(x: Any) -> Any:
    n = len(x)
    return (
        -20 * np.exp(-0.2 * np.sqrt(np.sum(x**2) / n))
        - np.exp(np.sum(np.cos(2 * np.pi * x)) / n)
        + 20
        + np.e
    )


def ackley_gradient(x: Any) -> Any:
    n, r = len(x), np.sqrt(np.sum(x**2) / len(x))
    waves = np.exp(np.sum(np.cos(2 * np.pi * x)) / n)
    return 4 * x / (n * r) * np.exp(-0.2 * r) + 2 * np.pi / n * np.sin(2 * np.pi * x) * waves


def ackley_gradient_without_the_mean(x: Any) -> Any:
    r = np.sqrt(np.sum(x**2) / len(x))
    waves = np.exp(np.sum(np.cos(2 * np.pi * x)) / len(x))
    return 4 * x / r * np.exp(-0.2 * r) + 2 * np.pi * np.sin(2 * np.pi * x) * waves


def test_the_sign_of_a_published_second_derivative_is_found() -> None:
    """scipy/optimize/_tstutils.py in SciPy 1.17.1: the second derivative of aps.f02."""
    x = 9.5
    verdict = dk.validate(aps_f02_derivative, x, aps_f02_second_as_published)
    assert verdict.verdict == "disagree"
    assert "sign" in verdict.reason
    assert dk.validate(aps_f02, x, aps_f02_derivative).verdict == "agree"


def test_the_factor_missing_in_a_published_second_derivative_is_found() -> None:
    """The same file's aps.f09: short of a factor n."""
    x, n = 0.4, 5.0
    published = -12 * n * (1 - n * x) ** 2
    assert dk.validate(aps_f09_derivative, x, published, n).verdict == "disagree"
    assert dk.validate(aps_f09_derivative, x, n * published, n).verdict == "agree"


def test_a_published_n_x_in_place_of_n_is_found() -> None:
    """The same file's aps.f10."""
    x, n = 0.4, 5.0
    published, right = (aps_f10_second(x, n, last) for last in (n * x, n))
    assert dk.validate(aps_f10_derivative, x, published, n).verdict == "disagree"
    assert dk.validate(aps_f10_derivative, x, right, n).verdict == "agree"


def test_a_published_slope_of_a_constant_is_found() -> None:
    """The same file's aps.f15: the value of the right side, as the slope of the left one."""
    assert dk.validate(aps_f15, -0.5, np.e - 1.859, 20.0).verdict == "disagree"
    assert dk.validate(aps_f15, -0.5, 0.0, 20.0).verdict == "agree"


@pytest.mark.parametrize(
    ("loss", "slope", "x"),
    [
        (lambda x: np.log1p(x) - x, lambda x: 1 / (1 + x) - 1, 1e-3),
        (lambda x: x**3 - 3 * x**2 + 3 * x - 1, lambda x: 3 * x**2 - 6 * x + 3, 1.1),
        (lambda x: np.exp(x) - np.exp(-x) - 2 * x, lambda x: np.exp(x) + np.exp(-x) - 2, 1e-3),
    ],
)
def test_rounding_where_only_the_adjoints_cancel_is_allowed_for(
    loss: Any, slope: Any, x: float
) -> None:
    assert dk.validate(loss, x, slope(x)).verdict == "agree"
    assert dk.validate(loss, x, slope(x) * (1 + 1e-6)).verdict == "disagree"


def test_a_wrong_ackley_gradient_is_found() -> None:
    x = np.array([0.7, -1.2, 2.3])
    assert dk.validate(ackley, x, ackley_gradient).verdict == "agree"
    verdict = dk.validate(ackley, x, ackley_gradient_without_the_mean)
    assert verdict.verdict == "disagree"
    assert "3 times" in verdict.reason


# ---------------------------------------------------------------------- neither right nor wrong


@pytest.mark.parametrize("slope", [0.0, 1.0, -1.0, 0.5])
def test_any_slope_between_the_sides_of_a_kink_is_left_open(slope: float) -> None:
    verdict = dk.validate(lambda x: np.sum(np.abs(x)), np.array([0.0, 2.0]), np.array([slope, 1.0]))
    assert verdict.verdict == "unresolved"
    assert verdict.worst == "x[0]"
    assert "kink" in verdict.reason


def test_a_slope_outside_both_sides_of_a_kink_is_wrong() -> None:
    verdict = dk.validate(lambda x: np.sum(np.abs(x)), np.array([0.0, 2.0]), np.array([1.5, 1.0]))
    assert verdict.verdict == "disagree"
    assert verdict.worst == "x[0]"


def test_a_wrong_entry_beside_a_kink_is_still_wrong() -> None:
    verdict = dk.validate(lambda x: np.sum(np.abs(x)), np.array([0.0, 2.0]), np.array([0.0, 2.0]))
    assert verdict.verdict == "disagree"
    assert verdict.worst == "x[1]"


def test_a_gradient_lost_in_its_own_rounding_is_left_open() -> None:
    """(1 - cos x) / x² at 1e-5 keeps no digit of its derivative, -x/12."""
    verdict = dk.validate(lambda x: (1 - np.cos(x)) / x**2, 1e-5, -0.02)
    assert verdict.verdict == "unresolved"
    assert "rounding" in verdict.reason


def test_agreement_says_what_rounding_could_hide() -> None:
    """Single precision keeps two digits of (log(1 + x) - x)' at 1e-3 for sure, and more by luck."""
    x = np.float32(1e-3)
    agreed = dk.validate(lambda x: np.log1p(x) - x, x, 1 / (1 + x) - 1)
    assert agreed.verdict == "agree"
    assert "of x an error of up to" in agreed.reason
    assert "error of up to" not in dk.validate(np.log1p, x, 1 / (1 + x)).reason


def test_a_derivative_that_is_not_finite_is_left_open() -> None:
    verdict = dk.validate(lambda x: np.sum(np.sqrt(x)), np.array([0.0, 4.0]), np.array([0.0, 0.25]))
    assert verdict.verdict == "unresolved"
    assert verdict.worst == "x[0]"


def test_a_function_that_cannot_be_recorded_is_judged_by_differences() -> None:
    def loss(x: Any) -> Any:
        return math.sin(x) * x

    right = math.cos(0.7) * 0.7 + math.sin(0.7)
    agreed = dk.validate(loss, 0.7, right)
    assert agreed.verdict == "agree"
    assert "finite differences alone" in agreed.reference
    assert dk.validate(loss, 0.7, right * (1 + 1e-5)).verdict == "disagree"


Function = Callable[[Any], Any]


def opaque(f: Function) -> Function:
    """A function that cannot be recorded: a value leaves NumPy on its way in."""

    def hidden(x: Any) -> Any:
        return f(np.frombuffer(memoryview(x).tobytes(), x.dtype))

    return hidden


@pytest.mark.parametrize(
    ("f", "slope"),
    [
        (
            lambda x: np.sum((1 - np.cos(x)) / x**2),
            lambda x: (x * np.sin(x) - 2 * (1 - np.cos(x))) / x**3,
        ),
        (lambda x: np.sum(np.sin(100 * x)), lambda x: 100 * np.cos(100 * x)),
        (
            lambda x: np.sum(x / (1 + np.exp(-x))),
            lambda x: (1 + np.exp(-x) * (1 + x)) / (1 + np.exp(-x)) ** 2,
        ),
    ],
)
def test_single_precision_of_a_function_that_cannot_be_recorded_is_no_mistake(
    f: Function, slope: Function
) -> None:
    """How it rounds is not seen: what single precision may explain is left open, not accused."""
    x = np.array([0.1, 0.3, 2.0], np.float32)
    assert dk.validate(opaque(f), x, slope(x)).verdict in ("agree", "unresolved")
    assert dk.validate(opaque(f), x, slope(x.astype(np.float64))).verdict == "agree"
    for wrong in (2 * slope(x), -slope(x), 1.01 * slope(x)):
        assert dk.validate(opaque(f), x, wrong).verdict == "disagree"


def test_many_parameters_are_judged_too() -> None:
    x = random(20_000)
    loss, right = (lambda x: np.sum(np.sin(x) * x)), np.cos(x) * x + np.sin(x)
    agreed = dk.validate(loss, x, right)
    assert agreed.verdict == "agree"
    assert "83 of 20000 entries" in agreed.reference
    right[12_345] *= 1 + 1e-5
    verdict = dk.validate(loss, x, right)
    assert verdict.verdict == "disagree"
    assert verdict.worst == "x[12345]"


@pytest.fixture
def without_truth(monkeypatch: pytest.MonkeyPatch) -> None:
    """Arbitrary precision counts as too expensive."""
    monkeypatch.setattr("diffkit.validation.references.EXACT_OPERATIONS", 0)


@pytest.mark.usefixtures("without_truth")
def test_differences_see_a_kink_too() -> None:
    x = np.array([0.0, 2.0])
    for slope, verdict in ((0.5, "unresolved"), (1.5, "disagree")):
        found = dk.validate(lambda x: np.sum(np.abs(x)), x, np.array([slope, 1.0]))
        assert found.verdict == verdict
        assert found.worst == "x[0]"
        assert "kink" in found.reason


@pytest.fixture
def doubling_tape(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tape gives twice the adjoint that it should."""
    from diffkit.backends.tape import differentiator as tape

    true_walk = tape.pulled_in_range

    def doubled(*arguments: Any) -> Any:
        return [2 * leaf for leaf in true_walk(*arguments)]

    monkeypatch.setattr(tape, "pulled_in_range", doubled)


@pytest.mark.usefixtures("without_truth", "doubling_tape")
def test_a_tape_that_differences_contradict_decides_nothing() -> None:
    x = np.array([0.3, 0.4])
    for claimed in (np.cos(x), 2 * np.cos(x)):
        verdict = dk.validate(lambda x: np.sum(np.sin(x)), x, claimed)
        assert verdict.verdict == "unresolved"
        assert "differences" in verdict.reason


@pytest.mark.usefixtures("doubling_tape")
def test_a_wrong_rule_of_the_tape_does_not_make_a_right_gradient_wrong() -> None:
    x = np.array([0.3, 0.4])
    assert dk.validate(lambda x: np.sum(np.sin(x)), x, np.cos).verdict == "agree"


# ---------------------------------------------------------------------- input


def test_a_leaf_of_another_shape_is_wrong_and_named() -> None:
    params, X, Y = network_case()
    gradient = network_gradient(params, X, Y)
    verdict = dk.validate(network, params, {**gradient, "W1": gradient["W1"].T}, X, Y)
    assert verdict.verdict == "disagree"
    assert "W1 has shape (5, 4)" in verdict.reason
    assert "transposed" in verdict.reason


def test_the_order_of_keys_does_not_matter() -> None:
    params, X, Y = network_case()
    gradient = network_gradient(params, X, Y)
    turned = {key: gradient[key] for key in reversed(gradient)}
    assert dk.validate(network, params, turned, X, Y).verdict == "agree"


def test_a_missing_or_foreign_entry_is_named() -> None:
    params, X, Y = network_case()
    gradient = network_gradient(params, X, Y)
    nested = {"net": [params]}

    def loss(p: Any) -> Any:
        return network(p["net"][0], X, Y)

    del gradient["b1"]
    with pytest.raises(dk.InvalidInput, match=r"lacks an entry for net\[0\].b1"):
        dk.validate(loss, nested, {"net": [gradient]})
    foreign = {**params, "b3": params["b2"]}
    with pytest.raises(dk.InvalidInput, match="should not have an entry for b3"):
        dk.validate(network, params, foreign, X, Y)


def test_a_nan_is_wrong_and_named() -> None:
    verdict = dk.validate(lambda x: np.sum(x**2), np.array([1.0, 2.0]), np.array([2.0, math.nan]))
    assert verdict.verdict == "disagree"
    assert verdict.worst == "x[1]"
    assert "not finite" in verdict.reason


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: dk.validate(network, network_case()[0], [1.0]), dk.InvalidInput, "nested"),
        (lambda: dk.validate(rosenbrock, np.ones(2), "no"), dk.InvalidInput, "str"),
        (lambda: dk.validate(rosenbrock, np.array([1, math.inf]), np.ones(2)),
         dk.InvalidInput, "finite"),
        (lambda: dk.validate(lambda x: 2 * x, np.ones(2), np.ones(2)),
         dk.InvalidOutput, "one number"),
        (lambda: dk.validate(3, 1.0, 1.0), dk.InvalidInput, "callable"),  # type: ignore[arg-type]
    ],
)  # fmt: skip
def test_what_is_no_gradient_is_refused(call: Any, error: Any, words: str) -> None:
    with pytest.raises(error, match=words):
        call()


def test_an_exception_of_the_gradient_passes_through() -> None:
    def broken(x: Any) -> Any:
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        dk.validate(rosenbrock, np.ones(2), broken)


def test_a_gradient_that_writes_into_its_arguments_does_no_harm() -> None:
    def gradient(x: Any, c: Any) -> Any:
        x *= 2
        c += 1
        return x * (c - 1)

    x, c = np.array([1.0, 2.0]), np.array([1.0, 1.0])
    assert dk.validate(lambda x, c: np.sum(c * x**2), x, gradient, c).verdict == "agree"
    assert x.tolist() == [1.0, 2.0]
    assert c.tolist() == [1.0, 1.0]


def test_parameters_without_entries_agree() -> None:
    verdict = dk.validate(lambda x: np.sum(x), np.zeros(0), np.zeros(0))
    assert verdict.verdict == "agree"
    assert verdict.worst is None


# ---------------------------------------------------------------------- results


def verdicts() -> list[dk.Validation]:
    params, X, Y = network_case()
    right = network_gradient(params, X, Y)
    return [
        dk.validate(network, params, right, X, Y),
        dk.validate(network, params, {**right, "b2": 2 * right["b2"]}, X, Y),
        dk.validate(np.abs, 0.0, 1.0),
        dk.validate(np.sin, 0.5, math.nan),
    ]


def test_json_is_strict_and_comes_back_equal() -> None:
    for verdict in verdicts():
        text = verdict.to_json()
        json.loads(text, parse_constant=pytest.fail)
        again = dk.Validation.from_json(text)
        assert again.to_json() == text
        assert str(again) == str(verdict)


def test_it_prints_in_a_terminal_and_in_a_notebook() -> None:
    import io

    from rich.console import Console

    for verdict in verdicts():
        console = Console(width=160, file=io.StringIO(), record=True)
        console.print(verdict)
        for text in (str(verdict), console.export_text(), verdict._repr_html_()):
            assert verdict.verdict in text
            assert all(leaf.worst in text for leaf in verdict.leaves)


def test_a_hostile_name_is_escaped_in_html() -> None:
    verdict = dk.validate(lambda p: p["<b>"] ** 2, {"<b>": 3.0}, {"<b>": 6.0})
    assert "<b>" not in verdict._repr_html_()
    assert "&lt;b&gt;" in verdict._repr_html_()


@pytest.mark.parametrize("sure", [1.0, 6.0, 15.0])
def test_the_usual_softmax_formula_is_right_however_sure_the_network_is(sure):
    """p - y has the rounding of p, which cancels in the loss's own derivative by the shift."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(20, 6)), rng.integers(4, size=20)
    p = {"V": rng.normal(size=(6, 5)), "W": rng.normal(size=(5, 4))}

    def logits(p):
        return np.tanh(X @ p["V"]) @ p["W"] + sure * np.eye(4)[y]

    def loss(p):
        z = logits(p)
        z = z - z.max(axis=1, keepdims=True)
        return np.mean(np.log(np.sum(np.exp(z), axis=1)) - z[np.arange(20), y])

    def by_hand(p):
        z, h = logits(p), np.tanh(X @ p["V"])
        e = np.exp(z - z.max(axis=1, keepdims=True))
        delta = e / e.sum(axis=1, keepdims=True)
        delta[np.arange(20), y] -= 1
        delta /= 20
        return {"V": X.T @ ((delta @ p["W"].T) * (1 - h**2)), "W": h.T @ delta}

    assert dk.validate(loss, p, by_hand).verdict == "agree"
    slightly_off = by_hand(p)
    slightly_off["V"][2, 3] *= 1 + 1e-5
    assert dk.validate(loss, p, slightly_off).verdict == "disagree"
