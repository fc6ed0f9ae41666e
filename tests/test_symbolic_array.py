"""The symbolic backend in index notation: right at any size, by SymPy and the product rule."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import sympy as sp
from primitive_checks import assert_close, central_jacobian
from scenarios import SCENARIOS, Scenario
from test_scenarios import OPERATORS, SECOND_ORDER, TOLERANCE, check, elsewhere, ids

import diffkit as dk
from diffkit import nn
from diffkit.backends.symbolic import Symbolic
from diffkit.backends.symbolic.array import form as array_form
from diffkit.backends.symbolic.array.products import Product
from diffkit.errors import RoundingWarning
from diffkit.nn.zoo import NETWORKS
from diffkit.tracing.primitives import PRIMITIVES

ARRAY = Symbolic(form="array")
A = np.random.default_rng(1).normal(size=(3, 4))
SQUARE = np.random.default_rng(2).normal(size=(4, 4)) + 4 * np.eye(4)
STACK = np.random.default_rng(3).normal(size=(2, 3, 3)) + 3 * np.eye(3)


def prepared(f: Any, *arguments: Any) -> Any:
    return dk.prepare(f, *arguments, backend=ARRAY)


# ---------------------------------------------------------------------- the scenario table


@pytest.mark.parametrize("scenario", SCENARIOS, ids=ids)
def test_every_scenario_by_every_operator(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TOLERANCE, "array", 1e-12)
    monkeypatch.setitem(SECOND_ORDER, "array", 1e-12)
    made = prepared(scenario.f, scenario.x, *scenario.data)
    assert made.form == "array"
    for operator in OPERATORS:
        for x in (scenario.x, elsewhere(scenario.x)):
            check(scenario, "array", operator, made, x)


# ---------------------------------------------------------------------- operations

FUNCTIONS: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "matrix times matrix": (lambda a: a @ a.T @ np.ones((3, 2)), A),
    "matrix times vector": (lambda a: a @ a[0], A),
    "vector times matrix": (lambda a: a[:, 0] @ a, A),
    "vector times vector": (lambda a: a[0] @ a[1], A),
    "stack times matrix": (lambda a: a @ np.sin(a[0]), STACK),
    "stacks that are repeated": (lambda a: a[:, None] @ a[None, :1], STACK),
    "two operands": (lambda a: np.einsum("ij,kj->ki", a, a**2), A),
    "three operands": (lambda a: np.einsum("ij,ik,kl->lj", a, a[:, :2], a[:2]), A),
    "a trace of products": (lambda a: np.einsum("ij,ji->", a, a), SQUARE),
    "a diagonal": (lambda a: np.einsum("ii->i", a) ** 2, SQUARE),
    "an outer product": (lambda a: np.outer(a[0], a[1]), A),
    "tensordot": (lambda a: np.tensordot(a, a**2, axes=([0, 1], [0, 1])), A),
    "kron": (lambda a: np.kron(a, a[:2, :2]), A),
    "sums": (lambda a: a.sum(0) * a.sum() + a.mean(axis=(0, 1), keepdims=True)[0], A),
    "a norm": (lambda a: np.linalg.norm(a, axis=1), A),
    "a product": (lambda a: np.prod(a, axis=1), A),
    "a product with two zeros": (np.prod, np.array([1.0, 0.0, 2.0, 0.0, 3.0])),
    "a running product": (lambda a: np.cumprod(a, axis=1), A),
    "a running sum": (lambda a: np.cumsum(np.sin(a), axis=0), A),
    "extremes": (lambda a: a.max(axis=1) * a.min(axis=0)[0], A),
    "a sorted row": (lambda a: np.sort(a, axis=1) * np.arange(4), A),
    "rows by number, one twice": (lambda a: np.sin(a[[0, 2, 0]]), A),
    "a mask": (lambda a: a[a > 0] ** 2, A),
    "a section": (lambda a: a[1:, ::-1] ** 2, A),
    "a new axis": (lambda a: a[:, None] * a, A),
    "written into": (lambda a: _written(a), A),
    "written twice": (lambda a: _written_twice(a), A),
    "joined": (lambda a: np.concatenate([a, np.sin(a[:1]), np.ones((1, 4))]), A),
    "stacked": (lambda a: np.stack([a, a * a[0]], axis=1), A),
    "numbers put together": (lambda a: np.array([[a[0, 0], a[1, 1] ** 2], [1.0, a[0, 1]]]), A),
    "transposed": (lambda a: np.transpose(a[:, :, None] * a[0], (2, 0, 1)), A),
    "rolled and padded": (lambda a: np.pad(np.roll(a, 1, axis=1), 1, mode="edge") ** 2, A),
    "triangles": (lambda a: np.tril(a) @ np.triu(a), SQUARE),
    "windows": (lambda a: np.lib.stride_tricks.sliding_window_view(a, 2, axis=1) ** 2, A),
    "a convolution": (lambda a: np.convolve(a[0], a[1, :2]), A),
    "a system": (lambda a: np.linalg.solve(a, a[:, :2] ** 2), SQUARE),
    "systems that share a side": (lambda a: np.linalg.solve(a, a[0]), STACK),
    "an inverse": (np.linalg.inv, STACK),
    "a determinant": (np.linalg.det, STACK),
    "its logarithm": (lambda a: np.linalg.slogdet(a)[1], SQUARE),
    "a Cholesky factor": (lambda a: np.linalg.cholesky(a @ a.T), SQUARE),
    "chosen by condition": (lambda a: np.where(a > 0, np.sin(a), a**3), A),
    "clipped": (lambda a: np.clip(a, -0.5, 0.5) * np.abs(a), A),
    "any and all": (
        lambda a: np.where(np.any(a > 0, axis=1) & np.all(a < 9), 2.0, 3.0) * a[:, 0],
        A,
    ),
    "filtered": (lambda a: np.diff(a, axis=1) / (1 + np.gradient(a[0])[1:] ** 2), A),
    "normalised": (lambda a: (a - a.mean(0)) / np.sqrt(a.var(0) + 1e-3), A),
    "softmax": (lambda a: nn.softmax(a), A),
}


def _written(a: Any) -> Any:
    out = np.zeros_like(a)
    for i in range(3):
        out[i] = a[i] * a[i - 1]
    out[1, 1:3] += a[0, 0]
    return out


def _written_twice(a: Any) -> Any:
    out = np.copy(a)
    out[[0, 0, 1]] = np.stack([a[1], a[2], a[0] ** 2])
    return out


@pytest.mark.parametrize("name", FUNCTIONS)
def test_operations_and_their_second_derivatives(name: str) -> None:
    f, x = FUNCTIONS[name]
    made = prepared(f, x)
    matrix = central_jacobian(f, x)
    assert_close(made.jacobian(x), matrix, 1e-7)
    value = np.asarray(f(x))
    w, v = np.cos(1.0 + np.arange(value.size)).reshape(value.shape), np.sin(1 + 3 * x)
    assert_close(made.vjp(x, w), np.tensordot(w, matrix, value.ndim), 1e-7)
    assert_close(made.jvp(x, v), np.tensordot(matrix, v, x.ndim), 1e-7)

    def squares(x: Any) -> Any:
        return np.sum(w * f(x) ** 2)

    second = prepared(squares, x)
    hessian = central_jacobian(second.gradient, x)
    assert_close(second.hessian(x), hessian, 1e-6)
    assert_close(second.hvp(x, v), np.tensordot(hessian, v, x.ndim), 1e-6)


def test_derivatives_of_any_order() -> None:
    made = prepared(lambda x: np.sin(x * np.arange(3.0)), 0.5)
    for order in (1, 2, 5):
        k = np.arange(3.0)
        expected = k**order * np.sin(0.5 * k + order * np.pi / 2)
        np.testing.assert_allclose(made.derivative(0.5, order=order), expected, atol=1e-13)


# ---------------------------------------------------------------------- networks


def leaves(tree: Any) -> Iterator[Any]:
    if isinstance(tree, dict):
        for member in tree.values():
            yield from leaves(member)
    else:
        yield tree


def assert_same(got: Any, expected: Any, tolerance: float = 1e-12) -> None:
    for a, b in zip(leaves(got), leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_of_the_zoo(name: str) -> None:
    case = NETWORKS[name]()
    made = prepared(case.loss, case.parameters, *case.data)
    assert made.form == "array"
    by_hand = dk.gradient(case.loss, case.parameters, *case.data, backend="analytic")
    assert_same(made.gradient(case.parameters, *case.data), by_hand)
    product = made.hvp(case.parameters, case.parameters, *case.data)
    by_tape = dk.hvp(case.loss, case.parameters, case.parameters, *case.data)
    assert_same(product, by_tape, 1e-11)


LAYERS: dict[str, tuple[nn.Layer, tuple[int, ...]]] = {
    "batch norm": (nn.BatchNorm(3), (5, 3)),
    "layer norm": (nn.LayerNorm(3), (5, 3)),
    "dropout": (nn.Dropout(0.4), (5, 3)),
    "maxout": (nn.Maxout(3, 2), (5, 3)),
    "attention": (nn.Attention(3, 2), (2, 4, 3)),
    "convolution": (nn.Convolution(2, 3, (3, 3)), (2, 2, 6, 6)),
    "pooling": (nn.MaxPool(2), (2, 2, 4, 4)),
    "averages": (nn.AveragePool(2), (2, 2, 4, 4)),
    "softmax": (nn.Softmax(), (5, 3)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_by_their_inputs(name: str) -> None:
    layer, shape = LAYERS[name]
    parameters = layer.initial(np.random.default_rng(4))
    x = np.random.default_rng(5).normal(size=shape)

    def f(x: Any) -> Any:
        return np.sum(np.sin(layer.forward(parameters, x)))

    assert_close(prepared(f, x).gradient(x), central_jacobian(f, x), 1e-7)


@pytest.mark.parametrize("name", [name for name in nn.ACTIVATIONS if name != "threshold"])
def test_activations(name: str) -> None:
    activation = nn.ACTIVATIONS[name]
    x = np.linspace(-3.1, 2.9, 7)
    expected = np.diag(activation.derivative(x))
    np.testing.assert_allclose(
        prepared(activation, x).jacobian(x), expected, rtol=1e-12, atol=1e-14
    )


def look_up(table: Any, words: Any) -> Any:
    return np.sum(np.sin(table[words, 1:]) ** 2) + np.sum(table[words[0]] ** 3)


def looked_up(table: Any, words: Any) -> Any:
    expected = np.zeros_like(table)
    np.add.at(expected[:, 1:], words, np.sin(2 * table[words, 1:]))
    np.add.at(expected, words[0], 3 * table[words[0]] ** 2)
    return expected


def test_words_are_looked_up_by_any_numbers_without_deriving_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table = np.random.default_rng(6).normal(size=(5, 3))
    words = np.array([[0, 3, 3], [4, 0, 1]])
    made = prepared(look_up, table, words)
    for _ in range(3):
        np.testing.assert_allclose(made.gradient(table, words), looked_up(table, words), rtol=1e-13)
    monkeypatch.setattr(sp, "diff", None)
    chosen = words[::-1] % 3
    np.testing.assert_allclose(made.gradient(table, chosen), looked_up(table, chosen), rtol=1e-13)


def test_look_ups_have_second_derivatives_and_shared_forms() -> None:
    table, words = np.random.default_rng(6).normal(size=(4, 2)), np.array([[0, 3], [1, 3]])
    made = dk.prepare(look_up, table, words, backend=ARRAY)
    difference = central_jacobian(lambda t: looked_up(t, words), table)
    assert_close(made.hessian(table, words), difference, 1e-7)
    shared = dk.prepare(look_up, table, words, backend=Symbolic(form="shared"))
    for chosen in (words, words[::-1] % 3):
        for form in (made, shared):
            got = form.gradient(table, chosen)
            np.testing.assert_allclose(got, looked_up(table, chosen), rtol=1e-13)
    assert made.expression.shape == (4, 2)


# ---------------------------------------------------------------------- large


def deep(widths: tuple[int, ...], batch: int) -> tuple[Any, Any, Any, Any]:
    network = nn.fully_connected(widths, nn.SOFTMAX_CROSS_ENTROPY, nn.TANH)
    generator = np.random.default_rng(8)
    X = generator.normal(size=(batch, widths[0]))
    Y = np.eye(widths[-1])[generator.integers(0, widths[-1], batch)]
    return network.loss, network.initial(seed=8), X, Y


def test_a_program_does_not_grow_with_the_arrays() -> None:
    operations = []
    for width, batch in ((3, 2), (100, 300)):
        loss, P, X, Y = deep((width, width, width, width), batch)
        made = dk.prepare(loss, P, X, Y, backend=ARRAY)
        made.gradient(P, X, Y)
        operations.append(made.cost.operations)
    assert operations[0] == operations[1] < 80


def test_the_default_takes_arrays_where_the_function_is_large_and_says_so() -> None:
    loss, P, X, Y = deep((20, 30, 10), 64)
    made = dk.prepare(loss, P, X, Y, backend="symbolic")
    assert made.form == "array"
    assert_same(made.gradient(P, X, Y), dk.gradient(loss, P, X, Y, backend="analytic"))
    assert dk.prepare(np.tanh, 0.3, backend="symbolic").form == "shared"


def test_the_default_leaves_to_the_shared_form_what_it_alone_can_do() -> None:
    kept = PRIMITIVES["convolution"]
    made = dk.prepare(lambda x: np.convolve(x, x), np.arange(1.0, 30.0), backend="symbolic")
    assert made.form == "array"
    with pytest.MonkeyPatch.context() as patch:
        from diffkit.backends.symbolic.array import lowering

        patch.delitem(lowering._RULES, kept.name)  # type: ignore[arg-type]
        made = dk.prepare(lambda x: np.convolve(x, x), np.arange(1.0, 30.0), backend="symbolic")
        assert made.form == "shared"
        with pytest.raises(dk.UnsupportedOperation, match=r"convolution at .*test_symbolic_array"):
            prepared(lambda x: np.convolve(x, x), np.arange(3.0))


def test_jacobians_are_taken_in_parts_that_fit_into_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(array_form, "BATCH_BYTES", 300)
    f, x = FUNCTIONS["softmax"]
    assert_close(prepared(f, x).jacobian(x), central_jacobian(f, x), 1e-7)
    loss = prepared(lambda a: np.sum(f(a) ** 2), x)
    assert_close(loss.hessian(x), central_jacobian(loss.gradient, x), 1e-6)


def test_a_chain_of_many_operations() -> None:
    def f(x: Any) -> Any:
        for _ in range(2_000):
            x = x + 0.001 * np.sin(x)
        return np.sum(x)

    x = np.linspace(0.1, 1, 3)
    slope = np.ones(3)
    y = x.copy()
    for _ in range(2_000):
        slope *= 1 + 0.001 * np.cos(y)
        y = y + 0.001 * np.sin(y)
    np.testing.assert_allclose(prepared(f, x).gradient(x), slope, rtol=1e-12)


# ---------------------------------------------------------------------- independence


def test_the_pullbacks_of_the_table_are_not_used() -> None:
    loss, P, X, Y = deep((4, 5, 3), 6)
    expected = dk.gradient(loss, P, X, Y, backend="analytic")
    kept = {row: row.pullbacks for row in PRIMITIVES.values() if row.differentiable}
    try:
        for row in kept:
            object.__setattr__(row, "pullbacks", ())
        assert_same(prepared(loss, P, X, Y).gradient(P, X, Y), expected)
    finally:
        for row, pullbacks in kept.items():
            object.__setattr__(row, "pullbacks", pullbacks)


def test_a_wrong_product_rule_changes_the_array_form_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def f(a: Any) -> Any:
        return np.sum(np.tanh(a @ a))

    right = Product.pull

    def wrong(self: Any, program: Any, y: Any, adjoint: Any, k: int) -> Any:
        return right(self, program, y, program.define(2 * adjoint), k)

    monkeypatch.setattr(Product, "pull", wrong)
    expected = central_jacobian(f, SQUARE)
    for backend in (dk.FiniteDifference(), dk.Tape(), Symbolic(form="shared")):
        assert_close(dk.gradient(f, SQUARE, backend=backend), expected, 1e-7)
    assert_close(prepared(f, SQUARE).gradient(SQUARE), 2 * expected, 1e-7)


# ---------------------------------------------------------------------- never silently wrong


def test_a_branch_is_followed_when_it_flips() -> None:
    made = prepared(lambda x: np.sum(x**2) if x[0] > 0 else np.sum(x**3), np.ones(3))
    np.testing.assert_array_equal(made.gradient(np.ones(3)), 2 * np.ones(3))
    np.testing.assert_array_equal(made.gradient(-np.ones(3)), 3 * np.ones(3))


def test_an_infinite_slope_that_was_not_chosen_does_no_harm() -> None:
    x = np.array([0.0, 4.0, 1.0])

    def f(x: Any) -> Any:
        return np.sum(np.where(x > 0, np.sqrt(x), 0.0) * np.ones((2, 3)))

    with pytest.warns(dk.KinkWarning):
        np.testing.assert_allclose(prepared(f, x).gradient(x), [0, 0.5, 1])
    with pytest.warns(dk.KinkWarning):
        np.testing.assert_allclose(prepared(f, x).hessian(x), np.diag([0, -1 / 16, -1 / 2]))


def test_an_infinite_slope_is_not_hidden_by_a_factor_of_zero() -> None:
    with pytest.raises(dk.NonFiniteDerivative):
        prepared(lambda x: np.sum(np.sqrt(x) ** 4), np.zeros(2)).gradient(np.zeros(2))


def test_jumps_are_refused_at_any_entry() -> None:
    made = prepared(lambda x: np.sum(np.floor(x) * x), np.array([0.5, 1.5]))
    np.testing.assert_array_equal(made.gradient(np.array([0.5, 1.5])), [0, 1])
    with pytest.raises(dk.UnsupportedOperation, match="jumps"):
        made.gradient(np.array([0.5, 1.0]))


@pytest.mark.parametrize(("order", "expected"), [(1, 0), (2, -1 / 3), (3, 0), (4, 1 / 5)])
def test_removable_singularities_are_filled_at_any_entry(order: int, expected: float) -> None:
    def f(x: Any) -> Any:
        shifted = x - np.array([0.0, 0.25])
        return np.where(shifted == 0, 1.0, np.sin(shifted) / np.where(shifted == 0, 1.0, shifted))

    got = prepared(f, 0.25).derivative(0.25, order=order)[1]
    assert got == pytest.approx(expected, abs=1e-12)


def test_equal_extremes_share() -> None:
    x = np.array([1.0, 3.0, 3.0])
    with pytest.warns(dk.KinkWarning, match="bends"):
        np.testing.assert_array_equal(prepared(np.max, x).gradient(x), [0, 0.5, 0.5])


def test_a_number_of_several_factors_is_no_array() -> None:
    def f(x: Any) -> Any:
        return np.sum(np.deg2rad(np.median(x, keepdims=True) @ x[:1]) * 30)

    x = np.array([0.5, 1.0, 2.0])
    for _ in range(3):
        np.testing.assert_allclose(prepared(f, x).gradient(x), [np.pi / 6, np.pi / 12, 0])


def test_a_singular_matrix_is_refused_where_its_inverse_is_needed() -> None:
    singular = np.ones((5, 5))
    with warnings.catch_warnings():  # the factors of a singular matrix may be rounding alone
        warnings.simplefilter("ignore", RoundingWarning)
        found = prepared(np.linalg.det, singular).gradient(singular)
    np.testing.assert_allclose(found, np.zeros((5, 5)), atol=1e-30)
    with pytest.raises(dk.UnsupportedOperation, match="singular"):
        prepared(np.linalg.det, singular).hessian(singular)


def test_values_beyond_double_precision_are_reached_by_longdouble() -> None:
    def f(x: Any) -> Any:
        return np.sum(np.log(np.exp(x) * np.exp(x)))

    x = np.array([500.0, 1.0])
    np.testing.assert_array_equal(prepared(lambda x: f(x) + 0 * x[0], x[1:]).gradient(x[1:]), [2])


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.longdouble])
def test_derivatives_keep_the_dtype(dtype: Any) -> None:
    x = np.linspace(0.1, 1, 4, dtype=dtype).reshape(2, 2)
    got = prepared(lambda x: np.sum(np.sin(x) @ x), x).gradient(x)
    assert got.dtype == dtype
    expected = dk.gradient(lambda x: np.sum(np.sin(x) @ x), x.astype(float))
    np.testing.assert_allclose(got, expected, rtol=1e-6 if dtype == np.float32 else 1e-14)


def test_results_share_no_memory() -> None:
    data = np.ones((2, 2))
    made = prepared(lambda x, y: np.sum(x * y), data, data)
    gradient = made.gradient(data, data)
    gradient[...] = 7
    np.testing.assert_array_equal(made.gradient(data, data), data)


def test_a_derivation_that_was_broken_off_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    f, x = FUNCTIONS["softmax"]
    made = prepared(f, x)

    def interrupted(*_: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sp, "diff", interrupted)
        with pytest.raises(KeyboardInterrupt):
            made.jacobian(x)
    assert_close(made.jacobian(x), central_jacobian(f, x), 1e-7)


def test_beyond_the_budget() -> None:
    with pytest.raises(dk.ExpressionTooLarge, match="budget is 20"):
        dk.jacobian(FUNCTIONS["softmax"][0], A, backend=Symbolic(form="array", max_operations=20))


def test_the_source_holds_generated_names_only() -> None:
    loss, P, X, Y = deep((4, 5, 3), 6)
    source = prepared(loss, P, X, Y).source()
    assert source.startswith("def program(m, x0, x1")
    assert "matmul" in source
    assert "layer" not in source
