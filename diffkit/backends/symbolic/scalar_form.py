"""The shared and the expanded form of one recorded course, evaluated and shown.

This module imports SymPy; import it inside functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import sympy as sp

from diffkit.backends.symbolic.code import Code, compiled
from diffkit.backends.symbolic.course import Values
from diffkit.backends.symbolic.digits import DigitsLostError, digits_kept
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


@dataclass(frozen=True)
class Sums:
    """A derivative as a matrix, summed over samples.

    Attributes:
        matrix: the entries.
        errors: how far rounding may have taken them, in units of the last place of 1; 0 where
            it was not followed, or is known to be of no concern.
        overflowed: whether a value left the range of the dtype on the way.
    """

    matrix: Any
    errors: Any
    overflowed: bool


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
        it: then its result counts. Where rounding may have taken too many digits of an entry,
        that is computed again in as high a precision as it takes. Formulas of linear algebra are
        computed in longdouble, and how far double precision is from it tells how many digits are
        left (an estimate, not a bound).

        Raises:
            DigitsLostError: the digits are lost.
            UnsupportedOperation: a formula just switches or jumps at the point.
        """
        bound = [self._bound_values(values) for values in samples]
        if self._program.delicate:
            return self._of_systems(what, shape, leaves, bound, tangents)
        groups = leaves, _columns(bound), tangents or []
        sums = self._sums(self.derived(what), shape, groups, len(bound), self._dtype)
        finite = bool(np.all(np.isfinite(sums.matrix)))
        if finite and not sums.overflowed:
            return self._refined(what, sums, (leaves, bound, tangents or []))
        if self._options.refine:
            found = self._precise_matrix(what, np.full(shape, True), leaves, bound, tangents)
            if found is not None:
                return found
        wider = self._wider(self.derived(what), shape, groups, len(bound))
        if wider is None:
            if finite:
                raise UnsupportedOperation(
                    f"a value in the symbolic derivative of {self._target.name} overflows at this "
                    "point, and SciPy computes its functions in no wider range; use backend='tape'"
                )
            return sums.matrix
        with np.errstate(all="ignore"):
            return wider.astype(self._dtype)

    def _of_systems(
        self,
        what: str,
        shape: tuple[int, int],
        leaves: Leaves,
        bound: Sequence[Any],
        tangents: Leaves | None,
    ) -> Any:
        """A derivative by formulas that cannot choose a pivot, from longdouble or beyond."""
        derived, groups = self.derived(what), (leaves, _columns(bound), tangents or [])
        narrow = self._sums(derived, shape, groups, len(bound), np.dtype(np.float64)).matrix
        wider = self._wider(derived, shape, groups, len(bound))
        scale = 0 if wider is None else np.max(np.abs(wider), initial=0)
        if wider is not None and np.max(np.abs(narrow - wider), initial=0) <= DIGITS_LOST * scale:
            with np.errstate(all="ignore"):
                return wider.astype(self._dtype)
        if self._options.refine:
            found = self._precise_matrix(what, np.full(shape, True), leaves, bound, tangents)
            if found is not None:
                return found
        raise DigitsLostError(
            f"the symbolic formulas of the linear algebra in {self._target.name} lose too "
            "many digits at this point (they cannot choose a pivot); use form='array' or "
            "backend='tape'"
        )

    # ------------------------------------------------------------------ digits

    def _refined(self, what: str, sums: Sums, given: tuple[Leaves, Sequence[Any], Leaves]) -> Any:
        """The matrix with those entries to all digits that rounding may have spoilt.

        Raises:
            UnsupportedOperation: they cannot be computed in higher precision.
        """
        sizes, errors = np.abs(sums.matrix).reshape(1, -1), sums.errors.reshape(1, -1)
        lost = ~digits_kept(sizes, errors, self._dtype).reshape(sums.matrix.shape)
        if not lost.any():
            return sums.matrix
        found = self._precise_matrix(what, lost, *given)
        if found is None:
            raise UnsupportedOperation(
                f"rounding takes the digits of the symbolic derivative of {self._target.name} at "
                "this point (terms cancel), and it cannot be computed in higher precision; "
                "use backend='tape' and look at its estimate"
            )
        return np.where(lost, found, sums.matrix)

    def _precise_matrix(
        self, what: str, wanted: Any, leaves: Leaves, bound: Sequence[Any], tangents: Leaves | None
    ) -> Any:
        """The wanted entries to all digits, summed over the samples; None where one has none."""
        program, entries = self.precise(what), self.derived(what).entries
        if program is None:
            return None
        places = [place for place in entries if wanted[place]]
        x, t = (_flat(part, self._dtype) for part in (leaves, tangents or []))
        matrix = np.zeros(wanted.shape, self._dtype)
        for values in bound:
            found = program.entries(places, self._dtype, x, values, t)
            if len(found) < len(places):
                return None
            for place, entry in found.items():
                matrix[place] += entry
        return matrix

    def errors(self, own: Any, leaves: Leaves, values: Values) -> Any:
        """How far a Jacobian is from the one to all digits, or to those of longdouble, by entry.

        None where neither can be computed.
        """
        bound = self._bound_values(values)
        better = self._precise_matrix("jacobian", np.full(own.shape, True), leaves, [bound], None)
        if better is None:
            groups: tuple[Leaves, Sequence[Any], Leaves] = leaves, bound, []
            better = self._wider(self.derived("jacobian"), own.shape, groups, 1)
        return None if better is None else np.abs(own - better).astype(self._dtype)

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
        end = len(derived.entries)
        middle = end + 2 * len(derived.ties)
        self._refuse_ties(results[end:middle], derived)
        flat = np.zeros((count, self._layout.size), self._dtype)
        for (_, j), entry in zip(derived.entries, results, strict=False):
            flat[:, j] = entry
        trusted &= not (overflows or bool(self.ties(columns, [values])))
        good = np.isfinite(flat).all(axis=1) & np.isfinite(known) & trusted
        if derived.bounded:
            errors = np.zeros_like(flat)
            for (_, j), error in zip(derived.entries, results[middle:], strict=True):
                errors[:, j] = error
            good &= digits_kept(np.abs(flat), errors, self._dtype).all(axis=1)
        parts = np.split(flat, np.cumsum([leaf.size for leaf in self._layout.leaves])[:-1], axis=1)
        shapes = [(count, *leaf.shape) for leaf in self._layout.leaves]
        return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)], good

    def ties(self, leaves: Leaves, samples: Sequence[Values]) -> set[bool]:
        """For each kink at the point, for one of the samples, whether its rule shares."""
        if not self._kinks:
            return set()
        with self._deriving:
            if self._kink_code is None:
                sides = [side for pair in self._kinks for side in pair]
                definitions = self._program.shared.reachable(sides)
                self._kink_code = compiled(definitions, self.groups, sides)
        bound = [self._bound_values(values) for values in samples]
        columns = [np.array(values) for values in zip(*bound, strict=True)]
        with np.errstate(all="ignore"):
            found = self._kink_code(self._dtype, _flat(leaves, self._dtype), columns, [])
        pairs = zip(found[::2], found[1::2], self._kinks.values(), strict=True)
        return {shares for left, right, shares in pairs if np.any(np.equal(left, right))}

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

    def _sums(
        self,
        derived: Derived,
        shape: tuple[int, int],
        groups: tuple[Leaves, Sequence[Any], Leaves],
        count: int,
        dtype: np.dtype[Any],
    ) -> Sums:
        """The matrix computed in a dtype, summed over samples."""
        overflows: list[str] = []
        leaves, columns, tangents = groups
        with np.errstate(all="ignore", over="call", call=lambda kind, _: overflows.append(kind)):
            results = derived.code(dtype, _flat(leaves, dtype), columns, _flat(tangents, dtype))
            end = len(derived.entries)
            middle = end + 2 * len(derived.ties)
            self._refuse_ties(results[end:middle], derived)
            parts = [
                [np.sum(np.broadcast_to(np.asarray(r, dtype), (count,))) for r in part]
                for part in (results[:end], results[middle:])
            ]
        matrix, errors = np.zeros(shape, dtype), np.zeros(shape, dtype)
        for place, entry in zip(derived.entries, parts[0], strict=True):
            matrix[place] = entry
        for place, error in zip(derived.entries, parts[1], strict=False):
            errors[place] = error
        return Sums(matrix, errors, bool(overflows))

    def _wider(
        self,
        derived: Derived,
        shape: tuple[int, int],
        groups: tuple[Leaves, Sequence[Any], Leaves],
        count: int,
    ) -> Any:
        """The matrix computed in longdouble; None where SciPy's functions have none."""
        try:
            return self._sums(derived, shape, groups, count, np.dtype(np.longdouble)).matrix
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

    def source(self, language: str, what: str) -> str:
        """The program of a derivative in a language."""
        derived = self.derived(what)
        rows, columns = self._graph.output_layout.size, self._layout.size
        shapes = {"jacobian": (rows, columns), "hessian": (columns, columns)}
        shape = shapes.get(what, (rows, 1))
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


def _columns(bound: Sequence[Any]) -> Any:
    """What bound symbols stand for, over the samples if there are several."""
    if len(bound) == 1:
        return bound[0]
    return [np.array(values) for values in zip(*bound, strict=True)]


def _flat(leaves: Leaves, dtype: np.dtype[Any]) -> list[Any]:
    return [entry for leaf in leaves for entry in np.asarray(leaf).astype(dtype).reshape(-1)]


def _entry(value: Any, place: int) -> Any:
    """One entry as a floating-point number; a Python number keeps bending to other dtypes."""
    if isinstance(value, float):
        return value
    entry = np.asarray(value).reshape(-1)[place]
    return entry if entry.dtype.kind == "f" else np.float64(entry)
