"""Sparse Jacobians: their structure from the recording, and few sweeps for many columns.

Each value of a recording depends on some entries of `x`. That is carried through the operations
as pairs (entry of the value, entry of `x`): an elementwise operation joins what its arguments
depend on, one that moves entries moves the pairs, a product with constants leaves out zeros.
Of an operation without a rule every entry counts as depending on everything that goes in. So the
pattern holds at every point of the same course, and may be larger than need be.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from diffkit.backends.tape.jacobians import Linear, pullback
from diffkit.errors import InvalidInput, UnsupportedOperation
from diffkit.sparsity import Sparsity
from diffkit.structure import Layout, Leaves, concrete
from diffkit.tracing.graph import Graph, Node
from diffkit.tracing.primitives import gathering
from diffkit.tracing.primitives.gathering import put_together
from diffkit.tracing.primitives.lanes import kept_shape

GOLDEN: Final = 0.6180339887498949
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

# ---------------------------------------------------------------------- compression


@dataclass(frozen=True)
class Compression:
    """How a Jacobian of known pattern is read off few products.

    Attributes:
        pattern: which entries may differ from zero.
        groups: columns that share no row, or rows that share no column, whichever are fewer.
        by_columns: which of the two.
    """

    pattern: Sparsity
    groups: list[list[int]]
    by_columns: bool

    @classmethod
    def of(cls, pattern: Sparsity) -> Compression:
        columns, rows = pattern.colours(), pattern.transposed().colours()
        by_columns = len(columns) <= len(rows)
        return cls(pattern, columns if by_columns else rows, by_columns)

    def entries(self, graph: Graph, values: list[Any]) -> Any:
        """The entries of the Jacobian of a recording that the pattern names, column by column."""
        pull = pullback(graph, values)
        i, j = self.pattern.entries()
        if self.by_columns:
            return _read(pull.transposed(), self.groups, j, i)
        return _read(pull, self.groups, i, j)

    def require_complete(self, entries: Any, product: Any) -> None:
        """Check a pattern that was given against the product with a general direction.

        Raises:
            InvalidInput: it leaves out an entry that is not zero.
        """
        i, j = self.pattern.entries()
        terms = entries * general_direction(self.pattern.columns)[j]
        found = np.bincount(i, terms, self.pattern.rows)
        scale = np.bincount(i, np.abs(terms), self.pattern.rows)
        wrong = np.abs(found - product) > 1e-6 * (scale + np.abs(product))
        if np.any(wrong):
            raise InvalidInput(
                f"the sparsity pattern leaves out entries that are not zero, in row "
                f"{int(np.argmax(wrong))} of the Jacobian: correct it, or use sparsity='auto'"
            )


def _read(linear: Linear, groups: list[list[int]], units: Any, images: Any) -> Any:
    """The entries of a linear map, from its images of sums of unit vectors."""
    group = np.zeros(linear.source.size, np.intp)
    for number, members in enumerate(groups):
        group[members] = number
    found = [np.zeros((len(groups), 0))]
    parts = list(linear.of_batch(len(groups), lambda a, b: _seeds(linear.source, group, a, b)))
    for leaves in zip(*parts, strict=True):
        joined = np.concatenate(leaves)
        found.append(joined.reshape(len(groups), -1))
    return np.concatenate(found, axis=1)[group[units], images]


def _seeds(layout: Layout, group: Any, start: int, stop: int) -> Leaves:
    """For each group of units their sum, as leaves with a leading axis."""
    seeds = (group == np.arange(start, stop)[:, None]).astype(float)
    ends = np.cumsum([leaf.size for leaf in layout.leaves])[:-1]
    return [
        part.reshape(stop - start, *leaf.shape).astype(leaf.dtype)
        for leaf, part in zip(layout.leaves, np.split(seeds, ends, axis=1), strict=True)
    ]


def general_direction(size: int) -> Any:
    """A direction in which no two entries move alike."""
    return 0.5 + (GOLDEN * np.arange(1, size + 1)) % 1


def general_product(graph: Graph, values: list[Any]) -> Any:
    """The product of the Jacobian of a recording with the general direction."""
    push = pullback(graph, values).transposed()
    ends = np.cumsum([leaf.size for leaf in push.source.leaves])[:-1]
    parts = np.split(general_direction(push.source.size), ends)
    batch = [
        part.reshape(1, *leaf.shape).astype(leaf.dtype)
        for leaf, part in zip(push.source.leaves, parts, strict=True)
    ]
    (images,) = push.of_batch(1, lambda start, stop: batch)
    return np.concatenate([np.ravel(image) for image in images])


def of_blocks(blocks: list[Leaves], output: Layout, x: Layout) -> tuple[Sparsity, Any]:
    """The pattern and the entries of a Jacobian that was found otherwise."""
    rows = [
        np.concatenate(
            [
                np.reshape(block, (leaf.size, by.size))
                for block, by in zip(row, x.leaves, strict=True)
            ],
            axis=1,
        )
        for row, leaf in zip(blocks, output.leaves, strict=True)
    ]
    matrix = np.concatenate(rows)
    pattern = Sparsity.of(matrix != 0)
    return pattern, matrix[pattern.entries()]


def dense_blocks(pattern: Sparsity, values: Any, output: Layout, x: Layout) -> list[Leaves]:
    """The blocks of the Jacobian as arrays."""
    matrix = np.zeros((output.size, x.size), values.dtype)
    matrix[pattern.entries()] = values
    return [
        [np.ascontiguousarray(part).reshape(leaf.shape + by.shape) for by, part in _cut(row, x, 1)]
        for leaf, row in _cut(matrix, output, 0)
    ]


def sparse_blocks(pattern: Sparsity, values: Any, output: Layout, x: Layout) -> list[Leaves]:
    """The blocks of the Jacobian as SciPy's sparse matrices, entries in C order.

    Raises:
        UnsupportedOperation: SciPy is not installed.
    """
    try:
        from scipy.sparse import csr_array
    except ImportError as error:
        raise UnsupportedOperation(
            "sparse=True returns matrices of scipy.sparse, and SciPy is not installed: install "
            "it, or leave sparse out for plain arrays"
        ) from error
    matrix = csr_array((values, pattern.entries()), shape=(output.size, x.size))
    return [[part for _, part in _cut(row, x, 1)] for _, row in _cut(matrix, output, 0)]


def _cut(matrix: Any, layout: Layout, axis: int) -> Iterator[tuple[Any, Any]]:
    start = 0
    for leaf in layout.leaves:
        part = slice(start, start + leaf.size)
        yield leaf, matrix[part] if axis == 0 else matrix[:, part]
        start += leaf.size
