"""Compiled gradients of loops, long programs and choices: what is computed at once, what not."""

from __future__ import annotations

import gc
import re
import tracemalloc
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_scenarios import vector
from test_tape_programs import compiled

import diffkit as dk
from diffkit import nn
from diffkit.backends.tape import assembly, differentiator, entry
from diffkit.backends.tape.batching import batched
from diffkit.backends.tape.dots import with_dots
from diffkit.backends.tape.emit import CACHE_LINE, Emitter
from diffkit.backends.tape.plan import Plan, gradient_plan
from diffkit.backends.tape.simplify import simplified
from diffkit.backends.tape.sums import regrouped
from diffkit.tracing.recording import trace


def agrees(f: Callable[..., Any], *points: Any, rtol: float = 1e-12) -> str:
    """Check a compiled gradient against the walk at every point; return its source."""
    prepared = compiled(f, points[0])
    for x in (*points, points[0]):
        program = prepared._programs[-1].compiled
        assert program.run(x, ()) is not None  # it has not declined
        value, gradient = prepared.value_and_gradient(x)
        expected_value, expected = dk.value_and_gradient(f, x)
        assert value == pytest.approx(expected_value, rel=rtol)
        scale = np.max(np.abs(vector(expected)), initial=0)
        np.testing.assert_allclose(vector(gradient), vector(expected), rtol=rtol, atol=rtol * scale)
    source: str = prepared.source()
    return source


# ---------------------------------------------------------------------- loops

T, H, D = 12, 5, 3
DATA = np.random.default_rng(5).normal(size=(T, D))
WANTED = np.random.default_rng(6).normal(size=T)


def weights(seed: int, *extra: tuple[int, ...]) -> Any:
    rng = np.random.default_rng(seed)
    shapes = ((D, H), (H, H), (H,), (H, 1), *extra)
    return [rng.normal(size=shape) * 0.5 for shape in shapes]


def recurrent(p: Any) -> Any:
    h, loss = np.zeros(H), 0.0
    for t in range(T):
        h = np.tanh(DATA[t] @ p[0] + h @ p[1] + p[2])
        e = (h @ p[3])[0] - WANTED[t]
        loss = loss + e * e
    return loss / T


def test_what_turns_of_a_loop_do_alike_is_computed_at_once() -> None:
    source = agrees(recurrent, weights(1), weights(2))
    lines = [line for line in source.split("\n") if line.startswith("    v")]
    steps = [line for line in lines if "(" in line]
    assert source.count("tanh(") == T  # each needs the one before
    assert source.count(".dot(v1, ") == T  # forward
    assert len(steps) < 7 * T + 40


def gated(p: Any) -> Any:
    h = c = np.zeros(H)
    loss = 0.0
    for t in range(T):
        z = DATA[t] @ p[4] + h @ p[5]
        a, b, o = (1 / (1 + np.exp(-z[k * H : (k + 1) * H])) for k in range(3))
        c = a * c + b * np.tanh(z[3 * H :])
        h = o * np.tanh(c)
        loss += np.sum((h - p[2]) ** 2) + (h @ p[3])[0]
    return loss


def minibatch(p: Any) -> Any:
    h = np.zeros((4, H))
    x = np.stack([DATA, DATA**2, np.sin(DATA), DATA - 1])
    for t in range(T):
        h = np.tanh(x[:, t] @ p[0] + h @ p[1] + p[2])
    return np.mean((h @ p[3]) ** 2)


def sliding(p: Any) -> Any:
    w = p[1]
    return sum(np.sum(np.tanh(w[k % H] * w[(k + 1) % H]) ** 2) for k in range(3 * H))


def row_by_row(p: Any) -> Any:
    rows = [np.maximum(p[1][k] @ p[1].T + p[2], 0.1) for k in range(H)]
    shifted = [a - b for a, b in zip(rows, rows[1:] + rows[:1], strict=True)]
    return sum(np.sum(s * s) for s in shifted) + np.sum(np.stack(rows)[::-1] * p[1])


def integrated(p: Any) -> Any:
    y, path = p[2], []
    for _ in range(20):
        k1 = np.sin(y) @ p[1]
        k2 = np.cos(y + 0.05 * k1) * p[2]
        y = y + 0.1 * (k1 + k2) / 2
        path.append(y)
    return np.sum(np.array([np.sum(y**2) for y in path]) * np.linspace(0, 1, 20)) + path[3][1]


def penalised(p: Any) -> Any:
    total = 0.0
    for t in range(T):
        r = DATA[t] @ p[0] - WANTED[t]
        total = total + np.sum(np.where(np.abs(r) < 1, r * r / 2, np.abs(r) - 0.5))
    return total + np.sum(p[3] ** 2)


LOOPS = [recurrent, gated, minibatch, sliding, row_by_row, integrated, penalised]


@pytest.mark.parametrize("f", LOOPS, ids=lambda f: f.__name__)
def test_loops_agree_with_the_walk(f: Any) -> None:
    extra = ((D, 4 * H), (H, 4 * H))
    agrees(f, weights(1, *extra), weights(2, *extra), weights(3, *extra))


BODIES: dict[str, Callable[..., Any]] = {
    "tanh": lambda h, x, w: np.tanh(h + x),
    "recur": lambda h, x, w: 0.5 * (h @ w) + x,
    "turned": lambda h, x, w: w @ h - x,
    "gate": lambda h, x, w: h / (1 + np.exp(-x)),
    "outer": lambda h, x, w: 0.1 * np.outer(h, x)[1] + h,
    "roll": lambda h, x, w: np.concatenate([h[1:], x[:1]]),
    "norm": lambda h, x, w: h / np.sqrt(1 + np.sum(h * h)) + x,
    "entry": lambda h, x, w: h * x[0] + w[0] * h[2],
    "max": lambda h, x, w: 0.9 * np.maximum(h, 0.3 * x) - 0.1,
    "mat": lambda h, x, w: (h.reshape(1, 3) @ w + x).ravel(),
    "minus": lambda h, x, w: x - h * w[1],
}


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from(sorted(BODIES)), min_size=1, max_size=4),
    st.integers(0, 99),
    st.booleans(),
)
def test_random_loops_agree_with_the_walk(names: list[str], seed: int, backwards: bool) -> None:
    rng = np.random.default_rng(seed)
    data = rng.normal(size=(9, 3))

    def f(w: Any) -> Any:
        h, loss = w[0] * 0.1, 0.0
        for x in data[::-1] if backwards else data:
            for name in names:
                h = BODIES[name](h, x, w)
            loss = loss + np.sum(h * x) ** 2 - h[0]
        return loss

    agrees(f, rng.normal(size=(3, 3)) * 0.5, rng.normal(size=(3, 3)) * 0.5, rtol=1e-9)


# ---------------------------------------------------------------------- every pass by itself


def evaluated(plan: Plan, inputs: list[Any]) -> list[Any]:
    """The outputs of a plan, step by step."""
    values: list[Any] = [step.value for step in plan.steps]
    for position, value in zip(plan.inputs, inputs, strict=True):
        values[position] = value
    for position, step in plan.enumerated():
        if step.primitive is not None:
            values[position] = step.primitive.function(
                *(values[i] for i in step.inputs), **step.static
            )
    return [values[position] for position in plan.outputs]


@pytest.mark.parametrize("f", LOOPS, ids=lambda f: f.__name__)
def test_every_pass_keeps_the_results(f: Any) -> None:
    extra = ((D, 4 * H), (H, 4 * H))
    plan = gradient_plan(trace(f, weights(1, *extra)))
    expected = evaluated(plan, weights(2, *extra))
    for improve in (simplified, regrouped, batched, simplified, with_dots):
        plan = improve(plan)
        for step in plan.steps:
            assert all(plan.steps[i].constant or i < len(plan.steps) for i in step.inputs)
        for a, b in zip(evaluated(plan, weights(2, *extra)), expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13)


def test_batches_need_fewer_steps() -> None:
    plan = simplified(gradient_plan(trace(recurrent, weights(1))))
    fewer = simplified(batched(regrouped(plan)))
    operations = [sum(s.primitive is not None and not s.primitive.movement for s in p.steps)
                  for p in (plan, fewer)]  # fmt: skip
    assert operations[1] < operations[0] / 2


# ---------------------------------------------------------------------- guards


@pytest.mark.filterwarnings("ignore::diffkit.errors.KinkWarning")
def test_what_leads_to_a_branch_is_computed_as_the_function_does() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 7))
    w = rng.normal(size=7)
    edges = [float(np.nextafter(row @ w, -np.inf)) for row in x]

    def f(w: Any) -> Any:
        total = 0.0
        for row, edge in zip(x, edges, strict=True):
            z = row @ w
            total = total + (z * z if z >= edge else 100 * z)
        return total

    prepared = compiled(f, w)
    for scale in (1.0, 1 - 2**-53, 1 + 2**-52, 1.0):
        assert prepared.value(w * scale) == f(w * scale)
        value, gradient = prepared.value_and_gradient(w * scale)
        assert value == pytest.approx(f(w * scale), rel=1e-13)
        np.testing.assert_allclose(gradient, dk.gradient(f, w * scale), rtol=1e-12)


def test_scalar_functions_of_python_are_not_used_before_a_branch() -> None:
    def f(x: Any) -> Any:
        y = np.sin(x) * np.exp(x)
        return y * np.tanh(x) if y > 0 else x

    source = compiled(f, 0.7).source()
    assert "m_sin" not in source
    assert "m_tanh" in source
    agrees(f, 0.7, 1.3)


def test_a_loop_of_another_length_is_recorded_anew() -> None:
    def f(x: Any) -> Any:
        while np.sum(x * x) < 50:
            x = x * 1.5
        return np.sum(np.sin(x))

    prepared = compiled(f, np.array([1.0, 2.0]))
    for scale in (1.0, 0.1, 3.0, 1.0):
        x = np.array([1.0, 2.0]) * scale
        np.testing.assert_allclose(prepared.gradient(x), dk.gradient(f, x), rtol=1e-12)


def test_a_compensated_sum_stays_one() -> None:
    terms = np.array([1.0, 1e-16, -1e-17, 3e-16] * 8)

    def f(x: Any) -> Any:
        total = error = x * 0
        for term in terms:
            y = term * x - error
            t = total + y
            error = (t - total) - y
            total = t
        return total * 1.0

    value, gradient = compiled(f, 1.0).value_and_gradient(1.0)
    assert value == f(np.float64(1.0))
    assert gradient == pytest.approx(np.sum(terms), rel=1e-15)


# ---------------------------------------------------------------------- algebra


def test_the_shift_of_a_softmax_costs_no_adjoint() -> None:
    x, y = np.random.default_rng(1).normal(size=(8, 3)), np.eye(3)[[0, 1, 2, 0, 1, 2, 0, 1]]

    def f(w: Any) -> Any:
        z = x @ w
        m = np.max(z, axis=1, keepdims=True)
        return np.mean(np.log(np.sum(np.exp(z - m), axis=1)) + m[:, 0] - np.sum(z * y, axis=1))

    w = np.random.default_rng(2).normal(size=(3, 3))
    source = agrees(f, w, 300 * w)
    assert "equal(" not in source


def by_gathering(z: Any, labels: Any) -> Any:
    shifted = z - np.max(z, axis=1, keepdims=True)
    own = shifted[np.arange(len(labels)), labels]
    return np.mean(np.log(np.sum(np.exp(shifted), axis=1)) - own)


LABELS = np.array([0, 1, 2, 0, 1, 2, 0, 1])


@pytest.mark.parametrize("scale", [1.0, 1e4])
@pytest.mark.parametrize(
    ("loss", "data"),
    [
        (nn.SOFTMAX_CROSS_ENTROPY, (LABELS,)),
        (nn.SOFTMAX_CROSS_ENTROPY, (np.eye(3)[LABELS],)),
        (nn.SOFTMAX_CROSS_ENTROPY, (np.eye(3)[LABELS] / 2 + 0.1,)),
        (nn.SOFTMAX_CROSS_ENTROPY, (LABELS, np.arange(8.0))),
        (by_gathering, (LABELS,)),
    ],
)
def test_the_shift_of_a_cross_entropy_costs_no_adjoint(loss: Any, data: Any, scale: float) -> None:
    z = np.random.default_rng(4).normal(size=(8, 3)) * scale
    prepared = dk.prepare(loss, z, *data)
    walked = dk.value_and_gradient(loss, z, *data)
    for _ in range(3):
        value, gradient = prepared.value_and_gradient(z, *data)
        assert value == pytest.approx(walked[0], rel=1e-14)
        np.testing.assert_allclose(gradient, walked[1], rtol=1e-13, atol=1e-16)
    assert "bitwise_or" not in prepared.source()  # which shares the adjoint of a maximum


def test_a_shift_that_counts_keeps_its_adjoint() -> None:
    def unlike(z: Any, labels: Any) -> Any:  # the terms of the sums, but not their factors
        shifted = z - np.max(z, axis=1, keepdims=True)
        own = shifted[np.arange(len(labels)), labels]
        return np.sum(2 * np.log(np.sum(np.exp(shifted), axis=1)) - own)

    z = np.random.default_rng(4).normal(size=(8, 3))
    prepared = dk.prepare(unlike, z, LABELS)
    walked = dk.gradient(unlike, z, LABELS)
    for _ in range(3):
        np.testing.assert_allclose(prepared.gradient(z, LABELS), walked, rtol=1e-13)
    assert np.abs(np.sum(walked, axis=1)) == pytest.approx(0, abs=1e-14)
    assert "equal(" in prepared.source()


def test_a_cancellation_that_is_none_is_left_to_the_walk() -> None:
    def f(x: Any) -> Any:
        s = np.sum(np.exp(x))
        return np.sum(np.where(x > 5, x, np.exp(x) / s * s))

    agrees(f, np.array([0.5, 1.0]), np.array([0.5, 4.0]))


@pytest.mark.parametrize("scale", [1e-200, 1.0, 1e200])
def test_finite_gradients_are_given_where_their_squares_are_not(scale: float) -> None:
    def f(x: Any) -> Any:
        return np.sum(x * np.array([1.0, 2.0])) * scale

    assert np.array_equal(compiled(f, np.ones(2)).gradient(np.ones(2)), [scale, 2 * scale])


def test_sums_keep_their_digits() -> None:
    rng = np.random.default_rng(3)
    a = rng.normal(size=5000)

    def f(x: Any) -> Any:
        return (
            np.sum(a * x) + np.sum(x - a) + np.sum(np.tanh(x) ** 2) + np.sum(x * x + (x - 1) ** 2)
        )

    prepared = compiled(f, a)
    x = rng.normal(size=5000)
    exact = float(f(x.astype(np.longdouble)))
    assert prepared.value_and_gradient(x)[0] == pytest.approx(exact, rel=1e-13)


def test_the_source_says_what_each_line_is_for() -> None:
    def f(x: Any) -> Any:
        y = np.sin(x)
        return np.sum(y * y)

    source = compiled(f, np.ones(3)).source()
    first = f.__code__.co_firstlineno
    assert f"# line {first + 1}" in source
    assert f"# adjoint of line {first + 1}" in source


@pytest.mark.parametrize("n", [10, 10_000])
def test_a_number_repeated_by_broadcasting_stays_one_number(n: int) -> None:
    source = agrees(lambda x: np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2), np.linspace(-1, 1, n))
    assert "array(" not in source


# ---------------------------------------------------------------------- ties


@pytest.mark.parametrize(
    "f",
    [
        lambda x: np.sum(np.maximum(x, 0) - np.maximum(-x, 0)),
        lambda x: np.sum(np.maximum(x, x)),
        lambda x: np.sum(np.where(x > 0, x, np.expm1(np.minimum(x, 0)))),
    ],
    ids=["relu", "same", "elu"],
)
def test_a_tie_is_left_to_the_general_way(f: Any) -> None:
    prepared = compiled(f, np.array([1.0, -2.0, 3.0]))
    for x in (np.array([0.0, -2.0, 3.0]), np.zeros(3)):
        np.testing.assert_allclose(prepared.gradient(x), dk.gradient(f, x), rtol=1e-15)


@pytest.mark.parametrize("larger", [np.maximum, np.minimum], ids=["maximum", "minimum"])
def test_the_larger_of_a_value_and_itself_is_the_value(larger: Any) -> None:
    agrees(lambda x: np.prod(larger(x, x)), np.array([1.0, -2.0, 3.0]), np.array([2.0, 5.0, 7.0]))


# ---------------------------------------------------------------------- rules at hard points


@pytest.mark.parametrize(
    "f",
    [
        lambda x: np.sum(np.arctan2(x + 0.0, -1.0)),
        lambda x: np.arctan2(np.sum(-x), -1.0) + x[0],
        lambda x: np.sum(np.copysign(3.0, x + 0.0) * x),
    ],
    ids=["arctan2", "sum", "copysign"],
)
def test_the_sign_of_a_zero_is_kept_where_it_matters(f: Any) -> None:
    prepared = compiled(f, np.array([1.0, -2.0]))
    for x in (np.array([-0.0, -2.0]), np.array([0.0, -2.0]), np.array([2.0, -2.0])):
        assert prepared.value(x) == f(x)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert prepared.value_and_gradient(x)[0] == f(x)


@pytest.mark.parametrize(
    "f",
    [
        lambda x: np.sum(x * (0.5 * x > 0) - x),
        lambda x: -np.sum(np.uint8(3) * x) * x[0],
        lambda x: np.sum(np.uint8(200) * (np.uint8(2) * x)) * x[0],
        lambda x: np.sum(-(np.bool_(True) * x)) * x[0],
        lambda x: np.sum(np.float32(2.0) * (0.6 * x)) * x[0],
    ],
    ids=["mask", "negated", "scaled", "true", "single"],
)
def test_factors_of_other_kinds_count_as_numpy_has_them(f: Any) -> None:
    agrees(f, np.array([1.0, -2.0, 3.0]), np.array([0.5, 2.0, -1.0]))


def test_constant_factors_are_not_joined_where_they_underflow() -> None:
    agrees(
        lambda x: np.sum(2.0**-600 * (2.0**-500 * x)) * 2.0**90,
        np.array([2.0**1000, 3.0 * 2.0**1000]),
    )


def test_a_sum_that_overflows_without_its_factor_is_left_to_the_walk() -> None:
    def f(x: Any) -> Any:
        return np.exp(-np.sum(1e-308 * (x * x)))

    prepared = compiled(f, np.array([1.0, 2.0]))
    x = np.array([1e154, 1e154])
    assert prepared.value_and_gradient(x)[0] == pytest.approx(np.exp(-2.0), rel=1e-14)
    np.testing.assert_allclose(prepared.gradient(x), dk.gradient(f, x), rtol=1e-14)


# ---------------------------------------------------------------------- trial


def test_a_program_serves_only_once_it_has_given_what_the_walk_gives(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def wrong(graph: Any, data: Any) -> Any:
        right = entry.compiled(graph, data)
        assert right is not None
        return entry.Compiled(lambda x, d: (right.run(x, d)[0], np.array([1.0, 2.0])), right.source)

    monkeypatch.setattr(differentiator, "compiled", wrong)
    prepared = dk.prepare(lambda x: np.sum(x**2), np.ones(2))
    for x in np.random.default_rng(0).normal(size=(differentiator.LAST_TRIAL + 2, 2)):
        np.testing.assert_allclose(prepared.gradient(x), 2 * x)
    program = prepared._programs[-1]
    assert program.compiled is None
    assert program.candidate is None  # it has had its chances
    assert program.has_values


def test_constants_that_underflow_together_are_left_to_the_walk() -> None:
    prepared = dk.prepare(lambda x: x * 1e300 * 1e-300 * 1e-300, 1.0)
    for _ in range(5):
        assert prepared.gradient(1.0) == pytest.approx(1e-300, rel=1e-14)


# ---------------------------------------------------------------------- numbers


def test_numbers_are_pythons() -> None:
    def f(x: Any) -> Any:
        a, b = x[0, 0] * x[1, 1], x[0, 1] / x[1, 0]
        return np.sin(a - b) ** 3 + np.hypot(a, b) + np.maximum(a, b) ** 2

    source = agrees(f, np.array([[0.5, 1.5], [2.5, 3.5]]), np.array([[-1.5, 0.5], [0.3, 0.2]]))
    assert "multiply(" not in source
    assert ".tolist()" in source


@pytest.mark.filterwarnings("ignore::diffkit.errors.KinkWarning")
def test_where_python_raises_the_general_way_is_taken() -> None:
    def f(x: Any) -> Any:
        return np.where(x < 5, np.exp(x) - x, np.sqrt(x) / (x + 1))

    prepared = compiled(f, 3.0)
    with np.errstate(all="ignore"):
        for x in (4.0, 800.0, -0.25):
            assert prepared.gradient(x) == pytest.approx(dk.gradient(f, x), rel=1e-14)


def test_single_precision_stays_single() -> None:
    def f(x: Any) -> Any:
        return np.sum(2.0 * np.exp(x) / 3) + np.sin(x[0]) * 0.5

    prepared = compiled(f, np.ones(3, np.float32))
    value, gradient = prepared.value_and_gradient(np.ones(3, np.float32))
    assert value.dtype == gradient.dtype == np.float32
    np.testing.assert_allclose(gradient, dk.gradient(f, np.ones(3, np.float32)), rtol=1e-6)


# ---------------------------------------------------------------------- long programs


def test_a_long_program_runs_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assembly, "LINES_AT_ONCE", 7)

    def f(x: Any) -> Any:
        y = x
        for k in range(12):
            y = np.sin(y) * x[k % 3] + y[1]
        return np.sum(y) * np.cos(y[0])

    source = agrees(f, np.array([0.5, 0.2, -0.3]), np.array([-0.5, 1.2, 0.3]))
    assert "def part_3(kept):" in source
    longest = max(part.count("\n") for part in source.split("def ")[2:])
    assert longest < 200


@pytest.mark.parametrize("f", LOOPS, ids=lambda f: f.__name__)
def test_loops_run_in_parts(f: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assembly, "LINES_AT_ONCE", 10)
    extra = ((D, 4 * H), (H, 4 * H))
    assert "def part_2(kept):" in agrees(f, weights(1, *extra), weights(2, *extra))


# ---------------------------------------------------------------------- memory


def test_calls_leave_nothing_behind() -> None:
    p = weights(1)
    prepared = compiled(recurrent, p)
    for _ in range(50):
        prepared.value_and_gradient(p)
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(2_000):
        prepared.value_and_gradient(p)
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert after - before < 5_000


def test_a_call_allocates_little_beyond_its_results() -> None:
    n = 200_000

    def f(x: Any) -> Any:
        return np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)

    x = np.linspace(-1, 1, n)
    prepared = compiled(f, x)
    tracemalloc.start()
    prepared.value_and_gradient(x)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.1 * x.nbytes


def test_buffers_begin_with_a_cache_line() -> None:
    emitter = Emitter(simplified(gradient_plan(trace(recurrent, weights(2)))))
    emitter.body()
    buffers = [value for name, value in emitter.names.items() if re.fullmatch(r"b\d+", name)]
    assert buffers
    assert all(buffer.ctypes.data % CACHE_LINE == 0 for buffer in buffers)


def test_a_compiled_gradient_holds_little_more_than_its_buffers() -> None:
    n = 200_000

    def f(x: Any) -> Any:
        return np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)

    x = np.linspace(-1, 1, n)
    tracemalloc.start()
    prepared = compiled(f, x)
    gc.collect()
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    by_hand = 5 * x.nbytes  # r, q, the gradient and two temporaries
    assert held + x.nbytes < 1.5 * by_hand
    assert prepared.gradient(x) == pytest.approx(dk.gradient(f, x), rel=1e-12, abs=1e-12)


def test_the_general_way_is_there_after_the_values_are_forgotten() -> None:
    prepared = compiled(lambda x: np.sum(np.abs(x) * np.exp(x)), np.array([1.0, -2.0]))
    assert not prepared._programs[-1].has_values
    with pytest.warns(dk.KinkWarning):
        assert prepared.gradient(np.array([1.0, 0.0])) == pytest.approx([2 * np.e, 0.0])
    assert prepared.value(np.array([1.0, 1.0])) == pytest.approx(2 * np.e)


@pytest.mark.parametrize("f", LOOPS, ids=lambda f: f.__name__)
def test_results_share_no_memory_with_anything(f: Any) -> None:
    extra = ((D, 4 * H), (H, 4 * H))
    p = weights(1, *extra)
    prepared = compiled(f, p)
    first, second = prepared.gradient(p), prepared.gradient(p)
    kept = vector(second).copy()
    for leaf in first:
        assert leaf.flags.writeable
        assert not any(np.shares_memory(leaf, other) for other in (*second, *p))
        leaf[...] = np.nan
    assert np.array_equal(vector(second), kept)
    assert np.array_equal(vector(prepared.gradient(p)), kept)
