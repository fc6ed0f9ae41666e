"""Problems from several numbers to one, and from several to several."""

from __future__ import annotations

from math import e, pi, sqrt
from typing import Any

import numpy as np

from diffkit.nn.activations import softmax, softmax_jacobian
from diffkit.problems.definition import SURVEY, Problem


def survey_trace(x: Any) -> Any:
    return np.log(x[0]) + x[0] * x[1] - np.sin(x[1])


def survey_trace_gradient(x: Any) -> Any:
    return np.stack([1 / x[0] + x[1], x[0] - np.cos(x[1])])


def survey_trace_hessian(x: Any) -> Any:
    return _matrix([[-1 / x[0] ** 2, 1 + 0 * x[0]], [1 + 0 * x[0], np.sin(x[1])]])


def micrograd(x: dict[str, Any]) -> Any:
    a, b = x["a"], x["b"]
    c = a + b
    d = a * b + b**3
    c = c + c + 1
    c = c + 1 + c - a
    d = d + d * 2 + np.maximum(b + a, 0)
    d = d + 3 * d + np.maximum(b - a, 0)
    f = (c - d) ** 2
    return f / 2.0 + 10.0 / f


def micrograd_gradient(x: dict[str, Any]) -> dict[str, Any]:
    """Return (t - 20/t³) ∂t, where t = c - d and g = t²/2 + 10/t².

    Written out, t = 3a + 4b + 3 - 12(ab + b³) - 4 max(a + b, 0) - max(b - a, 0).
    """
    a, b = x["a"], x["b"]
    up, down = (np.sign(a + b) + 1) / 2, (np.sign(b - a) + 1) / 2
    t = 3 * a + 4 * b + 3 - 12 * (a * b + b**3) - 4 * up * (a + b) - down * (b - a)
    outer = t - 20 / t**3
    return {
        "a": outer * (3 - 12 * b - 4 * up + down),
        "b": outer * (4 - 12 * (a + 3 * b**2) - 4 * up - down),
    }


def rosenbrock(x: Any) -> Any:
    return np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def rosenbrock_gradient(x: Any) -> Any:
    r = x[1:] - x[:-1] ** 2
    zero = 0 * x[:1]
    left = -400 * x[:-1] * r - 2 * (1 - x[:-1])
    return np.concatenate([left, zero]) + np.concatenate([zero, 200 * r])


def rosenbrock_hessian(x: Any) -> Any:
    zero = 0 * x[:1]
    left = 1200 * x[:-1] ** 2 - 400 * x[1:] + 2
    diagonal = np.concatenate([left, zero]) + np.concatenate([zero, 200 + 0 * x[1:]])
    beside = -400 * x[:-1]
    return np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1)


def speelpenning(x: Any) -> Any:
    return np.prod(x)


def speelpenning_gradient(x: Any) -> Any:
    """Return the products that leave one factor out. No division: a factor may be 0."""
    return np.stack([np.prod(_without(x, i)) for i in range(len(x))])


def speelpenning_hessian(x: Any) -> Any:
    """Return the products that leave two factors out, with zeros on the diagonal."""
    n = range(len(x))
    return _matrix([[0 * x[i] if i == j else np.prod(_without(x, i, j)) for j in n] for i in n])


def brown(x: Any) -> Any:
    return (x[0] - 1e6) ** 2 + (x[1] - 2e-6) ** 2 + (x[0] * x[1] - 2) ** 2


def brown_gradient(x: Any) -> Any:
    """Return 2 (x1 + r x2) - 2·10⁶ and 2 (x2 + r x1) - 4·10⁻⁶, with r = x1 x2 - 2.

    In this order the small constant is not lost beside x2.
    """
    r = x[0] * x[1] - 2
    return np.stack([2 * (x[0] + r * x[1]) - 2e6, 2 * (x[1] + r * x[0]) - 4e-6])


def brown_hessian(x: Any) -> Any:
    mixed = 4 * x[0] * x[1] - 4
    return _matrix([[2 + 2 * x[1] ** 2, mixed], [mixed, 2 + 2 * x[0] ** 2]])


def ackley(x: Any) -> Any:
    radius = np.sqrt(np.mean(x**2))
    return -20 * np.exp(-0.2 * radius) - np.exp(np.mean(np.cos(2 * pi * x))) + 20 + e


def ackley_gradient(x: Any) -> Any:
    """Return (4 e^{-r/5} / r x + 2π e^{mean cos 2πx} sin 2πx) / n, with r² = mean x²."""
    r = np.sqrt(np.mean(x**2))
    waves = 2 * pi * np.exp(np.mean(np.cos(2 * pi * x))) * np.sin(2 * pi * x)
    return (4 * np.exp(-0.2 * r) / r * x + waves) / len(x)


def ackley_hessian(x: Any) -> Any:
    n, r = len(x), np.sqrt(np.mean(x**2))
    bowl = 4 * np.exp(-0.2 * r) / (n * r)
    bowl_slope = -bowl * (0.2 + 1 / r) / (n * r)
    top = np.exp(np.mean(np.cos(2 * pi * x)))
    s = 2 * pi / n * np.sin(2 * pi * x)
    curvature = (2 * pi) ** 2 / n * top * np.cos(2 * pi * x)
    return (
        bowl * np.eye(n) + bowl_slope * np.outer(x, x) + np.diag(curvature) - top * np.outer(s, s)
    )


def helmholtz(x: Any, A: Any, b: Any) -> Any:
    """Return Σ x_i log(x_i / (1 - β)) - xᵀA x / (√8 β) log((1 + (1+√2) β) / (1 + (1-√2) β)).

    β = b·x, and R = T = 1.
    """
    beta = b @ x
    mixing = np.sum(x * np.log(x / (1 - beta)))
    ratio = (1 + (1 + sqrt(2)) * beta) / (1 + (1 - sqrt(2)) * beta)
    return mixing - (x @ A @ x) / (sqrt(8) * beta) * np.log(ratio)


def helmholtz_gradient(x: Any, A: Any, b: Any) -> Any:
    """Return log(x/(1-β)) + 1 + Σx b/(1-β) - (A + Aᵀ)x h(β) - xᵀA x h'(β) b."""
    beta = b @ x
    h, slope, _ = _helmholtz_factor(beta)
    mixing = np.log(x / (1 - beta)) + 1 + np.sum(x) / (1 - beta) * b
    return mixing - (A @ x + x @ A) * h - (x @ A @ x) * slope * b


def helmholtz_hessian(x: Any, A: Any, b: Any) -> Any:
    beta = b @ x
    h, slope, second = _helmholtz_factor(beta)
    room, ones, q = 1 - beta, np.ones_like(b), A @ x + x @ A
    shared = (np.outer(ones, b) + np.outer(b, ones)) / room
    mixing = np.diag(1 / x) + shared + np.sum(x) / room**2 * np.outer(b, b)
    cross = slope * (np.outer(q, b) + np.outer(b, q))
    return mixing - (A + A.T) * h - cross - (x @ A @ x) * second * np.outer(b, b)


def _helmholtz_factor(beta: Any) -> tuple[Any, Any, Any]:
    """h(β) = log((1 + kβ) / (1 + mβ)) / (√8 β), k, m = 1 ± √2, and h', h''."""
    k, m = 1 + sqrt(2), 1 - sqrt(2)
    L = np.log((1 + k * beta) / (1 + m * beta))
    dL = k / (1 + k * beta) - m / (1 + m * beta)
    ddL = m**2 / (1 + m * beta) ** 2 - k**2 / (1 + k * beta) ** 2
    h = L / beta
    slope = (dL - h) / beta
    second = (ddL - 2 * slope) / beta
    return h / sqrt(8), slope / sqrt(8), second / sqrt(8)


def helmholtz_data(n: int, seed: int = 0) -> tuple[Any, Any, Any]:
    """Return x (n,), A (n, n) and b (n,) for `helmholtz`, with entries uniform in [0, 0.1)."""
    generator = np.random.default_rng(seed)
    x = generator.uniform(0, 0.1, n)
    return x, generator.uniform(0, 0.1, (n, n)), generator.uniform(0, 0.1, n)


# ------------------------------------------------------------------ several to several


def cubic_and_square(x: dict[str, Any]) -> Any:
    return 3 * x["x"] ** 3 + x["y"] ** 2


def cubic_and_square_jacobian(x: dict[str, Any]) -> dict[str, Any]:
    return {"x": np.diag(9 * x["x"] ** 2), "y": np.diag(2 * x["y"])}


def polar(x: Any) -> Any:
    return np.stack([x[0] * np.cos(x[1]), x[0] * np.sin(x[1])])


def polar_jacobian(x: Any) -> Any:
    c, s = np.cos(x[1]), np.sin(x[1])
    return _matrix([[c, -x[0] * s], [s, x[0] * c]])


def _matrix(rows: list[list[Any]]) -> Any:
    """A matrix of given entries; `np.array` would not see through traced ones."""
    return np.stack([np.stack(row) for row in rows])


def _without(x: Any, *dropped: int) -> Any:
    return x[np.array([i for i in range(len(x)) if i not in dropped], dtype=int)]


_HELMHOLTZ_X, _HELMHOLTZ_A, _HELMHOLTZ_B = helmholtz_data(8)

VECTOR_PROBLEMS = (
    Problem(
        "survey-trace",
        survey_trace,
        np.array([2.0, 5.0]),
        "ln x1 + x1 x2 - sin x2",
        f"{SURVEY}, Tables 2 and 3",
        gradient=survey_trace_gradient,
        hessian=survey_trace_hessian,
    ),
    Problem(
        "micrograd",
        micrograd,
        {"a": -4.0, "b": 2.0},
        "a polynomial with two rectifiers, over named scalars",
        "README of karpathy/micrograd",
        gradient=micrograd_gradient,
    ),
    Problem(
        "rosenbrock",
        rosenbrock,
        np.array([-1.2, 1.0, -1.2, 1.0]),
        "Σ 100 (x_{i+1} - x_i²)² + (1 - x_i)², a curved valley",
        "Rosenbrock, The Computer Journal 3, 1960, extended to n variables",
        gradient=rosenbrock_gradient,
        hessian=rosenbrock_hessian,
    ),
    Problem(
        "speelpenning",
        speelpenning,
        np.arange(1.0, 9.0) / np.arange(2.0, 10.0),
        "the product of all x_i, at x_i = i / (i + 1)",
        "Griewank and Walther, Evaluating derivatives, 2nd edition, 2008",
        gradient=speelpenning_gradient,
        hessian=speelpenning_hessian,
    ),
    Problem(
        "brown",
        brown,
        np.array([1.0, 1.0]),
        "(x1 - 10⁶)² + (x2 - 2·10⁻⁶)² + (x1 x2 - 2)², badly scaled",
        "Moré, Garbow, Hillstrom, ACM TOMS 7, 1981, problem 4",
        gradient=brown_gradient,
        hessian=brown_hessian,
    ),
    Problem(
        "ackley",
        ackley,
        np.array([0.7, -0.4, 1.3]),
        "a bowl covered with waves, and a kink at 0",
        "Ackley, A connectionist machine for genetic hillclimbing, 1987",
        gradient=ackley_gradient,
        hessian=ackley_hessian,
    ),
    Problem(
        "helmholtz",
        helmholtz,
        _HELMHOLTZ_X,
        "the Helmholtz free energy of a mixed fluid, 8 components",
        f"{SURVEY}; after Griewank 1989",
        data=(_HELMHOLTZ_A, _HELMHOLTZ_B),
        gradient=helmholtz_gradient,
        hessian=helmholtz_hessian,
    ),
    Problem(
        "cubic-and-square",
        cubic_and_square,
        {"x": np.array([2.0, 3.0]), "y": np.array([6.0, 5.0])},
        "3x³ + y², entry by entry, over named vectors",
        "the tutorial of torch.autograd",
        jacobian=cubic_and_square_jacobian,
    ),
    Problem(
        "softmax",
        softmax,
        np.array([-1.0, 0.0, 1.0, 0.0, -1.0]),
        "e^x_i / Σ e^x_j",
        "the usual output of a classifier",
        jacobian=softmax_jacobian,
    ),
    Problem(
        "polar",
        polar,
        np.array([2.0, 0.5]),
        "(r cos φ, r sin φ)",
        "school geometry",
        jacobian=polar_jacobian,
    ),
)
