"""The structure of a Jacobian, from the recording.

Each value of a recording depends on some entries of `x`. That is carried through the operations
as pairs (entry of the value, entry of `x`): an elementwise operation joins what its arguments
depend on, one that moves entries moves the pairs, a product with constants leaves out zeros.
Of an operation without a rule every entry counts as depending on everything that goes in. So the
pattern holds at every point of the same course, and may be larger than need be.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from diffkit.errors import UnsupportedOperation
from diffkit.sparsity import Sparsity
from diffkit.structure import concrete
from diffkit.tracing.graph import Graph, Node
from diffkit.tracing.primitives import gathering
from diffkit.tracing.primitives.gathering import put_together
from diffkit.tracing.primitives.lanes import kept_shape

MOST_PAIRS: Final = 50_000_000  # beyond which the structure of an operation is not followed

Edges = tuple[Any, Any]  # entries of a value, and the entries of an argument that they are made of
Fixed = set[int]  # the nodes that are part of the function: neither `x` nor data go in
Rule = Callable[[Node, Sequence[Any], int, Fixed], Edges]

# ---------------------------------------------------------------------- structure


def structure(graph: Graph, values: list[Any]) -> Sparsity:
    """The pattern of the Jacobian of a recording.

    Args:
        graph: the recording.
        values: of its nodes. The pattern holds for all points of this course at which the integers
            that select entries (an order, labels) are these.

    Raises:
        UnsupportedOperation: an operation joins so many entries that the matrix is hardly sparse.
    """
    fixed = _fixed(graph)
    plain = [concrete(value) for value in values]
    sizes = [leaf.size for leaf in graph.layout.leaves]
    starts = np.cumsum([0, *sizes])
    depends: dict[int, Edges] = {
        node.index: (np.arange(size), start + np.arange(size))
        for node, size, start in zip(graph.inputs, sizes, starts, strict=False)
    }
    for node in graph.nodes:
        if node.primitive is None or not node.active:
            continue
        found = [
            _followed(_edges(node, k, plain, fixed), depends[source.index])
            for k, source in enumerate(node.inputs)
            if source.active and source.index in depends
        ]
        if found:
            depends[node.index] = _united(found, int(starts[-1]))
    nothing = np.zeros(0, np.intp)
    rows, columns = [], []
    first = 0
    for node, leaf in zip(graph.outputs, graph.output_layout.leaves, strict=True):
        i, j = depends.get(node.index, (nothing, nothing))
        rows.append(first + i)
        columns.append(j)
        first += leaf.size
    return Sparsity.of_entries(
        np.concatenate(rows or [nothing]),
        np.concatenate(columns or [nothing]),
        first,
        int(starts[-1]),
    )


def _followed(edges: Edges, pairs: Edges) -> Edges:
    """From entries of a value over those of an argument to entries of `x`."""
    outer, inner = edges
    i, j = pairs
    order = np.argsort(i, kind="stable")
    i, j = i[order], j[order]
    first, last = np.searchsorted(i, inner, "left"), np.searchsorted(i, inner, "right")
    counts = last - first
    total = int(counts.sum())
    if total > MOST_PAIRS:
        raise UnsupportedOperation(
            f"the structure of this derivative has more than {MOST_PAIRS} entries on the way; it "
            "is hardly sparse: leave out sparsity, or give the pattern"
        )
    places = np.repeat(first - np.concatenate([[0], np.cumsum(counts)[:-1]]), counts)
    return np.repeat(outer, counts), j[places + np.arange(total)]


def _united(found: list[Edges], columns: int) -> Edges:
    keys = np.concatenate([i.astype(np.int64) * max(columns, 1) + j for i, j in found])
    keys = np.unique(keys)
    return keys // max(columns, 1), keys % max(columns, 1)


def selecting(graph: Graph, values: list[Any]) -> list[Any]:
    """The integers by which entries are selected at a point."""
    return [
        concrete(values[i.index])
        for node in graph.nodes
        if node.primitive in _BY_INTEGERS
        for i in node.inputs
        if not i.active
    ]


_BY_INTEGERS: Final = (gathering.gather, gathering.scatter, gathering.written)


def _edges(node: Node, k: int, values: list[Any], fixed: Fixed) -> Edges:
    """The entries of a node's value, each with the entries of argument `k` that it is made of."""
    primitive = node.primitive
    assert primitive is not None
    arguments = [values[i.index] for i in node.inputs]
    rule = RULES.get(primitive.name)
    if rule is not None:
        return rule(node, arguments, k, fixed)
    if primitive.elementwise:
        return _elementwise(node, arguments, k, fixed)
    if primitive.movement:
        return _moved(node, arguments, k, fixed)
    return _everything(node, arguments, k, fixed)


def _numbered(a: Any, start: int = 0) -> Any:
    return start + np.arange(np.size(a)).reshape(np.shape(a))


def _everything(node: Node, arguments: Sequence[Any], k: int, fixed: Fixed) -> Edges:
    outer, inner = np.size(concrete(node.value)), np.size(arguments[k])
    if outer * inner > MOST_PAIRS:
        raise UnsupportedOperation(
            f"{node.primitive} at {node.location} may join every entry with every other, so "
            "that no structure is left: leave out sparsity, or give the pattern"
        )
    return np.repeat(np.arange(outer), inner), np.tile(np.arange(inner), outer)


def _elementwise(node: Node, arguments: Sequence[Any], k: int, fixed: Fixed) -> Edges:
    shape = np.shape(concrete(node.value))
    inner = np.broadcast_to(_numbered(arguments[k]), shape).ravel()
    outer = np.arange(inner.size)
    product = node.primitive is not None and node.primitive.name == "multiply"
    if not product or node.inputs[1 - k].index not in fixed:
        return outer, inner
    kept = np.broadcast_to(np.asarray(arguments[1 - k]) != 0, shape).ravel()
    return outer[kept], inner[kept]


def _fixed(graph: Graph) -> Fixed:
    given = {node.index for node in (*graph.inputs, *graph.data)}
    fixed: Fixed = set()
    for node in graph.nodes:
        if node.index not in given and all(i.index in fixed for i in node.inputs):
            fixed.add(node.index)
    return fixed


def _moved(node: Node, arguments: Sequence[Any], k: int, fixed: Fixed) -> Edges:
    assert node.primitive is not None
    places = np.ravel(node.primitive.function(_numbered(arguments[0], 1), **node.static))
    outer = np.flatnonzero(places)
    return outer, places[outer] - 1


def _selected(node: Node, arguments: Sequence[Any], k: int, fixed: Fixed) -> Edges:
    """Each entry of the value is one of some argument: followed by numbers in their place."""
    assert node.primitive is not None
    start, numbers = 1, []
    for source, a in zip(node.inputs, arguments, strict=True):
        integers = not source.active and np.asarray(a).dtype.kind in "iu"
        numbers.append(a if integers else _numbered(a, start))
        start += 0 if integers else np.size(a)
    places = np.ravel(node.primitive.function(*numbers, **node.static)).astype(np.intp)
    first = np.ravel(numbers[k])[:1]
    begin = int(first[0]) if first.size else 0
    outer = np.flatnonzero((places >= begin) & (places < begin + np.size(arguments[k])))
    return outer, places[outer] - begin


def _reduced(node: Node, arguments: Sequence[Any], k: int, fixed: Fixed) -> Edges:
    shape = np.shape(arguments[0])
    kept = kept_shape(shape, node.static["axis"])
    outer = np.broadcast_to(np.arange(math.prod(kept)).reshape(kept), shape).ravel()
    return outer, np.arange(outer.size)


def _running(node: Node, arguments: Sequence[Any], k: int, fixed: Fixed) -> Edges:
    """Each entry of a running sum or product is made of those before it along the axis."""
    numbers = np.moveaxis(_numbered(arguments[0]), node.static["axis"], -1)
    length = numbers.shape[-1]
    later, earlier = np.tril_indices(length)
    return numbers[..., later].ravel(), numbers[..., earlier].ravel()


def _added(node: Node, arguments: Sequence[Any], k: int, fixed: Fixed) -> Edges:
    index, shape = node.static["index"], node.static["shape"]
    place = put_together(index, arguments[1:]) if len(arguments) > 1 else index
    outer = np.arange(math.prod(shape)).reshape(shape)[place]
    return np.ravel(outer), np.broadcast_to(_numbered(arguments[0]), np.shape(outer)).ravel()


def _contracted(node: Node, arguments: Sequence[Any], k: int, fixed: Fixed) -> Edges:
    """Products of entries, summed over the letters that the result lacks."""
    terms, result = node.static["subscripts"].split("->")
    return _letters(node, terms.split(","), result, arguments, k, fixed)


def _multiplied(node: Node, arguments: Sequence[Any], k: int, fixed: Fixed) -> Edges:
    """A product of matrices or vectors, as a contraction; stacks are not followed."""
    ranks = [np.ndim(a) for a in arguments]
    if max(ranks) > 2:
        return _everything(node, arguments, k, fixed)
    left, right = ("j" if ranks[0] == 1 else "ij"), ("j" if ranks[1] == 1 else "jk")
    return _letters(node, [left, right], left[:-1] + right[1:], arguments, k, fixed)


def _letters(
    node: Node,
    terms: list[str],
    result: str,
    arguments: Sequence[Any],
    k: int,
    fixed: Fixed,
) -> Edges:
    lengths: dict[str, int] = {}
    for term, a in zip(terms, arguments, strict=True):
        lengths.update(zip(term, np.shape(a), strict=True))
    letters = list(lengths)
    grid = tuple(lengths.values())
    if math.prod(grid) > MOST_PAIRS:
        return _everything(node, arguments, k, fixed)

    def spread(term: str, values: Any) -> Any:
        values = np.reshape(values, [lengths[c] for c in term])
        order = sorted(range(len(term)), key=lambda i: letters.index(term[i]))
        shape = [lengths[c] if c in term else 1 for c in letters]
        return np.broadcast_to(np.transpose(values, order).reshape(shape), grid).ravel()

    outer = spread(result, np.arange(math.prod(lengths[c] for c in result)))
    inner = spread(terms[k], np.arange(np.size(arguments[k])))
    kept = np.ones(outer.shape, bool)
    for source, term, a in zip(node.inputs, terms, arguments, strict=True):
        if source.index in fixed:
            kept &= spread(term, np.asarray(a) != 0)
    return outer[kept], inner[kept]


RULES: Final[dict[str, Rule]] = {
    **dict.fromkeys(("sum", "prod", "max", "min", "euclidean"), _reduced),
    **dict.fromkeys(("cumsum", "cumprod"), _running),
    **dict.fromkeys(("concatenate", "stack", "stack_scalars", "gather"), _selected),
    **dict.fromkeys(("index_update", "written", "laid_out", "astype"), _selected),
    **dict.fromkeys(("add_at", "scatter"), _added),
    "matmul": _multiplied,
    "contraction": _contracted,
}
