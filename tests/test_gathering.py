"""Integers that select entries are operands: a recording holds for any of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from primitive_checks import assert_close, central_jacobian

import diffkit as dk
from diffkit.nn import Embedding, WordPairs
from diffkit.tracing import trace
from diffkit.tracing.primitives import PRIMITIVES
from diffkit.tracing.primitives.gathering import OPERAND
from diffkit.training import SGD, Plan, train

RNG = np.random.default_rng(7)
TABLE = RNG.normal(size=(6, 3))
WORDS = np.array([[0, 2], [5, 2], [-1, 3]])


class Counted:
    """A function that counts how often it is run on traced arrays, that is, recorded."""

    def __init__(self, f: Callable[..., Any]) -> None:
        self.f = f
        self.recordings = 0

    def __call__(self, x: Any, *data: Any) -> Any:
        self.recordings += not isinstance(x if not isinstance(x, dict) else x["W"], np.ndarray)
        return self.f(x, *data)


def cross_entropy(W: Any, words: Any, labels: Any) -> Any:
    outputs = np.sum(W[words] ** 2, axis=1)
    log_likelihoods = outputs - np.log(np.sum(np.exp(outputs), axis=1, keepdims=True))
    return -np.mean(log_likelihoods[np.arange(len(labels)), labels])


READS: dict[str, Callable[[Any, Any], Any]] = {
    "row": lambda x, i: np.sum(x[i[0, 0]] ** 2),
    "rows": lambda x, i: np.sum(x[i] ** 2),
    "among others": lambda x, i: np.sum(x[1:, i[:, 0] % 3] ** 2),
    "pairs": lambda x, i: np.sum(x[np.arange(2), i[0] % 3] ** 2),
    "take": lambda x, i: np.sum(np.take(x, i, axis=1, mode="wrap") ** 3),
    "clipped": lambda x, i: np.sum(np.take(x, i, mode="clip") ** 3),
    "along an axis": lambda x, i: np.sum(np.take_along_axis(x[:3, :2], i % 2, 1) ** 2),
    "choose": lambda x, i: np.sum(np.choose(i % 3, [x[:3, :2], x[1:4, :2] ** 2, x[2:5, :2] * 3])),
    "of a constant": lambda x, i: np.sum(np.take_along_axis(np.arange(6.0), i[0], 0)) * np.sum(x),
    "mesh": lambda x, i: np.sum(x[np.ix_(i[:, 0], i[0] % 3)] ** 2),
}
WRITES: dict[str, Callable[[Any, Any], Any]] = {
    "rows": lambda y, i: y.__setitem__(i[:, 0], y[i[:, 1]] ** 2),
    "repeated rows": lambda y, i: y.__setitem__(i, np.sin(y[i])),
    "one row": lambda y, i: y.__setitem__(i[0, 0], y[0] * 2),
    "added": lambda y, i: np.add.at(y, i[:, 0], y[:3] ** 2),
    "subtracted": lambda y, i: np.subtract.at(y, i[:, 0], y[:3] ** 2),
    "along an axis": lambda y, i: np.put_along_axis(y, np.repeat(i[:, :1] % 3, 2, 0), 2.0, 1),
    "through a view": lambda y, i: y[i[0, 1]].__setitem__(0, y[0, 0] ** 2),
}


def write(name: str) -> Callable[[Any, Any], Any]:
    def f(x: Any, i: Any) -> Any:
        y = np.zeros_like(x)
        y[...] = x**2
        WRITES[name](y, i)
        return np.sum(y * np.arange(18.0).reshape(6, 3))

    return f


def at(name: str, f: Callable[[Any, Any], Any], words: Any, backend: str = "tape") -> Any:
    return dk.gradient(f, TABLE, words, backend=backend)


@pytest.mark.parametrize("name", READS)
def test_an_index_of_data_needs_no_second_recording(name: str) -> None:
    counted = Counted(READS[name])
    prepared = dk.prepare(counted, TABLE, WORDS)
    for words in (WORDS, WORDS[::-1], WORDS * 0, WORDS * 0 + 4):
        expected = central_jacobian(lambda x, words=words: READS[name](x, words), TABLE)
        assert_close(prepared.gradient(TABLE, words), expected)
        np.testing.assert_array_equal(
            dk.gradient(READS[name], TABLE, words), prepared.gradient(TABLE, words)
        )
    assert counted.recordings == 1


@pytest.mark.parametrize("name", WRITES)
def test_a_write_by_data_follows_it(name: str) -> None:
    f = write(name)
    counted = Counted(f)
    prepared = dk.prepare(counted, TABLE, WORDS)
    for words in (WORDS, WORDS[::-1] % 6, WORDS * 0):
        expected = central_jacobian(lambda x, words=words: f(x, words), TABLE)
        assert_close(prepared.gradient(TABLE, words), expected)
    assert counted.recordings == 1 or name == "through a view"


@pytest.mark.parametrize("name", READS)
def test_the_other_backends_and_the_truth_agree(name: str) -> None:
    comparison = dk.compare(READS[name], TABLE, WORDS, backends=("tape", "symbolic"))
    assert all(row.digits is not None and row.digits > 13 for row in comparison.rows), comparison


@pytest.mark.parametrize("name", [*READS, *WRITES])
def test_second_derivatives(name: str) -> None:
    f = READS[name] if name in READS else write(name)
    prepared = dk.prepare(f, TABLE, WORDS)
    expected = central_jacobian(lambda x: prepared.gradient(x, WORDS), TABLE)
    assert_close(dk.hessian(f, TABLE, WORDS), expected, 1e-6)


@pytest.mark.parametrize(
    ("name", "arguments", "static"),
    [
        ("gather", (TABLE,), {"index": (slice(1, 3), OPERAND)}),
        ("scatter", (RNG.normal(size=(3, 2, 3)),), {"index": (OPERAND,), "shape": (6, 3)}),
        ("scatter", (RNG.normal(size=(6, 3, 2)),), {"index": (..., OPERAND), "shape": (6, 6)}),
        ("written", (TABLE, RNG.normal(size=(3, 2, 3))), {"index": (OPERAND,)}),
    ],
)
def test_pullback_of_a_row(name: str, arguments: tuple[Any, ...], static: dict[str, Any]) -> None:
    words = WORDS % 3 if name == "gather" else WORDS
    row = PRIMITIVES[name]

    def pull(k: int, g: Any, y: Any, given: Any, static: Any) -> Any:
        return row.pull(k, g, y, (*given, words), static)

    value = row.function(*arguments, words, **static)
    g = np.sin(1.0 + np.arange(np.size(value))).reshape(np.shape(value))
    for k, argument in enumerate(arguments):

        def moved(x: Any, k: int = k) -> Any:
            return row.function(*arguments[:k], x, *arguments[k + 1 :], words, **static)

        expected = np.tensordot(g, central_jacobian(moved, argument), np.ndim(value))
        assert_close(pull(k, g, value, arguments, static), expected)


def test_an_index_out_of_range_is_numpys_own_error() -> None:
    prepared = dk.prepare(cross_entropy, TABLE, WORDS, np.array([0, 1, 2]))
    for _ in range(3):
        prepared.gradient(TABLE, WORDS, np.array([0, 1, 2]))
    with pytest.raises(IndexError, match="index 3 is out of bounds for axis 1 with size 3"):
        prepared.gradient(TABLE, WORDS, np.array([0, 1, 3]))
    with pytest.raises(IndexError, match=r"index . is out of bounds for axis 0 with size 6"):
        prepared.gradient(TABLE, WORDS + 4, np.array([0, 1, 2]))
    with pytest.raises(ValueError, match="invalid entry in choice array"):
        dk.prepare(lambda x, i: np.choose(i, [x, x])[0], 1.0, np.array([0])).gradient(
            1.0, np.array([-1])
        )


def test_an_order_is_an_operand_and_the_number_of_different_entries_is_not() -> None:
    def f(x: Any) -> Any:
        return np.sum(np.sort(x)[:2]) * x[np.argmax(x)] + np.median(x)

    def distinct(x: Any) -> Any:
        return np.sum(np.unique(np.floor(x)) * np.arange(np.size(np.unique(np.floor(x)))))

    assert not trace(f, TABLE[0]).guards
    counted = Counted(f)
    prepared = dk.prepare(counted, TABLE[0])
    for x in TABLE:
        assert_close(prepared.gradient(x), central_jacobian(f, x))
    assert counted.recordings == 1
    assert trace(distinct, np.array([0.3, 1.2, 1.7])).guards


def test_a_number_written_where_a_mask_holds_is_a_choice() -> None:
    def f(x: Any) -> Any:
        y = x**2
        y[y < 0.5] = 0.25
        return np.sum(y)

    counted = Counted(f)
    prepared = dk.prepare(counted, TABLE)
    for x in (TABLE, -TABLE, TABLE[::-1].copy()):
        np.testing.assert_array_equal(prepared.gradient(x), np.where(x**2 < 0.5, 0, 2 * x))
    assert counted.recordings == 1


@pytest.mark.parametrize("layer", [Embedding(6, 3), WordPairs(6, 3)])
def test_training_on_batches_of_words_records_once_per_size(layer: Any) -> None:
    words = RNG.integers(0, 6, (32, 3))
    targets = RNG.normal(size=(32, 3))

    def loss(parameters: Any, X: Any, y: Any) -> Any:
        out = layer.forward(parameters, X)
        return np.mean(
            (
                out
                - (
                    y
                    if out.ndim == 2 and out.shape[1] == 3
                    else y[:, :2]
                    if out.ndim == 2
                    else y[:, :, None]
                )
            )
            ** 2
        )

    recordings = 0

    def counted(parameters: Any, X: Any, y: Any) -> Any:
        nonlocal recordings
        recordings += not isinstance(next(iter(parameters.values())), np.ndarray)
        return loss(parameters, X, y)

    start = {name: RNG.normal(size=shape) for name, shape in layer.shapes.items()}
    found = train(counted, start, words, targets, Plan(SGD(0.05), epochs=4, batch=8))
    assert found.history.loss[-1] < found.history.loss[0]
    assert recordings == 1
