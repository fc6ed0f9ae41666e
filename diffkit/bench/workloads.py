"""What is timed: losses written once for any namespace with NumPy's names, and their gradients.

The first argument `xp` of each function is `numpy`, or a peer's namespace of the same names;
`hand` is the gradient as an expert writes it in NumPy, where somebody would.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np

Gradient = tuple[Any, Any]
"""A value, and the gradient in the structure of x."""


@dataclass(frozen=True, eq=False)
class Workload:
    """A function with a point to differentiate it at.

    Attributes:
        name: as asked for on the command line.
        function: of (namespace, x, *data), a number.
        x: an array, a number or a list of arrays.
        data: further arguments, not differentiated.
        hand: value and gradient at (x, *data) in plain NumPy; None where nobody would write it.
    """

    name: str
    function: Callable[..., Any]
    x: Any
    data: tuple[Any, ...] = ()
    hand: Callable[..., Gradient] | None = None

    def f(self, x: Any, *data: Any) -> Any:
        """The function over NumPy."""
        return self.function(np, x, *data)

    def value(self) -> Any:
        """The function's value at the point, without any derivative."""
        return self.function(np, self.x, *self.data)


def _square(xp: Any, x: Any) -> Any:
    return x * x


def _square_by_hand(x: float) -> Gradient:
    return x * x, 2 * x


def _rosenbrock(xp: Any, x: Any) -> Any:
    return xp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def _rosenbrock_by_hand(x: Any) -> Gradient:
    r = x[1:] - x[:-1] ** 2
    q = 1 - x[:-1]
    g = np.zeros_like(x)
    g[1:] += 200 * r
    g[:-1] += -400 * r * x[:-1] - 2 * q
    return np.sum(100 * r**2 + q**2), g


def _classifier(activation: str) -> Callable[..., Any]:
    """The mean cross-entropy of a fully connected classifier, the maximum shifted out."""

    def loss(xp: Any, p: Any, X: Any, Y: Any) -> Any:
        h = X
        last = len(p) // 2 - 1
        for layer in range(last + 1):
            h = h @ p[2 * layer] + p[2 * layer + 1]
            if layer < last:
                h = xp.tanh(h) if activation == "tanh" else xp.maximum(h, xp.zeros_like(h))
        m = xp.max(h, axis=1, keepdims=True)
        total = xp.log(xp.sum(xp.exp(h - m), axis=1, keepdims=True)) + m
        return (xp.sum(total) - xp.sum(h * Y)) / len(X)

    return loss


def _classifier_by_hand(activation: str) -> Callable[..., Gradient]:
    def value_and_gradient(p: list[Any], X: Any, Y: Any) -> Gradient:
        last = len(p) // 2 - 1
        outputs, sums = [X], []
        for layer in range(last + 1):
            z = outputs[-1] @ p[2 * layer] + p[2 * layer + 1]
            sums.append(z)
            outputs.append(np.tanh(z) if activation == "tanh" else np.maximum(z, 0))
        z = sums[-1]
        m = z.max(1, keepdims=True)
        e = np.exp(z - m)
        s = e.sum(1, keepdims=True)
        value = ((np.log(s) + m).sum() - (z * Y).sum()) / len(X)
        delta = (e / s - Y) / len(X)
        gradient = [np.empty(0)] * len(p)
        for layer in reversed(range(last + 1)):
            gradient[2 * layer] = outputs[layer].T @ delta
            gradient[2 * layer + 1] = delta.sum(0)
            if layer:
                delta = delta @ p[2 * layer].T
                h = outputs[layer]
                delta = (
                    delta * (1 - h**2) if activation == "tanh" else delta * (sums[layer - 1] > 0)
                )
        return value, gradient

    return value_and_gradient


def _recurrent(xp: Any, p: Any, X: Any, y: Any) -> Any:
    h = 0.0 * p[2]
    total = 0.0
    for t in range(len(X)):
        h = xp.tanh(X[t] @ p[0] + h @ p[1] + p[2])
        e = (h @ p[3])[0] - y[t]
        total = total + e * e
    return total / len(X)


def _recurrent_by_hand(p: list[Any], X: Any, y: Any) -> Gradient:
    states, errors, total = [np.zeros(len(p[2]))], [], 0.0
    for t in range(len(X)):
        states.append(np.tanh(X[t] @ p[0] + states[-1] @ p[1] + p[2]))
        e = (states[-1] @ p[3])[0] - y[t]
        total += e * e
        errors.append(e)
    gradient = [np.zeros_like(part) for part in p]
    upstream, w = np.zeros(len(p[2])), p[3][:, 0]
    for t in reversed(range(len(X))):
        de = 2 * errors[t] / len(X)
        gradient[3][:, 0] += de * states[t + 1]
        dz = (upstream + de * w) * (1 - states[t + 1] ** 2)
        gradient[0] += X[t][:, None] * dz
        gradient[1] += states[t][:, None] * dz
        gradient[2] += dz
        upstream = p[1] @ dz
    return total / len(X), gradient


def _logistic(xp: Any, w: Any, X: Any, y: Any) -> Any:
    return xp.mean(xp.log(1 + xp.exp(-y * (X @ w)))) + 0.005 * xp.sum(w * w)


def _logistic_by_hand(w: Any, X: Any, y: Any) -> Gradient:
    margin = -y * (X @ w)
    e = np.exp(margin)
    value = np.mean(np.log(1 + e)) + 0.005 * (w @ w)
    return value, X.T @ (-y * e / (1 + e)) / len(y) + 0.01 * w


def _attention(xp: Any, p: Any, X: Any, Y: Any) -> Any:
    q, k, v = X @ p[0], X @ p[1], X @ p[2]
    scores = q @ k.T / np.sqrt(q.shape[1])
    e = xp.exp(scores - xp.max(scores, axis=1, keepdims=True))
    return xp.mean((e / xp.sum(e, axis=1, keepdims=True) @ v - Y) ** 2)


def _attention_by_hand(p: list[Any], X: Any, Y: Any) -> Gradient:
    q, k, v = X @ p[0], X @ p[1], X @ p[2]
    scores = q @ k.T / np.sqrt(q.shape[1])
    e = np.exp(scores - scores.max(1, keepdims=True))
    a = e / e.sum(1, keepdims=True)
    r = a @ v - Y
    d = 2 * r / r.size
    da = d @ v.T
    ds = a * (da - (da * a).sum(1, keepdims=True)) / np.sqrt(q.shape[1])
    return np.mean(r * r), [X.T @ (ds @ k), X.T @ (ds.T @ q), X.T @ (a.T @ d)]


def _mixture(xp: Any, p: Any, X: Any) -> Any:
    """Minus the likelihood of Gaussian components: their means and logarithmic scales."""
    means, scales = p
    d = (X[:, None, :] - means) * xp.exp(-scales)
    q = -0.5 * xp.sum(d * d, axis=2) - xp.sum(scales, axis=1)
    m = xp.max(q, axis=1, keepdims=True)
    return -xp.sum(xp.log(xp.sum(xp.exp(q - m), axis=1)) + m[:, 0])


def _mixture_by_hand(p: list[Any], X: Any) -> Gradient:
    means, scales = p
    precision = np.exp(-scales)
    d = (X[:, None, :] - means) * precision
    q = -0.5 * np.einsum("nkd,nkd->nk", d, d) - scales.sum(1)
    m = q.max(1, keepdims=True)
    e = np.exp(q - m)
    s = e.sum(1, keepdims=True)
    r = e / s
    t = r[:, :, None] * d
    value = -(np.log(s) + m).sum()
    return value, [-t.sum(0) * precision, -((t * d).sum(0) - r.sum(0)[:, None])]


def _lstm(xp: Any, p: Any, X: Any) -> Any:
    """The squared last state of an LSTM cell, whose four gates stand beside each other."""
    W, U, b = p
    n = len(U)
    h = c = 0.0 * b[:n]
    for t in range(len(X)):
        z = X[t] @ W + h @ U + b
        i, o, r = (0.5 + 0.5 * xp.tanh(0.5 * z[k * n : (k + 1) * n]) for k in range(3))
        c = r * c + i * xp.tanh(z[3 * n :])
        h = o * xp.tanh(c)
    return xp.sum(h * h)


def _determinant(xp: Any, A: Any) -> Any:
    """By minors of the first row: recursive Python on single entries."""

    def minor(rows: tuple[int, ...], columns: tuple[int, ...]) -> Any:
        if len(rows) == 1:
            return A[rows[0], columns[0]]
        total = 0.0
        for k, column in enumerate(columns):
            rest = minor(rows[1:], columns[:k] + columns[k + 1 :])
            total = total + (-1) ** k * A[rows[0], column] * rest
        return total

    size = tuple(range(len(A)))
    return minor(size, size)


def _arm(xp: Any, angles: Any) -> Any:
    """How far a chain of links reaches, by the sine and cosine of each joint."""
    x = y = heading = 0.0
    for k in range(len(angles)):
        heading = heading + angles[k]
        x = x + xp.cos(heading) / (k + 1)
        y = y + xp.sin(heading) / (k + 1)
    return x * x + y * y


def _oscillator(xp: Any, p: Any) -> Any:
    """The end of van der Pol's oscillator by the midpoint rule, with its stiffness a parameter."""
    u, v, mu = p[0], p[1], p[2]
    h = 0.02
    for _ in range(200):
        um = u + 0.5 * h * v
        vm = v + 0.5 * h * (mu * (1 - u * u) * v - u)
        u = u + h * vm
        v = v + h * (mu * (1 - um * um) * vm - um)
    return u * u + v * v


def _weights(rng: np.random.Generator, sizes: tuple[int, ...]) -> list[Any]:
    """Weights and biases by layer, scaled so that activations keep their variance."""
    p = []
    for inputs, outputs in pairwise(sizes):
        p += [rng.normal(size=(inputs, outputs)) / np.sqrt(inputs), rng.normal(size=outputs) / 10]
    return p


def _classifier_case(name: str, sizes: tuple[int, ...], batch: int, activation: str) -> Workload:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(batch, sizes[0]))
    Y = np.eye(sizes[-1])[rng.integers(sizes[-1], size=batch)]
    f, hand = _classifier(activation), _classifier_by_hand(activation)
    return Workload(name, f, _weights(rng, sizes), (X, Y), hand)


def _logistic_case(batch: int, inputs: int) -> Workload:
    rng = np.random.default_rng(4)
    data = rng.normal(size=(batch, inputs)), np.sign(rng.normal(size=batch))
    w = rng.normal(size=inputs) / 10
    return Workload("logistic-regression", _logistic, w, data, _logistic_by_hand)


def _attention_case(length: int, width: int) -> Workload:
    rng = np.random.default_rng(5)
    p = [rng.normal(size=(width, width)) / np.sqrt(width) for _ in range(3)]
    data = rng.normal(size=(length, width)), rng.normal(size=(length, width))
    return Workload("attention", _attention, p, data, _attention_by_hand)


def _mixture_case(batch: int, components: int, width: int) -> Workload:
    rng = np.random.default_rng(6)
    p = [rng.normal(size=(components, width)), rng.normal(size=(components, width)) / 10]
    return Workload("mixture", _mixture, p, (rng.normal(size=(batch, width)),), _mixture_by_hand)


def _recurrent_case(steps: int, inputs: int, states: int) -> Workload:
    rng = np.random.default_rng(1)
    shapes = ((inputs, states), (states, states), (states,), (states, 1))
    p = [rng.normal(size=shape) * 0.3 for shape in shapes]
    data = rng.normal(size=(steps, inputs)), rng.normal(size=steps)
    return Workload("rnn", _recurrent, p, data, _recurrent_by_hand)


def _lstm_case(steps: int, inputs: int, states: int) -> Workload:
    rng = np.random.default_rng(2)
    shapes = ((inputs, 4 * states), (states, 4 * states), (4 * states,))
    p = [rng.normal(size=shape) * 0.3 for shape in shapes]
    return Workload("lstm-512", _lstm, p, (rng.normal(size=(steps, inputs)),))


_RNG = np.random.default_rng(3)

WORKLOADS: Final = {
    workload.name: workload
    for workload in (
        Workload("square", _square, 3.0, (), _square_by_hand),
        *(
            Workload(f"rosenbrock-{n}", _rosenbrock, np.linspace(-1, 1, n), (), _rosenbrock_by_hand)
            for n in (10, 10_000)
        ),
        _classifier_case("iris-mlp", (4, 16, 3), 150, "tanh"),
        _classifier_case("digits-mlp", (64, 128, 64, 10), 64, "relu"),
        _logistic_case(500, 30),
        _attention_case(48, 32),
        _mixture_case(1_000, 5, 2),
        _recurrent_case(50, 8, 16),
        _lstm_case(512, 4, 8),
        Workload("determinant", _determinant, _RNG.normal(size=(5, 5))),
        Workload("arm", _arm, _RNG.normal(size=30)),
        Workload("oscillator", _oscillator, np.array([1.0, 0.5, 0.8])),
    )
}
"""By name, in the order in which they are run."""
