"""Scripts: what a function did when it was recorded, so that one knows when it does so again.

Most functions do the same things at every call, with other numbers. A trace that is given a script
compares each thing done with the next step, by its key: the operation, the places of its operands,
everything that is fixed about it. As long as all is as foretold nothing need be computed or noted:
what a value is follows from its place. A trace that knows better leaves its script, and goes on
as if there had been none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from diffkit.tracing.graph import Node, Primitive
from diffkit.tracing.primitives import PRIMITIVES
from diffkit.tracing.primitives.gathering import OPERAND

REDUCTIONS: Final = {f: PRIMITIVES[f.__name__] for f in (np.sum, np.max, np.min)}
INDEX: Final = PRIMITIVES["index"]
FEW_BYTES: Final = 4096  # of an array that is part of a key

_REDUCING: Final = frozenset(REDUCTIONS.values())
_EXACT: Final = (int, type(None), type(Ellipsis), str)
_NUMBERS: Final = (bool, int, float, np.generic)
GIVEN_X: Final = "x"
GIVEN_DATA: Final = "data"
CONSTANT: Final = "constant"


class Step(NamedTuple):
    """One step of a script: a node without its value.

    Attributes:
        primitive: what computes it; None for what is given.
        inputs: the places of its arguments.
        static: the keyword arguments.
        active: whether a derivative can flow through it.
        depends: whether it depends on `x`.
        kind: the type of the value.
        shape: its shape.
        dtype: its dtype.
        is_in_order: whether it is an array that lies in C order in memory.
        is_writeable: whether it is an array that may be written into.
        is_view: whether it is a view of its first argument.
        value: the number that it always is, where `is_fixed`.
        is_fixed: whether it is a number that belongs to the key.
    """

    primitive: Primitive | None
    inputs: tuple[int, ...]
    static: Any
    active: bool
    depends: bool
    kind: type
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    is_in_order: bool
    is_writeable: bool
    is_view: bool
    value: Any
    is_fixed: bool


class Script(NamedTuple):
    """The steps of a recording, in order; the place of a value is where it stands among them.

    Attributes:
        keys: of the steps; after the last one comes None, which is the key of nothing.
        steps: the steps themselves.
        output: the place of the number that the function returned.
        given: the places of what must be given to compute it, the leaves of `x` first.
    """

    keys: list[Any]
    steps: list[Step]
    output: int
    given: tuple[int, ...]


# ---------------------------------------------------------------------- keys


class _Unknown(Exception):
    """Something cannot be part of a key."""


def number_key(value: Any, kind: type) -> tuple[Any, ...]:
    """The key of a number that is part of the program: 2, 2.0, 0.0 and -0.0 differ."""
    return (kind, value) if value == value and value else (kind, repr(value))


def given_key(value: Any, role: str) -> tuple[Any, ...]:
    """The key of a value of which all but its numbers is fixed: type, shape, dtype and order.

    Of a single number it is fixed whether it is zero, on which a rule may depend.
    """
    if type(value) is np.ndarray:
        return (role, value.shape, value.dtype, order_in_memory(value))
    return (role, type(value), bool(value))


def order_in_memory(array: Any) -> tuple[int, ...]:
    """The axes from the slowest to the fastest, and nothing if that is their own order."""
    if array.ndim < 2 or array.flags.c_contiguous:
        return ()
    own = range(array.ndim)
    order = sorted(own, key=lambda axis: -abs(array.strides[axis]))
    return () if order == list(own) else tuple(order)


def operation_key(primitive: Primitive, places: Sequence[int], static: Any) -> Any:
    """The key of an operation, or one that no script has if it depends on what is not known."""
    if not static:
        return (primitive, *places)
    try:
        if primitive is INDEX:
            return (primitive, *places, _frozen(static["index"]))
        if primitive in _REDUCING:
            axis, keepdims = static["axis"], static["keepdims"]
            if type(keepdims) is bool:
                return (primitive, *places, _frozen(axis), keepdims)
        return (primitive, *places, _frozen(dict(static)))
    except _Unknown:
        return _UNKNOWN


_UNKNOWN: Final = (object(),)


def _frozen(value: Any) -> Any:
    """A static argument as something that equals only what is the same: 1, 1.0 and True differ.

    Integers, slices and tuples of them stay what they are, so that nothing need be made of them.
    """
    kind = type(value)
    if kind in _EXACT or isinstance(value, type):
        return value
    if kind is tuple:
        return tuple([_frozen(part) for part in value])
    if kind is slice:
        return slice(_frozen(value.start), _frozen(value.stop), _frozen(value.step))
    if kind is list:
        return (list, *[_frozen(part) for part in value])
    if kind is dict:
        return (dict, *[(_frozen(k), _frozen(v)) for k, v in value.items()])
    if kind in (bool, float) or isinstance(value, (np.generic, np.dtype)):
        return (kind, repr(value))
    if kind is np.ndarray and value.nbytes <= FEW_BYTES and value.dtype.kind in "biuf":
        return (kind, value.shape, value.dtype.str, value.tobytes())
    if value is OPERAND:
        return (kind,)
    raise _Unknown


def keys_of(nodes: Sequence[Node], data: set[int], start: int = 0) -> list[Any] | None:
    """The keys of recorded nodes from one on; None if something in them cannot be known again.

    Args:
        nodes: the nodes of a recording.
        data: the places of the data.
        start: where to begin.
    """
    keys = []
    for node in nodes[start:] if start else nodes:
        primitive = node.primitive
        if primitive is None:
            key = _key_of_given(node, data)
        else:
            key = operation_key(primitive, [i.index for i in node.inputs], node.static)
        if key is _UNKNOWN:
            return None
        keys.append(key)
    keys.append(None)
    return keys


def _key_of_given(node: Node, data: set[int]) -> Any:
    value, kind = node.value, type(node.value)
    if kind is np.ndarray or kind is np.float64 or node.active or node.index in data:
        role = GIVEN_X if node.active else GIVEN_DATA if node.index in data else CONSTANT
        return given_key(value, role)
    return number_key(value, kind) if isinstance(value, _NUMBERS) else _UNKNOWN


# ---------------------------------------------------------------------- from a recording


def script_of(nodes: Sequence[Node], keys: list[Any], inputs: list[Node], output: Node) -> Script:
    """The script of a recording that has the given keys."""
    steps = [_step(node, key) for node, key in zip(nodes, keys, strict=False)]
    first = [node.index for node in inputs]
    rest = [
        place
        for place, step in enumerate(steps)
        if step.primitive is None and not step.is_fixed and not step.active
    ]
    return Script(keys, steps, output.index, (*first, *rest))


def _step(node: Node, key: Any) -> Step:
    value, primitive = node.value, node.primitive
    kind, inputs = type(value), tuple([source.index for source in node.inputs])
    is_array, fixed = kind is np.ndarray, primitive is None and isinstance(key[0], type)
    moved = is_array and primitive is not None and primitive.movement
    plain = value if is_array or kind is np.float64 else np.asarray(value)
    return Step(
        primitive,
        inputs,
        node.static,
        node.active,
        node.depends,
        kind,
        plain.shape,
        plain.dtype,
        is_array and value.flags.c_contiguous,
        is_array and value.flags.writeable,
        moved and _shares(value, node.inputs[0].value),
        value if fixed else None,
        fixed,
    )


def _shares(a: Any, b: Any) -> bool:
    return isinstance(b, np.ndarray) and bool(np.may_share_memory(a, b))
