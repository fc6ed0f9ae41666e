"""Dropout: masks as data, drawn anew for each step of training and left out afterwards."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from diffkit import gradient, validate
from diffkit.backends.tape import differentiator
from diffkit.errors import InvalidInput
from diffkit.nn import (
    MEAN_SQUARED_ERROR,
    SOFTMAX_CROSS_ENTROPY,
    TANH,
    Dense,
    Dropout,
    Network,
    Residual,
    draw_masks,
    iris,
    skip_gram,
    split,
    without_dropout,
)
from diffkit.structure import flatten
from diffkit.training import SGD, Plan, accuracy, train
from diffkit.training.loop import leaves_of
from diffkit.validation.crosscheck import cross_check

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(20, 3)), RNG.normal(size=(20, 2))
PLAIN = Network((Dense(3, 8, TANH), Dropout(0.5), Dense(8, 2)), MEAN_SQUARED_ERROR)
NESTED = Network(
    (Residual((Dense(3, 3, TANH), Dropout(0.25), Dense(3, 3))), Dropout(0.1), Dense(3, 2)),
    MEAN_SQUARED_ERROR,
)
NETWORKS = pytest.mark.parametrize("net", [PLAIN, NESTED], ids=["plain", "in a block"])


def vector(parameters: Any) -> Any:
    layout, leaves = flatten(parameters)
    return layout.ravel(leaves)


def masks_of(net: Network, seed: int = 1) -> Any:
    return draw_masks(net, net.initial(1), X, np.random.default_rng(seed))


def test_masks_are_laid_out_like_the_layers() -> None:
    masks = masks_of(NESTED)
    assert list(masks) == ["layer1", "layer2"]
    assert masks["layer1"]["layer2"]["mask"].shape == (20, 3)
    assert set(np.unique(masks_of(PLAIN)["layer2"]["mask"])) == {0.0, 2.0}
    assert masks_of(Network((Dense(3, 2),), MEAN_SQUARED_ERROR)) == {}
    assert np.any(vector(masks_of(PLAIN, 1)) != vector(masks_of(PLAIN, 2)))


def test_a_mask_keeps_the_dtype() -> None:
    p = PLAIN.initial(1, dtype=np.float32)
    masks = draw_masks(PLAIN, p, X.astype(np.float32), np.random.default_rng(1))
    assert masks["layer2"]["mask"].dtype == np.float32


@NETWORKS
def test_what_is_dropped_is_what_the_mask_says(net: Network) -> None:
    p, ones = net.initial(1), masks_of(net)
    _, leaves = flatten(ones)
    for leaf in leaves:
        leaf[...] = 1.0
    np.testing.assert_array_equal(net.predict(p, X, ones), without_dropout(net).predict(p, X))
    assert np.any(net.predict(p, X, masks_of(net)) != net.predict(p, X))


@NETWORKS
def test_a_given_mask_four_ways(net: Network) -> None:
    data = (X, Y, None, masks_of(net))
    found = cross_check(net.loss, net.initial(1), *data)
    assert found.verdict == "agree", found
    assert not found.refusals


@NETWORKS
def test_a_gradient_with_masks_is_validated(net: Network) -> None:
    data, p = (X, Y, None, masks_of(net)), net.initial(1)
    right = gradient(net.loss, p, *data, backend="analytic")
    assert validate(net.loss, p, right, *data).verdict == "agree"
    other = gradient(net.loss, p, X, Y, None, masks_of(net, 2))
    assert validate(net.loss, p, other, *data).verdict == "disagree"


def test_a_mask_of_another_shape_is_refused() -> None:
    masks = masks_of(PLAIN)
    with pytest.raises(InvalidInput, match="mask of shape"):
        PLAIN.loss(PLAIN.initial(1), X[:5], Y[:5], None, masks)


# ------------------------------------------------------------------ training


def test_each_step_has_masks_of_its_own_and_the_seed_fixes_them() -> None:
    def run(**options: Any) -> Any:
        plan = Plan(SGD(0.1), epochs=4, batch=8, **options)
        return vector(train(PLAIN, PLAIN.initial(1), X, Y, plan).parameters)

    np.testing.assert_array_equal(run(seed=1), run(seed=1))
    assert np.any(run(seed=1) != run(seed=1, fresh_masks=False))


@pytest.mark.parametrize("backend", ["analytic", "tape"])
def test_a_step_with_fresh_masks_by_hand(backend: str) -> None:
    start = PLAIN.initial(1)
    found = train(PLAIN, start, X, Y, Plan(SGD(0.1), epochs=1, seed=5), backend=backend)
    generator = np.random.default_rng([5, 1])
    draw_masks(PLAIN, start, X, generator)  # those that the gradient is prepared with
    masks = draw_masks(PLAIN, start, X, generator)
    slope = gradient(PLAIN.loss, start, X, Y, None, masks)
    np.testing.assert_allclose(vector(found.parameters), vector(start) - 0.1 * vector(slope))


def test_fresh_masks_and_labels_are_recorded_once_for_each_size_of_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A recording costs as much as hundreds of steps."""
    sizes: list[int] = []
    record = differentiator.record

    def counting(target: Any, point: Any) -> Any:
        sizes.append(len(point.data[0]))
        return record(target, point)

    monkeypatch.setattr(differentiator, "record", counting)
    net = Network((Dense(3, 8, TANH), Dropout(0.5), Dense(8, 3)), SOFTMAX_CROSS_ENTROPY)
    labels = np.arange(20) % 3
    for targets in (labels, np.eye(3)[labels]):
        sizes.clear()
        train(net, net.initial(1), X, targets, Plan(SGD(0.1), epochs=30, batch=8))
        assert sizes == [8, 4]
    words = np.random.default_rng(1).integers(0, 6, (20, 3))
    sizes.clear()
    pairs = skip_gram(6, 2, negative=True)
    wanted = np.tile([1.0, 0.0], (20, 1))
    train(pairs, pairs.initial(1), words, wanted, Plan(SGD(0.1), epochs=30, batch=8))
    assert sizes == [8, 4]


def test_nothing_is_dropped_when_a_network_is_judged() -> None:
    first, second = split(iris(), 0.3, 1)
    net = Network((Dense(4, 32, TANH), Dropout(0.5), Dense(32, 3)), SOFTMAX_CROSS_ENTROPY)
    plan = Plan(SGD(0.1, 0.9), epochs=40, batch=15)
    found = train(net, net.initial(1), first.X, first.y, plan, held_out=(second.X, second.y))
    use = without_dropout(net)
    assert found.history.held_out[-1] == use.loss(found.parameters, second.X, second.y)
    assert accuracy(net, found.parameters, second.X, second.y) >= 0.9
    assert accuracy(net, found.parameters, second.X, second.y) == accuracy(
        use, found.parameters, second.X, second.y
    )


def test_the_leaves_of_a_gradient_come_in_the_order_of_its_layout() -> None:
    nested = {"b": (1.0, [2.0, {"z": 3.0, "a": 4.0}]), "a": 5.0}
    assert leaves_of(nested) == [float(v) for v in vector(nested)]
