"""Gradients at many points at once: those where the function takes the same course together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from diffkit.assembly import assembled
from diffkit.backends.symbolic.kinked import Kinked
from diffkit.errors import InvalidInput
from diffkit.structure import flatten, map_leaves
from diffkit.target import Output, Point

if TYPE_CHECKING:
    from diffkit.backends.symbolic.course import Values
    from diffkit.backends.symbolic.program import Recorded


class ManyPoints(Kinked):
    """A prepared function that is evaluated over whole columns of points."""

    def gradients(self, points: Any, *data: Any) -> Any:
        """Return the gradients at several points, in the structure of `x`.

        Points where the function takes the same course are computed together, by one program
        over whole columns.

        Args:
            points: in the structure of `x`, each leaf with one more leading axis.
            data: the further arguments of `f`, the same at every point.

        Raises:
            InvalidInput: the leading axes differ in length.
            InvalidOutput: `f(x)` is not a single number.
            NonFiniteDerivative: an entry is infinite or NaN.
        """
        _, stacked = flatten(points, "points")
        counts = {np.shape(leaf)[:1] for leaf in stacked}
        if len(counts) != 1 or () in counts:
            raise InvalidInput("each leaf of the points must have a leading axis, of one length")
        (count,) = counts.pop()
        if not count:
            return points
        layout, _ = flatten(map_leaves(lambda leaf: np.asarray(leaf)[0], points), "x")
        result = [np.empty((count, *leaf.shape), leaf.dtype) for leaf in layout.leaves]
        at = [Point(layout, [leaf[i] for leaf in stacked], data) for i in range(count)]
        for places, recorded, values in self._by_course(at):
            form = recorded.array or recorded.scalar
            gradients, good = form.gradients([leaf[places] for leaf in stacked], values)
            if recorded.course.orderings:
                good &= [not self._ties(at[i]) for i in places]
            for whole, part in zip(result, gradients, strict=True):
                whole[places] = part
            for i in np.asarray(places)[~good]:
                output, leaves = self._gradient(at[i])
                self._finite(output, *assembled(leaves, layout))
                for whole, part in zip(result, leaves, strict=True):
                    whole[i] = part
        return layout.unflatten(result)

    def _by_course(self, points: list[Point]) -> Iterator[tuple[list[int], Recorded, Values]]:
        """The numbers of the points that take the same course, with what is known there."""
        courses: dict[int, tuple[list[int], Recorded, Values]] = {}
        for i, point in enumerate(points):
            (batch,) = self._batches(point)
            self._require_scalar(Output(batch.recorded.course.graph.output_layout, []))
            known = courses.setdefault(id(batch.recorded), ([], batch.recorded, batch.values[0]))
            known[0].append(i)
            if not batch.recorded.course.graph.guards:
                known[0].extend(range(i + 1, len(points)))
                break
        return iter(courses.values())
