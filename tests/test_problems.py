"""Every problem's hand-written derivatives against differences in 90-digit arithmetic."""

from __future__ import annotations

from fractions import Fraction
from math import pi
from typing import Any

import numpy as np
import pytest
from high_precision import along, big, rounded, second_along

from diffkit.errors import InvalidInput
from diffkit.problems import PROBLEMS, Problem, helmholtz_data, logistic_map, problem
from diffkit.structure import flatten

NAMES = sorted(PROBLEMS)
RELATIVE = 2e-12


def points(p: Problem) -> list[Any]:
    """The problem's own point as one vector (or number), and two others near it."""
    layout, leaves = flatten(p.x)
    vector = layout.ravel(leaves)
    others = np.random.default_rng(7).uniform(0.8, 1.2, (2, vector.size))
    return [layout.unravel(vector), *(layout.unravel(vector * o) for o in others)]


def restricted(p: Problem, leaves: list[Any], k: int) -> Any:
    """f as a function of leaf k alone."""
    layout = flatten(p.x)[0]

    def function(leaf: Any) -> Any:
        parts = [big(a[()]) if i != k else leaf for i, a in enumerate(leaves)]
        return p.f(layout.unflatten(parts), *p.data)

    return function


def units(shape: tuple[int, ...]) -> list[Any]:
    size = int(np.prod(shape))
    return [row.reshape(shape)[()] for row in np.eye(size)]


def expected_jacobian(p: Problem, leaves: list[Any]) -> list[Any]:
    """For each leaf of x, an array of shape f(x).shape + leaf.shape."""
    blocks = []
    for k, leaf in enumerate(leaves):
        f = restricted(p, leaves, k)
        columns = [rounded(along(f, leaf[()], v)) for v in units(leaf.shape)]
        blocks.append(np.stack(columns, -1).reshape(columns[0].shape + leaf.shape))
    return blocks


def first_order_form(p: Problem) -> Any:
    return p.gradient or p.jacobian or p.derivatives[0]


@pytest.mark.parametrize("name", NAMES)
def test_first_derivatives_are_right(name: str) -> None:
    p = PROBLEMS[name]
    layout = flatten(p.x)[0]
    for leaves in points(p):
        form = first_order_form(p)(layout.restore(leaves), *p.data)
        got = flatten(form)[1]
        want = expected_jacobian(p, leaves)
        scale = max(np.max(np.abs(w)) for w in want)
        for g, w in zip(got, want, strict=True):
            assert g.shape == w.shape
            np.testing.assert_allclose(g, w, rtol=RELATIVE, atol=RELATIVE * scale)


@pytest.mark.parametrize("name", [n for n in NAMES if len(PROBLEMS[n].derivatives) > 1])
def test_second_derivatives_by_a_number_are_right(name: str) -> None:
    p = PROBLEMS[name]
    for (leaf,) in points(p):
        got = p.derivatives[1](leaf[()], *p.data)
        want = rounded(second_along(lambda x: p.f(x, *p.data), leaf[()], 1.0, 1.0))
        np.testing.assert_allclose(got, want, rtol=RELATIVE, atol=RELATIVE)


@pytest.mark.parametrize("name", [n for n in NAMES if PROBLEMS[n].hessian])
def test_hessians_are_right(name: str) -> None:
    p = PROBLEMS[name]
    assert p.hessian is not None
    for (x,) in points(p):
        e = units(x.shape)
        got = p.hessian(x, *p.data)
        want = np.array(
            [[rounded(second_along(lambda z: p.f(z, *p.data), x, v, w)) for v in e] for w in e]
        )
        np.testing.assert_allclose(got, want, rtol=RELATIVE, atol=RELATIVE * np.abs(want).max())


@pytest.mark.parametrize("name", NAMES)
def test_every_problem_says_what_it_is_and_has_a_derivative(name: str) -> None:
    p = PROBLEMS[name]
    assert p.name == name
    assert p.description
    assert p.source
    assert p.derivatives or p.gradient or p.jacobian
    assert p.arguments == (p.x, *p.data)


@pytest.mark.parametrize("name", NAMES)
def test_forms_leave_their_arguments_alone(name: str) -> None:
    p = PROBLEMS[name]
    before = [np.array(leaf) for leaf in flatten((p.x, *map(np.float64, p.data)))[1]]
    first_order_form(p)(*p.arguments)
    after = flatten((p.x, *map(np.float64, p.data)))[1]
    for a, b in zip(before, after, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", NAMES)
def test_float32_stays_float32(name: str) -> None:
    p = PROBLEMS[name]
    layout, leaves = flatten(p.x)
    x = layout.unflatten([leaf.astype(np.float32)[()] for leaf in leaves])
    data = [d.astype(np.float32) if isinstance(d, np.ndarray) else d for d in p.data]
    assert np.asarray(p.f(x, *data)).dtype == np.float32


# ------------------------------------------------------------------ published numbers


def test_the_readme_of_micrograd() -> None:
    p = problem("micrograd")
    assert p.gradient is not None
    got = p.gradient(p.x)
    assert f"{p.f(p.x):.4f}" == "24.7041"
    assert f"{got['a']:.4f} {got['b']:.4f}" == "138.8338 645.5773"


def test_the_trace_of_the_survey() -> None:
    p = problem("survey-trace")
    assert p.gradient is not None
    assert f"{p.f(p.x):.3f}" == "11.652"
    assert [f"{g:.3f}" for g in p.gradient(p.x)] == ["5.500", "1.716"]


def test_the_tutorial_of_torch_autograd() -> None:
    p = problem("cubic-and-square")
    assert p.jacobian is not None
    got = p.jacobian(p.x)
    np.testing.assert_array_equal(np.ones(2) @ got["x"], [36, 81])
    np.testing.assert_array_equal(np.ones(2) @ got["y"], [12, 10])


@pytest.mark.parametrize(
    ("name", "x", "order", "published"),
    [
        ("logistic-4", 0.2, 1, 9.0660864),
        ("logistic-map", 0.2, 1, 9.0660864),
        ("logistic-map", 0.3, 1, 1.3090816),
        ("lyness", 1.5, 1, 4.053427893898621),
        ("lyness", 1.5, 2, 9.463073681596601),
        ("moler", pi / 4, 1, 3.101766393836051),
        ("tanh", 1.0, 1, 0.419974341614026),
        ("tan", 1.0, 1, 3.42551882081),
        ("quadratic", 3.0, 1, 8.0),
        ("exp", 0.0, 1, 1.0),
    ],
)
def test_published_derivatives(name: str, x: float, order: int, published: float) -> None:
    p = problem(name)
    np.testing.assert_allclose(p.derivatives[order - 1](x, *p.data), published, rtol=2e-12)


@pytest.mark.parametrize(
    ("n", "factor", "coefficients"),
    [
        (1, 1, [1]),
        (2, 4, [1, -2]),
        (3, 16, [1, -10, 24, -16]),
        (4, 64, [1, -42, 504, -2640, 7040, -9984, 7168, -2048]),
    ],
)
def test_derivatives_of_the_logistic_map_as_in_the_survey(
    n: int, factor: int, coefficients: list[int]
) -> None:
    x = Fraction(3, 16)
    exact = factor * sum(c * x**k for k, c in enumerate(coefficients))
    derivative = problem("logistic-map").derivatives[0]
    assert derivative(float(x), n) == float(exact)
    if n == 4:
        assert problem("logistic-4").derivatives[0](float(x)) == float(exact)


def test_both_forms_of_the_logistic_map_agree_exactly_where_nothing_is_rounded() -> None:
    assert logistic_map(0.25, 4) == problem("logistic-4").f(0.25) == 0.75


def test_data_of_any_size_for_the_helmholtz_energy() -> None:
    x, A, b = helmholtz_data(15)
    assert x.shape == b.shape == (15,)
    assert A.shape == (15, 15)
    assert np.isfinite(problem("helmholtz").f(x, A, b))


# ------------------------------------------------------------------ errors


def test_a_misspelt_problem_is_answered_with_the_right_name() -> None:
    with pytest.raises(InvalidInput, match=r"did you mean 'rosenbrock'.*choose one of .*tanh"):
        problem("rosenbrok")


@pytest.mark.parametrize("name", ["", "zzz", None])
def test_an_unknown_problem_is_answered_with_the_list(name: Any) -> None:
    with pytest.raises(InvalidInput, match=r"choose one of .*softmax"):
        problem(name)
