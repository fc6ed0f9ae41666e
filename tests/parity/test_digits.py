"""The handwritten digits that come with scikit-learn: 95 % of those held out are recognised."""

from __future__ import annotations

import numpy as np
import pytest

from diffkit.nn import RELU, SOFTMAX_CROSS_ENTROPY, digits, fully_connected, he
from diffkit.training import SGD, Plan, accuracy, train


@pytest.mark.parametrize("seed", [0, 1])
def test_digits_are_recognised(seed: int) -> None:
    data = digits()
    order = np.random.default_rng(seed).permutation(len(data.X))
    learned, held = order[:1300], order[1300:]
    net = fully_connected((64, 128, 64, 10), SOFTMAX_CROSS_ENTROPY, RELU)
    plan = Plan(SGD(0.1, momentum=0.9), epochs=15, batch=64, seed=seed)
    start = net.initial(seed, initialiser=he)
    found = train(net, start, data.X[learned], data.y[learned], plan)
    assert accuracy(net, found.parameters, data.X[held], data.y[held]) >= 0.95
