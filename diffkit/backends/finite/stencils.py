"""Difference stencils with exact weights, for any nodes.

The weights of a stencil are those of the derivative at 0 of the polynomial that interpolates
at its nodes (Fornberg, "Generation of finite difference formulas on arbitrarily spaced grids",
Math. Comp. 51, 1988); here by rational arithmetic, so that none is ever rounded twice.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, lru_cache

LOWEST = {"central": 2, "forward": 1, "backward": 1}
"""The lowest order of accuracy of each scheme; all multiples of it are possible."""
Node = int | Fraction


@dataclass(frozen=True)
class Stencil:
    """`sum(numerators * f(x + nodes*h)) / (denominator * h**derivative)`.

    Attributes:
        nodes: offsets in units of the step; those with weight zero are left out.
        numerators: integer weights, over their common denominator.
        denominator: that denominator.
        derivative: which derivative it approximates.
        order: the power of the step with which its truncation error falls.
    """

    nodes: tuple[Node, ...]
    numerators: tuple[int, ...]
    denominator: int
    derivative: int
    order: int

    @cached_property
    def central(self) -> bool:
        """Whether the nodes lie symmetrically, so that the error has even powers alone."""
        return {-n for n in self.nodes} == set(self.nodes)

    @property
    def power(self) -> int:
        """The distance between successive powers of the step in the truncation error."""
        return 2 if self.central else 1


def weights(nodes: Sequence[Node], derivative: int) -> tuple[Fraction, ...]:
    """Return the exact weights of the `derivative`-th derivative at 0, one per distinct node."""
    result = []
    for i, node in enumerate(nodes):
        others = [Fraction(other) for j, other in enumerate(nodes) if j != i]
        basis = [Fraction(1)]
        for other in others:
            basis = _times_linear(basis, other)
        scale = math.prod((node - other for other in others), start=Fraction(1))
        coefficient = basis[derivative] if derivative < len(basis) else Fraction(0)
        result.append(math.factorial(derivative) * coefficient / scale)
    return tuple(result)


@lru_cache(maxsize=256)
def stencil(scheme: str, derivative: int, order: int) -> Stencil:
    """Return the smallest stencil of a scheme for a derivative and an order of accuracy."""
    if scheme == "central":
        reach = (derivative + 1) // 2 - 1 + order // 2
        return stencil_on(tuple(range(-reach, reach + 1)), derivative)
    sign = -1 if scheme == "backward" else 1
    return stencil_on(tuple(sign * n for n in range(derivative + order)), derivative)


@lru_cache(maxsize=256)
def stencil_on(nodes: tuple[Node, ...], derivative: int) -> Stencil:
    """Return the stencil of highest order on distinct nodes, more of them than `derivative`."""
    exact = weights(nodes, derivative)
    denominator = math.lcm(*(w.denominator for w in exact))
    kept = [(n, w) for n, w in zip(nodes, exact, strict=True) if w]
    power = len(nodes)  # what has a lower power is exact
    while sum(w * Fraction(n) ** power for n, w in kept) == 0:
        power += 1
    return Stencil(
        tuple(n for n, _ in kept),
        tuple(int(w * denominator) for _, w in kept),
        denominator,
        derivative,
        power - derivative,
    )


def _times_linear(polynomial: list[Fraction], root: Fraction) -> list[Fraction]:
    """The coefficients, lowest first, of the polynomial times (t - root)."""
    shifted = [Fraction(0), *polynomial]
    for i, coefficient in enumerate(polynomial):
        shifted[i] -= root * coefficient
    return shifted
