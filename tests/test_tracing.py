"""Recording: what becomes a node, a guard, data or a constant."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import diffkit as dk
from diffkit.errors import TracingError, UnsupportedOperation
from diffkit.tracing import Traced, trace
from diffkit.tracing.graph import GuardFailed
from diffkit.tracing.primitives import FUNCTIONS, PRIMITIVES


def names(graph: Any) -> list[str]:
    return [node.primitive.name for node in graph.nodes if node.primitive]


def test_a_graph_lists_the_operations_in_order_with_the_users_lines() -> None:
    def f(x):
        y = np.sin(x)
        return y * 2.0

    graph = trace(f, 0.5)
    assert names(graph) == ["sin", "multiply"]
    line = f.__code__.co_firstlineno
    assert [n.location.line for n in graph.nodes if n.location] == [line + 1, line + 2]
    assert str(graph.nodes[1].location).startswith(f"{__file__}:{line + 1} (in ")
    assert graph.operations == 2


def test_a_graph_evaluates_at_another_point() -> None:
    graph = trace(lambda x: np.sum(np.exp(x) * x), np.array([1.0, 2.0]))
    x = np.array([0.5, -1.0])
    values = graph.evaluate([x], [])
    assert values[graph.outputs[0].index] == np.sum(np.exp(x) * x)


def test_a_branch_is_a_guard() -> None:
    graph = trace(lambda x: x**2 if x > 1 else x, 2.0)
    assert len(graph.guards) == 1
    assert graph.guards[0].expected
    graph.evaluate([np.float64(3.0)], [])
    with pytest.raises(GuardFailed, match="differs"):
        graph.evaluate([np.float64(0.5)], [])


@pytest.mark.parametrize(
    "f",
    [
        lambda x: x[x > 1.5].sum(),
        lambda x: x[int(x[0])],
        lambda x: np.sum(x) if np.any(x > 2) else x[0],
        lambda x: np.sum(np.eye(3)[np.argmin(x)] * x),
        lambda x: np.sum(np.unique(x)),
        lambda x: x[0] if 2.0 in x else x[1],
    ],
    ids=["mask", "int", "any", "one-hot", "unique", "in"],
)
def test_outcomes_that_depend_on_values_are_guards(f: Any) -> None:
    assert trace(f, np.array([1.0, 2.0, 3.0])).guards


def test_a_comparison_that_is_only_computed_with_is_no_guard() -> None:
    assert not trace(lambda x: np.sum(np.where(x > 0, x, -x)), np.array([1.0, -2.0])).guards


def test_data_are_inputs_and_not_constants() -> None:
    graph = trace(
        lambda x, d: np.sum(x * d["scale"] * d["rate"]),
        np.ones(2),
        {"scale": np.ones(2), "rate": 0.5},
    )
    assert len(graph.data) == 2
    values = graph.evaluate([np.ones(2)], [np.full(2, 3.0), 2.0])
    assert values[graph.outputs[0].index] == 12.0


def test_data_may_leave_the_graph_under_a_guard() -> None:
    def f(x, labels, count):
        return np.sum(np.eye(3)[labels] * x) * float(count)

    graph = trace(f, np.ones((2, 3)), np.array([0, 2]), np.float64(2.0))
    with pytest.raises(GuardFailed):
        graph.evaluate([np.ones((2, 3))], [np.array([1, 2]), np.float64(2.0)])


def test_only_what_depends_on_x_is_active() -> None:
    graph = trace(lambda x, d: np.sum(np.floor(x) * d + x), np.ones(2), np.ones(2))
    by_name = {node.primitive.name: node for node in graph.nodes if node.primitive}
    assert not by_name["floor"].active
    assert by_name["floor"].depends
    assert not by_name["multiply"].active
    assert by_name["add"].active


def test_captured_arrays_are_copied_once_and_again_after_a_change() -> None:
    buffer = np.ones(3)

    def f(x):
        first = x * buffer + x * buffer
        buffer[:] = 2.0
        second = np.sum(first * buffer)
        buffer[:] = 1.0
        return second

    graph = trace(f, np.ones(3))
    constants = [n.value for n in graph.nodes if n.primitive is None and not n.depends]
    assert [float(c[0]) for c in constants] == [1.0, 2.0]


def test_constants_do_not_promote_the_dtype() -> None:
    def f(x, rate):
        return np.sum(x**2 * 0.1 + np.exp(x) / 3) * rate

    graph = trace(f, np.ones(2, np.float32), 0.5)
    assert graph.output_layout.leaves[0].dtype == np.float32


def test_a_traced_array_looks_like_the_array() -> None:
    seen: list[Any] = []

    def f(x):
        seen.append(
            (
                x.shape,
                x.ndim,
                x.size,
                x.dtype,
                len(x),
                x.T.shape,
                x.mT.shape,
                x.itemsize,
                x.nbytes,
                np.shape(x),
                np.ndim(x),
                np.size(x),
                np.size(x, 1),
            )
        )
        assert x.real is x
        assert not np.any(x.imag)
        assert not isinstance(x, Traced) or (
            repr(x).startswith("Traced(array") and f"{x[0, 0]:.1f}" == "Traced(1.0)"
        )
        return x.sum()

    trace(f, np.ones((2, 3), np.float32))
    assert seen[1:] == [
        ((2, 3), 2, 6, np.dtype(np.float32), 2, (3, 2), (3, 2), 4, 24, (2, 3), 2, 6, 3)
    ]


METHODS = {
    "sum": lambda x: x.sum(axis=0), "mean": lambda x: x.mean(1), "prod": lambda x: x.prod(),
    "std": lambda x: x.std(axis=1), "var": lambda x: x.var(), "max": lambda x: x.max(axis=0),
    "min": lambda x: x.min(), "ptp": lambda x: np.ptp(x), "cumsum": lambda x: x.cumsum(),
    "cumprod": lambda x: x.cumprod(axis=1), "reshape": lambda x: x.reshape(3, -1),
    "transpose": lambda x: x.transpose(1, 0), "ravel": lambda x: x.ravel(),
    "flatten": lambda x: x.flatten(), "squeeze": lambda x: x[None].squeeze(),
    "swapaxes": lambda x: x.swapaxes(0, 1), "repeat": lambda x: x.repeat(2, axis=0),
    "take": lambda x: x.take([0, 2]), "diagonal": lambda x: x.diagonal(),
    "trace": lambda x: x.trace(), "dot": lambda x: x.dot(x.T), "clip": lambda x: x.clip(2, 4),
    "conj": lambda x: x.conj() + x.conjugate(), "compress": lambda x: x.compress([1, 0], 0),
    "astype": lambda x: x.astype(np.float64), "argsort": lambda x: x[:, x[0].argsort()],
    "choose": lambda x: np.take(x, x.argmax()), "round": lambda x: x - x.round(),
    "any and all": lambda x: x * x.any() * x.all(), "nonzero": lambda x: x[x.nonzero()],
}  # fmt: skip


@pytest.mark.parametrize("name", METHODS)
def test_array_methods_give_what_numpy_gives(name: str) -> None:
    x = np.array([[1.5, -2.0, 3.0], [4.0, 5.25, -6.0]])
    expected = METHODS[name](x)
    graph = trace(METHODS[name], x)
    np.testing.assert_allclose(graph.outputs[0].value, expected, rtol=1e-15)


OPERATORS = {
    "+": lambda x, y: x + y, "-": lambda x, y: x - y, "*": lambda x, y: x * y,
    "/": lambda x, y: x / y, "**": lambda x, y: x**y, "//": lambda x, y: x // y,
    "%": lambda x, y: x % y, "@": lambda x, y: x @ y, "unary": lambda x, y: -(+abs(x)) + y * 0,
    "divmod": lambda x, y: divmod(x, y)[0] + divmod(x, y)[1],
    "compare": lambda x, y: (x < y) * 1.0 + (x <= y) + (x == y) + (x != y) + (x > y) + (x >= y),
    "logic": lambda x, y: ((x < y) & (x > 0) | ~(y > 1)) ^ (x == y),
}  # fmt: skip


@pytest.mark.parametrize("name", OPERATORS)
def test_operators_from_either_side(name: str) -> None:
    x, y = np.array([1.5, 2.0]), np.array([2.5, 2.0])
    f = OPERATORS[name]
    for traced, plain in (
        (lambda x: f(x, y), f(x, y)), (lambda y: f(x, y), f(x, y)),
        (lambda x: f(x, np.sin(x)), f(x, np.sin(x))),
    ):  # fmt: skip
        at = y if traced.__code__.co_varnames == ("y",) else x
        assert np.array_equal(trace(traced, at).outputs[0].value, plain)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("exponent", [2, 2.0, 1, 0.5, -1, 0])
def test_a_power_is_recorded_to_the_bit_as_numpy_computes_it(exponent: float, dtype: Any) -> None:
    x = np.geomspace(1e-30, 1e15, 997).astype(dtype)
    graph = trace(lambda x: x**exponent, x)
    recorded = graph.outputs[0].value
    assert recorded.dtype == dtype
    assert recorded.tobytes() == (x**exponent).tobytes()


def test_an_operator_called_anew_sees_what_changed_outside() -> None:
    scale = [2.0]

    def f(x: Any) -> Any:
        return scale[0] * x

    assert dk.gradient(f, 1.0) == 2.0
    scale[0] = 3.0
    assert dk.gradient(f, 1.0) == 3.0


def test_in_place_operators_follow_numpy() -> None:
    def f(x):
        y = x * 1
        y += 1
        y -= 0.5
        y *= 2
        y /= 3
        y **= 2
        y //= 0.5
        y %= 7
        return y

    x = np.array([1.0, 2.0, 3.0])
    assert np.array_equal(trace(f, x).outputs[0].value, f(x))


def test_in_place_operators_keep_shape_and_dtype() -> None:
    def grows(x):
        x += np.ones((2, 3))
        return x

    with pytest.raises(ValueError, match="broadcast"):
        trace(grows, np.ones(3))
    single = trace(lambda x: np.add(x, np.ones(3), out=x), np.ones(3, np.float32))
    assert single.outputs[0].value.dtype == np.float32


def test_a_read_only_view_stays_read_only() -> None:
    def f(x):
        np.broadcast_to(x, (2, 3))[0, 0] = 1.0
        return x

    with pytest.raises(ValueError, match="read-only"):
        trace(f, np.ones(3))


def test_ufunc_options() -> None:
    x = np.array([1.0, -2.0])

    def where_out(x):
        y = np.zeros_like(x)
        np.sqrt(np.abs(x), out=y, where=x > 0)
        return y

    def masked_without_out(x):
        if isinstance(x, Traced):
            return np.sqrt(np.abs(x), where=x > 0)
        return np.sqrt(np.abs(x))

    assert np.array_equal(trace(where_out, x).outputs[0].value, [1.0, 0.0])
    graph = trace(lambda x: np.add(x, 1, dtype=np.float32), x)
    assert graph.outputs[0].value.dtype == np.float32
    with pytest.raises(UnsupportedOperation, match="where= and no out="):
        trace(masked_without_out, x)


def test_an_option_that_a_definition_lacks_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedOperation, match=r"np\.matmul .*axes"):
        trace(lambda x: np.matmul(x, x, axes=[(0, 1), (0, 1), (0, 1)]), np.ones((2, 2)))


def test_plain_warnings_come_once_and_not_from_tracing() -> None:
    with pytest.warns(RuntimeWarning) as caught:
        trace(lambda x: np.sum(np.where(x > 0, np.log(x), x)), np.array([1.0, -1.0]))
    assert len(caught) == 1


def test_a_function_may_return_a_constant_or_a_structure() -> None:
    assert trace(lambda x: 3, 1.0).output_layout.is_scalar
    graph = trace(lambda x: {"a": [x, 2.0], "b": (x * 2,)}, 1.0)
    assert graph.output_layout.entry_names() == ["a[0]", "a[1]", "b[0]"]


def test_the_value_of_a_nested_trace_is_traced() -> None:
    depths: list[int] = []

    def inner(y, x):
        depths.append(
            sum(isinstance(v, Traced) for v in (y, y.value)) if isinstance(y, Traced) else 0
        )
        return x * y**2

    assert dk.derivative(lambda x: dk.derivative(inner, x, x), 3.0) == 12.0
    assert max(depths) == 2


def test_filling_every_entry_of_empty_like_is_fine_and_forgetting_one_shows() -> None:
    def fills(x):
        out = np.empty_like(x)
        out[:] = x**2
        return np.sum(out)

    assert np.array_equal(dk.gradient(fills, np.ones(2)), [2.0, 2.0])


def test_likes_and_copies() -> None:
    def f(x):
        a = np.ones_like(x)
        a[0] = x[1]
        b = np.full_like(x, x[0])
        c = np.copy(x)
        np.copyto(c, x * 2, where=x > 1.5)
        return np.sum(a * x) + np.sum(b) + np.sum(c)

    def copies_into_an_ordinary_array(x):
        ordinary = np.zeros(2)
        np.copyto(ordinary, x)
        return np.sum(ordinary)

    assert np.array_equal(dk.gradient(f, np.array([1.0, 2.0])), [5.0, 4.0])
    with pytest.raises(TracingError, match=r"np\.copyto"):
        dk.gradient(copies_into_an_ordinary_array, np.ones(2))


def test_questions_about_type_and_memory() -> None:
    def f(x):
        assert np.result_type(x, np.float32(1)) == np.float64
        assert np.can_cast(x, np.float64)
        assert not np.iscomplexobj(x)
        assert np.isrealobj(x)
        assert np.may_share_memory(x, x)
        assert np.array_repr(x).startswith("Traced" if isinstance(x, Traced) else "array")
        return np.sum(x)

    assert trace(f, np.ones(2)).operations == 1


def test_every_row_has_its_columns_or_says_why_not() -> None:
    from diffkit.tracing.graph import SAME, Missing

    for name, primitive in PRIMITIVES.items():
        assert primitive.name == name
        assert callable(primitive.function)
        for column in (primitive.sympy, primitive.exact):
            assert (
                callable(column)
                or isinstance(column, str)
                or column is SAME
                or (isinstance(column, Missing) and column.reason)
            ), name
        pullbacks = primitive.pullbacks
        assert (
            callable(pullbacks)
            or (isinstance(pullbacks, Missing) and pullbacks.reason)
            or (pullbacks and all(rule is None or callable(rule) for rule in pullbacks))
        ), name


def test_every_numpy_function_of_the_table_is_numpys() -> None:
    for function in FUNCTIONS:
        assert getattr(function, "__module__", "numpy").startswith("numpy") or isinstance(
            function, np.ufunc
        )


# ---------------------------------------------------------------------- copies and views

VIEWS_AND_COPIES = {
    "ravel": lambda x: x.ravel(), "ravel of a strided array": lambda x: x[:, ::2].ravel(),
    "reshape of a strided array": lambda x: x[:, ::2].reshape(-1),
    "ravel of a transpose": lambda x: x.T.ravel(), "flatten": lambda x: x.flatten(),
    "ravel by columns": lambda x: x.ravel("F"), "transposed copy": lambda x: x.T.copy(),
    "Fortran copy": lambda x: np.copy(x, order="F"), "block": lambda x: np.block(x),
    "astype": lambda x: x.astype(float),
    "astype without copy": lambda x: x.astype(float, copy=False),
    "real": lambda x: x.real, "conj": lambda x: x.conj(), "positive": lambda x: +x,
    "clip": lambda x: x.clip(-9, 9), "round": lambda x: np.round(x, 9),
    "split": lambda x: np.split(x, 3, axis=1)[1], "squeeze": lambda x: x[None].squeeze(0),
    "swapaxes": lambda x: x.swapaxes(0, 1), "rot90": lambda x: np.rot90(x),
    "flip": lambda x: np.flip(x), "diagonal of einsum": lambda x: np.einsum("ii->i", x[:, :2]),
    "fancy index": lambda x: x[[0, 1]], "mask": lambda x: x[np.ones((2, 3), bool)],
    "one row by an integer": lambda x: x[1], "take": lambda x: np.take(x, [0, 1], axis=0),
    "broadcast to its own shape": lambda x: np.broadcast_arrays(x, 1.0)[0],
    "no difference": lambda x: np.diff(x, n=0),
    "nan_to_num": lambda x: np.nan_to_num(x, copy=False),
    "running maximum of one row": lambda x: np.maximum.accumulate(x[:1]),
    "logaddexp over one row": lambda x: np.logaddexp.reduce(x[:1]),
    "sum over one row": lambda x: np.add.reduce(x[:1]), "sort": lambda x: np.sort(x),
}  # fmt: skip


@pytest.mark.parametrize("name", VIEWS_AND_COPIES)
def test_a_write_reaches_the_original_where_it_does_in_numpy(name: str) -> None:
    def f(x):
        VIEWS_AND_COPIES[name](x)[...] = 0.5
        return x * 1

    x = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    assert np.array_equal(trace(f, x).outputs[0].value, f(x.copy()))


def test_a_view_sees_what_is_written_to_its_base_later() -> None:
    def f(x):
        base = x * 2
        view = base[1:]
        narrower = view[::2]
        base += x**2
        first = narrower * 1
        narrower += 1
        base[1:][0] = 7.0
        return np.concatenate([first, view, base])

    x = np.array([1.0, 2.0, 3.0, 4.0])
    assert np.array_equal(trace(f, x).outputs[0].value, f(x))


def test_zero_dimensional_arrays_are_changed_in_place_and_scalars_are_not() -> None:
    def f(x):
        x *= 2
        y = x
        y += 1
        return x * x

    assert dk.derivative(f, np.array(3.0)) == 28.0  # of (2x + 1)^2
    assert dk.derivative(f, 3.0) == 24.0  # of (2x)^2


def test_a_view_of_an_outer_array_inside_an_inner_derivative() -> None:
    def f(x):
        y = x * 1
        view = y[1:]
        first = dk.derivative(lambda z: np.sum((view * z) ** 2), x[0])
        y *= 2
        return first + dk.derivative(lambda z: np.sum((view * z) ** 2), x[0])

    # 2 x0 x1^2 + 2 x0 (2 x1)^2
    assert np.array_equal(dk.gradient(f, np.array([2.0, 3.0])), [90.0, 120.0])


KEYWORDS = {
    "tile": lambda x: np.tile(A=x, reps=2), "repeat": lambda x: np.repeat(a=x, repeats=2),
    "roll": lambda x: np.roll(a=x, shift=1), "delete": lambda x: np.delete(arr=x, obj=1),
    "diagonal": lambda x: np.diagonal(a=np.outer(x, x)), "put": lambda x: _put_into(x),
}  # fmt: skip


def _put_into(x: Any) -> Any:
    y = x.copy()
    y.put([0, 2], x[1])
    return y


@pytest.mark.parametrize("name", KEYWORDS)
def test_arguments_by_keyword(name: str) -> None:
    x = np.array([1.0, 2.0, 3.0])
    assert np.array_equal(trace(KEYWORDS[name], x).outputs[0].value, KEYWORDS[name](x))


@pytest.mark.parametrize(
    "f",
    [
        lambda x: np.sum(x, axis=-1), lambda x: np.logaddexp.reduce(x), lambda x: np.median(x),
        lambda x: np.quantile(x, 0.3), lambda x: np.nanmax(x), lambda x: np.where(x > 0, x, 0),
        lambda x: np.copy(x), lambda x: x.astype(np.float32), lambda x: np.inner(x, x),
    ],
    ids=range(9),
)  # fmt: skip
@pytest.mark.parametrize("x", [np.float64(2.0), np.array(2.0)], ids=["scalar", "0-d"])
def test_a_scalar_stays_a_scalar_and_an_array_an_array(f: Any, x: Any) -> None:
    value = trace(f, x).outputs[0].value
    assert value == f(x)
    assert type(value) is type(f(x))
