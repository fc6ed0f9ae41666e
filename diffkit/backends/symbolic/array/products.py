"""Products of arrays in index notation, and what is defined by products: systems, inverses.

C = A *_(s1, s2, s3) B multiplies A with indices s1 by B with indices s2 and sums over all indices
that are not in s3. By the product rule, Ȧ *_(s1, s2, s3) B + A *_(s1, s2, s3) Ḃ is its tangent,
and its adjoints are Ā = C̄ *_(s3, s2, s1) B and B̄ = C̄ *_(s3, s1, s2) A (Laue, Mitterreiter, Giesen,
NeurIPS 2018). The derivatives of inverses, systems, determinants and factors follow by the same
rule from the products that define them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import sympy as sp

from diffkit.backends.symbolic.array.notation import ZERO, ArrayProgram, Operation, Shape, total
from diffkit.backends.symbolic.array.operations import (
    Gather,
    Positions,
    Sum,
    Transpose,
    repeated,
    reshaped,
)
from diffkit.tracing.shared_expressions import Expression, Symbol


@dataclass(frozen=True)
class Product(Operation):
    """C = A *_(s1, s2, s3) B.

    Attributes:
        indices: the letters of A, of B and of C; within each no letter occurs twice.
    """

    indices: tuple[str, str, str]
    routes: ClassVar[bool] = False

    def lengths(self, shapes: Sequence[Shape]) -> dict[str, int]:
        """How long each index is."""
        return {
            letter: n
            for letters, shape in zip(self.indices[:2], shapes, strict=True)
            for letter, n in zip(letters, shape, strict=True)
        }

    def shape(self, shapes: Sequence[Shape]) -> Shape:
        lengths = self.lengths(shapes)
        return tuple(lengths[letter] for letter in self.indices[2])

    def push(self, program: ArrayProgram, y: Symbol, tangents: Sequence[Expression]) -> Expression:
        terms = []
        for k, tangent in enumerate(tangents):
            if tangent.is_zero:
                continue
            operands = list(self.operands)
            operands[k] = repeated(program, tangent, program.shape(self.operands[k]))
            terms.append(program.apply(replace(self, operands=tuple(operands))))
        return total(program, terms)

    def pull(self, program: ArrayProgram, y: Symbol, adjoint: Expression, k: int) -> Expression:
        mine, other, value = self.indices[k], self.indices[1 - k], self.indices[2]
        kept = "".join(letter for letter in mine if letter in other or letter in value)
        adjoint = repeated(program, adjoint, program.shape(y))
        operands = adjoint, self.operands[1 - k]
        result = program.apply(Product(operands, (value, other, kept)))
        lengths = dict(zip(kept, program.shape(result), strict=True))
        return reshaped(program, result, tuple(lengths.get(letter, 1) for letter in mine))


def product(
    program: ArrayProgram, a: Expression, b: Expression, indices: tuple[str, str, str]
) -> Expression:
    """A *_(s1, s2, s3) B as a symbol."""
    return program.apply(Product((a, b), indices))


# ---------------------------------------------------------------------- matrices

_STACK = "stuvwxyz"


def matrices(
    program: ArrayProgram, a: Expression, b: Expression, *, left: str = "ij", right: str = "jk"
) -> Expression:
    """The product of stacks of matrices, by default A B; `left="ji"` for Aᵀ B."""
    stack = _STACK[: len(program.shape(a)) - 2]
    target = "".join(letter for letter in left + right if (left + right).count(letter) == 1)
    target = "".join(sorted(target))
    return product(program, a, b, (stack + left, stack + right, stack + target))


def turned(program: ArrayProgram, a: Expression) -> Expression:
    """The transpose of each matrix of a stack."""
    axes = list(range(len(program.shape(a))))
    axes[-2:] = axes[-1], axes[-2]
    return program.apply(Transpose((a,), tuple(axes)))


def _whole(program: ArrayProgram, a: Expression, like: Expression) -> Expression:
    return repeated(program, a, program.shape(like))


@dataclass(frozen=True)
class Inverse(Operation):
    """Y with A Y = I, hence Ẏ = -Y Ȧ Y and Ā = -Yᵀ Ȳ Yᵀ."""

    routes: ClassVar[bool] = False

    def shape(self, shapes: Sequence[Shape]) -> Shape:
        return shapes[0]

    def push(self, program: ArrayProgram, y: Symbol, tangents: Sequence[Expression]) -> Expression:
        inner = matrices(program, _whole(program, tangents[0], y), y)
        return program.define(-matrices(program, y, inner))

    def pull(self, program: ArrayProgram, y: Symbol, adjoint: Expression, k: int) -> Expression:
        inner = matrices(program, y, _whole(program, adjoint, y), left="ji")
        return program.define(-matrices(program, inner, y, right="kj"))


@dataclass(frozen=True)
class Solution(Operation):
    """Y with A Y = B, hence A Ẏ = Ḃ - Ȧ Y, Aᵀ B̄ = Ȳ and Ā = -B̄ Yᵀ."""

    routes: ClassVar[bool] = False

    def shape(self, shapes: Sequence[Shape]) -> Shape:
        return shapes[1]

    def push(self, program: ArrayProgram, y: Symbol, tangents: Sequence[Expression]) -> Expression:
        a, b = self.operands
        right = []
        if not tangents[0].is_zero:
            right.append(-matrices(program, _whole(program, tangents[0], a), y))
        if not tangents[1].is_zero:
            right.append(_whole(program, tangents[1], b))
        return program.apply(Solution((a, _whole(program, total(program, right), b))))

    def pull(self, program: ArrayProgram, y: Symbol, adjoint: Expression, k: int) -> Expression:
        transposed = turned(program, self.operands[0])
        right = program.apply(Solution((transposed, _whole(program, adjoint, y))))
        if k == 1:
            return right
        return program.define(-matrices(program, right, y, right="kj"))


@dataclass(frozen=True)
class Determinant(Operation):
    """det A, or the logarithm of its absolute value, of each matrix, with two axes of length 1.

    By the expansion along a row, the derivative of det A by A_ij is its cofactor.
    """

    logarithm: bool
    routes: ClassVar[bool] = False

    def shape(self, shapes: Sequence[Shape]) -> Shape:
        return (*shapes[0][:-2], 1, 1)

    def _slope(self, program: ArrayProgram) -> Expression:
        if self.logarithm:
            return turned(program, program.apply(Inverse(self.operands)))
        return program.apply(Cofactors(self.operands))

    def push(self, program: ArrayProgram, y: Symbol, tangents: Sequence[Expression]) -> Expression:
        return _traced(program, program.define(self._slope(program) * tangents[0]))

    def pull(self, program: ArrayProgram, y: Symbol, adjoint: Expression, k: int) -> Expression:
        return program.define(self._slope(program) * adjoint)


def _traced(program: ArrayProgram, a: Expression) -> Expression:
    """The sum of the entries of each matrix, with two axes of length 1."""
    ndim = len(program.shape(a))
    return program.apply(Sum((a,), (ndim - 2, ndim - 1)))


@dataclass(frozen=True)
class Cofactors(Operation):
    """C = det A A⁻ᵀ, hence Ċ = (C : Ȧ) A⁻ᵀ - A⁻ᵀ Ȧᵀ C, a symmetric bilinear form in Ȧ."""

    routes: ClassVar[bool] = False

    def shape(self, shapes: Sequence[Shape]) -> Shape:
        return shapes[0]

    def push(self, program: ArrayProgram, y: Symbol, tangents: Sequence[Expression]) -> Expression:
        inverse = turned(program, program.apply(Inverse(self.operands)))
        tangent = _whole(program, tangents[0], y)
        inner = matrices(program, inverse, tangent, right="kj")
        outer = matrices(program, inner, y)
        along = _traced(program, program.define(y * tangent))
        return program.define(along * inverse - outer)

    def pull(self, program: ArrayProgram, y: Symbol, adjoint: Expression, k: int) -> Expression:
        return self.push(program, y, [adjoint])


@dataclass(frozen=True)
class DeterminantSign(Operation):
    """The sign of det A of each matrix, with two axes of length 1."""

    constant: ClassVar[bool] = True

    def shape(self, shapes: Sequence[Shape]) -> Shape:
        return (*shapes[0][:-2], 1, 1)

    def push(self, program: ArrayProgram, y: Symbol, tangents: Sequence[Expression]) -> Expression:
        return ZERO

    def pull(self, program: ArrayProgram, y: Symbol, adjoint: Expression, k: int) -> Expression:
        return ZERO


@dataclass(frozen=True)
class Factor(Operation):
    """The lower triangular L with L Lᵀ = A, for symmetric A.

    From L̇ Lᵀ + L L̇ᵀ = Ȧ: L⁻¹ L̇ is the lower triangle of L⁻¹ Ȧ L⁻ᵀ with half its diagonal.
    """

    routes: ClassVar[bool] = False

    def shape(self, shapes: Sequence[Shape]) -> Shape:
        return shapes[0]

    def push(self, program: ArrayProgram, y: Symbol, tangents: Sequence[Expression]) -> Expression:
        half = program.apply(Solution((y, _whole(program, tangents[0], y))))
        both = turned(program, program.apply(Solution((y, turned(program, half)))))
        return matrices(program, y, _lower(program, both))

    def pull(self, program: ArrayProgram, y: Symbol, adjoint: Expression, k: int) -> Expression:
        inner = matrices(program, y, _whole(program, adjoint, y), left="ji")
        upper = turned(program, y)
        half = program.apply(Solution((upper, _lower(program, inner))))
        both = turned(program, program.apply(Solution((upper, turned(program, half)))))
        return program.define((both + turned(program, both)) / 2)


def _lower(program: ArrayProgram, a: Expression) -> Expression:
    """The lower triangle of each matrix, with half the diagonal."""
    shape = program.shape(a)
    places = np.arange(int(np.prod(shape))).reshape(shape)
    mask = np.tri(shape[-1], dtype=bool)
    lower = program.apply(Gather((a,), Positions(np.where(mask, places, -1))))
    below = np.tri(shape[-1], k=-1, dtype=bool)
    strict = program.apply(Gather((a,), Positions(np.where(below, places, -1))))
    return program.define((lower + strict) * sp.Rational(1, 2))
