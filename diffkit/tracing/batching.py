"""A recording evaluated at many inputs at once, along a new leading axis.

A rule says what an operation does to arrays with one more axis in front. An operation without
a rule is applied to each member of the batch in turn, which gives the same numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from diffkit.structure import Leaves
from diffkit.tracing.graph import Graph, Node, Primitive
from diffkit.tracing.primitives.gathering import put_together

Flags = Sequence[bool]
Arguments = Sequence[Any]
Rule = Callable[[Node, Arguments, Flags, int], Any]


def evaluate_batched(graph: Graph, values: Sequence[Any], batches: Leaves) -> Leaves:
    """The outputs of a recording for a batch of inputs, each with a leading axis.

    Args:
        graph: a recording on plain arrays; its guards are not looked at.
        values: of its nodes; what does not depend on the inputs is taken from here.
        batches: for each input of the recording an array with one more axis in front.
    """
    count = len(batches[0])
    found: dict[int, Any] = {
        node.index: batch for node, batch in zip(graph.inputs, batches, strict=True)
    }
    # Of what underflows the caller may want to hear.
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        for node in _needed(graph):
            flags = [i.index in found for i in node.inputs]
            if node.primitive is None or not any(flags):
                continue
            arguments = [found.get(i.index, values[i.index]) for i in node.inputs]
            found[node.index] = _applied(node, node.primitive, arguments, flags, count)
    return [
        found[node.index]
        if node.index in found
        else np.broadcast_to(values[node.index], (count, *np.shape(values[node.index])))
        for node in graph.outputs
    ]


def _needed(graph: Graph) -> list[Node]:
    """The nodes that the outputs need, in order."""
    needed = {node.index for node in graph.outputs}
    for node in reversed(graph.nodes):
        if node.index in needed:
            needed.update(i.index for i in node.inputs)
    return [node for node in graph.nodes if node.index in needed]


def _applied(
    node: Node, primitive: Primitive, arguments: Arguments, flags: Flags, count: int
) -> Any:
    rule = RULES.get(primitive.name)
    if rule is None and primitive.elementwise:
        rule = _elementwise
    if rule is None and primitive.movement:
        rule = _movement
    result = None if rule is None else rule(node, arguments, flags, count)
    return _in_turn(node, primitive, arguments, flags, count) if result is None else result


def _in_turn(
    node: Node, primitive: Primitive, arguments: Arguments, flags: Flags, count: int
) -> Any:
    return np.stack(
        [
            primitive.function(
                *(a[k] if flag else a for a, flag in zip(arguments, flags, strict=True)),
                **node.static,
            )
            for k in range(count)
        ]
    )


# ---------------------------------------------------------------------- shapes


def _with_rank(a: Any, rank: int) -> Any:
    """A batch of arrays with axes of length 1 put after the batch axis, as broadcasting does."""
    missing = rank + 1 - np.ndim(a)
    return a if missing <= 0 else a.reshape(a.shape[:1] + (1,) * missing + a.shape[1:])


def _ranks(arguments: Arguments, flags: Flags) -> list[int]:
    return [np.ndim(a) - flag for a, flag in zip(arguments, flags, strict=True)]


def _all_batched(arguments: Arguments, flags: Flags, count: int) -> list[Any]:
    return [
        a if flag else np.broadcast_to(a, (count, *np.shape(a)))
        for a, flag in zip(arguments, flags, strict=True)
    ]


def _function(node: Node) -> Any:
    assert node.primitive is not None
    return node.primitive.function


def _elementwise(node: Node, arguments: Arguments, flags: Flags, count: int) -> Any:
    rank = max(_ranks(arguments, flags))
    aligned = [_with_rank(a, rank) if f else a for a, f in zip(arguments, flags, strict=True)]
    return _function(node)(*aligned, **node.static)


def _as_it_is(node: Node, arguments: Arguments, flags: Flags, count: int) -> Any:
    return _function(node)(*arguments, **node.static)


def _movement(node: Node, arguments: Arguments, flags: Flags, count: int) -> Any:
    """By where each entry of the value comes from; position 0 holds a made-up zero."""
    (a,) = arguments
    shape = a.shape[1:]
    size = math.prod(shape)
    positions = _function(node)(np.arange(1, size + 1).reshape(shape), **node.static)
    flat = a.reshape(count, size)
    if not np.all(positions):
        return np.concatenate([np.zeros((count, 1), a.dtype), flat], axis=1)[:, positions]
    return flat[:, positions - 1]


def _reshape(node: Node, arguments: Arguments, flags: Flags, count: int) -> Any:
    if node.static.get("order", "C") != "C":
        return None
    return arguments[0].reshape(count, *np.shape(node.value))


def _transpose(node: Node, arguments: Arguments, flags: Flags, count: int) -> Any:
    (a,), axes = arguments, node.static.get("axes")
    axes = range(a.ndim - 1)[::-1] if axes is None else axes
    return a.transpose(0, *(axis % max(a.ndim - 1, 1) + 1 for axis in axes))


def _broadcast_to(node: Node, arguments: Arguments, flags: Flags, count: int) -> Any:
    shape = np.shape(node.value)
    return np.broadcast_to(_with_rank(arguments[0], len(shape)), (count, *shape))


# ---------------------------------------------------------------------- reductions, joining


def _reduction(node: Node, arguments: Arguments, flags: Flags, count: int) -> Any:
    (a,), axis = arguments, node.static["axis"]
    rank = a.ndim - 1
    axes = tuple(range(1, rank + 1) if axis is None else (k % max(rank, 1) + 1 for k in axis))
    return _function(node)(a, axis=axes, keepdims=node.static["keepdims"])


def _running(node: Node, arguments: Arguments, flags: Flags, count: int) -> Any:
    (a,) = arguments
    return _function(node)(a, axis=node.static["axis"] % (a.ndim - 1) + 1)


def _joined(node: Node, arguments: Arguments, flags: Flags, count: int) -> Any:
    axis = normalize_axis_index(node.static["axis"], np.ndim(node.value))
    return _function(node)(*_all_batched(arguments, flags, count), axis=axis + 1)


def _stack_scalars(node: Node, arguments: Arguments, flags: Flags, count: int) -> Any:
    return np.stack(_all_batched(arguments, flags, count), axis=1).reshape(count, *node.value.shape)


# ---------------------------------------------------------------------- indices


def _index_behind(index: Any) -> tuple[Any, ...] | None:
    """The index of each member of a batch; None where NumPy would move the batch axis."""
    parts = index if isinstance(index, tuple) else (index,)
    arrays = [isinstance(part, (np.ndarray, list, bool, np.bool_)) for part in parts]
    if any(arrays):
        chosen = [
            k
            for k, part in enumerate(parts)
            if arrays[k] or isinstance(part, (int, np.integer, np.ndarray))
        ]
        if chosen[-1] - chosen[0] >= len(chosen):
            return None
    return (slice(None), *parts)


def _place(node: Node, integers: Arguments, flags: Flags) -> tuple[Any, ...] | None:
    """The static index of a node with the integers that are operands in it."""
    if any(flags):
        return None
    index = node.static["index"]
    filled = put_together(index, integers) if integers else index
    return _index_behind(filled)


def _index(node: Node, arguments: Arguments, flags: Flags, count: int) -> Any:
    place = _place(node, arguments[1:], flags[1:])
    return None if place is None else arguments[0][place]


def _added(node: Node, arguments: Arguments, flags: Flags, count: int) -> Any:
    place = _place(node, arguments[1:], flags[1:])
    if place is None:
        return None
    shape = (count, *node.static["shape"])
    rank = np.empty(shape, np.bool_)[place].ndim - 1
    out = np.zeros(shape, arguments[0].dtype)
    values = _with_rank(arguments[0], rank)
    if _is_single(place):
        out[place] = values
    else:
        np.add.at(out, place, values)
    return out


def _is_single(place: tuple[Any, ...]) -> bool:
    """Whether an index names each entry at most once."""
    return not any(isinstance(part, (np.ndarray, list)) for part in place)


def _updated(node: Node, arguments: Arguments, flags: Flags, count: int) -> Any:
    place = _place(node, arguments[2:], flags[2:])
    if place is None:
        return None
    a, value = arguments[:2]
    out = np.array(a if flags[0] else np.broadcast_to(a, (count, *np.shape(a))))
    rank = np.ndim(out[place]) - 1
    out[place] = _with_rank(value, rank) if flags[1] else value
    return out


# ---------------------------------------------------------------------- products


def _matmul(node: Node, arguments: Arguments, flags: Flags, count: int) -> Any:
    a, b = arguments
    rank_a, rank_b = _ranks(arguments, flags)
    if flags[0] and not flags[1] and rank_b <= 2:
        if (rank_a, rank_b) == (2, 2):  # one product of large matrices
            rows = a.reshape(-1, a.shape[-1]) @ b
            return rows.reshape(count, a.shape[1], b.shape[1])
        return a @ b
    if flags[1] and not flags[0] and rank_b == 1 and rank_a <= 2:
        return b @ a.T
    left = a[..., None, :] if rank_a == 1 else a
    right = b[..., None] if rank_b == 1 else b
    rank = max(np.ndim(left) - flags[0], np.ndim(right) - flags[1])
    left = _with_rank(left, rank) if flags[0] else left
    right = _with_rank(right, rank) if flags[1] else right
    return np.matmul(left, right).reshape(count, *np.shape(node.value))


def _contraction(node: Node, arguments: Arguments, flags: Flags, count: int) -> Any:
    terms, result = node.static["subscripts"].split("->")
    letter = next(c for c in _LETTERS if c not in terms)
    marked = [letter + t if f else t for t, f in zip(terms.split(","), flags, strict=True)]
    return np.einsum(f"{','.join(marked)}->{letter}{result}", *arguments, optimize=True)


_LETTERS: Final = "zyxwvutsrqponmlkjihgfedcbaZYXWVUTSRQPONMLKJIHGFEDCBA"


def _solve(node: Node, arguments: Arguments, flags: Flags, count: int) -> Any:
    """One factorisation for all right-hand sides."""
    a, b = arguments
    if flags[0] or np.ndim(a) != 2 or b.ndim != 3:
        return None
    columns = b.transpose(1, 0, 2).reshape(b.shape[1], -1)
    return np.linalg.solve(a, columns).reshape(b.shape[1], count, -1).transpose(1, 0, 2)


RULES: Final[dict[str, Rule]] = {
    "astype": _as_it_is,
    "reshape": _reshape,
    "transpose": _transpose,
    "broadcast_to": _broadcast_to,
    **dict.fromkeys(("sum", "any", "all", "max", "min"), _reduction),
    "cumsum": _running,
    "concatenate": _joined,
    "stack": _joined,
    "stack_scalars": _stack_scalars,
    "index": _index,
    "gather": _index,
    "add_at": _added,
    "scatter": _added,
    "index_update": _updated,
    "written": _updated,
    "matmul": _matmul,
    "contraction": _contraction,
    "einsum_view": _contraction,
    "solve": _solve,
}
