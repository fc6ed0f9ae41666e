"""The `Trace` that traced arrays record into.

Concrete values flow while recording, so a function may look at them: each outcome that it
takes from a value (`if x > 0`) becomes a guard. What would take a value out of the graph, and
so lose its derivative without a word, raises `TracingError`. Traces nest: the value of an
inner traced array may be a traced array of an outer trace.
"""

from __future__ import annotations

import gc
import itertools
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np

from diffkit.errors import DiffkitError, UnsupportedOperation
from diffkit.tracing.exits import settled
from diffkit.tracing.foretold import Follower
from diffkit.tracing.graph import Guard, Node, Primitive, watch
from diffkit.tracing.locations import user_location, user_place
from diffkit.tracing.primitives.complex_pairs import COMPLEX
from diffkit.tracing.quick import current_place, foretold
from diffkit.tracing.refusals import refuse, running
from diffkit.tracing.scripts import GIVEN_DATA, GIVEN_X, Script, operation_key
from diffkit.tracing.traced import Traced
from diffkit.tracing.watches import same_bytes

__all__ = ["Trace", "Traced"]


class Trace(Follower):
    """One recording under way; a context manager around the run of the function.

    Attributes:
        kept: whether the recording outlives the call: then the user's lines are noted, and the
            outcomes that the function depended on.
        located: whether the user's lines are noted.
        level: grows from outer to inner traces, in whichever thread they run.
        nodes: what has been recorded so far, in order.
        guards: the outcomes the function depended on so far.
        data_count: how many data inputs there are.
        refusal: the first error of ours raised while recording. Should the function swallow
            it, it is raised again at the end.
    """

    _levels: ClassVar[Iterator[int]] = itertools.count()

    def __init__(self, kept: bool = True, script: Script | None = None) -> None:
        """A recording that, where nobody keeps it, may follow a script."""
        super().__init__(script)
        self.kept = self.located = kept
        self.nodes: list[Node] = []
        self.guards: list[Guard] = []
        self.refusal: DiffkitError | None = None
        self.closed = False
        self.data_count = 0
        self.level = next(Trace._levels)

    def __enter__(self) -> Trace:
        running().append(self)
        # The garbage collector would look through a growing recording again and again.
        self._collecting = gc.isenabled()
        gc.disable()
        return self

    def __exit__(self, *exception: object) -> None:
        self.closed, self.keys = True, None
        running().remove(self)
        if self._collecting:
            gc.enable()

    def input(self, value: Any) -> Traced:
        """A new input: a leaf of `x`."""
        if self.keys is not None and (place := self.place_of_given(value, GIVEN_X)) >= 0:
            return foretold(Traced, self, place)
        return Traced(self, self._given(value, True))

    def data(self, value: Any) -> Traced:
        """A new data input, which is not differentiated."""
        self.data_count += 1
        if self.keys is not None and (place := self.place_of_given(value, GIVEN_DATA)) >= 0:
            return foretold(Traced, self, place)
        return Traced(self, self._given(value, False))

    def _given(self, value: Any, active: bool) -> Node:
        if self.keys is not None:
            self.leave_script()
        return self._add(Node(None, (), {}, _snapshot(value), active, active))

    def _add(self, node: Node) -> Node:
        nodes = self.nodes
        node.index = index = len(nodes)
        nodes.append(node)
        if nodes[index] is not node:  # a thread that the function started was quicker
            node.index = max(i for i, other in enumerate(nodes) if other is node)
        return node

    def number(self, value: int | float) -> Node:
        """The node of a Python number."""
        node = self._numbers.get(value)
        if node is None or type(node.value) is not type(value) or not value:  # 0.0 == -0.0 == 0
            node = self._numbers[value] = self._given(value, False)
        return node

    def constant(self, value: Any) -> Node:
        """The node of a captured value, copied, so that it counts as it is now."""
        if type(value) is not np.ndarray:
            return self._given(value, False)
        known = self._constants.get(id(value))
        if known is not None and known[0] is value and same_bytes(value, known[1].value):
            return known[1]
        node = self._given(value, False)
        self._constants[id(value)] = (value, node)
        return node

    def record(self, primitive: Primitive, operands: tuple[Any, ...], static: Any) -> Any:
        """Apply a primitive to operands of which at least one is traced here."""
        if static:
            static = {name: settled(value) for name, value in static.items()}
        if self.keys is not None:
            traced = self._foretold(primitive, operands, static)
            if traced is not None:
                return traced
            self.leave_script()
        inputs, values, nested = [], [], False
        for operand in operands:
            mine = type(operand) is Traced and operand.recorder is self
            source = operand._node if mine else self.constant(operand)
            inputs.append(source)
            values.append(source.value)
            nested = nested or type(source.value) is Traced
        try:
            value = (primitive if nested else primitive.function)(*values, **static)
        except np.linalg.LinAlgError:  # which the function may handle: it depends on its course
            self._watch(inputs)
            raise
        if _kind(value) == "c":  # a complex constant took part
            return COMPLEX.record(primitive, operands, static)
        flows = any(source.active for source in inputs)
        depends = flows or any(source.depends for source in inputs)
        traced = self._append(primitive, tuple(inputs), static, value, flows, depends)
        if primitive.movement:
            traced.link_to(operands[0], primitive, static)
        return traced

    def _watch(self, inputs: list[Node]) -> None:
        """Note that the course of the function depends on these values."""
        for source in inputs:
            watch(Traced(self, source), user_location() if self.kept else None)

    def _foretold(
        self, primitive: Primitive, operands: tuple[Any, ...], static: Any
    ) -> Traced | None:
        """What the script has for a primitive and these operands, or None if it has not."""
        places = []
        for operand in operands:
            mine = type(operand) is Traced and operand.recorder is self
            place = current_place(operand) if mine else self.place_of_constant(operand)
            if place < 0:
                return None
            places.append(place)
        place = self.place_of_step(operation_key(primitive, places, static))
        if place < 0:
            return None
        traced = foretold(Traced, self, place)
        if self.steps[place].is_view:
            traced.foretold_view_of(operands[0], places[0], primitive, static)
        return traced

    def single(self, primitive: Primitive, a: Node, static: Any, value: Any) -> Traced:
        """The traced value of a primitive of one argument, computed already."""
        return self._append(primitive, (a,), static, value, a.active, a.depends)

    def pair(self, primitive: Primitive, a: Node, b: Node, value: Any) -> Traced:
        """The traced value of a primitive of two arguments, computed already."""
        return self._append(
            primitive, (a, b), {}, value, a.active or b.active, a.depends or b.depends
        )

    def _append(
        self,
        primitive: Primitive,
        inputs: tuple[Node, ...],
        static: Any,
        value: Any,
        flows: bool,
        depends: bool,
    ) -> Traced:
        if self.closed:
            refuse(
                "a traced value was used after the function it belongs to had returned; it must "
                "not be kept in outside state (a global, a list, an attribute)"
            )
        if flows:
            floating = type(value) is np.float64 or _kind(value) == "f"
            flows = floating and primitive.differentiable
        node = Node(primitive, inputs, static, value, flows, depends)
        if self.located:
            node.place = user_place()
        return Traced(self, self._add(node))


def _kind(value: Any) -> str:
    """The kind of number that a value is made of, as NumPy names it: `f` for floating."""
    dtype: np.dtype[Any] = value.dtype if hasattr(value, "dtype") else np.asarray(value).dtype
    return dtype.kind


def _snapshot(value: Any) -> Any:
    """The value as it is now, whatever is written into the original later."""
    if type(value) is np.ndarray:
        return value.copy(order="K")
    if type(value) is Traced:
        return Traced(value.recorder, value.node)
    if isinstance(value, (np.ma.MaskedArray, np.matrix)):
        refuse(
            f"a {type(value).__name__} takes part in the computation, whose rules are not those "
            "of arrays; use a plain array (for a mask, np.where)",
            UnsupportedOperation,
        )
    return value.copy(order="K") if isinstance(value, np.ndarray) else value
