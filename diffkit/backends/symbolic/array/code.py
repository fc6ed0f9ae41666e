"""A compiled derivative over arrays, by itself and as the body of an entry."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from diffkit.backends.symbolic.array.emit import Emitter, built, program_source
from diffkit.backends.symbolic.course import Course
from diffkit.backends.symbolic.entry import Results
from diffkit.backends.symbolic.local import Pair
from diffkit.structure import Layout
from diffkit.tracing.generated import Lines

_VERBATIM: Final = (
    "absolute add arccos arccosh arcsin arcsinh arctan arctanh astype broadcast_to ceil "
    "concatenate conjugate cos cosh diagonal divide equal exp expm1 floor greater greater_equal "
    "index laid_out less less_equal log log1p logical_and logical_not logical_or matmul max "
    "maximum min minimum multiply negative not_equal positive repeat reshape sign sin "
    "sliding_window_view sqrt square stack stack_scalars subtract sum tan tanh tile transpose "
    "tril triu where"
)
VERBATIM: Final = frozenset(_VERBATIM.split())
"""Primitives that a program computes as NumPy does, so that its value is that of the function."""


@dataclass(frozen=True)
class ArrayCode:
    """A compiled derivative.

    Attributes:
        lines: the assignments.
        results: source of the values of the function, then of the derivative, then of both
            sides of every tie, then of both sides of every kink.
        parameters: the names of what the lines read: leaves of `x`, bound values, directions.
        names: what else they refer to.
        emitter: what wrote them.
        ties: pairs that must differ where the derivative is to be believed.
        operations: how many operations on arrays the lines do.
        entries: how many numbers one member of a batch takes.
    """

    emitter: Emitter
    parameters: tuple[list[str], list[str], list[str]]
    results: tuple[list[str], list[str], list[str], list[str]]
    ties: list[Pair]
    entries: int
    _programs: dict[str, Callable[..., Any]] = field(default_factory=dict)

    @property
    def operations(self) -> int:
        return self.emitter.operations

    @property
    def source(self) -> str:
        """The Python source."""
        x, b, t = self.parameters
        returned = ", ".join(f"({''.join(f'{r}, ' for r in part)})" for part in self.results)
        return program_source(", ".join(["m", *x, *b, *t]), self.emitter.lines, returned)

    def run(self, dtype: np.dtype[Any], count: int, *values: Any) -> tuple[tuple[Any, ...], ...]:
        """Values, derivatives, sides of ties and of kinks, computed in a dtype."""
        program = self._programs.get(dtype.str)
        if program is None:
            names = {**self.emitter.names, **self.emitter.numbers(dtype), "dtype": dtype}
            program = self._programs[dtype.str] = built(self.source, names)
        result: tuple[tuple[Any, ...], ...] = program(count, *values)
        return result


@dataclass
class ArrayBody:
    """A program over arrays as the body of an entry."""

    code: ArrayCode
    bound: Sequence[int]
    whole_numbers: Sequence[bool]
    dtype: np.dtype[Any]
    course: Course
    like: Layout
    number: str = "float64"

    @property
    def names(self) -> dict[str, Any]:
        """What the lines refer to."""
        emitter = self.code.emitter
        return {**emitter.names, **emitter.numbers(self.dtype), "dtype": self.dtype}

    def write(self, lines: Lines, x: Sequence[str], bound: Sequence[str]) -> Results:
        """Add the lines that compute. What is read has the names that the code expects."""
        nodes = self.course.graph.nodes
        for i, (index, name) in enumerate(zip(self.bound, bound, strict=True)):
            value = nodes[index].value
            floating = isinstance(value, float) or np.asarray(value).dtype.kind == "f"
            floating |= self.whole_numbers[i]
            lines.add(f"b{i} = {name if floating else f'numpy.asarray({name}).astype(dtype)[()]'}")
        for line in self.code.emitter.lines:
            lines.add(line)
        values, derivative, ties, kinks = self.code.results
        sides = [*ties, *kinks]
        for left, right in zip(sides[::2], sides[1::2], strict=True):
            lines.require(f"not numpy.any(numpy.equal({left}, {right}))")
        made = [
            *self._assigned(lines, "y", values, self.course.graph.output_layout),
            *self._assigned(lines, "g", derivative, self.like),
        ]
        value, wanted = made[: len(values)], made[len(values) :]
        leaves = (*self.course.graph.output_layout.leaves, *self.like.leaves)
        watched = [(name, bool(leaf.shape)) for name, leaf in zip(made, leaves, strict=True)]
        return Results(value if self._is_verbatim() else None, wanted, watched)

    def _assigned(
        self, lines: Lines, letter: str, results: Sequence[str], layout: Layout
    ) -> list[str]:
        names = []
        for i, (result, leaf) in enumerate(zip(results, layout.leaves, strict=True)):
            names.append(f"{letter}{i}")
            if not leaf.shape:
                result = f"{'dtype.type' if leaf.scalar else 'numpy.asarray'}({result})"
            lines.add(f"{names[-1]} = {result}")
        return names

    def _is_verbatim(self) -> bool:
        nodes = self.course.graph.nodes
        return all(
            node.primitive is None or not node.depends or node.primitive.name in VERBATIM
            for node in nodes
        )
