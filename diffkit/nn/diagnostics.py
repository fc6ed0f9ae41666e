"""What goes wrong inside networks, as numbers: signals that vanish, units that die.

Gradients are given by the caller, from whichever backend; nothing here differentiates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from diffkit.errors import InvalidInput
from diffkit.nn.activations import Activation
from diffkit.nn.layers import Dense, Layer
from diffkit.nn.network import Network


@dataclass(frozen=True)
class LayerSignal:
    """One layer of a network, on the way forth and on the way back.

    Attributes:
        name: of the layer.
        deviation: standard deviation of its outputs.
        saturated: share of its units and samples where |φ'| is below a hundredth; None where a
            layer has no φ.
        dead: share of its units with φ' = 0 for every sample: they cannot learn from these.
        gradient: Euclidean norm of the gradient by its weights; None without weights.
    """

    name: str
    deviation: float
    saturated: float | None
    dead: float | None
    gradient: float | None


def layer_signals(
    network: Network, parameters: Any, X: Any, gradient: Any
) -> tuple[LayerSignal, ...]:
    """Return what each layer does with the samples `X`.

    Args:
        network: any.
        parameters: where.
        X: samples.
        gradient: of the loss there, in the structure of the parameters.
    """
    signals = []
    for name, layer in network.named_layers:
        own = parameters.get(name, {})
        slopes = _slopes(layer, own, X)
        X = layer.forward(own, X)
        signals.append(
            LayerSignal(
                name,
                float(np.std(X)),
                None if slopes is None else float(np.mean(np.abs(slopes) < 0.01)),
                None if slopes is None else float(np.mean(np.all(slopes == 0, axis=0))),
                _norm(gradient[name]) if name in gradient else None,
            )
        )
    return tuple(signals)


def decay(signals: Sequence[LayerSignal]) -> float:
    """Return the factor by which the gradient's norm changes per layer towards the input.

    The geometric mean from the last layer with weights to the first: below 1 gradients vanish
    with depth, above 1 they explode. A weight's gradient is the product of a signal and an
    adjoint: where signals grow on the way forth as adjoints do on the way back, all norms are
    equally enormous (or tiny), and this factor stays near 1.

    Raises:
        InvalidInput: fewer than two layers have a gradient, or the last one's is 0.
    """
    norms = [signal.gradient for signal in signals if signal.gradient is not None]
    if len(norms) < 2 or not norms[-1]:
        raise InvalidInput("a decay needs two layers with gradients, and the last not 0")
    return float((norms[0] / norms[-1]) ** (1 / (len(norms) - 1)))


def zigzag(gradients: Any) -> float:
    """Return the share of samples by which all weights of a neuron move the same way.

    Where all inputs of a neuron are positive, every sample pushes all of its weights up or all
    of them down, so that a path that needs both goes in a zigzag.

    Args:
        gradients: by the weights of one neuron, one row per sample.
    """
    signs = np.sign(gradients)
    return float(np.mean(np.all(signs >= 0, axis=1) | np.all(signs <= 0, axis=1)))


def approximation_errors(
    f: Callable[[Any], Any],
    activation: Activation,
    widths: Sequence[int],
    *,
    scale: float = 10.0,
    points: int = 400,
    seed: int = 0,
) -> dict[int, float]:
    """Return the largest error on [-1, 1] of the best output layer, by hidden width.

    A hidden layer of random weights, the outputs fitted by least squares: no training that
    might fail. With any activation but a polynomial the error falls as the width grows; a
    polynomial of degree d spans the polynomials of degree d, however many units there are.
    Source: Cybenko (1989); Leshno, Lin, Pinkus and Schocken, Neural Networks 6 (1993).

    Args:
        f: a function of an array, on [-1, 1].
        activation: of the hidden layer.
        widths: numbers of hidden units.
        scale: hidden weights are uniform in ± this.
        points: on which the error is measured, evenly spread.
        seed: of the hidden weights. A wider layer contains the narrower ones.
    """
    generator = np.random.default_rng(seed)
    slopes = generator.uniform(-scale, scale, max(widths))
    centres = generator.uniform(-1, 1, max(widths))
    x = np.linspace(-1, 1, points)
    hidden = activation(slopes * (x[:, None] - centres))
    errors = {}
    for width in widths:
        columns = np.concatenate([hidden[:, :width], np.ones((points, 1))], axis=1)
        fitted = columns @ np.linalg.lstsq(columns, f(x), rcond=None)[0]
        errors[width] = float(np.max(np.abs(fitted - f(x))))
    return errors


def loss_surface(
    loss: Callable[[Any], Any],
    parameters: dict[str, Any],
    directions: tuple[dict[str, Any], dict[str, Any]],
    steps: Any,
) -> Any:
    """Return the loss on a plane through the parameters, (steps, steps).

    Entry [i, j] is the loss at parameters + steps[i] · first + steps[j] · second: the picture
    in which plateaus and valleys show.
    """
    first, second = directions
    return np.array(
        [
            [float(loss(_moved(_moved(parameters, first, s), second, t))) for t in steps]
            for s in steps
        ]
    )


def _slopes(layer: Layer, parameters: Any, x: Any) -> Any:
    """φ' of each unit and sample, (..., units), where the layer is of the kind that has it."""
    if not isinstance(layer, Dense):
        return None
    return layer.activation.derivative(layer.preactivation(parameters, x))


def _norm(gradient: Any) -> float:
    """The norm of the weights' gradient, those of nested layers included."""

    def squares(member: Any, name: str) -> float:
        if isinstance(member, dict):
            return sum(squares(inner, key) for key, inner in member.items())
        return float(np.sum(np.square(member, dtype=float))) if name.startswith("W") else 0.0

    return float(np.sqrt(squares(gradient, "")))


def _moved(parameters: Any, direction: Any, step: float) -> Any:
    if isinstance(parameters, dict):
        return {key: _moved(parameters[key], direction[key], step) for key in parameters}
    return parameters + step * direction
