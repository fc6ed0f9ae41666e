"""Lines that end a program where a number of its point or its results is not finite.

A look at a large matrix takes as long as an operation on it. What a matrix product makes is finite
where its factors are small enough, and a factor is finite where the product is; so where these are
far fewer numbers they are looked at first, and the matrix only where they leave it open.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from diffkit.backends.tape.plan import Plan, Step

MANY: Final = 4096  # entries, from which to look at others instead is worth it
FEWER: Final = 0.75  # times as many, of which it is
TERMS: Final = 100  # of a sum that is one expression

_FLOATS: Final = (np.float64, np.float32)


class Finiteness:
    """What tells that numbers of a plan are finite.

    Attributes:
        plan: the plan, with all that is looked at kept to its end.
    """

    def __init__(self, plan: Plan, positions: Sequence[int]) -> None:
        """Decide what to look at.

        Args:
            plan: what is computed.
            positions: of what must be finite, besides what the plan itself names.
        """
        self._steps = plan.steps
        self._positions = list(dict.fromkeys([*positions, *sorted(plan.finite)]))
        self._instead: dict[int, tuple[int, ...]] = {}
        products = [k for k, step in plan.enumerated() if _is_product(step)]
        for position in self._positions:
            found = self._factors(position) or self._product(position, products)
            if found is not None:
                self._instead[position] = found
        others = frozenset(i for found in self._instead.values() for i in found)
        given = frozenset(i for i in others if plan.steps[i].primitive is None)
        self.plan = replace(plan, finite=plan.finite | (others - given))

    def _size(self, position: int) -> int:
        return int(np.size(self._steps[position].value))

    def _factors(self, position: int) -> tuple[int, ...] | None:
        """The factors of a product: |a b| is at most |a| |b|, in the norm of Frobenius."""
        step, size = self._steps[position], self._size(position)
        if size < MANY or not _is_product(step):
            return None
        few = sum(map(self._size, step.inputs)) < FEWER * size
        return step.inputs if few and all(map(self._is_plain, step.inputs)) else None

    def _product(self, position: int, products: list[int]) -> tuple[int, ...] | None:
        """A product with what is given: infinity times anything is infinity or NaN."""
        size = self._size(position)
        if size < MANY or self._steps[position].primitive is not None:
            return None
        for product in products:
            inside = position in self._steps[product].inputs and self._is_plain(product)
            if inside and 0 < self._size(product) < FEWER * size:
                return (product,)
        return None

    def _is_plain(self, position: int) -> bool:
        """Whether the squares of an array can be summed quickly."""
        value = self._steps[position].value
        return isinstance(value, np.ndarray) and "vdot" in _sum_of_squares(value, "")

    def lines(self) -> list[str]:
        """The lines that end the program.

        A sum of squares is not finite if a term is not. Where it is not, or overflows, plain sums
        tell; the rare sum that overflows itself takes the general way.
        """
        quick, careful = [], []
        for position in self._positions:
            value, name = self._steps[position].value, f"v{position}"
            if not isinstance(value, np.ndarray):
                quick.append(name)
                careful.append(f"isfinite({name})")
            elif value.dtype.kind == "f":
                seen = self._instead.get(position, (position,))
                squares = [_sum_of_squares(self._steps[i].value, f"v{i}") for i in seen]
                quick.append(" * ".join(squares))
                careful.append(f"isfinite(add_reduce({name}, None))")
        # A compiler goes as deep as an expression is long.
        parts = [quick[i : i + TERMS] for i in range(0, len(quick), TERMS)]
        lines = [f"total {'+=' if k else '='} {' + '.join(part)}" for k, part in enumerate(parts)]
        if careful:
            lines.append("if not isfinite(total):")
            lines += [f"    if not {condition}: return None" for condition in careful]
        return lines


def _is_product(step: Step) -> bool:
    """Whether a step is a product of two matrices."""
    if step.primitive is None or step.primitive.name != "matmul":
        return False
    return isinstance(step.value, np.ndarray) and step.value.ndim == 2


def _sum_of_squares(example: Any, name: str) -> str:
    """An expression that is finite if every entry is, by and large, and never if one is not."""
    if example.dtype in _FLOATS and example.ndim == 1:
        return f"{name}.dot({name})"
    if example.dtype in _FLOATS and example.flags.c_contiguous:
        return f"vdot({name}, {name})"
    if example.dtype in _FLOATS and example.flags.f_contiguous:
        return f"vdot({name}.T, {name}.T)"
    return f"add_reduce({name}, None)"
