"""Backpropagation through time; the formulas take what those of `dense` do.

Source of the scheme: Werbos, Proceedings of the IEEE 78 (1990). The adjoint of a state is what
comes from its own output plus what comes back from the next step.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from diffkit.backends.formulas.dense import Backward
from diffkit.nn.recurrent import GRU, LSTM, Elman


def elman(layer: Elman, parameters: dict[str, Any], x: Any, adjoint: Any) -> Backward:
    """With z_t = x_t W_x + h_{t-1} W_h + b and δ_t = ∂L/∂z_t:

    δ_t = (∂L/∂h_t + δ_{t+1} W_hᵀ) · φ'(z_t)
    ∂L/∂W_x = Σ_t x_tᵀ δ_t    ∂L/∂W_h = Σ_t h_{t-1}ᵀ δ_t    ∂L/∂b = Σ_t δ_t
    """
    inputs, h = layer.steps(parameters, x)
    steps = []
    for now in inputs:
        z = layer.preactivation(parameters, now, h)
        steps.append((now, h, z))
        h = layer.activation(z)

    later: Any = 0
    total, by_input = _Sums(), []
    for (now, h, z), outer in _backwards(layer, steps, adjoint):
        delta = (outer + later) * layer.activation.derivative(z)
        total.add(W_x=now.T @ delta, W_h=h.T @ delta, b=np.sum(delta, axis=0))
        by_input.append(delta @ parameters["W_x"].T)
        later = delta @ parameters["W_h"].T
    return total.sums, np.stack(by_input[::-1], axis=1)


def lstm(layer: LSTM, parameters: dict[str, Any], x: Any, adjoint: Any) -> Backward:
    """With h = o tanh c and c = f c₋ + i g, at each step from the last to the first:

    ∂L/∂c += ∂L/∂h · o (1 - tanh² c)      ∂L/∂c₋ = ∂L/∂c · f
    δ_i = ∂L/∂c · g i (1 - i)             δ_f = ∂L/∂c · c₋ f (1 - f)
    δ_g = ∂L/∂c · i (1 - g²)              δ_o = ∂L/∂h · tanh(c) o (1 - o)
    """
    inputs, h = layer.steps(parameters, x)
    c, steps = h, []
    for now in inputs:
        i, f, g, o = layer.opened(parameters, now, h)
        steps.append((now, h, c, f * c + i * g, (i, f, g, o)))
        c = f * c + i * g
        h = o * np.tanh(c)

    later: Any = 0
    cell: Any = 0
    total, by_input = _Sums(), []
    for (now, h, before, c, (i, f, g, o)), outer in _backwards(layer, steps, adjoint):
        state, y = outer + later, np.tanh(c)
        cell = cell + state * o * (1 - y) * (1 + y)
        delta = np.concatenate(
            [
                cell * g * i * (1 - i),
                cell * before * f * (1 - f),
                cell * i * (1 - g) * (1 + g),
                state * y * o * (1 - o),
            ],
            axis=1,
        )
        cell = cell * f
        total.add(W_x=now.T @ delta, W_h=h.T @ delta, b=np.sum(delta, axis=0))
        by_input.append(delta @ parameters["W_x"].T)
        later = delta @ parameters["W_h"].T
    return total.sums, np.stack(by_input[::-1], axis=1)


def gru(layer: GRU, parameters: dict[str, Any], x: Any, adjoint: Any) -> Backward:
    """With h = (1 - z) n + z h₋, n = tanh(p + r q), q = (h₋ W_h + d)_n:

        δ_n = ∂L/∂h (1 - z) (1 - n²)    δ_z = ∂L/∂h (h₋ - n) z (1 - z)    δ_r = δ_n q r (1 - r)

    reach x W_x + b; h₋ W_h + d has the same, but δ_n r for n. ∂L/∂h₋ also has ∂L/∂h z.
    """
    inputs, h = layer.steps(parameters, x)
    steps = []
    for now in inputs:
        r, z, n, q = layer.opened(parameters, now, h)
        steps.append((now, h, r, z, n, q))
        h = (1 - z) * n + z * h

    later: Any = 0
    total, by_input = _Sums(), []
    for (now, h, r, z, n, q), outer in _backwards(layer, steps, adjoint):
        state = outer + later
        delta_n = state * (1 - z) * (1 - n) * (1 + n)
        delta_z = state * (h - n) * z * (1 - z)
        delta_r = delta_n * q * r * (1 - r)
        new = np.concatenate([delta_r, delta_z, delta_n], axis=1)
        old = np.concatenate([delta_r, delta_z, delta_n * r], axis=1)
        total.add(W_x=now.T @ new, W_h=h.T @ old, b=np.sum(new, axis=0), d=np.sum(old, axis=0))
        by_input.append(new @ parameters["W_x"].T)
        later = state * z + old @ parameters["W_h"].T
    return total.sums, np.stack(by_input[::-1], axis=1)


class _Sums:
    """Running sums over the steps, by name."""

    def __init__(self) -> None:
        self.sums: dict[str, Any] = {}

    def add(self, **terms: Any) -> None:
        for name, term in terms.items():
            self.sums[name] = self.sums[name] + term if name in self.sums else term


def _backwards(layer: Any, steps: list[Any], adjoint: Any) -> list[tuple[Any, Any]]:
    """The steps from the last to the first, each with the adjoint of its own output."""
    last = len(steps) - 1
    if layer.every_step:
        return [(steps[t], adjoint[:, t]) for t in range(last, -1, -1)]
    return [(steps[t], adjoint if t == last else 0) for t in range(last, -1, -1)]
