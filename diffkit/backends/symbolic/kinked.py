"""Derivatives at kinks: exact where all sides agree, else shared among them, with a warning.

The rules of maximum and absolute value share among equals. A branch, `where` and an order take one
side: there the mean of two opposite sides counts, as in every backend that sees the formula.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from diffkit.assembly import assembled, direction_leaves
from diffkit.backends.symbolic.beside import Derive, Verdict, beside, warn_of_kink
from diffkit.backends.symbolic.shown import Shown
from diffkit.errors import UnsupportedOperation
from diffkit.structure import Leaves
from diffkit.target import Output, Point

if TYPE_CHECKING:
    from diffkit.backends.symbolic.program import Batch, Recorded

LARGEST: Final = 64  # entries of `x` along which one-sided derivatives are looked at one by one


class Kinked(Shown):
    """A prepared function whose derivatives are judged where it may bend."""

    _batches: Callable[[Point], list[Batch]]
    _keep: Callable[[list[Recorded]], None]

    def one_sided(self, x: Any, tangent: Any, *rest: Any) -> tuple[Any, Any]:
        """Return the derivatives along `tangent` from the left and from the right.

        Of f(x + t tangent) by t, for t < 0 and for t > 0 next to 0, each shaped like `f(x)`. They
        differ at a kink.

        Raises:
            UnsupportedOperation: `f` jumps there, or what lies beside cannot be decided: it takes
                another branch there, or two quantities are equal to first order.
        """
        point = self._point((x, *rest))
        direction = direction_leaves(tangent, point.layout, "tangent")
        output = self._value(point)
        batch = self._batches(point)[0]
        scalar, values = batch.recorded.scalar_at(point, batch.values[0])
        guards = scalar.course.graph.guards
        sides = []
        for sign in (-1, 1):
            turned = [sign * np.asarray(leaf) for leaf in direction]
            entries, same = scalar.beside(point.leaves, values, turned)
            decided = sum(guard.node.depends for guard in guards) == len(scalar.conditions())
            if not (same and decided and np.all(np.isfinite(entries))):
                side = "left" if sign < 0 else "right"
                raise UnsupportedOperation(
                    f"what {self.target.name} does to the {side} of this point along this "
                    "direction cannot be decided: it jumps, takes another branch, or compares "
                    "quantities that are equal to first order"
                )
            leaves, start = [], 0
            for leaf in output.layout.leaves:
                part = sign * entries[start : start + leaf.size]
                leaves.append(part.reshape(leaf.shape).astype(leaf.dtype))
                start += leaf.size
            sides.append(self._finite(output, *assembled(leaves, output.layout)))
        return sides[0], sides[1]

    def _at_kinks(
        self,
        point: Point,
        derive: Derive,
        exactly: Callable[[Any, Output], Leaves] | None = None,
    ) -> tuple[Output, Leaves]:
        """What `derive` gives at a point, judged by what it gives beside it at a kink.

        Args:
            point: where.
            derive: the value and a derivative at a point.
            exactly: the derivative from the Jacobian as a matrix.

        Raises:
            UnsupportedOperation: all sides agree on a derivative that the formulas do not give.

        Warns:
            KinkWarning: the sides do not agree.
        """
        output, result = derive(point)
        parts = (*output.leaves, *result)
        if not all(np.isfinite(part).all() for part in parts):
            return output, result
        ties = self._ties(point)
        if not ties:
            return output, result
        here = self._latest
        look = beside(point, output, result, derive)
        self._keep([here])
        if look.verdict is Verdict.SAME:
            return output, result
        if look.verdict is Verdict.NONE:
            warn_of_kink(self.target.name)
            return output, result if look.shared is None or ties == {True} else look.shared
        matrix = self._from_both_sides(point, output) if exactly is not None else None
        if exactly is None or matrix is None:
            raise UnsupportedOperation(
                f"{self.target.name} chooses between equals at this point; on all sides of it the "
                "derivative is another than what its formula gives there; use backend='tape'"
            )
        return output, exactly(matrix, output)

    def _ties(self, point: Point) -> set[bool]:
        """For each kink that is met, whether its rule shares among equals."""
        found: set[bool] = set()
        for batch in self._batches(point):
            leaves = batch.points[0].layout.cast(batch.points[0].leaves)
            recorded, array = batch.recorded, batch.recorded.array
            if any(recorded.course.hangs_on_order(values) for values in batch.values):
                found.add(False)
            if array is not None:
                found |= array.ties(leaves, batch.values[0])
            else:
                scalar, first = recorded.scalar_at(batch.points[0], batch.values[0])
                found |= scalar.ties(leaves, [first, *batch.values[1:]])
        return found

    def _from_both_sides(self, point: Point, output: Output) -> Any:
        """The Jacobian by one-sided derivatives along directions, if both sides give the same.

        The directions are orthogonal and in general position: along an axis quantities that are
        equal may stay so.
        """
        batches: Sequence[Any] = self._batches(point)
        if point.layout.size > LARGEST or len(batches) > 1 or len(batches[0].points) > 1:
            return None
        scalar, values = batches[0].recorded.scalar_at(point, batches[0].values[0])
        size = point.layout.size
        directions, _ = np.linalg.qr(np.random.default_rng(20).standard_normal((size, size)))
        columns = []
        for direction in directions:
            cuts = np.cumsum([leaf.size for leaf in point.layout.leaves])[:-1]
            along = [
                part.reshape(leaf.shape)
                for part, leaf in zip(np.split(direction, cuts), point.layout.leaves, strict=True)
            ]
            right, holds_right = scalar.beside(point.leaves, values, along)
            left, holds_left = scalar.beside(point.leaves, values, [-part for part in along])
            rtol = np.sqrt(np.finfo(right.dtype).eps)
            scale = np.max(np.abs(right), initial=0)
            close = np.allclose(right, -left, rtol=rtol, atol=rtol * scale)
            if not (holds_right and holds_left and close):
                return None
            columns.append(right)
        return (np.stack(columns, axis=1) @ directions).astype(columns[0].dtype)
