"""From a recording to a plan: the operations of value and gradient, in order.

The reverse walk is itself recorded, which joins forward and reverse operations to one list.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import chain, compress, count, pairwise
from operator import not_
from typing import Any, NamedTuple

import numpy as np

from diffkit.backends.tape.kinks import KINKS
from diffkit.backends.tape.ties import may_tie
from diffkit.backends.tape.walk import walk
from diffkit.structure import is_traced
from diffkit.tracing.graph import Graph, Missing, Node, Primitive, watch
from diffkit.tracing.locations import Place, located
from diffkit.tracing.tracer import Trace, Traced


class Origin(NamedTuple):
    """A line of the user's code, and whether an adjoint of what it computes is meant."""

    line: int
    adjoint: bool

    def __str__(self) -> str:
        return f"adjoint of line {self.line}" if self.adjoint else f"line {self.line}"


class Step(NamedTuple):
    """One value of a plan.

    Attributes:
        primitive: what computes it; None for an input or a constant.
        inputs: the positions of its arguments in the plan.
        static: the keyword arguments.
        value: an example of the value: that of the recording.
        constant: whether it is the same at every call.
        origin: the line of the user's code that it, or what it is an adjoint of, comes from.
    """

    primitive: Primitive | None
    inputs: tuple[int, ...]
    static: Any
    value: Any
    constant: bool
    origin: Origin | None = None

    @property
    def is_adjoint(self) -> bool:
        """Whether it is known to belong to the reverse sweep."""
        return self.origin is not None and self.origin.adjoint

    def on(self, inputs: tuple[int, ...]) -> Step:
        """The same step with its arguments at other positions."""
        if inputs == self.inputs:
            return self
        return Step(self.primitive, inputs, self.static, self.value, self.constant, self.origin)


def compiled_only(name: str, function: Callable[..., Any]) -> Primitive:
    """A primitive that no function uses: it is made while a gradient is compiled."""
    missing = Missing("made while a gradient is compiled")
    return Primitive(name, function, missing, missing, missing)


@dataclass(frozen=True)
class Plan:
    """Steps in order, with the positions of what goes in and comes out.

    Attributes:
        steps: every value, each after its arguments.
        inputs: the leaves of `x`, then the numeric leaves of the data.
        outputs: the value of the function, then the leaves of its gradient.
        guards: by the position of a step, what it was when recorded.
        finite: what must be finite for the plan to hold.
        follows: adjoints that are zero where another is, which they route, share or drop.
        ties: outcomes that must be false for the plan to hold, because the derivative at a tie
            is not what the rules give; with the adjoint without which a tie does not matter.
    """

    steps: list[Step]
    inputs: list[int]
    outputs: list[int]
    guards: dict[int, list[Any]]
    finite: frozenset[int] = frozenset()
    follows: dict[int, int] = field(default_factory=dict)
    ties: dict[int, int | None] = field(default_factory=dict)

    def enumerated(self) -> Iterator[tuple[int, Step]]:
        return enumerate(self.steps)

    def ends(self) -> Iterator[int]:
        """What leaves the plan or is checked."""
        yield from self.outputs
        yield from self.guards
        yield from self.finite
        yield from self.ties

    def uses(self) -> dict[int, int]:
        """How often each value is read; what leaves the plan counts twice."""
        uses: dict[int, int] = Counter(chain.from_iterable([step.inputs for step in self.steps]))
        for position in self.ends():
            uses[position] = uses.get(position, 0) + 2
        return uses

    def moved(self, steps: list[Step], place: dict[int, int]) -> Plan:
        """The plan of other steps, given the places there of those that matter here."""
        return Plan(
            steps,
            [place[i] for i in self.inputs],
            [place[i] for i in self.outputs],
            {place[i]: expected for i, expected in self.guards.items()},
            frozenset(place[i] for i in self.finite if not steps[place[i]].constant),
            ties={place[i]: None for i in self.ties},
        )

    def sources_first(self) -> Plan:
        """The plan with its inputs and constants before everything else."""
        given = [step.primitive is None for step in self.steps]
        order = [*compress(count(), given), *compress(count(), map(not_, given))]
        place = {old: new for new, old in enumerate(order)}
        steps = [self.steps[old] for old in order]
        steps = [s.on(tuple([place[i] for i in s.inputs])) for s in steps]
        return self.moved(steps, place)

    def leading_to(self, positions: set[int]) -> set[int]:
        """The steps that these steps need, and these themselves."""
        found = set(positions)
        if found:
            steps = self.steps
            for position in range(max(found), -1, -1):
                if position in found:
                    found.update(steps[position].inputs)
        return found

    def leading_to_guards(self) -> set[int]:
        """The steps whose values must be what they were when recorded, to the last bit."""
        return self.leading_to(set(self.guards))

    def needed(self) -> Plan:
        """The plan without the steps that nothing needs."""
        kept = self.leading_to({*self.inputs, *self.ends()})
        if len(kept) == len(self.steps):
            return self
        order = sorted(kept)
        place = dict(zip(order, count(), strict=False))
        olds = [self.steps[old] for old in order]
        steps = [step.on(tuple([place[i] for i in step.inputs])) for step in olds]
        return self.moved(steps, place)


def gradient_plan(graph: Graph) -> Plan:
    """The plan of value and gradient of a function that returns one number."""
    follows: dict[int, int] = {}
    choices: dict[int, int] = {}
    pulled: list[tuple[int, Node]] = []
    running = Again()
    with running, np.errstate(all="ignore"):
        leaves = [running.input(node.value) for node in graph.inputs]
        data = [running.data(node.value) for node in graph.data]
        values = running.values_of(graph, [*leaves, *data])
        seed = [np.ones((), leaf.dtype)[()] for leaf in graph.output_layout.leaves]
        # Where an adjoint is not finite the program declines; no place need be told apart.
        nodes = observed(graph.nodes, running, pulled, follows, choices)
        adjoints = walk(replace(graph, nodes=nodes), values, seed, None)
        ties = {
            outcome.node.index: choices.get(node.index)
            for node, outcome in outcomes(graph, values)
            if is_traced(outcome) and outcome.recorder is running
        }

        outputs = [running.node_of(values[node.index]) for node in graph.outputs]
        outputs += [running.node_of(adjoint) for adjoint in adjoints]
    origins = origins_of(graph, values, pulled, len(running.nodes))
    given = [traced.node for traced in (*leaves, *data)]
    return plan_of(running, given, outputs, origins, follows, ties)


def plan_of(
    running: Again,
    given: list[Node],
    outputs: list[Node],
    origins: list[Origin | None],
    follows: dict[int, int],
    ties: dict[int, int | None],
) -> Plan:
    """The plan of what has been recorded, given what goes in and what is to come out."""
    inputs = [node.index for node in given]
    varying = set(inputs)
    steps = [
        Step(
            node.primitive,
            tuple([i.index for i in node.inputs]),
            node.static,
            node.value,
            node.primitive is None and node.index not in varying,
            origin,
        )
        for node, origin in zip(running.nodes, origins, strict=True)
    ]
    expected: dict[int, list[Any]] = {}
    for guard in running.guards:  # those of the recording, and of the rules of the reverse walk
        expected.setdefault(guard.node.index, []).append(guard.expected)
    return Plan(
        steps, inputs, [node.index for node in outputs], expected, follows=follows, ties=ties
    )


def outcomes(graph: Graph, values: list[Any]) -> Iterator[tuple[Node, Any]]:
    """For each node that can be tied, whether it is."""
    for node in graph.nodes:
        if node.primitive is not None and may_tie(node):
            arguments = [values[i.index] for i in node.inputs]
            tied = KINKS[node.primitive.name].tied(values[node.index], *arguments, **node.static)
            yield node, np.any(tied)


def origins_of(
    graph: Graph, values: list[Any], pulled: list[tuple[int, Node]], length: int
) -> list[Origin | None]:
    """Where each recorded node comes from: forward from a line, then from the adjoints of one."""
    origins: list[Origin | None] = [None] * length
    known: dict[tuple[int, int], tuple[Origin, Origin]] = {}

    def both(place: Place) -> tuple[Origin, Origin]:
        instruction = (id(place[0]), place[1])
        if instruction not in known:
            line = located(place).line
            known[instruction] = Origin(line, False), Origin(line, True)
        return known[instruction]

    for node, value in zip(graph.nodes, values, strict=True):
        if node.place is not None and is_traced(value):
            origins[value.node.index] = both(node.place)[0]
    for (start, node), (end, _) in pairwise([*pulled, (length, graph.nodes[-1])]):
        if start < end and node.place is not None:
            origins[start:end] = [both(node.place)[1]] * (end - start)
    return origins


def observed(
    nodes: list[Node],
    running: Trace,
    pulled: list[tuple[int, Node]],
    follows: dict[int, int],
    choices: dict[int, int],
) -> list[Node]:
    """The nodes, their operations noting when and for which adjoint they are pulled back.

    `pulled` tells from which node of the recording under way on an operation is pulled back;
    `choices` the adjoint of each choice, by its index; `follows` which adjoint each of those that
    it passes on is made of.
    """

    def noting(node: Node) -> Node:
        primitive = node.primitive
        if primitive is None:
            return node
        chooses = primitive.routes and not primitive.movement

        def pull(position: int, g: Any, y: Any, *arguments: Any, **static: Any) -> Any:
            pulled.append((len(running.nodes), node))
            adjoint = primitive.pull(position, g, y, arguments, static)
            if chooses and is_traced(adjoint) and is_traced(g) and adjoint.node is not g.node:
                follows[adjoint.node.index] = choices[node.index] = g.node.index
            return adjoint

        return node.with_primitive(_Observed(pull, primitive.adds))  # type: ignore[arg-type]

    return [noting(node) for node in nodes]


class _Observed(NamedTuple):
    """What the reverse walk asks of a primitive."""

    pullbacks: Any
    adds: Any


class Again(Trace):
    """A recording of what has been recorded, at the same point: no value is computed again.

    Origins take the place of locations, and nothing is written into, so that no value is copied.
    """

    def __init__(self) -> None:
        super().__init__()
        self.located = False

    def values_of(self, graph: Graph, given: list[Any]) -> list[Any]:
        """The value of every node, traced where it depends on what is given.

        Args:
            graph: the recording.
            given: its inputs and its data, traced.
        """
        values: list[Any] = [node.value for node in graph.nodes]
        for node, traced in zip((*graph.inputs, *graph.data), given, strict=True):
            values[node.index] = traced
        guards = graph.guards_by_node()
        for node in graph.nodes:
            if node.primitive is not None:
                arguments = [values[source.index] for source in node.inputs]
                if any(type(argument) is Traced for argument in arguments):
                    values[node.index] = self._applied(node, arguments)
            for guard in guards.get(node.index, ()):
                watch(values[node.index], guard.location)
        return values

    def _applied(self, node: Node, arguments: list[Any]) -> Traced:
        assert node.primitive is not None
        inputs = tuple([a.node if type(a) is Traced else self.constant(a) for a in arguments])
        flows = any(source.active for source in inputs)
        depends = flows or any(source.depends for source in inputs)
        return self._append(node.primitive, inputs, node.static, node.value, flows, depends)

    def node_of(self, value: Any) -> Node:
        """The node of a value; of a plain one a constant."""
        mine = is_traced(value) and value.recorder is self
        return value.node if mine else self.constant(value)

    def _given(self, value: Any, active: bool) -> Node:
        # Not copied: a number that is repeated without memory is seen to be one number.
        return self._add(Node(None, (), {}, value, active, active))
