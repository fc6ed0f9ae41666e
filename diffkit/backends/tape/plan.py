"""From a recording to a plan: the operations of value and gradient, as few as they can be.

The reverse walk is itself recorded, which joins forward and reverse operations to one list.
The list is then simplified: constants are folded, repeated operations shared, operations that
change nothing left out, repetitions that broadcasting does anyway not written out, and what no
result needs is dropped. Operations that lead to a guard keep their order of evaluation: nothing
here reassociates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from diffkit.backends.tape.walk import walk
from diffkit.structure import concrete, is_traced
from diffkit.tracing.graph import Graph, Node, Primitive
from diffkit.tracing.locations import Location
from diffkit.tracing.primitives import PRIMITIVES
from diffkit.tracing.tracer import Trace


@dataclass(frozen=True)
class Step:
    """One value of a plan.

    Attributes:
        primitive: what computes it; None for an input or a constant.
        inputs: the positions of its arguments in the plan.
        static: the keyword arguments.
        value: an example of the value: that of the recording.
        constant: whether it is the same at every call.
        location: the line of the user's code that it comes from; None for the reverse sweep.
    """

    primitive: Primitive | None
    inputs: tuple[int, ...]
    static: Any
    value: Any
    constant: bool
    location: Location | None = None


@dataclass(frozen=True)
class Plan:
    """Steps in order, with the positions of what goes in and comes out.

    Attributes:
        steps: every value, each after those of its arguments that are not constants; None
            where a step was dropped.
        inputs: the leaves of `x`, then the numeric leaves of the data.
        outputs: the value of the function, then the leaves of its gradient.
        guards: by the position of a step, what it was when recorded.
    """

    steps: list[Step | None]
    inputs: list[int]
    outputs: list[int]
    guards: dict[int, list[Any]]

    def step(self, position: int) -> Step:
        """The step at a position that was not dropped."""
        step = self.steps[position]
        assert step is not None
        return step


def gradient_plan(graph: Graph) -> Plan:
    """The plan of value and gradient of a function that returns one number."""
    with Trace() as running, np.errstate(all="ignore"):
        leaves = [running.input(node.value) for node in graph.inputs]
        data = [running.data(node.value) for node in graph.data]
        values = graph.evaluate(leaves, data)
        forward = len(running.nodes)
        seed = [np.ones((), leaf.dtype)[()] for leaf in graph.output_layout.leaves]
        # Where an adjoint is not finite the program declines; no place need be told apart.
        adjoints = walk(graph, values, seed, None)

        def node_of(value: Any) -> Node:
            mine = is_traced(value) and value.recorder is running
            return value.node if mine else running.constant(value)

        outputs = [node_of(values[node.index]) for node in graph.outputs]
        outputs += [node_of(adjoint) for adjoint in adjoints]
    lines = {
        id(node_of_value.node): node.location
        for node, node_of_value in zip(graph.nodes, values, strict=True)
        if is_traced(node_of_value)
    }
    inputs = [traced.node.index for traced in (*leaves, *data)]
    steps: list[Step | None] = [
        Step(
            node.primitive,
            tuple(i.index for i in node.inputs),
            node.static,
            concrete(node.value),
            node.primitive is None and node.index not in inputs,
            lines.get(id(node)) if node.index < forward else None,
        )
        for node in running.nodes
    ]
    expected: dict[int, list[Any]] = {}
    for guard in running.guards:  # those of the recording, and of the rules of the reverse walk
        expected.setdefault(guard.node.index, []).append(guard.expected)
    return simplified(Plan(steps, inputs, [node.index for node in outputs], expected))


def simplified(plan: Plan) -> Plan:
    """The same results from fewer steps."""
    return _Simplifier(plan).run()


class _Simplifier:
    """One pass over a plan, front to back, and one back to front for what is not needed."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.steps: list[Step | None] = list(plan.steps)
        self.stand_in: list[int] = []
        self.seen: dict[Any, int] = {}

    def run(self) -> Plan:
        for position in range(len(self.plan.steps)):
            self.stand_in.append(self._settle(position))
        outputs = [self.stand_in[i] for i in self.plan.outputs]
        guards: dict[int, list[Any]] = {}
        for position, expected in self.plan.guards.items():
            if not self.step(self.stand_in[position]).constant:
                guards.setdefault(self.stand_in[position], []).extend(expected)
        needed = set(outputs) | set(guards) | set(self.plan.inputs)
        for position in range(len(self.plan.steps) - 1, -1, -1):
            if position in needed:
                needed.update(self.step(position).inputs)
            else:
                self.steps[position] = None
        return Plan(self.steps, self.plan.inputs, outputs, guards)

    def step(self, position: int) -> Step:
        step = self.steps[position]
        assert step is not None
        return step

    def value(self, position: int) -> Any:
        return self.step(position).value

    def _settle(self, position: int) -> int:
        """Simplify one step; return the position of the step that stands for it."""
        step = self.step(position)
        step = replace(step, inputs=tuple(self.stand_in[i] for i in step.inputs))
        if step.primitive is not None:
            if all(self.step(i).constant for i in step.inputs):
                step = replace(step, primitive=None, inputs=(), constant=True)
            else:
                step = self._rewritten(step)
                same = self._unchanged(step)
                if same is not None:
                    return same
        self.steps[position] = step
        key = _key(step)
        return position if key is None else self.seen.setdefault(key, position)

    def _constant(self, value: Any) -> int:
        """The position of a constant, added at the end if it is new."""
        step = Step(None, (), {}, value, True)
        key = _key(step)
        known = self.seen.get(key)
        if known is None:
            self.steps.append(step)
            known = self.seen[key] = len(self.steps) - 1
        return known

    # ------------------------------------------------------------------ rules

    def _unchanged(self, step: Step) -> int | None:
        """The position of an argument that the step gives back as it is."""
        assert step.primitive is not None
        for k, i in enumerate(step.inputs):
            if _alike(self.value(i), step.value) and self._changes_nothing(step, k):
                return i
        return None

    def _changes_nothing(self, step: Step, k: int) -> bool:
        assert step.primitive is not None
        name = step.primitive.name
        if name in ("broadcast_to", "astype", "positive"):
            return True
        if name == "reshape":
            return bool(step.static.get("order", "C") == "C")
        if name == "multiply" or (name in ("divide", "power") and k == 0):
            return self._scalar(step.inputs[1 - k]) == 1.0
        return False

    def _scalar(self, i: int) -> float | None:
        """The number, if an argument is one number at every call."""
        step = self.step(i)
        if not step.constant or np.size(step.value) == 0:
            return None
        flat = np.ravel(step.value)
        return float(flat[0]) if bool(np.all(flat == flat[0])) else None

    def _rewritten(self, step: Step) -> Step:
        assert step.primitive is not None
        if step.primitive.elementwise:
            step = self._unrepeated(step)
        rule = _RULES.get(step.primitive.name) if step.primitive else None
        return step if rule is None else rule(self, step) or step

    def _unrepeated(self, step: Step) -> Step:
        """Without repetition of an argument that broadcasting does anyway."""
        inputs = list(step.inputs)
        for k, i in enumerate(inputs):
            lighter = self._unrepeated_argument(i)
            if lighter is None:
                continue
            shapes = [np.shape(self.value(lighter if j == k else o)) for j, o in enumerate(inputs)]
            if np.broadcast_shapes(*shapes) == np.shape(step.value):
                inputs[k] = lighter
        return replace(step, inputs=tuple(inputs))

    def _unrepeated_argument(self, i: int) -> int | None:
        source = self.step(i)
        if source.primitive is not None:
            return source.inputs[0] if source.primitive.name == "broadcast_to" else None
        if isinstance(source.value, np.ndarray) and self._scalar(i) is not None:
            return self._constant(source.value.reshape(-1)[0])
        return None

    def _made_by(self, i: int, name: str) -> Step | None:
        step = self.step(i)
        return step if step.primitive is not None and step.primitive.name == name else None

    def _scaled(self, i: int) -> tuple[Any, int] | None:
        """The constant factor and the other argument of a product with one."""
        product = self._made_by(i, "multiply")
        if product is None:
            return None
        for k in (0, 1):
            factor = self.step(product.inputs[k])
            if factor.constant and np.shape(factor.value) == ():
                return factor.value, product.inputs[1 - k]
        return None

    def negated(self, step: Step) -> Step | None:
        """-(c x) is (-c) x."""
        scaled = self._scaled(step.inputs[0])
        if scaled is None:
            return None
        return self._product(step, -scaled[0], scaled[1])

    def multiplied(self, step: Step) -> Step | None:
        """a (c x) is (a c) x where a or c is a power of two, so that nothing is rounded."""
        for k in (0, 1):
            factor, scaled = self.step(step.inputs[k]), self._scaled(step.inputs[1 - k])
            if factor.constant and np.shape(factor.value) == () and scaled is not None:
                mantissas = {abs(float(np.frexp(c)[0])) for c in (factor.value, scaled[0])}
                if 0.5 in mantissas:
                    return self._product(step, factor.value * scaled[0], scaled[1])
        return None

    def _product(self, step: Step, factor: Any, other: int) -> Step | None:
        """A product that is exact where the one it replaces was, in the same dtype."""
        if not np.isfinite(factor) or not _alike(self.value(other), step.value):
            return None
        multiply = PRIMITIVES["multiply"]
        return replace(step, primitive=multiply, inputs=(self._constant(factor), other))

    def added(self, step: Step) -> Step | None:
        """a + (-b) is a - b."""
        for k in (0, 1):
            negative = self._made_by(step.inputs[k], "negative")
            if negative is not None:
                inputs = (step.inputs[1 - k], negative.inputs[0])
                return replace(step, primitive=PRIMITIVES["subtract"], inputs=inputs)
        return None

    def subtracted(self, step: Step) -> Step | None:
        """a - (-b) is a + b."""
        negative = self._made_by(step.inputs[1], "negative")
        if negative is None:
            return None
        inputs = (step.inputs[0], negative.inputs[0])
        return replace(step, primitive=PRIMITIVES["add"], inputs=inputs)


_RULES: dict[str, Callable[[_Simplifier, Step], Step | None]] = {
    "negative": _Simplifier.negated,
    "multiply": _Simplifier.multiplied,
    "add": _Simplifier.added,
    "subtract": _Simplifier.subtracted,
}


def _alike(a: Any, b: Any) -> bool:
    """Whether two values are of the same kind, shape and dtype."""
    if type(a) is not type(b) or not isinstance(a, (np.ndarray, np.generic)):
        return False
    return bool(a.shape == b.shape and a.dtype == b.dtype)


def _key(step: Step) -> Any:
    """Equal for steps that compute the same; None for a step that has no key."""
    if step.primitive is None:
        value = step.value
        if not step.constant or isinstance(value, np.ndarray):
            return None
        return type(value), repr(value)
    try:
        return step.primitive.name, step.inputs, _frozen(step.static)
    except TypeError:
        return None


def _frozen(static: Any) -> Any:
    if isinstance(static, dict):
        return tuple((key, _frozen(value)) for key, value in sorted(static.items()))
    if isinstance(static, (list, tuple)):
        return tuple(_frozen(value) for value in static)
    if isinstance(static, slice):
        return "slice", static.start, static.stop, static.step
    if isinstance(static, np.ndarray):
        return static.shape, static.dtype.str, static.tobytes()
    hash(static)
    return type(static), static
