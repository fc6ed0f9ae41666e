"""Sampled truth: some entries, random directions, and a cost that is known beforehand."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import diffkit as dk
from diffkit import errors, truth

SHAPES = {"W": (20, 30), "b": (30,), "V": (30, 5)}
X = np.linspace(-1, 1, 20)


def loss(p: Any) -> Any:
    return np.sum(np.log1p(np.exp(np.tanh(X @ p["W"] + p["b"]) @ p["V"])))


def parameters(dtype: Any = np.float64) -> dict[str, Any]:
    generator = np.random.default_rng(0)
    return {name: generator.normal(size=s).astype(dtype) for name, s in SHAPES.items()}


def test_a_right_gradient_is_right_in_every_sample() -> None:
    p = parameters()
    sampled = truth.sample(loss, p, entries=5, directions=3)
    assert len(sampled.entries) == len(sampled.enclosures) == 8
    assert sampled.certified
    assert max(sampled.errors(dk.gradient(loss, p)).values()) < 32


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_one_wrong_entry_of_many_is_seen_along_a_direction(name: str) -> None:
    p = parameters()
    wrong = dk.gradient(loss, p)
    wrong[name].flat[7] *= 1 + 1e-6
    found = truth.sample(loss, p, entries=0, directions=2).errors(wrong)
    assert min(found.values()) > 1e3


def test_chosen_entries_are_those_of_the_full_truth() -> None:
    def f(x: Any) -> Any:
        return np.sum(np.exp(x) * x[::-1])

    x = np.linspace(0, 1, 6)
    full = truth.gradient(f, x)
    names = ["x[4]", "x[1]"]
    sampled = truth.sample(f, x, entries=names, directions=0)
    assert sampled.entries == tuple(names)
    for name, enclosure in zip(sampled.entries, sampled.enclosures, strict=True):
        exact = full.enclosures[full.entries.index(name)]
        assert enclosure is not None
        assert exact is not None
        assert abs(enclosure.midpoint - exact.midpoint) <= enclosure.radius + exact.radius


def test_the_cost_is_known_beforehand() -> None:
    p = parameters()
    planned = truth.plan(loss, p, entries=4, directions=2, seed=3)
    sampled = truth.sample(loss, p, entries=4, directions=2, seed=3)
    assert planned.entries == sampled.entries[:4]
    assert sampled.evaluations == planned.evaluations
    assert planned.operations > 0
    assert planned.seconds > 0


def test_the_same_seed_draws_the_same_sample() -> None:
    p = parameters(np.float32)
    assert truth.sample(loss, p).enclosures == truth.sample(loss, p).enclosures
    assert truth.sample(loss, p).entries != truth.sample(loss, p, seed=1).entries


def test_the_derivative_along_a_tangent_is_what_the_entries_add_up_to() -> None:
    x, v = np.array([0.5, -1.5, 2.0]), np.array([1e-3, 0.0, -3.0])

    def f(x: Any) -> Any:
        return np.stack([np.prod(x), np.sum(np.exp(x))])

    along, full = truth.jvp(f, x, v), truth.jacobian(f, x)
    assert along.certified
    assert along.entries == ("f(x)[0]", "f(x)[1]")
    for k in range(2):
        parts = [full.enclosures[3 * k + i] for i in range(3)]
        total = sum(Fraction(v[i]) * e.midpoint for i, e in enumerate(parts) if e is not None)
        enclosure = along.enclosures[k]
        assert enclosure is not None
        assert abs(enclosure.midpoint - total) < Fraction(1, 10**20)
    assert along.value == pytest.approx(dk.jvp(f, x, v), rel=1e-14)


def test_a_tangent_into_a_corner_has_two_sides() -> None:
    along = truth.jvp(lambda x: np.maximum(x[0], x[1]), np.ones(2), np.array([1.0, -2.0]))
    assert list(along.kinks.values()) == [(-2.0, 1.0)]
    assert not along.smooth


@pytest.mark.parametrize("tangent", [np.zeros(2), np.ones(3), np.array([np.inf, 1.0])])
def test_a_tangent_that_leads_nowhere_is_refused(tangent: Any) -> None:
    with pytest.raises(errors.InvalidInput, match="tangent"):
        truth.jvp(np.sum, np.ones(2), tangent)


def test_kinks_are_reported_with_both_sides() -> None:
    x = np.array([0.0, 1.0, -2.0])
    sampled = truth.sample(lambda x: np.sum(np.abs(x)), x, entries=3, directions=0)
    assert sampled.kinks == {"x[0]": (-1.0, 1.0)}
    assert sampled.errors(np.array([0.5, 1.0, -1.0])) == {"x[1]": 0.0, "x[2]": 0.0}


def test_partial_derivatives_alone_are_not_smoothness() -> None:
    found = truth.gradient(lambda x: np.minimum(np.abs(x[0]), np.abs(x[1])), np.zeros(2))
    assert not found.smooth
    assert not found.certified
    assert "not differentiable" in found.note
    assert truth.gradient(lambda x: x[0] * x[1], np.zeros(2)).smooth
    assert not truth.derivative(np.abs, 0.0).smooth


@pytest.mark.parametrize(
    "options",
    [
        {"entries": -1},
        {"entries": True},
        {"entries": "W"},
        {"entries": ["W[99]"]},
        {"directions": -1},
        {"directions": 0.5},
    ],
)
def test_what_cannot_be_drawn_is_refused(options: dict[str, Any]) -> None:
    for call in (truth.sample, truth.plan):
        with pytest.raises(errors.InvalidInput):
            call(loss, parameters(), **options)
