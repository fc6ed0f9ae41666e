"""Gradients of functions that were not prepared, compiled once their course is known by heart.

Unless it is one that may `stand`, a function that is not prepared is recorded afresh at every call,
so that nothing outside it can be out of date. What it does is mostly the same each time. A course
that was taken often enough is compiled, with everything but its structure as an input: the leaves
of `x`, the data, every captured array. The program serves whenever a new recording turns out to
have taken that very course, step by step; so this table holds nothing that could be wrong, only
what has been worked out before.

The table is bounded, in courses and in bytes, and keeps no array of the user's alive.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Any, Final, NamedTuple
from weakref import ref

from diffkit.backends.tape.agreement import is_value
from diffkit.backends.tape.entry import compiled
from diffkit.backends.tape.standing import Standing, stand, standing_of
from diffkit.structure import Layout, Leaves, flatten
from diffkit.target import Function, Point, Target
from diffkit.tracing.graph import Graph, Node
from diffkit.tracing.scripts import Script, keys_of, script_of
from diffkit.tracing.tracer import Trace, Traced

MOST_PLACES: Final = 256  # pairs of a function and a layout
MOST_COURSES: Final = 8  # of one function
MOST_STEPS: Final = 50_000  # of all courses together
MOST_BYTES: Final = 1 << 26  # of all their values together
LONGEST: Final = 20_000  # steps of a course
LARGEST: Final = 1 << 24  # bytes of its values; with large arrays all the time is arithmetic
WORTH_COMPILING: Final = 8  # times that a course was taken; a long one takes longer to compile
STEPS_PER_TIME: Final = 2000
MANY: Final = 256  # calls of a function, whose own program pays for being compiled by then
FIRST_LOOKED_AT: Final = 3  # calls of a function, before which no course of it is noted
MOST_TRUST: Final = 32

Program = Callable[[Any, tuple[Any, ...]], Any]


class Recording(NamedTuple):
    """A function run on traced values.

    Attributes:
        trace: the recording, ended.
        result: the number that the function returned.
        leaves: how many `x` has; their nodes come first, then those of the data.
    """

    trace: Trace
    result: Traced
    leaves: int

    @property
    def inputs(self) -> list[Node]:
        return self.trace.nodes[: self.leaves]

    @property
    def data(self) -> set[int]:
        """The places of the numeric leaves of the data."""
        return set(range(self.leaves, self.leaves + self.trace.data_count))

    def follows(self, script: Script) -> bool:
        """Whether the function did what the script says, from the beginning to the end."""
        return self.trace.is_followed and self.result.is_at(script.output)

    def is_computed(self) -> bool:
        """Whether all that the function did can be computed, if that is still to be done."""
        try:
            return self.result.node is not None
        except Exception:  # which the function, as it was not raised where it belongs, did not see
            return False


class Course:
    """A course that a function took, and its gradient as one program once that is compiled.

    Attributes:
        script: what the function did.
        bytes: what the values of its steps take, of which a program holds about as many.
        program: from `x` and everything else that was given to value and gradient, or to None
            where it does not apply, as at a tie.
        times: how often the course was taken.
        is_tried: whether to compile it has been tried.
        trust: how often the program may still decline, by and large, before it is given up.
    """

    def __init__(self, script: Script, size: int) -> None:
        self.script = script
        self.bytes = size
        self.program: Program | None = None
        self.times = 0
        self.is_tried = False
        self.trust = MOST_TRUST // 2

    @property
    def share(self) -> float:
        """Which part of all that may be kept it takes."""
        return max(len(self.script.steps) / MOST_STEPS, self.bytes / MOST_BYTES)

    @property
    def worth(self) -> int:
        """How often the course should be taken before its gradient is compiled."""
        return WORTH_COMPILING + len(self.script.steps) // STEPS_PER_TIME

    def compile(self, recording: Recording, layout: Layout) -> None:
        """Compile the gradient."""
        self.is_tried = True
        graph, given = _graph_of(recording, self.script, layout)
        found = compiled(graph, given)
        self.program = None if found is None else found.run

    def gradient(self, layout: Layout, given: Leaves | None, value: float) -> Any:
        """The gradient by the program; None where it does not apply.

        Args:
            layout: of the point.
            given: the leaves of `x`, then everything else on which the script depends.
            value: what the plain function gave there.
        """
        program = self.program
        if program is None or given is None:
            return None
        count = len(layout.leaves)
        result = program(layout.unflatten(given[:count]), tuple(given[count:]))
        if result is not None and is_value(result[0], value):
            self.trust = min(self.trust + 1, MOST_TRUST)
            return result[1]
        self.trust -= 1
        if self.trust <= 0:
            self.program = None
        return None


def _graph_of(
    recording: Recording, script: Script, layout: Layout
) -> tuple[Graph, tuple[Any, ...]]:
    """The recording with all that was given as data, and what that was."""
    nodes = recording.trace.nodes
    data = [nodes[place] for place in script.given[recording.leaves :]]
    output = nodes[script.output]
    output_layout, _ = flatten(output.value)
    graph = Graph(nodes, recording.inputs, data, layout, [output], output_layout)
    return graph, tuple([node.value for node in data])


class Courses:
    """The courses of one function at points of one layout, the one taken last first.

    Attributes:
        courses: those known.
        used: whether they have been asked for of late.
        calls: how often the function that called last has done so without a break.
    """

    def __init__(self) -> None:
        self.courses: tuple[Course, ...] = ()
        self.used = True
        self.calls = 0
        self._last: Callable[[], Any] | None = None
        self._standing: tuple[Callable[[], Standing | None], ...] = ()
        self._pause = FIRST_LOOKED_AT - 1
        self._length = 1

    @property
    def size(self) -> float:
        """Which part of all that may be kept they take."""
        kept = sum(standing.bytes for standing in self._kept()) / MOST_BYTES
        return kept + sum(course.share for course in self.courses)

    def called_by(self, f: Function) -> None:
        """Note which function it is that calls; many a one is made anew for every call."""
        if self._last is not None and self._last() is f:
            self.calls += 1
        else:
            self._last, self.calls = _reference(f), 1

    def count(
        self, course: Course, recording: Recording, target: Target, point: Point, gradient: Any
    ) -> None:
        """Count that the function took a course, and compile the gradient when it is time.

        Args:
            course: that it took.
            recording: of it.
            target: the function.
            point: where.
            gradient: there.
        """
        course.times += 1
        if course.times < course.worth or course.is_tried:
            return
        often = self.calls >= course.worth and self._is_first(target.f)
        if often and self.stand(course, target, point, gradient):
            course.times = 0
        else:
            course.compile(recording, point.layout)

    def _is_first(self, f: Function) -> bool:
        """Whether no other function of this code has stood: many that are alike share a course."""
        ours = standing_of(f)
        return not self._standing or (
            ours is not None and all(kept() is ours for kept in self._standing)
        )

    def stand(self, course: Course, target: Target, point: Point, gradient: Any) -> bool:
        """Compile the gradient for the function itself rather than for its code, if that may be."""
        standing = stand(target)
        size = round(course.share * MOST_BYTES)
        if standing is None or not standing.learn(target, point, gradient, size):
            return False
        others = [kept for kept in self._kept() if kept is not standing]
        self._standing = tuple(map(ref, [*others, standing]))
        if self.size > 1:
            for other in others:
                other.forget()
        KNOWN.shrink()
        return True

    def _kept(self) -> list[Standing]:
        """What is kept with the functions of this code."""
        return [standing for kept in self._standing if (standing := kept()) is not None]

    def forget(self) -> None:
        """Let go of what is kept with the functions of this code."""
        for standing in self._kept():
            standing.forget()

    def expected(self) -> Course | None:
        """The course to expect, if its gradient is compiled."""
        courses = self.courses
        return courses[0] if courses and courses[0].program is not None else None

    def taken(self, recording: Recording) -> Course | None:
        """The course that a run took; one that is new is noted."""
        if self._pause:
            self._pause -= 1
            return None
        nodes = recording.trace.nodes
        keys = keys_of(nodes, recording.data) if len(nodes) <= LONGEST else None
        if keys is None:
            self._wait()
            return None
        output = recording.result.node
        for course in self.courses:
            if course.script.output == output.index and course.script.keys == keys:
                return self.come_first(course)
        size = sum(getattr(node.value, "nbytes", 8) for node in nodes)
        if size > LARGEST:
            self._wait()
            return None
        course = Course(script_of(nodes, keys, recording.inputs, output), size)
        if len(self.courses) == MOST_COURSES:
            self._wait()
        self.courses = (course, *self.courses)[:MOST_COURSES]
        KNOWN.shrink()
        return course

    def come_first(self, course: Course) -> Course:
        """Note that a course was taken again."""
        if self.courses[:1] != (course,):
            self.courses = (course, *(c for c in self.courses if c is not course))
        self._length = 1
        return course

    def _wait(self) -> None:
        """Look away for a while, each time longer: there is hardly anything to recognise."""
        self._pause, self._length = self._length, min(2 * self._length, 1024)


class Known:
    """The courses of all functions, by function and layout. Several threads may ask at once."""

    def __init__(self) -> None:
        self._places: OrderedDict[tuple[int, int], Courses] = OrderedDict()
        self._lock = threading.Lock()

    def courses(self, f: Function, layout: Layout) -> Courses:
        """Those of a function at points of a layout.

        Where the name of another function is taken for it, nothing goes wrong: a course is known
        by its steps.
        """
        key = (_identity(f), layout.signature)
        courses = self._places.get(key)
        if courses is None:
            with self._lock:
                courses = self._places.setdefault(key, Courses())
                if len(self._places) > MOST_PLACES:
                    self._forget_one()
        courses.used = True
        return courses

    def shrink(self) -> None:
        """Forget functions not asked about for long, until what is kept is small enough."""
        with self._lock:
            total = sum(courses.size for courses in self._places.values())
            while len(self._places) > 1 and total > 1:
                total -= self._forget_one().size

    def _forget_one(self) -> Courses:
        """Forget the function that was not asked about since this last looked at it."""
        while True:
            key, courses = self._places.popitem(last=False)
            if not courses.used:
                courses.forget()
                return courses
            courses.used = False
            self._places[key] = courses

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            for courses in self._places.values():
                courses.forget()
            self._places.clear()


def _identity(f: Function) -> int:
    """A number for the code of a function, which stays the same where it is defined again."""
    while type(f) is partial:
        f = f.func
    return id(getattr(f, "__code__", None) or type(f))


def _reference(f: Function) -> Callable[[], Any] | None:
    try:
        return ref(f)
    except TypeError:  # it has no room for that
        return None


KNOWN: Final = Known()
