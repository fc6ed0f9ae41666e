"""The shared and the expanded form of one recorded course, evaluated and shown.

This module imports SymPy; import it inside functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import sympy as sp

from diffkit.backends.symbolic.code import Code, compiled
from diffkit.backends.symbolic.course import Values
from diffkit.backends.symbolic.display import arranged
from diffkit.backends.symbolic.entry import Entry, compiled_entry
from diffkit.backends.symbolic.expanded import WAY_OUT
from diffkit.backends.symbolic.languages import Listing, source
from diffkit.backends.symbolic.one_sided import OneSided
from diffkit.backends.symbolic.scalar_derivation import Derived, ScalarDerivation
from diffkit.errors import UnsupportedOperation
from diffkit.structure import Leaves
from diffkit.tracing.shared_expressions import Expression
from diffkit.tracing.to_sympy import Condition

DIGITS_LOST: Final = 1e-6  # of double precision; longdouble then keeps nine digits or more


class DigitsLostError(UnsupportedOperation):
    """The pivots chosen at the recording serve badly at this point."""


class ScalarForm(ScalarDerivation):
    """The derivatives of a course over single numbers, derived when asked for.

    Several threads may use it at once: what is derived is derived under a lock, and never
    changes.
    """

    # ------------------------------------------------------------------ evaluation

    def entry(self, what: str) -> Entry | None:
        """The fast way to the gradient, or to a `derivative` of some order, if there is one."""
        body = self.body(what)
        like = self._graph.output_layout if what.startswith("derivative") else self._layout
        return None if body is None else compiled_entry(self.course, body, like)

    def evaluated(
        self,
        what: str,
        shape: tuple[int, int],
        leaves: Leaves,
        samples: Sequence[Values],
        tangents: Leaves | None,
    ) -> Any:
        """A derivative as a matrix, summed over the samples.

        Where an intermediate value leaves the range of the dtype, longdouble may still hold
        it: then its result counts. Where the formulas may lose digits, it counts as well, and
        how far double precision is from it tells how many are left (an estimate, not a bound).

        Raises:
            DigitsLostError: the digits are lost.
            UnsupportedOperation: a formula just switches or jumps at the point.
        """
        derived = self.derived(what)
        bound = [self._bound_values(values) for values in samples]
        columns = (
            bound[0]
            if len(bound) == 1
            else [np.array(values) for values in zip(*bound, strict=True)]
        )
        groups = leaves, columns, tangents or []
        delicate = self._program.delicate
        dtype = np.dtype(np.float64) if delicate else self._dtype
        matrix, overflowed = self._matrix(derived, shape, groups, len(bound), dtype)
        if not (delicate or overflowed or not np.all(np.isfinite(matrix))):
            return matrix
        wider = self._wider(derived, shape, groups, len(bound))
        if wider is None:
            if np.all(np.isfinite(matrix)):
                raise UnsupportedOperation(
                    f"a value in the symbolic derivative of {self._target.name} overflows at this "
                    "point, and SciPy computes its functions in no wider range; use backend='tape'"
                )
            return matrix
        if delicate:
            self._require_digits(matrix, wider)
        with np.errstate(all="ignore"):
            return wider.astype(self._dtype)

    def errors(self, shape: tuple[int, int], leaves: Leaves, values: Values) -> Any:
        """How far the Jacobian is from that of the shared form in longdouble, entry by entry.

        None where longdouble holds no more than the dtype of the function does.
        """
        wide = np.dtype(np.longdouble)
        if np.finfo(wide).eps >= np.finfo(self._dtype).eps:
            return None
        groups: tuple[Leaves, Sequence[Any], Leaves] = leaves, self._bound_values(values), []
        own, _ = self._matrix(self.derived("jacobian"), shape, groups, 1, self._dtype)
        better = self._wider(self._sharing(), shape, groups, 1)
        if better is None:
            return None
        return np.abs(own - better).astype(self._dtype)

    def gradients(self, stacked: Leaves, values: Values) -> tuple[Leaves, Any]:
        """The gradients at points stacked along a leading axis, and where they can be trusted."""
        count, derived = len(stacked[0]), self.derived("jacobian")
        trusted = not self._program.delicate
        columns = [c for leaf in stacked for c in leaf.reshape(count, -1).astype(self._dtype).T]
        with self._deriving:
            shared = self._program.shared.reachable(self._outputs)
        value = compiled(shared, self.groups, self._outputs)
        overflows: list[str] = []
        bound = self._bound_values(values)
        with np.errstate(all="ignore", over="call", call=lambda kind, _: overflows.append(kind)):
            (known,) = value(self._dtype, columns, bound, [])
            results = derived.code(self._dtype, columns, bound, [])
        self._refuse_ties(results[len(derived.entries) :], derived)
        flat = np.zeros((count, self._layout.size), self._dtype)
        for (_, j), entry in zip(derived.entries, results, strict=False):
            flat[:, j] = entry
        trusted &= not (overflows or self.is_at_kink(columns, [values]))
        good = np.isfinite(flat).all(axis=1) & np.isfinite(known) & trusted
        parts = np.split(flat, np.cumsum([leaf.size for leaf in self._layout.leaves])[:-1], axis=1)
        shapes = [(count, *leaf.shape) for leaf in self._layout.leaves]
        return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)], good

    def is_at_kink(self, leaves: Leaves, samples: Sequence[Values]) -> bool:
        """Whether the function may bend at the point, for one of the samples."""
        if not self._kinks:
            return False
        with self._deriving:
            if self._kink_code is None:
                sides = [side for pair in self._kinks for side in pair]
                definitions = self._program.shared.reachable(sides)
                self._kink_code = compiled(definitions, self.groups, sides)
        bound = [self._bound_values(values) for values in samples]
        columns = [np.array(values) for values in zip(*bound, strict=True)]
        with np.errstate(all="ignore"):
            found = self._kink_code(self._dtype, _flat(leaves, self._dtype), columns, [])
        return any(
            np.any(np.equal(left, right))
            for left, right in zip(found[::2], found[1::2], strict=True)
        )

    def beside(self, leaves: Leaves, values: Values, tangents: Leaves) -> tuple[Any, bool]:
        """The derivative to the right of the point along a tangent, entry by entry.

        The second is whether the branches that the function took hold there as well.
        """
        with self._deriving:
            if self._sided_code is None:
                self._sided_code = self._whole(self._one_sided)
            code = self._sided_code
        bound = self._bound_values(values)
        groups = _flat(leaves, self._dtype), bound, _flat(tangents, self._dtype)
        with np.errstate(all="ignore"):
            results = np.array(code(self._dtype, *groups), self._dtype)
        count = len(self._outputs)
        return results[:count], bool(np.all(results[count:] == 1))

    def _one_sided(self) -> Code:
        shared, conditions = self._program.shared, self._program.conditions
        directed = OneSided(shared, dict(zip(self._program.inputs, self._tangents, strict=True)))
        results = directed.along(self._outputs)
        directed.along([s for c in conditions for s in c.expression.free_symbols])
        for condition in conditions:
            there, known = directed.holds(condition.expression)
            same = there if condition.expected else sp.Not(there)
            results.append(sp.Piecewise((1, sp.And(same, known)), (0, True)))
        return compiled(shared.reachable(results), self.groups, results)

    def _bound_values(self, values: Values) -> list[Any]:
        """What the bound symbols stand for, from values of the course."""
        self.course.complete(values, self._bound)
        return [_entry(values[node], place) for node, place in self._program.bound.values()]

    def _require_digits(self, narrow: Any, wide: Any) -> None:
        scale = np.max(np.abs(wide), initial=0)
        if not np.max(np.abs(narrow - wide), initial=0) <= DIGITS_LOST * scale:
            raise DigitsLostError(
                f"the symbolic formulas of the linear algebra in {self._target.name} lose too "
                "many digits at this point (they cannot choose a pivot); use form='array' or "
                "backend='tape'"
            )

    def _matrix(
        self,
        derived: Derived,
        shape: tuple[int, int],
        groups: tuple[Leaves, Sequence[Any], Leaves],
        count: int,
        dtype: np.dtype[Any],
    ) -> tuple[Any, bool]:
        """The matrix computed in a dtype, and whether a value overflowed on the way."""
        overflows: list[str] = []
        leaves, columns, tangents = groups
        with np.errstate(all="ignore", over="call", call=lambda kind, _: overflows.append(kind)):
            results = derived.code(dtype, _flat(leaves, dtype), columns, _flat(tangents, dtype))
            end = len(derived.entries)
            self._refuse_ties(results[end:], derived)
            sums = [np.sum(np.broadcast_to(np.asarray(r, dtype), (count,))) for r in results[:end]]
        matrix = np.zeros(shape, dtype)
        for place, entry in zip(derived.entries, sums, strict=True):
            matrix[place] = entry
        return matrix, bool(overflows)

    def _wider(
        self,
        derived: Derived,
        shape: tuple[int, int],
        groups: tuple[Leaves, Sequence[Any], Leaves],
        count: int,
    ) -> Any:
        """The matrix computed in longdouble; None where SciPy's functions have none."""
        try:
            return self._matrix(derived, shape, groups, count, np.dtype(np.longdouble))[0]
        except TypeError:
            return None

    def _refuse_ties(self, sides: Sequence[Any], derived: Derived) -> None:
        """Raise where a pair that must differ is equal."""
        for left, right, tie in zip(sides[::2], sides[1::2], derived.ties, strict=True):
            if np.any(np.equal(left, right)):
                with self._deriving:
                    written = derived.shared.expanded(tie, self._budget)
                raise UnsupportedOperation(
                    f"{self._target.name} switches formula, or jumps, just where "
                    f"{written[0]} equals {written[1]}, as it does at this point; its formula "
                    "there says nothing about its derivative"
                )

    # ------------------------------------------------------------------ what can be looked at

    def function_entries(self) -> list[Expression]:
        """Every entry of the value, written out, in the simplified form."""
        with self._deriving:
            trees = self._program.shared.expanded(self._outputs, self._budget, WAY_OUT)
        return self._simplified(trees)

    def derivative_entries(self) -> list[Expression]:
        """Every entry of the Jacobian, row by row, written out, in the simplified form."""
        with self._deriving:
            entries = self._whole(lambda: self._written("jacobian"))
            rows, columns = len(self._outputs), len(self._program.inputs)
        zero = sp.Integer(0)
        return [entries.get((i, j), zero) for i in range(rows) for j in range(columns)]

    def source(self, language: str) -> str:
        """The program of the Jacobian in a language."""
        derived = self.derived("jacobian")
        shape = self._graph.output_layout.size, self._layout.size
        listing = Listing(derived.definitions, derived.entries, self.groups, shape)
        return source(listing, language)

    def shown_function(self, entries: list[Expression]) -> Any:
        """Entries in the structure of the value."""
        return arranged(entries, self._graph.output_layout)

    def shown_derivative(self, entries: list[Expression]) -> Any:
        """Entries in the structure of the gradient or the Jacobian."""
        return arranged(entries, self._graph.output_layout, self._layout)

    def constants(self) -> dict[Any, Any]:
        """The values of the bound symbols at the recording."""
        nodes = self._graph.nodes
        return {
            symbol: np.asarray(nodes[node].value).reshape(-1)[place][()]
            for symbol, (node, place) in self._program.bound.items()
        }

    def conditions(self) -> list[Condition]:
        """The branches taken, in terms of the inputs, data and constants."""
        conditions = self._program.conditions
        expressions = [condition.expression for condition in conditions]
        with self._deriving:
            expanded = self._program.shared.expanded(expressions, self._budget, WAY_OUT)
        return [
            Condition(expression, condition.expected, condition.location)
            for expression, condition in zip(expanded, conditions, strict=True)
        ]


def _flat(leaves: Leaves, dtype: np.dtype[Any]) -> list[Any]:
    return [entry for leaf in leaves for entry in np.asarray(leaf).astype(dtype).reshape(-1)]


def _entry(value: Any, place: int) -> Any:
    """One entry as a floating-point number; a Python number keeps bending to other dtypes."""
    if isinstance(value, float):
        return value
    entry = np.asarray(value).reshape(-1)[place]
    return entry if entry.dtype.kind == "f" else np.float64(entry)
