"""The short ways to one gradient of a function that returns one floating-point number.

The function is recorded, and nothing of the recording is kept but what it did, step by step. When
it has done the same a few times, that is compiled: for the function itself, if all that it depends
on can be watched (`standing`), else for its code (`known`). Such a function is still recorded at
every call, but a recording that finds every step as expected computes nothing, and the program does
it all. Where anything is out of the ordinary the general way is taken, which knows every case,
every warning and every refusal.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import numpy as np

from diffkit.assembly import assembled
from diffkit.backends.tape.agreement import ROUNDING
from diffkit.backends.tape.kinks import KINKS, some_tie
from diffkit.backends.tape.known import KNOWN, MANY, Course, Courses, Recording
from diffkit.backends.tape.standing import standing_of
from diffkit.backends.tape.ties import may_tie
from diffkit.backends.tape.underflow import Underflow, any_tiny
from diffkit.backends.tape.walk import all_adjoints
from diffkit.structure import (
    Layout,
    all_finite,
    concrete,
    flatten,
    is_traced,
    map_leaves,
)
from diffkit.target import Function, Point, Target
from diffkit.tracing.graph import Node, Primitive
from diffkit.tracing.primitives import PRIMITIVES
from diffkit.tracing.recording import holds_traced, is_data
from diffkit.tracing.scripts import Script
from diffkit.tracing.tracer import Trace, Traced

_FLOAT64: Final = np.dtype(np.float64)


@dataclass(frozen=True)
class Tried:
    """What the plain function gave, for the general way to go on from."""

    plain: Any


def gradient_at_once(f: Function, x: Any, data: tuple[Any, ...]) -> Any:
    """The value of a function and its gradient by `x`, or else what is known, for the general way.

    Raises:
        InvalidInput: `x` is not made of numbers.
    """
    if type(x) is Traced:
        return _of_traced_leaf(f, x) if x.dtype is _FLOAT64 and not data else None
    standing = standing_of(f)
    found = None if standing is None else standing.value_and_gradient(x, data)
    if found is not None:
        return found
    target = Target(f)
    if (type(x) is float or type(x) is np.float64) and math.isfinite(x) and not data:
        x = np.float64(x)  # the argument of many a tiny function
        point = Point(_layout_of_number(), [x], data)
        plain = f(x)
    else:
        layout, leaves = flatten(x)
        point = Point(layout, leaves, data)
        if not _is_plain(point):
            return None
        plain = target.call_plain(point)
    found = number_and_gradient(target, point, plain)
    return Tried(plain) if found is None else found


@cache
def _layout_of_number() -> Layout:
    return flatten(0.0)[0]


def _is_plain(point: Point) -> bool:
    """Whether a point is finite and lies in no other trace."""
    for leaf in point.leaves:
        if type(leaf) is not np.ndarray:
            return False
        if not (all_finite(leaf) if leaf.shape else math.isfinite(leaf)):
            return False
    return not point.data or not any(map(holds_traced, point.data))


def _of_traced_leaf(f: Function, x: Traced) -> tuple[Any, Any] | None:
    """The same inside another trace, where the plain function cannot be asked."""
    with np.errstate(all="ignore"):
        with Trace(kept=False) as trace:
            traced = trace.input(x)
            try:
                result = f(traced)
            except Exception:  # which the general way will explain
                return None
        if type(result) is not Traced or result.recorder is not trace:
            return None
        plain = concrete(result)
        if not _is_usual(plain):
            return None
        adjoints = _adjoints(trace, result.node, plain)
        gradient = None if adjoints is None else adjoints[0]
        if not is_traced(gradient) or not _is_finite(gradient, x):
            return None
        return result.node.value, gradient


def _is_finite(gradient: Any, x: Traced) -> bool:
    """Whether a traced gradient is finite, which is a guard of every recording that is kept."""
    outer: Any = x
    while is_traced(outer):
        if outer.recorder.kept:
            return bool(np.all(np.isfinite(gradient)))
        outer = outer.value
    return all_finite(gradient)


def number_and_gradient(target: Target, point: Point, plain: Any) -> tuple[Any, Any] | None:
    """The value of a function and its gradient; None where there is anything to look into.

    Args:
        target: the function.
        point: where; not inside another trace.
        plain: what the plain function gave there.
    """
    if not _is_usual(plain):
        return None
    courses = KNOWN.courses(target.f, point.layout)
    courses.called_by(target.f)
    course = courses.expected()
    with np.errstate(all="ignore"):  # once for all: it costs as much as several operations
        if course is None:
            return _afresh(_recorded(target, point, None), target, point, plain, courses, None)
        recording = _recorded(target, point, course.script)
        followed = recording is not None and recording.follows(course.script)
        if recording is not None and followed:
            given = recording.trace.values_given(course.script.given)
            gradient = course.gradient(point.layout, given, plain)
            if gradient is not None:
                if courses.calls == MANY:
                    courses.stand(course, target, point, gradient)
                return plain, gradient
        if recording is None or not recording.is_computed():
            recording = _recorded(target, point, None)
        declined = course if followed else None
        return _afresh(recording, target, point, plain, courses, declined)


def _afresh(
    recording: Recording | None,
    target: Target,
    point: Point,
    plain: Any,
    courses: Courses,
    declined: Course | None,
) -> tuple[Any, Any] | None:
    """Value and gradient of a recording, whatever it is; None where the general way is needed.

    Args:
        recording: what the function did.
        target: the function.
        point: where.
        plain: what the plain function gave.
        courses: those that it is known to take.
        declined: the one whose program is known not to serve here.
    """
    if recording is None:
        return None
    course = courses.taken(recording)
    if course is not None and course is not declined:
        nodes = recording.trace.nodes
        given = [nodes[place].value for place in course.script.given]
        gradient = course.gradient(point.layout, given, plain)
        if gradient is not None:
            return plain, gradient
    found = _by_walk(recording, point.layout, plain)
    if found is not None and course is not None:
        courses.count(course, recording, target, point, found[1])
    return found


def _recorded(target: Target, point: Point, script: Script | None) -> Recording | None:
    """What the function does with traced values; None where the general way will explain more."""
    data = point.data
    with Trace(False, script) as trace:
        x = [trace.input(leaf) for leaf in point.layout.cast(point.leaves)]
        if data:
            data = tuple([_entered(trace, item) for item in data])
        try:
            result = target.call(point.layout.unflatten(x), data)
        except Exception:
            return None
    if type(result) is not Traced or trace.refusal is not None or result.recorder is not trace:
        return None
    return Recording(trace, result, len(x))


def _entered(trace: Trace, item: Any) -> Any:
    """A data argument, traced where it is made of numbers."""
    if type(item) is np.ndarray:
        return trace.data(item) if is_data(item) else item
    return map_leaves(lambda value: trace.data(value) if is_data(value) else value, item)


def _by_walk(recording: Recording, layout: Layout, plain: Any) -> tuple[Any, Any] | None:
    """Value and gradient by the reverse walk; None where there is anything to look into."""
    underflow = Underflow()
    with np.errstate(under="call", call=underflow):
        adjoints = _adjoints(recording.trace, recording.result.node, plain)
    if adjoints is None or _in_steps(recording, adjoints):
        return None
    leaves = [
        np.zeros(leaf.shape, leaf.dtype) if (adjoint := adjoints[node.index]) is None else adjoint
        for node, leaf in zip(recording.inputs, layout.leaves, strict=True)
    ]
    if underflow.any and any_tiny(*leaves):
        return None
    gradient, bad = assembled(leaves, layout)
    return None if bad else (plain, gradient)


def _in_steps(recording: Recording, adjoints: list[Any]) -> bool:
    """Whether a leaf has a part in the recording through which no derivative flows."""
    without = {node.index for node in recording.inputs if adjoints[node.index] is None}
    return bool(without) and any(
        source.index in without for node in recording.trace.nodes for source in node.inputs
    )


def _is_usual(plain: Any) -> bool:
    """Whether a value is a finite number other than zero, whose sign would need a look."""
    return type(plain) in ROUNDING and math.isfinite(plain) and plain != 0


def _adjoints(trace: Trace, output: Node, plain: Any) -> list[Any] | None:
    """The adjoints of a recording that ended in a number; None where there is more to it."""
    value = concrete(output.value)
    if trace.refusal is not None or type(value) is not type(plain) or value != plain:
        return None
    nodes = trace.nodes
    values = [node.value for node in nodes]
    if _has_ties(nodes, values):
        return None
    return all_adjoints(nodes, values, [output], [type(plain)(1)])


@cache
def _kinked() -> frozenset[Primitive]:
    return frozenset(PRIMITIVES[name] for name in KINKS if name in PRIMITIVES)


def _has_ties(nodes: Sequence[Node], values: list[Any]) -> bool:
    """Whether an outcome hangs on an equality."""
    kinked = _kinked()
    for node in nodes:
        primitive = node.primitive
        if primitive in kinked and primitive is not None and may_tie(node):
            arguments = [concrete(values[source.index]) for source in node.inputs]
            y = concrete(values[node.index])
            if some_tie(primitive.name, y, arguments, node.static):
                return True
    return False
