"""One table of functions with derivatives written by hand, run against every backend.

The families are those of DifferentiationInterfaceTest (its default and sparse scenarios) and
the published examples. `jacobian(x)` has the shape of the output, then the shape of `x`; for a
function of one number `hessian(x)` has the shape of `x` twice. Vectorisation of matrices is
column-major, as there. An expectation names the backend that refuses and its documented error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import diffkit as dk

Array = Any


@dataclass(frozen=True)
class Scenario:
    name: str
    f: Callable[..., Any]
    x: Any
    jacobian: Callable[..., Any]
    hessian: Callable[..., Any] | None = None
    tangent: Any = None
    cotangent: Any = None
    data: tuple[Any, ...] = ()
    refusals: Mapping[str, type[Exception]] = field(default_factory=dict)


NUMBER, NUMBER_TANGENT = 0.42, 3.14
VECTOR = np.arange(1.0, 7.0)
MATRIX = np.arange(1.0, 7.0).reshape((2, 3), order="F")
TWO, SIX = np.array([-3.0, 4.0]), np.arange(-5.0, 6.0, 2.0)
TWO_BY_TWO = np.array([[-3.0, 4.0], [7.0, -1.0]])
TWELVE = np.arange(-11.0, 12.0, 2.0)


def columns(matrix: Array) -> Array:
    """The entries of a matrix, column by column."""
    return np.reshape(matrix, (-1,), order="F")


# ---------------------------------------------------------------------- a number in


def sine(x: Array) -> Array:
    return np.sin(x)


def sine_of_vector(x: Array) -> Array:
    return np.sin(x)


def sine_of_matrix(x: Array) -> Array:
    return np.sin(x)


def sine_of_array(x: Array) -> Array:
    return np.sin(x)


def two_sines(x: Array) -> Array:
    return np.array([np.sin(x), np.sin(2 * x)])


def four_sines(x: Array) -> Array:
    return np.array([[np.sin(x), np.sin(3 * x)], [np.sin(2 * x), np.sin(6 * x)]])


def four_cosines(x: Array) -> Array:
    return np.array([[np.cos(x), 3 * np.cos(3 * x)], [2 * np.cos(2 * x), 6 * np.cos(6 * x)]])


FROM_A_NUMBER = [
    Scenario(
        "number to number", sine, NUMBER, np.cos, lambda x: -np.sin(x), NUMBER_TANGENT, -1 / 12
    ),
    Scenario(
        "number to vector",
        two_sines,
        NUMBER,
        lambda x: np.array([np.cos(x), 2 * np.cos(2 * x)]),
        None,
        NUMBER_TANGENT,
        TWO,
    ),
    Scenario(
        "number to matrix", four_sines, NUMBER, four_cosines, None, NUMBER_TANGENT, TWO_BY_TWO
    ),
]

# ---------------------------------------------------------------------- an array to a number


def powers_by_algebra(x: Array) -> Array:
    """sum_i sum_j x_i^4 x_j^6."""
    return np.sum(np.outer(x**4, x**6))


def powers_by_loops(x: Array) -> Array:
    total = 0.0
    for a in x.ravel():
        for b in x.ravel():
            total = total + a**4 * b**6
    return total


def powers_gradient(x: Array) -> Array:
    return 4 * x**3 * np.sum(x**6) + 6 * x**5 * np.sum(x**4)


def powers_hessian(x: Array) -> Array:
    v = x.ravel()
    mixed = np.outer(4 * v**3, 6 * v**5)
    diagonal = 12 * v**2 * np.sum(v**6) + 30 * v**4 * np.sum(v**4)
    return (mixed + mixed.T + np.diag(diagonal)).reshape(x.shape + x.shape)


TO_A_NUMBER = [
    Scenario(f"{shape} to number by {how}", f, x, powers_gradient, powers_hessian, -x, -1 / 12)
    for shape, x in (("vector", VECTOR), ("matrix", MATRIX))
    for how, f in (("linear algebra", powers_by_algebra), ("loops", powers_by_loops))
]

# ---------------------------------------------------------------------- an array to an array


def stacked_from_vector(x: Array) -> Array:
    return np.concatenate([np.sin(x), np.cos(x)])


def stacked_from_vector_jacobian(x: Array) -> Array:
    return np.concatenate([np.diag(np.cos(x)), np.diag(-np.sin(x))])


def side_by_side_from_vector(x: Array) -> Array:
    return np.stack([np.sin(x), np.cos(x)], axis=1)


def side_by_side_from_vector_jacobian(x: Array) -> Array:
    return np.stack([np.diag(np.cos(x)), np.diag(-np.sin(x))], axis=1)


def stacked_from_matrix(x: Array) -> Array:
    return np.concatenate([columns(np.sin(x)), columns(np.cos(x))])


def _column_major_unit(shape: tuple[int, ...]) -> Array:
    """d vec(X) / d X for column-major vec: shape (size, *shape)."""
    size = int(np.prod(shape))
    return np.moveaxis(np.eye(size).reshape((*shape, size), order="F"), -1, 0)


def stacked_from_matrix_jacobian(x: Array) -> Array:
    unit = _column_major_unit(x.shape)
    return np.concatenate([unit * np.cos(x), unit * -np.sin(x)])


def side_by_side_from_matrix(x: Array) -> Array:
    return np.stack([columns(np.sin(x)), columns(np.cos(x))], axis=1)


def side_by_side_from_matrix_jacobian(x: Array) -> Array:
    unit = _column_major_unit(x.shape)
    return np.stack([unit * np.cos(x), unit * -np.sin(x)], axis=1)


TO_AN_ARRAY = [
    Scenario(
        "vector to vector",
        stacked_from_vector,
        VECTOR,
        stacked_from_vector_jacobian,
        None,
        -VECTOR,
        TWELVE,
    ),
    Scenario(
        "vector to matrix",
        side_by_side_from_vector,
        VECTOR,
        side_by_side_from_vector_jacobian,
        None,
        -VECTOR,
        TWELVE.reshape((6, 2), order="F"),
    ),
    Scenario(
        "matrix to vector",
        stacked_from_matrix,
        MATRIX,
        stacked_from_matrix_jacobian,
        None,
        -MATRIX,
        TWELVE,
    ),
    Scenario(
        "matrix to matrix",
        side_by_side_from_matrix,
        MATRIX,
        side_by_side_from_matrix_jacobian,
        None,
        -MATRIX,
        TWELVE.reshape((6, 2), order="F"),
    ),
    Scenario(
        "length-one vector",
        sine_of_vector,
        np.array([NUMBER]),
        lambda x: np.diag(np.cos(x)),
        None,
        np.array([NUMBER_TANGENT]),
        np.array([-1 / 12]),
    ),
]

# ---------------------------------------------------------------------- sparse and linear maps


def squared_differences(x: Array) -> Array:
    return np.diff(x) ** 2


def _differences(n: int) -> Array:
    return np.eye(n - 1, n, 1) - np.eye(n - 1, n)


def squared_differences_jacobian(x: Array) -> Array:
    return 2 * np.diff(x)[:, None] * _differences(len(x))


def squared_and_cubed_differences(x: Array) -> Array:
    return np.concatenate([np.diff(x) ** 2, np.diff(x) ** 3])


def squared_and_cubed_jacobian(x: Array) -> Array:
    banded = _differences(len(x))
    return np.concatenate([2 * np.diff(x)[:, None] * banded, 3 * np.diff(x)[:, None] ** 2 * banded])


def cubed_differences(x: Array) -> Array:
    return np.sum(np.diff(x) ** 3)


def cubed_differences_gradient(x: Array) -> Array:
    return _differences(len(x)).T @ (3 * np.diff(x) ** 2)


def cubed_differences_hessian(x: Array) -> Array:
    banded = _differences(len(x))
    return banded.T @ np.diag(6 * np.diff(x)) @ banded


def banded_matrix(n: int, bands: int) -> Array:
    """A fixed matrix with `bands` diagonals on each side of the main one."""
    i, j = np.indices((n, n))
    return np.where(np.abs(i - j) <= bands, np.cos(1.0 + i + 2 * j), 0.0)


def quadratic_of_squares(x: Array, A: Array) -> Array:
    v = x**2
    return v @ A @ v


def quadratic_of_squares_gradient(x: Array, A: Array) -> Array:
    return 2 * x * ((A + A.T) @ x**2)


def quadratic_of_squares_hessian(x: Array, A: Array) -> Array:
    S = A + A.T
    return np.diag(2 * (S @ x**2)) + 4 * np.outer(x, x) * S


def linear_map_of_squares(x: Array, A: Array) -> Array:
    return A @ x**2


FIFTY = np.linspace(0.5, 1.5, 50)

SPARSE = [
    Scenario(
        "sparse vector to vector",
        squared_differences,
        VECTOR,
        squared_differences_jacobian,
        None,
        -VECTOR,
        SIX[:5],
    ),
    Scenario(
        "sparse vector to longer vector",
        squared_and_cubed_differences,
        VECTOR,
        squared_and_cubed_jacobian,
        None,
        -VECTOR,
        TWELVE[:10],
    ),
    Scenario(
        "sparse Hessian",
        cubed_differences,
        VECTOR**2,
        cubed_differences_gradient,
        cubed_differences_hessian,
        -VECTOR,
        -1 / 12,
    ),
    *(
        Scenario(
            f"banded Hessian, {bands} bands",
            quadratic_of_squares,
            FIFTY,
            quadratic_of_squares_gradient,
            quadratic_of_squares_hessian,
            -FIFTY,
            -1 / 12,
            data=(banded_matrix(50, bands),),
        )
        for bands in (5, 10, 20)
    ),
    Scenario(
        "linear map",
        linear_map_of_squares,
        VECTOR,
        lambda x, A: 2 * A * x,
        None,
        -VECTOR,
        TWO,
        data=(np.arange(12.0).reshape(2, 6),),
    ),
]

# ---------------------------------------------------------------------- nothing


def identity(x: Array) -> Array:
    return x


def constant(x: Array) -> Array:
    return np.array([2.0, 3.0])


def same_number(x: Array) -> Array:
    return x


def unused(x: Array) -> float:
    return 7.0


def total(x: Array) -> Array:
    return np.sum(x**2)


def first_entries(x: Array) -> Array:
    return np.sin(x[:0])


NOTHING = [
    Scenario(
        "empty input",
        total,
        np.zeros(0),
        lambda x: np.zeros(0),
        lambda x: np.zeros((0, 0)),
        np.zeros(0),
        2.0,
    ),
    Scenario(
        "empty matrix",
        sine_of_matrix,
        np.zeros((0, 3)),
        lambda x: np.zeros((0, 3, 0, 3)),
        None,
        np.zeros((0, 3)),
        np.zeros((0, 3)),
    ),
    Scenario(
        "empty output",
        first_entries,
        VECTOR,
        lambda x: np.zeros((0, 6)),
        None,
        -VECTOR,
        np.zeros(0),
    ),
    Scenario("identity", identity, VECTOR, lambda x: np.eye(6), None, -VECTOR, SIX),
    Scenario(
        "identity of a number",
        same_number,
        NUMBER,
        lambda x: 1.0,
        lambda x: 0.0,
        NUMBER_TANGENT,
        -1 / 12,
    ),
    Scenario("constant", constant, VECTOR, lambda x: np.zeros((2, 6)), None, -VECTOR, TWO),
    Scenario(
        "input not used",
        unused,
        VECTOR,
        lambda x: np.zeros(6),
        lambda x: np.zeros((6, 6)),
        -VECTOR,
        -1 / 12,
    ),
]

# ---------------------------------------------------------------------- structures


def two_layers(p: Any, u: Array) -> Array:
    """A neuron with a named weight vector, a bias and a list of output weights."""
    return p["out"][0] * np.tanh(p["w"] @ u + p["b"]) + p["out"][1]


def two_layers_gradient(p: Any, u: Array) -> Any:
    a = np.tanh(p["w"] @ u + p["b"])
    slope = p["out"][0] * (1 - a**2)
    return {"w": slope * u, "b": slope, "out": [a, 1.0]}


def two_layers_hessian(p: Any, u: Array) -> Any:
    a, c = np.tanh(p["w"] @ u + p["b"]), p["out"][0]
    slope = 1 - a**2
    bend = -2 * c * a * slope
    zeros, by_w = np.zeros_like(u), slope * u
    return {
        "w": {"w": bend * np.outer(u, u), "b": bend * u, "out": [by_w, zeros]},
        "b": {"w": bend * u, "b": bend, "out": [slope, 0.0]},
        "out": [
            {"w": by_w, "b": slope, "out": [0.0, 0.0]},
            {"w": zeros, "b": 0.0, "out": [0.0, 0.0]},
        ],
    }


def pair_of(x: Any) -> Any:
    """A tuple of a number and a vector from a tuple of a vector and a number."""
    v, s = x
    return s * np.sum(v**2), np.sin(s) * v


def pair_jacobian(x: Any) -> Any:
    v, s = x
    return (
        (2 * s * v, np.sum(v**2)),
        (np.sin(s) * np.eye(len(v)), np.cos(s) * v),
    )


NESTED = [
    Scenario(
        "named parameters",
        two_layers,
        {"w": np.array([0.5, -1.0]), "b": 0.25, "out": [1.5, -0.5]},
        two_layers_gradient,
        two_layers_hessian,
        {"w": np.array([1.0, 2.0]), "b": -1.0, "out": [0.5, 3.0]},
        -1 / 12,
        data=(np.array([0.3, 0.7]),),
    ),
    Scenario(
        "tuple to tuple",
        pair_of,
        (np.array([1.0, -2.0, 0.5]), 0.75),
        pair_jacobian,
        None,
        (np.array([0.5, 1.0, -1.0]), 2.0),
        (2.0, np.array([1.0, -1.0, 3.0])),
    ),
    Scenario(
        "0-d array",
        sine_of_array,
        np.array(NUMBER),
        np.cos,
        lambda x: -np.sin(x),
        np.array(NUMBER_TANGENT),
        -1 / 12,
    ),
]

# ---------------------------------------------------------------------- published examples


def griewank_example(x: Array) -> Array:
    """ln x1 + x1 x2 - sin x2 (Baydin et al. 2018, Tables 2 and 3)."""
    return np.log(x[0]) + x[0] * x[1] - np.sin(x[1])


def griewank_gradient(x: Array) -> Array:
    return np.array([1 / x[0] + x[1], x[0] - np.cos(x[1])])


def griewank_hessian(x: Array) -> Array:
    return np.array([[-1 / x[0] ** 2, 1.0], [1.0, np.sin(x[1])]])


def cubic_and_square(p: Any) -> Array:
    """Q = 3 x^3 + y^2, entry by entry (after the torch.autograd tutorial)."""
    return 3 * p["x"] ** 3 + p["y"] ** 2


def cubic_and_square_jacobian(p: Any) -> Any:
    return {"x": np.diag(9 * p["x"] ** 2), "y": np.diag(2 * p["y"])}


def logistic_map(x: Array) -> Array:
    """l_4 of Baydin et al. 2018, Table 1."""
    for _ in range(3):
        x = 4 * x * (1 - x)
    return x


def logistic_map_derivative(x: Array) -> Array:
    return 64 * (
        1
        - 42 * x
        + 504 * x**2
        - 2640 * x**3
        + 7040 * x**4
        - 9984 * x**5
        + 7168 * x**6
        - 2048 * x**7
    )


def logistic_map_second(x: Array) -> Array:
    return 64 * (
        -42 + 1008 * x - 7920 * x**2 + 28160 * x**3 - 49920 * x**4 + 43008 * x**5 - 14336 * x**6
    )


def exponential_over_trigonometric(x: Array) -> Array:
    """e^x / (cos^3 x + sin^3 x) (Moler 2013)."""
    return np.exp(x) / (np.cos(x) ** 3 + np.sin(x) ** 3)


def _trigonometric(x: Array) -> tuple[Array, Array, Array]:
    s, c = np.sin(x), np.cos(x)
    d = c**3 + s**3
    d1 = 3 * s * c * (s - c)
    d2 = 3 * (c**2 - s**2) * (s - c) + 3 * s * c * (c + s)
    return d, d1, d2


def exponential_over_trigonometric_derivative(x: Array) -> Array:
    d, d1, _ = _trigonometric(x)
    return np.exp(x) * (d - d1) / d**2


def exponential_over_trigonometric_second(x: Array) -> Array:
    d, d1, d2 = _trigonometric(x)
    return np.exp(x) * ((d - d2) / d**2 - 2 * (d - d1) * d1 / d**3)


def softmax(x: Array) -> Array:
    e = np.exp(x - np.max(x))
    return e / np.sum(e)


def softmax_jacobian(x: Array) -> Array:
    s = np.exp(x) / np.sum(np.exp(x))
    return np.diag(s) - np.outer(s, s)


PUBLISHED = [
    Scenario(
        "ln x1 + x1 x2 - sin x2",
        griewank_example,
        np.array([2.0, 5.0]),
        griewank_gradient,
        griewank_hessian,
        np.array([1.0, 0.0]),
        1.0,
    ),
    Scenario(
        "3 x^3 + y^2",
        cubic_and_square,
        {"x": np.array([2.0, 3.0]), "y": np.array([6.0, 5.0])},
        cubic_and_square_jacobian,
        None,
        {"x": np.array([1.0, 0.0]), "y": np.array([0.0, 1.0])},
        np.array([1.0, 1.0]),
    ),
    Scenario(
        "logistic map",
        logistic_map,
        0.2,
        logistic_map_derivative,
        logistic_map_second,
        NUMBER_TANGENT,
        -1 / 12,
    ),
    Scenario(
        "e^x / (cos^3 x + sin^3 x)",
        exponential_over_trigonometric,
        np.pi / 4,
        exponential_over_trigonometric_derivative,
        exponential_over_trigonometric_second,
        NUMBER_TANGENT,
        -1 / 12,
    ),
    Scenario(
        "softmax",
        softmax,
        np.array([0.5, 0.5, 0.1, 0.7]),
        softmax_jacobian,
        None,
        np.array([1.0, -1.0, 0.5, 2.0]),
        np.array([-3.0, 4.0, 7.0, -1.0]),
    ),
]

# ---------------------------------------------------------------------- control flow, closures


def clipped_power(x: Array) -> Array:
    if x > 0.3:
        return x**3
    return -x


def halved_until_small(x: Array) -> Array:
    while np.abs(x) > 0.1:
        x = x / 2
    return x


def _scaled_by(factor: float) -> Callable[[Array], Array]:
    def scaled(x: Array) -> Array:
        return np.sum(factor * np.exp(x))

    return scaled


CONTROL_FLOW = [
    Scenario(
        "branch",
        clipped_power,
        NUMBER,
        lambda x: 3 * x**2,
        lambda x: 6 * x,
        NUMBER_TANGENT,
        -1 / 12,
    ),
    Scenario(
        "while", halved_until_small, NUMBER, lambda x: 0.125, lambda x: 0.0, NUMBER_TANGENT, -1 / 12
    ),
    Scenario(
        "closure",
        _scaled_by(0.1),
        VECTOR / 6,
        lambda x: 0.1 * np.exp(x),
        lambda x: np.diag(0.1 * np.exp(x)),
        -VECTOR,
        -1 / 12,
    ),
]

SCENARIOS: list[Scenario] = [
    *FROM_A_NUMBER,
    *TO_A_NUMBER,
    *TO_AN_ARRAY,
    *SPARSE,
    *NOTHING,
    *NESTED,
    *PUBLISHED,
    *CONTROL_FLOW,
]


def register_closed_forms() -> None:
    """Give the analytic backend the table's own formulas, so that its operators are tested."""
    for s in SCENARIOS:
        dk.register(s.f, jacobian=s.jacobian, hessian=s.hessian)
