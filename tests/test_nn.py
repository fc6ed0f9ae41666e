"""Networks and their backpropagation, against mpmath, published numbers and arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import FrozenInstanceError
from typing import Any

import numpy as np
import pytest
from high_precision import along, big, rounded
from test_nn_losses import precise_loss

from diffkit.backends.formulas.networks import backpropagation
from diffkit.errors import InvalidInput
from diffkit.nn import (
    HALF_SQUARED_ERROR,
    HINGE,
    IDENTITY,
    LOSSES,
    MEAN_SQUARED_ERROR,
    RELU,
    SIGMOID,
    SOFTMAX_CROSS_ENTROPY,
    SOFTPLUS,
    TANH,
    Activation,
    Dense,
    Loss,
    Network,
    fully_connected,
    iris,
)
from diffkit.nn.zoo import NETWORKS, network
from diffkit.structure import flatten

DTYPES = [np.float16, np.float32, np.float64, np.longdouble]
every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=str)


# ------------------------------------------------------------------ networks


def test_iris_mlp_is_the_network_of_the_design() -> None:
    case = network("iris-mlp")
    assert case.network.parameter_count == 131
    assert flatten(case.parameters)[0].size == 131
    assert [x.shape for x in case.data] == [(150, 4), (150, 3)]
    assert case.loss(case.parameters, *case.data) == case.network.loss(case.parameters, *case.data)
    assert flatten(case.parameters)[0].entry_names()[14] == "layer1.W[0, 14]"


def test_the_numbers_that_mazur_prints() -> None:
    case = network("mazur")
    gradient = backpropagation(case.network, case.parameters, *case.data)
    step = [
        w - 0.5 * g
        for layer in ("layer1", "layer2")
        for w, g in zip(
            case.parameters[layer]["W"].T.flat, gradient[layer]["W"].T.flat, strict=True
        )
    ]
    assert f"{case.loss(case.parameters, *case.data):.9f}" == "0.298371109"
    assert f"{gradient['layer2']['W'][0, 0]:.9f}" == "0.082167041"
    np.testing.assert_allclose(
        step,
        [
            *(0.149780716, 0.19956143, 0.24975114, 0.29950229),
            *(0.35891648, 0.408666186, 0.511301270, 0.561370121),
        ],
        atol=5.1e-9,
    )


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_named_networks_come_out_the_same_each_time(name: str) -> None:
    one, other = network(name), network(name)
    assert one.network == other.network
    assert hash(one.network) == hash(other.network)
    assert one.loss(one.parameters, *one.data) == other.loss(other.parameters, *other.data)


def test_an_unknown_network_is_answered_with_the_list() -> None:
    with pytest.raises(InvalidInput, match="choose one of iris-mlp, mazur"):
        network("iris")


def test_a_network_by_hand() -> None:
    net = fully_connected((2, 1), MEAN_SQUARED_ERROR, TANH)
    parameters = {"layer1": {"W": np.array([[2.0], [3.0]]), "b": np.array([1.0])}}
    np.testing.assert_array_equal(net.predict(parameters, np.array([[1.0, 2.0]])), [[9.0]])
    assert net.loss(parameters, np.array([[1.0, 2.0]]), np.array([[7.0]])) == 4.0


def test_one_sample_may_come_without_a_batch() -> None:
    case = network("iris-mlp")
    X, Y = case.data
    assert case.loss(case.parameters, X[7], Y[7]) == pytest.approx(
        case.loss(case.parameters, X[7:8], Y[7:8]), rel=1e-14
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_parameters_keep_their_dtype(dtype: Any) -> None:
    net = fully_connected((4, 5, 3), SOFTMAX_CROSS_ENTROPY, SIGMOID)
    parameters = net.initial(1, dtype)
    X, y = iris().X[:9].astype(dtype), iris().y[:9]
    assert {leaf.dtype for leaf in flatten(parameters)[1]} == {np.dtype(dtype)}
    assert net.loss(parameters, X, y).dtype == dtype
    assert flatten(backpropagation(net, parameters, X, y))[1][0].dtype == dtype


def test_a_seed_fixes_the_parameters() -> None:
    net = fully_connected((4, 5, 3), SOFTMAX_CROSS_ENTROPY, TANH)
    one, same, other = net.initial(1), net.initial(1), net.initial(2)
    np.testing.assert_array_equal(one["layer1"]["W"], same["layer1"]["W"])
    assert np.all(one["layer1"]["W"] != other["layer1"]["W"])
    assert np.abs(one["layer1"]["W"]).max() <= (6 / 9) ** 0.5


def test_a_network_cannot_be_changed() -> None:
    net = fully_connected((2, 1), MEAN_SQUARED_ERROR, TANH)
    with pytest.raises(FrozenInstanceError):
        net.criterion = HALF_SQUARED_ERROR  # type: ignore[misc]


@pytest.mark.parametrize(
    "build",
    [
        lambda: Network((), MEAN_SQUARED_ERROR),
        lambda: Network((Dense(2, 3), Dense(4, 1)), MEAN_SQUARED_ERROR),
        lambda: Dense(0, 1),
        lambda: Dense(1, -1),
        lambda: fully_connected((3,), MEAN_SQUARED_ERROR, TANH),
    ],
)
def test_networks_that_do_not_fit_together_are_refused(build: Callable[[], Any]) -> None:
    with pytest.raises(InvalidInput):
        build()


@pytest.mark.parametrize(
    ("parameters", "X"),
    [
        ({}, np.zeros((1, 2))),
        (None, np.zeros((1, 2))),
        ({"layer1": {"W": np.zeros((2, 1))}}, np.zeros((1, 2))),
        ({"layer1": {"W": np.zeros((2, 1)), "b": np.zeros(2)}}, np.zeros((1, 2))),
        ({"layer1": {"W": np.zeros((1, 2)), "b": np.zeros(1)}}, np.zeros((1, 2))),
        ({"layer1": {"W": np.zeros((2, 1)), "b": np.zeros(1)}}, np.zeros((2, 1))),
        ({"layer1": {"W": np.zeros((2, 1)), "b": np.zeros(1)}}, np.float64(1)),
    ],
)
def test_parameters_and_features_that_do_not_fit_are_refused(parameters: Any, X: Any) -> None:
    net = fully_connected((2, 1), MEAN_SQUARED_ERROR, TANH)
    with pytest.raises(InvalidInput):
        net.loss(parameters, X, np.zeros((1, 1)))


# ------------------------------------------------------------------ backpropagation


PRECISE: dict[str, Callable[[Any], Any]] = {
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "softplus": lambda x: np.log(1 + np.exp(x)),
    "relu": lambda x: x * (x > 0),
}


def precise(net: Network) -> Network:
    """The same network, of functions that run on high-precision numbers."""

    def layer(old: Dense) -> Dense:
        phi = old.activation
        function = PRECISE.get(phi.name, phi.function)
        return Dense(old.inputs, old.outputs, Activation(phi.name, function, IDENTITY, IDENTITY))

    function: Any = precise_loss(net.criterion)
    criterion = Loss(net.criterion.name, function, function)
    return Network(tuple(layer(old) for old in net.layers), criterion)


@every_loss
@pytest.mark.parametrize("hidden", [TANH, SIGMOID, SOFTPLUS, RELU, IDENTITY], ids=str)
@pytest.mark.parametrize("output", [IDENTITY, SIGMOID], ids=str)
@pytest.mark.parametrize("batch", [None, 1, 3])
def test_backpropagation_is_right(
    loss: Loss, hidden: Activation, output: Activation, batch: int | None
) -> None:
    """Along random directions of all parameters, against 90-digit differences."""
    net = fully_connected((3, 4, 2, 2), loss, hidden, output)
    rng = np.random.default_rng(5)
    shape = () if batch is None else (batch,)
    X, y = rng.normal(size=(*shape, 3)), rng.uniform(size=(*shape, 2))
    y = np.sign(y - 0.5) if loss is HINGE else y
    layout, leaves = flatten(net.initial(4))
    vector = layout.ravel(leaves) + 0.1 * rng.normal(size=layout.size)
    v = rng.normal(size=layout.size)

    def loss_of(flat: Any) -> Any:
        ends = np.cumsum([leaf.size for leaf in layout.leaves])[:-1]
        parts = zip(np.split(flat, ends), layout.leaves, strict=True)
        return precise(net).loss(
            layout.unflatten([part.reshape(leaf.shape) for part, leaf in parts]), big(X), y
        )

    gradient = backpropagation(net, layout.unflatten(layout.unravel(vector)), X, y)
    got_layout, got = flatten(gradient)
    assert got_layout == layout
    want = float(np.asarray(along(loss_of, vector, v)).astype(float))
    scale = float(np.linalg.norm(layout.ravel(got)) * np.linalg.norm(v))
    assert abs(layout.ravel(got) @ v - want) <= 1e-14 * scale


def test_backpropagation_of_iris_mlp_along_random_directions() -> None:
    case = network("iris-mlp")
    layout, leaves = flatten(case.parameters)
    X, Y = (a[::25] for a in case.data)
    v = np.random.default_rng(8).normal(size=layout.size)

    def loss_of(t: Any) -> Any:
        moved = [a + big(d) * t for a, d in zip(leaves, layout.unravel(v), strict=True)]
        return case.loss(layout.unflatten(moved), X, Y)

    gradient = flatten(backpropagation(case.network, case.parameters, X, Y))[1]
    want = rounded(along(loss_of, 0.0, 1.0))
    np.testing.assert_allclose(layout.ravel(gradient) @ v, want, rtol=1e-13)
