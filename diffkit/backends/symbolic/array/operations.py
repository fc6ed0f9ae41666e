"""Index operations that move, join, sum or select entries, with their product rules.

Each is linear in its operands, so its tangent is the operation on the tangents, and its adjoint
the same operation with the indices of operand and value exchanged (Laue, Mitterreiter, Giesen,
"Computing higher order derivatives of matrix and tensor expressions", NeurIPS 2018).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import sympy as sp

from diffkit.backends.symbolic.array.notation import ZERO, ArrayProgram, Operation, Shape
from diffkit.tracing.shared_expressions import Expression, Symbol

# ---------------------------------------------------------------------- fitting shapes


def reshaped(program: ArrayProgram, a: Expression, shape: Shape) -> Expression:
    """The entries of `a` in another shape."""
    if a.is_number or program.shape(a) == shape:
        return a
    definition = program.definitions.get(a)
    if isinstance(definition, Reshape):
        return reshaped(program, definition.operands[0], shape)
    return program.apply(Reshape((a,), shape))


def repeated(program: ArrayProgram, a: Expression, shape: Shape) -> Expression:
    """`a` with its repetitions written out; a number becomes an array of it."""
    if program.shape(a) == shape and not (a.is_number and shape):
        return a
    return program.apply(Broadcast((a,), shape))


def lifted(program: ArrayProgram, a: Expression, ndim: int) -> Expression:
    """`a` with leading axes of length 1 up to `ndim` axes; a number as it is."""
    shape = program.shape(a)
    return reshaped(program, a, (1,) * (ndim - len(shape)) + shape) if shape else a


def summed_to(program: ArrayProgram, a: Expression, whole: Shape, target: Shape) -> Expression:
    """What flows into an operand of shape `target` that was repeated to the shape `whole`.

    Where `a` itself stands for repeated entries, they are counted, not summed.
    """
    shape = program.shape(a)
    shape = (1,) * (len(whole) - len(shape)) + shape
    target_here = (1,) * (len(whole) - len(target)) + target
    repeats = [i for i, n in enumerate(whole) if target_here[i] == 1 and n != 1]
    count = math.prod(whole[i] for i in repeats if shape[i] == 1)
    axes = tuple(i for i in repeats if shape[i] != 1)
    if axes:
        a = program.apply(Sum((lifted(program, a, len(whole)),), axes))
        shape = tuple(1 if i in axes else n for i, n in enumerate(shape))
    if count != 1:
        a = program.define(a * count)
    kept = shape[len(whole) - len(target) :]
    return reshaped(program, a, kept) if program.shape(a) else a


# ---------------------------------------------------------------------- operations


@dataclass(frozen=True)
class Reshape(Operation):
    """The same entries, in order, in another shape."""

    to: Shape

    def shape(self, shapes: Sequence[Shape]) -> Shape:
        return self.to

    def push(self, program: ArrayProgram, y: Symbol, tangents: Sequence[Expression]) -> Expression:
        return _moved(program, tangents[0], program.shape(self.operands[0]), self.to)

    def pull(self, program: ArrayProgram, y: Symbol, adjoint: Expression, k: int) -> Expression:
        return _moved(program, adjoint, self.to, program.shape(self.operands[0]))


def _moved(program: ArrayProgram, a: Expression, whole: Shape, to: Shape) -> Expression:
    """An adjoint or tangent of shape `whole` reshaped; one number for all stays one number."""
    if math.prod(program.shape(a)) == 1:
        return reshaped(program, a, ())
    return reshaped(program, repeated(program, a, whole), to)


@dataclass(frozen=True)
class Broadcast(Operation):
    """The entries repeated along new axes and along axes of length 1."""

    to: Shape

    def shape(self, shapes: Sequence[Shape]) -> Shape:
        return self.to

    def push(self, program: ArrayProgram, y: Symbol, tangents: Sequence[Expression]) -> Expression:
        return tangents[0]

    def pull(self, program: ArrayProgram, y: Symbol, adjoint: Expression, k: int) -> Expression:
        return summed_to(program, adjoint, self.to, program.shape(self.operands[0]))


@dataclass(frozen=True)
class Transpose(Operation):
    """The axes in another order: axis `i` of the value is axis `axes[i]` of the operand."""

    axes: tuple[int, ...]

    def shape(self, shapes: Sequence[Shape]) -> Shape:
        return tuple(shapes[0][axis] for axis in self.axes)

    def push(self, program: ArrayProgram, y: Symbol, tangents: Sequence[Expression]) -> Expression:
        return self._turned(program, tangents[0], self.axes)

    def pull(self, program: ArrayProgram, y: Symbol, adjoint: Expression, k: int) -> Expression:
        back = tuple(self.axes.index(i) for i in range(len(self.axes)))
        return self._turned(program, adjoint, back)

    def _turned(self, program: ArrayProgram, a: Expression, axes: tuple[int, ...]) -> Expression:
        if not program.shape(a):
            return a
        return program.apply(Transpose((lifted(program, a, len(axes)),), axes))


@dataclass(frozen=True)
class Sum(Operation):
    """The sum along some axes, which stay with length 1."""

    axes: tuple[int, ...]

    def shape(self, shapes: Sequence[Shape]) -> Shape:
        return tuple(1 if i in self.axes else n for i, n in enumerate(shapes[0]))

    def push(self, program: ArrayProgram, y: Symbol, tangents: Sequence[Expression]) -> Expression:
        whole, target = program.shape(self.operands[0]), program.shape(y)
        return summed_to(program, tangents[0], whole, target)

    def pull(self, program: ArrayProgram, y: Symbol, adjoint: Expression, k: int) -> Expression:
        return adjoint


class Positions:
    """Places of entries in C order, -1 for one that is made up as zero."""

    def __init__(self, places: Any) -> None:
        self.places = np.asarray(places, np.intp, order="C")

    @cached_property
    def _key(self) -> tuple[Shape, bytes]:
        return self.places.shape, self.places.tobytes()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Positions) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)


@dataclass(frozen=True)
class Gather(Operation):
    """Entries of the operand, each wherever it is wanted, and zeros."""

    positions: Positions

    def shape(self, shapes: Sequence[Shape]) -> Shape:
        shape: Shape = self.positions.places.shape
        return shape

    def push(self, program: ArrayProgram, y: Symbol, tangents: Sequence[Expression]) -> Expression:
        whole = repeated(program, tangents[0], program.shape(self.operands[0]))
        return program.apply(Gather((whole,), self.positions))

    def pull(self, program: ArrayProgram, y: Symbol, adjoint: Expression, k: int) -> Expression:
        whole = repeated(program, adjoint, program.shape(y))
        return program.apply(Scatter((whole,), self.positions, program.shape(self.operands[0])))


@dataclass(frozen=True)
class Scatter(Operation):
    """Each entry of the operand added where `positions` says, in an array of shape `to`."""

    positions: Positions
    to: Shape

    def shape(self, shapes: Sequence[Shape]) -> Shape:
        return self.to

    def push(self, program: ArrayProgram, y: Symbol, tangents: Sequence[Expression]) -> Expression:
        whole = repeated(program, tangents[0], program.shape(self.operands[0]))
        return program.apply(replace(self, operands=(whole,)))

    def pull(self, program: ArrayProgram, y: Symbol, adjoint: Expression, k: int) -> Expression:
        return program.apply(Gather((repeated(program, adjoint, self.to),), self.positions))


@dataclass(frozen=True)
class ByIntegers(Operation):
    """What moves entries of the first operand, of which integers that are the others say where.

    The result has the shape `to`.
    """

    index: Indexing
    to: Shape

    def shape(self, shapes: Sequence[Shape]) -> Shape:
        return self.to

    def push(self, program: ArrayProgram, y: Symbol, tangents: Sequence[Expression]) -> Expression:
        whole = repeated(program, tangents[0], program.shape(self.operands[0]))
        return program.apply(replace(self, operands=(whole, *self.operands[1:])))

    def pull(self, program: ArrayProgram, y: Symbol, adjoint: Expression, k: int) -> Expression:
        operands = (repeated(program, adjoint, self.to), *self.operands[1:])
        back = Spread if isinstance(self, Lookup) else Lookup
        return program.apply(back(operands, self.index, program.shape(self.operands[0])))


class Lookup(ByIntegers):
    """Entries at the integers."""


class Spread(ByIntegers):
    """Zeros with the entries added at the integers."""


class Indexing:
    """An index in which integers that are operands have their places."""

    def __init__(self, parts: tuple[Any, ...]) -> None:
        self.parts = parts
        self._key = tuple(
            (p.shape, p.tobytes()) if isinstance(p, np.ndarray) else repr(p) for p in parts
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Indexing) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)


class Section:
    """Integers and slices, one for each axis, that select a part of an array."""

    def __init__(self, parts: tuple[Any, ...]) -> None:
        self.parts = parts
        self._key = repr(parts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Section) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def shape(self, of: Shape) -> Shape:
        shape: Shape = np.broadcast_to(np.int8(0), of)[self.parts].shape
        return shape


@dataclass(frozen=True)
class Part(Operation):
    """A part of the operand, selected by integers and slices."""

    section: Section

    def shape(self, shapes: Sequence[Shape]) -> Shape:
        return self.section.shape(shapes[0])

    def push(self, program: ArrayProgram, y: Symbol, tangents: Sequence[Expression]) -> Expression:
        whole = repeated(program, tangents[0], program.shape(self.operands[0]))
        return program.apply(Part((whole,), self.section))

    def pull(self, program: ArrayProgram, y: Symbol, adjoint: Expression, k: int) -> Expression:
        return program.apply(Placed((adjoint,), self.section, program.shape(self.operands[0])))


@dataclass(frozen=True)
class Placed(Operation):
    """Zeros of shape `to`, with the operand as one part of them."""

    section: Section
    to: Shape

    def shape(self, shapes: Sequence[Shape]) -> Shape:
        return self.to

    def push(self, program: ArrayProgram, y: Symbol, tangents: Sequence[Expression]) -> Expression:
        return program.apply(replace(self, operands=(tangents[0],)))

    def pull(self, program: ArrayProgram, y: Symbol, adjoint: Expression, k: int) -> Expression:
        taken = program.apply(Part((repeated(program, adjoint, self.to),), self.section))
        whole = self.section.shape(self.to)
        return summed_to(program, taken, whole, program.shape(self.operands[0]))


@dataclass(frozen=True)
class Joined(Operation):
    """The operands one after the other along an axis."""

    axis: int

    def shape(self, shapes: Sequence[Shape]) -> Shape:
        shape = list(shapes[0])
        shape[self.axis] = sum(each[self.axis] for each in shapes)
        return tuple(shape)

    def push(self, program: ArrayProgram, y: Symbol, tangents: Sequence[Expression]) -> Expression:
        parts = [
            repeated(program, tangent, program.shape(operand))
            for tangent, operand in zip(tangents, self.operands, strict=True)
        ]
        return program.apply(Joined(tuple(parts), self.axis))

    def pull(self, program: ArrayProgram, y: Symbol, adjoint: Expression, k: int) -> Expression:
        shape = list(program.shape(adjoint))
        shape = [1] * (len(program.shape(y)) - len(shape)) + shape
        if shape[self.axis] == 1:
            return adjoint
        lengths = [program.shape(operand)[self.axis] for operand in self.operands]
        start = sum(lengths[:k])
        wanted = (slice(None),) * self.axis + (slice(start, start + lengths[k]),)
        whole = lifted(program, adjoint, len(shape))
        return program.apply(Part((whole,), Section(wanted)))


@dataclass(frozen=True)
class Packed(Operation):
    """Numbers as a vector."""

    def shape(self, shapes: Sequence[Shape]) -> Shape:
        return (len(shapes),)

    def push(self, program: ArrayProgram, y: Symbol, tangents: Sequence[Expression]) -> Expression:
        return program.apply(Packed(tuple(tangents)))

    def pull(self, program: ArrayProgram, y: Symbol, adjoint: Expression, k: int) -> Expression:
        if not program.shape(adjoint):
            return adjoint
        whole = repeated(program, adjoint, program.shape(y))
        return program.apply(Part((whole,), Section((k,))))


@dataclass(frozen=True)
class RunningSum(Operation):
    """The sums of all entries up to each one along an axis, or, in reverse, from each one on."""

    axis: int
    reverse: bool = False

    def shape(self, shapes: Sequence[Shape]) -> Shape:
        return shapes[0]

    def push(self, program: ArrayProgram, y: Symbol, tangents: Sequence[Expression]) -> Expression:
        whole = repeated(program, tangents[0], program.shape(y))
        return program.apply(replace(self, operands=(whole,)))

    def pull(self, program: ArrayProgram, y: Symbol, adjoint: Expression, k: int) -> Expression:
        whole = repeated(program, adjoint, program.shape(y))
        return program.apply(RunningSum((whole,), self.axis, not self.reverse))


def as_number(condition: Any) -> Expression:
    """A condition as 1 where it holds, else 0."""
    return sp.Piecewise((sp.Integer(1), condition), (ZERO, True))
