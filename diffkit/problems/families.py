"""Families of functions that grow with a size, for seeing how their derivatives grow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np

from diffkit.errors import InvalidInput
from diffkit.nn.activations import sigmoid
from diffkit.problems.definition import SURVEY, Function
from diffkit.problems.scalar import logistic_map
from diffkit.problems.vector import helmholtz, helmholtz_data, speelpenning


@dataclass(frozen=True)
class Member:
    """One function of a family.

    Attributes:
        f: the function, called as f(x, *data); its value is one number.
        x: the point.
        data: further arguments, not differentiated.
        order: of the derivative by a scalar x; 1 is the gradient, for any x.
    """

    f: Function
    x: Any
    data: tuple[Any, ...] = ()
    order: int = 1

    @property
    def arguments(self) -> tuple[Any, ...]:
        """The positional arguments of `f`: the point, then the data."""
        return (self.x, *self.data)


@dataclass(frozen=True, eq=False)
class Family:
    """Functions of the same form and of growing size.

    Attributes:
        name: its name in `FAMILIES`.
        size: what the size counts, in words.
        description: the formula.
        source: where it comes from.
        sizes: those worth looking at.
        member: returns the function of a size.
    """

    name: str
    size: str
    description: str
    source: str
    sizes: tuple[int, ...]
    member: Callable[[int], Member]


def family(name: str) -> Family:
    """Return the family of that name.

    Raises:
        InvalidInput: there is none; the message lists the names.
    """
    if name in FAMILIES:
        return FAMILIES[name]
    close = get_close_matches(name, FAMILIES, n=1) if isinstance(name, str) else []
    hint = f"; did you mean {close[0]!r}" if close else ""
    raise InvalidInput(f"unknown family {name!r}{hint}; choose one of {', '.join(FAMILIES)}")


def nested_sigmoids(x: Any, n: int) -> Any:
    """Return σ(2 σ(2 ... σ(2x))), n times."""
    for _ in range(n):
        x = sigmoid(2 * x)
    return x


def determinant_by_minors(x: Any) -> Any:
    """Return det x, expanded along the first row, and its minors likewise: n! products."""
    if len(x) == 1:
        return x[0, 0]
    others = np.arange(len(x))
    minors = (determinant_by_minors(x[1:, others != j]) for j in others)
    return sum((-1) ** int(j) * x[0, j] * minor for j, minor in enumerate(minors))


def perceptron(parameters: Any, x: Any) -> Any:
    """Return v·h for h = tanh(W h + b) layer after layer, starting from x."""
    for layer in parameters["hidden"]:
        x = np.tanh(layer["W"] @ x + layer["b"])
    return parameters["v"] @ x


def perceptron_parameters(inputs: int, widths: tuple[int, ...], seed: int = 0) -> dict[str, Any]:
    """Return parameters for `perceptron`: weights of variance 1 / inputs of their layer."""
    generator = np.random.default_rng(seed)
    hidden = []
    for width in widths:
        W = generator.normal(size=(width, inputs)) / np.sqrt(inputs)
        hidden.append({"W": W, "b": 0.1 * generator.normal(size=width)})
        inputs = width
    return {"hidden": hidden, "v": generator.normal(size=inputs)}


def _logistic(n: int) -> Member:
    return Member(lambda x: logistic_map(x, n), np.float64(0.2))


def _speelpenning(n: int) -> Member:
    return Member(speelpenning, np.arange(1.0, n + 1) / np.arange(2.0, n + 2))


def _sigmoids(n: int) -> Member:
    return Member(lambda x: nested_sigmoids(x, n), np.float64(0.3))


def _sigmoids_order(order: int) -> Member:
    return Member(lambda x: nested_sigmoids(x, 2), np.float64(0.3), order=order)


def _perceptron(inputs: int, widths: tuple[int, ...]) -> Member:
    parameters = perceptron_parameters(inputs, widths)
    return Member(perceptron, parameters, (np.linspace(-1.0, 1.0, inputs),))


def _helmholtz(n: int) -> Member:
    x, A, b = helmholtz_data(n)
    return Member(helmholtz, x, (A, b))


def _determinant(n: int) -> Member:
    generator = np.random.default_rng(n)
    return Member(determinant_by_minors, generator.uniform(-1, 1, (n, n)) + n * np.eye(n))


GRIEWANK_WALTHER = "Griewank and Walther, Evaluating derivatives, 2nd edition, 2008"

FAMILIES: dict[str, Family] = {
    f.name: f
    for f in (
        Family(
            "logistic",
            "iterate n",
            "l_n of the logistic map: l_1 = x, l_{n+1} = 4 l_n (1 - l_n)",
            f"{SURVEY}, Table 1",
            tuple(range(1, 11)),
            _logistic,
        ),
        Family(
            "speelpenning",
            "factors",
            "the product of n numbers",
            GRIEWANK_WALTHER,
            (2, 4, 6, 8, 12, 16, 24, 32),
            _speelpenning,
        ),
        Family(
            "sigmoids",
            "depth",
            "n sigmoids inside one another, each of twice the last",
            "the standard example of a deep composition",
            tuple(range(1, 11)),
            _sigmoids,
        ),
        Family(
            "order",
            "order of the derivative",
            "two sigmoids inside one another, differentiated again and again",
            "the standard example of a deep composition",
            (1, 2, 3, 4, 5, 6),
            _sigmoids_order,
        ),
        Family(
            "mlp-depth",
            "hidden layers",
            "a tanh network with 2 inputs and layers of 3, by all its parameters",
            f"{SURVEY}, section 3.2",
            (1, 2, 3, 4, 5, 6, 8, 10),
            lambda depth: _perceptron(2, (3,) * depth),
        ),
        Family(
            "mlp-width",
            "width of the layers",
            "a tanh network with 2 inputs and two hidden layers, by all its parameters",
            f"{SURVEY}, section 3.2",
            (1, 2, 3, 4, 6, 8, 12, 16),
            lambda width: _perceptron(2, (width, width)),
        ),
        Family(
            "helmholtz",
            "components",
            "the Helmholtz free energy of a mixed fluid",
            f"{SURVEY}, section 4; after Griewank 1989",
            (1, 2, 3, 4, 6, 8, 12, 16),
            _helmholtz,
        ),
        Family(
            "determinant",
            "rows",
            "the determinant by minors, n! products",
            GRIEWANK_WALTHER,
            (1, 2, 3, 4, 5),
            _determinant,
        ),
    )
}
