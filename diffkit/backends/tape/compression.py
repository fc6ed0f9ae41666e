"""Sparse Jacobians by few sweeps for many columns, and how they come to the user."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from diffkit.backends.tape.jacobians import Linear, pullback
from diffkit.errors import InvalidInput, UnsupportedOperation
from diffkit.sparsity import Sparsity
from diffkit.structure import Layout, Leaves
from diffkit.tracing.graph import Graph

GOLDEN: Final = 0.6180339887498949


@dataclass(frozen=True)
class Compression:
    """How a Jacobian of known pattern is read off few products.

    Attributes:
        pattern: which entries may differ from zero.
        groups: columns that share no row, or rows that share no column, whichever are fewer, or
            columns of a symmetric matrix that between them show every entry.
        by_columns: whether they are columns.
    """

    pattern: Sparsity
    groups: list[list[int]]
    by_columns: bool

    @classmethod
    def of(cls, pattern: Sparsity, *, symmetric: bool = False) -> Compression:
        """How to read a matrix of this pattern, and `symmetric` if it is."""
        stars = pattern.star_colours() if symmetric else None
        if stars is not None and len(stars) <= pattern.fullest_row:
            return cls(pattern, stars, True)  # the columns of that row would all be by themselves
        columns, rows = pattern.colours(), pattern.transposed().colours()
        by_columns = len(columns) <= len(rows)
        groups = columns if by_columns else rows
        if stars is not None and len(stars) < len(groups):
            return cls(pattern, stars, True)
        return cls(pattern, groups, by_columns)

    def entries(self, graph: Graph, values: list[Any]) -> Any:
        """The entries of the Jacobian of a recording that the pattern names, column by column."""
        pull = pullback(graph, values)
        i, j = self.pattern.entries()
        if self.by_columns:
            return _read(pull.transposed(), self.groups, *self._seen(j, i))
        return _read(pull, self.groups, i, j)

    def _seen(self, units: Any, images: Any) -> tuple[Any, Any]:
        """For each entry a column, in whose group no other meets its row, and that row.

        Of a symmetric matrix that may be the entry on the other side of the diagonal.
        """
        group = _numbers(self.groups, self.pattern.columns)
        _, place, count = np.unique(
            images * len(self.groups) + group[units], return_inverse=True, return_counts=True
        )
        alone = count[place] == 1
        return np.where(alone, units, images), np.where(alone, images, units)

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
    group = _numbers(groups, linear.source.size)
    found = [np.zeros((len(groups), 0))]
    parts = list(linear.of_batch(len(groups), lambda a, b: _seeds(linear.source, group, a, b)))
    for leaves in zip(*parts, strict=True):
        joined = np.concatenate(leaves)
        found.append(joined.reshape(len(groups), -1))
    return np.concatenate(found, axis=1)[group[units], images]


def _numbers(groups: list[list[int]], size: int) -> Any:
    """Of each member the number of its group."""
    numbers = np.zeros(size, np.intp)
    for number, members in enumerate(groups):
        numbers[members] = number
    return numbers


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
