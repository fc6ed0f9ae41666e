"""Scalar programs of a recorded course, and their derivatives in the shared or expanded form.

This module imports SymPy; import it inside functions.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Final, TypeVar

import numpy as np
import sympy as sp

from diffkit.backends.symbolic.code import Code, compiled
from diffkit.backends.symbolic.course import Course
from diffkit.backends.symbolic.display import folded
from diffkit.backends.symbolic.expanded import (
    SMALL,
    WAY_OUT,
    eliminated,
    keeps_digits,
    matrix_of,
    simplified,
)
from diffkit.backends.symbolic.kinks import kinks_of
from diffkit.backends.symbolic.local import Pair
from diffkit.backends.symbolic.naming import data_names
from diffkit.backends.symbolic.precise import PreciseProgram
from diffkit.backends.symbolic.rounding import followed, last_sums
from diffkit.backends.symbolic.rules import Derivatives
from diffkit.backends.symbolic.scalars import ScalarBody
from diffkit.backends.symbolic.sizes import GRADIENT_GROWTH
from diffkit.errors import ExpressionTooLarge, UnsupportedOperation
from diffkit.tracing.shared_expressions import (
    Expression,
    Shared,
    Symbol,
    require_budget,
    tree_operations,
)
from diffkit.tracing.to_sympy import to_sympy

if TYPE_CHECKING:
    from diffkit.backends.symbolic.differentiator import Symbolic

Result = TypeVar("Result")
Entries = dict[tuple[int, int], Expression]  # those that are not zero, by row and column

WRITTEN: Final = ("expanded", "shared")
LONGEST_ENTRY: Final = 10_000  # operations; compiling many more at once costs seconds
LONGEST_FOLLOWED: Final = 2_000  # operations whose rounding is followed at each call
LONGEST_WRITTEN_FOLLOWED: Final = 16  # errors that an entry of the expanded form follows


@dataclass(frozen=True)
class Derived:
    """A derivative as a program.

    Attributes:
        definitions: what the entries share, each after those that it refers to.
        entries: the entries that are not zero, by row and column.
        bounded: whether the code tells how far rounding may have taken each entry.
        ties: pairs that must differ where the derivative is to be believed.
        shared: what the ties are in terms of.
        code: the entries, then the pairs, and then the errors of the entries, compiled.
    """

    definitions: dict[Symbol, Expression]
    entries: Entries
    ties: list[Pair]
    shared: Shared
    code: Code
    bounded: bool


class ScalarDerivation:
    """The derivatives of a course over single numbers, derived when asked for.

    Several threads may use it at once: what is derived is derived under a lock, and never
    changes.

    Args:
        course: the recording.
        options: the form of the derivatives and their budget.
        longest: operations of a derivative whose rounding is followed at each call.

    Attributes:
        course: the recording.
        form: `expanded` or `shared`.

    Raises:
        ExpressionTooLarge: the derivative would exceed the budget.
        UnsupportedOperation: SymPy has no counterpart of an operation.
    """

    def __init__(self, course: Course, options: Symbolic, longest: int = LONGEST_FOLLOWED) -> None:
        self._longest = longest
        self._options = options
        self._budget = options.max_operations
        self._target = course.target
        self._graph = course.graph
        self._layout = course.point.layout
        self._dtype = course.dtype
        require_budget(
            GRADIENT_GROWTH * course.operations, self._budget, "written for every entry, it"
        )
        self._data_names = data_names(course.target, course.point.data)
        self._deriving = threading.RLock()
        self._convert()
        self._tangents = [sp.Dummy(real=True) for _ in self._program.inputs]
        self._bound = course.needed(node for node, _ in self._program.bound.values())
        self.course = course
        self._derived: dict[str, Derived] = {}
        self._precise: dict[str, PreciseProgram | None] = {}
        self._closed: dict[str, Entries] = {}
        self._kink_code: Code | None = None
        self._sided_code: Code | None = None
        self.form = options.form if options.form in WRITTEN else self._fitting_form()

    def _convert(self) -> None:
        self._program = to_sympy(self._graph, self._data_names, self._budget)
        self._derivatives = Derivatives(self._program.shared, self._program.conditions)
        self._kinks = kinks_of(self._program.shared, self._outputs, self._program.conditions)
        self._is_torn = False

    def _fitting_form(self) -> str:
        """Written out where that is short and costs no digits, else shared."""
        shared = self._program.shared
        if self._program.delicate or not keeps_digits(shared.reachable(self._outputs)):
            return "shared"
        try:
            trees = shared.expanded(self._outputs, SMALL)
        except ExpressionTooLarge:
            return "shared"
        size = sum(tree_operations(tree, {}) for tree in trees)
        return "expanded" if size <= SMALL else "shared"

    # ------------------------------------------------------------------ derivatives

    def derived(self, what: str) -> Derived:
        """The derivative called `jacobian`, `hessian`, `hvp` or `derivative 3`, compiled."""
        known = self._derived.get(what)
        if known is not None:
            return known
        with self._deriving:
            if what not in self._derived:
                written = self.form == "expanded"
                self._derived[what] = self._whole(lambda: self._compiled(what, written))
            return self._derived[what]

    def _whole(self, derive: Callable[[], Result]) -> Result:
        """What is derived; if that is broken off half-way, the next one starts afresh."""
        if self._is_torn:
            self._convert()
        self._is_torn = True
        result = derive()
        self._is_torn = False
        return result

    def _compiled(self, what: str, written: bool) -> Derived:
        shared = self._program.shared
        entries = self._written(what) if written else self._entries(what)
        ties = list(self._derivatives.ties)
        sides = [side for pair in ties for side in pair]
        if written:
            sides = shared.expanded(sides, self._budget, WAY_OUT)
            definitions, results = eliminated([*entries.values(), *sides])
        else:
            results = [*entries.values(), *sides]
            definitions = shared.reachable(results)
        values = dict(zip(entries, results, strict=False))
        lines, computed = self._followed(definitions, results, len(entries))
        code = compiled(lines, self.groups, computed, counted=(definitions, results))
        bounded = len(computed) > len(results)
        return Derived(definitions, values, ties, shared, code, bounded)

    def _followed(
        self, definitions: dict[Symbol, Expression], results: list[Expression], count: int
    ) -> tuple[dict[Symbol, Expression], list[Expression]]:
        """The program with the errors of its first results as further ones, unless it is long."""
        operations = sum(tree_operations(e, {}) for e in (*definitions.values(), *results))
        if not (self._options.refine and count and operations <= self._longest):
            return definitions, results
        program = followed(definitions, results[:count])
        return program.definitions, [*program.values, *results[count:], *program.errors]

    def precise(self, what: str) -> PreciseProgram | None:
        """The entries of a derivative in arbitrary precision, if mpmath has all their functions."""
        if what not in self._precise:
            derived = self.derived(what)
            with self._deriving:
                made = followed(derived.definitions, derived.entries.values())
                entries = dict(zip(derived.entries, made.values, strict=True))
                try:
                    program = PreciseProgram(made.definitions, entries, made.errors, self.groups)
                except UnsupportedOperation:
                    self._precise[what] = None
                else:
                    self._precise[what] = program
        return self._precise[what]

    def body(self, what: str) -> ScalarBody | None:
        """The gradient, or a `derivative` of some order, as the body of an entry.

        None where it would be long, or double precision is not enough to judge the digits.
        """
        if self._program.delicate or self._dtype != np.float64:
            return None
        derived = self.derived(what)
        if derived.code.operations > LONGEST_ENTRY:
            return None
        by_row = what.startswith("derivative")
        layout = self._graph.output_layout if by_row else self._layout
        places = [(k, 0) if by_row else (0, k) for k in range(layout.size)]
        with self._deriving:
            definitions, results = self._with_outputs(what, derived)
        pairs = len(derived.ties) + len(self._kinks)
        count, sides = len(self._outputs), results[len(results) - 2 * pairs :]
        values = results[count : count + len(derived.entries)]
        errors: list[tuple[Expression, Expression]] = []
        watched = set(definitions)
        if derived.bounded:
            made = followed(definitions, values)
            if self.form == "expanded" and len(made.auxiliary) > LONGEST_WRITTEN_FOLLOWED:
                made = last_sums(definitions, values)
            definitions, values = made.definitions, made.values
            errors = list(zip(values, made.errors, strict=True))
            watched = set(definitions) - made.auxiliary
        entries = dict(zip(derived.entries, values, strict=True))
        rows = iter([entries.get(place, sp.Integer(0)) for place in places])
        return ScalarBody(
            definitions,
            self._program.inputs,
            self._layout.leaves,
            self._program.bound,
            [(leaf, list(islice(rows, leaf.size))) for leaf in layout.leaves],
            results[:count],
            sides,
            errors,
            watched,
        )

    def _with_outputs(
        self, what: str, derived: Derived
    ) -> tuple[dict[Symbol, Expression], list[Expression]]:
        """Definitions for the entries of the value, those of the derivative, ties and kinks."""
        sides = [side for pair in (*derived.ties, *self._kinks) for side in pair]
        if self.form == "shared":
            results = [*self._outputs, *derived.entries.values(), *sides]
            return derived.shared.reachable(results), results
        outputs, sides = (
            derived.shared.expanded(part, self._budget, WAY_OUT) for part in (self._outputs, sides)
        )
        return eliminated([*outputs, *self._written(what).values(), *sides])

    @property
    def groups(self) -> dict[str, list[Symbol]]:
        """The symbols that a program reads: entries of `x`, bound symbols, tangents."""
        return {"x": self._program.inputs, "b": list(self._program.bound), "t": self._tangents}

    @property
    def _outputs(self) -> list[Expression]:
        return [entry for leaf in self._program.outputs for entry in leaf]

    def _written(self, what: str) -> Entries:
        """The entries as closed expressions in the inputs, data and constants."""
        if what not in self._closed:
            self._closed[what] = self._closed_entries(what)
        return self._closed[what]

    def _closed_entries(self, what: str) -> Entries:
        shared, inputs = self._program.shared, self._program.inputs
        trees = shared.expanded(self._outputs, self._budget, WAY_OUT)
        rows = matrix_of(what, trees, inputs, self._tangents, self._budget)
        if rows is None:
            entries = self._entries(what)
            written = shared.expanded(list(entries.values()), self._budget, WAY_OUT)
            places, values = list(entries), [folded(entry) for entry in written]
        else:
            places = [(i, j) for i, row in enumerate(rows) for j in range(len(row))]
            values = [entry for row in rows for entry in row]
        values = self._simplified(values)
        return {
            place: value for place, value in zip(places, values, strict=True) if not value.is_zero
        }

    def _simplified(self, entries: Sequence[Expression]) -> list[Expression]:
        options = self._options
        return simplified(entries, options.simplify, options.max_seconds, options.max_bytes)

    def _entries(self, what: str) -> Entries:
        """The entries in terms of what is shared."""
        outputs, inputs = self._outputs, self._program.inputs
        if what == "jacobian":
            return self._jacobian(outputs)
        if what.startswith("derivative"):
            for _ in range(int(what.split()[1])):
                outputs = self._derivatives.along(outputs, {inputs[0]: sp.Integer(1)})
            return {(i, 0): entry for i, entry in enumerate(outputs) if not entry.is_zero}
        by_symbol = self._derivatives.gradient(outputs[0])
        gradient = [by_symbol.get(symbol, sp.Integer(0)) for symbol in inputs]
        if what == "hessian":
            return self._jacobian(gradient)
        directions = dict(zip(inputs, self._tangents, strict=True))
        product = self._derivatives.along(gradient, directions)
        return {(0, j): entry for j, entry in enumerate(product) if not entry.is_zero}

    def _jacobian(self, outputs: Sequence[Expression]) -> Entries:
        inputs = self._program.inputs
        entries: Entries = {}
        if len(outputs) <= len(inputs):
            columns = {symbol: j for j, symbol in enumerate(inputs)}
            for i, output in enumerate(outputs):
                for symbol, entry in self._derivatives.gradient(output).items():
                    entries[i, columns[symbol]] = entry
        else:
            for j, symbol in enumerate(inputs):
                for i, entry in enumerate(
                    self._derivatives.along(outputs, {symbol: sp.Integer(1)})
                ):
                    entries[i, j] = entry
        return {place: entry for place, entry in entries.items() if not entry.is_zero}
