"""From leaves to what the user sees, and from directions to leaves: conventions, kept once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from diffkit.errors import InvalidInput, NonFiniteDerivative
from diffkit.structure import Layout, Leaves, all_finite, concrete, flatten, is_traced
from diffkit.target import Output

Product = Callable[[Leaves], tuple[Output, Leaves]]


def by_rows(output: Output, x: Layout, pull: Callable[[Leaves], Leaves]) -> list[Leaves]:
    """The blocks of the Jacobian from one pullback per entry of the output."""
    rows = [pull(unit) for unit in output.layout.units()]
    blocks: list[Leaves] = []
    start = 0
    for leaf in output.layout.leaves:
        part = rows[start : start + leaf.size]
        start += leaf.size
        blocks.append(
            [
                np.reshape(
                    _stack([row[k] for row in part], by.shape, by.dtype), leaf.shape + by.shape
                )
                for k, by in enumerate(x.leaves)
            ]
        )
    return blocks


def by_columns(output: Output, x: Layout, push: Callable[[Leaves], Leaves]) -> list[Leaves]:
    """The blocks of the Jacobian from one forward product per entry of `x`."""
    columns = [push(unit) for unit in x.units()]
    blocks: list[Leaves] = []
    for j, leaf in enumerate(output.layout.leaves):
        start, row = 0, []
        for by in x.leaves:
            part = [column[j] for column in columns[start : start + by.size]]
            start += by.size
            stacked = _stack(part, leaf.shape, leaf.dtype)
            row.append(np.reshape(np.moveaxis(stacked, 0, -1), leaf.shape + by.shape))
        blocks.append(row)
    return blocks


def contracted(blocks: list[Leaves], directions: Leaves, layout: Layout) -> Leaves:
    """Blocks times directions: for each row of blocks the sum over its columns.

    An infinite partial derivative does not count in a direction that does not move its variable.
    """
    return [
        sum(
            (_contracted(block, v) for block, v in zip(row, directions, strict=True)),
            start=np.zeros(leaf.shape, leaf.dtype),
        )
        for row, leaf in zip(blocks, layout.leaves, strict=True)
    ]


def _contracted(block: Any, direction: Any) -> Any:
    if not is_traced(block) and not np.all(np.isfinite(block)):
        block = np.where(direction == 0, 0, block)
    with np.errstate(invalid="ignore"):
        return np.tensordot(block, direction, np.ndim(direction))


def transposed(blocks: list[Leaves], rows: Layout, columns: Layout) -> list[Leaves]:
    """The same blocks with input and output exchanged."""
    return [
        [
            np.moveaxis(blocks[j][k], range(len(row.shape)), range(-len(row.shape), 0))
            for j, row in enumerate(rows.leaves)
        ]
        for k, _ in enumerate(columns.leaves)
    ]


def assembled(leaves: Leaves, layout: Layout) -> tuple[Any, list[str]]:
    """The leaves in the user's structure and dtypes, and the names of what is not finite."""
    cast = layout.cast(leaves)
    return layout.assemble(cast), not_finite(cast, layout)


def not_finite(leaves: Leaves, layout: Layout) -> list[str]:
    """The names of the entries that are not finite."""
    if all(map(all_finite, leaves)):
        return []
    return [
        leaf.entry_name(int(i))
        for leaf, array in zip(layout.leaves, leaves, strict=True)
        for i in np.flatnonzero(~np.isfinite(np.asarray(concrete(array))))
    ]


def assembled_batch(leaves: Leaves, layout: Layout) -> tuple[Any, list[str]]:
    """Leaves with one more leading axis in the user's structure, and what is not finite."""
    cast = [
        array if is_traced(array) else array.astype(leaf.dtype)
        for array, leaf in zip(leaves, layout.leaves, strict=True)
    ]
    bad = []
    for leaf, array in zip(layout.leaves, cast, strict=True):
        for i in np.flatnonzero(~np.isfinite(np.asarray(concrete(array)))):
            which, entry = divmod(int(i), leaf.size)
            bad.append(f"{leaf.entry_name(entry)} of product {which}")
    return layout.unflatten(cast), bad


def derivative_name(row: str, column: str, order: int = 1) -> str:
    """What to call an entry of a Jacobian or, with `order` 2, of a Hessian."""
    return f"d {row} / d {column}" if order == 1 else f"d^2 / d {row} d {column}"


def assembled_blocks(
    blocks: list[Leaves], rows: Layout, columns: Layout, order: int = 1
) -> tuple[Any, list[str]]:
    """The blocks nested as rows, then columns, and the names of what is not finite."""
    bad: list[str] = []
    members = []
    for row_leaf, row in zip(rows.leaves, blocks, strict=True):
        cast: Leaves = []
        for column_leaf, block in zip(columns.leaves, row, strict=True):
            array = block if is_traced(block) else np.array(block, column_leaf.dtype)
            for i in np.flatnonzero(~np.isfinite(np.asarray(concrete(array)))):
                r, c = divmod(int(i), column_leaf.size)
                row_name, column_name = row_leaf.entry_name(r), column_leaf.entry_name(c)
                bad.append(derivative_name(row_name, column_name, order))
            scalar = row_leaf.scalar and column_leaf.scalar and not is_traced(array)
            cast.append(array[()] if scalar else array)
        members.append(columns.unflatten(cast))
    return rows.unflatten(members), bad


def non_finite(function: str, method: str, bad: list[str], value: Any) -> NonFiniteDerivative:
    """The error for a derivative with the given entries not finite."""
    shown = ", ".join(bad[:5]) + (f" and {len(bad) - 5} more" if len(bad) > 5 else "")
    return NonFiniteDerivative(
        f"the derivative of {function} by {method} is not finite at {shown}; the function has no "
        "finite derivative there or overflows (the other entries are in this error's .value)",
        value,
        bad,
    )


def one_by_one(product: Product, batch: Leaves) -> tuple[Output, Leaves]:
    """The products with directions that are batched along a leading axis, batched likewise."""
    count = np.shape(batch[0])[0]
    results = [product([_entry(leaf, i) for leaf in batch]) for i in range(count)]
    return results[0][0], [np.stack(parts) for parts in zip(*(r for _, r in results), strict=True)]


def _entry(leaf: Any, i: int) -> Any:
    return leaf[i] if is_traced(leaf) else np.asarray(leaf[i])


def batch_leaves(directions: Any, layout: Layout, role: str) -> Leaves:
    """The leaves of several tangents or cotangents, batched along a leading axis."""
    _, leaves = flatten(directions, role, promote_integers=True)
    lengths = {np.shape(leaf)[:1] for leaf in leaves}
    if len(lengths) != 1 or () in lengths:
        raise InvalidInput(f"a batched {role} needs the same leading axis on every leaf")
    (count,) = lengths.pop()
    if not count:
        raise InvalidInput(f"a batched {role} needs at least one entry along its leading axis")
    batched = [replace(leaf, shape=(count, *leaf.shape)) for leaf in layout.leaves]
    return direction_leaves(directions, replace(layout, leaves=tuple(batched)), role)


def direction_leaves(direction: Any, layout: Layout, role: str) -> Leaves:
    """The leaves of a tangent or cotangent, in the dtypes of the space it belongs to."""
    leaves = layout.flatten(direction, role)
    for expected, leaf in zip(layout.leaves, leaves, strict=True):
        if not np.all(np.isfinite(concrete(leaf))):
            raise InvalidInput(f"the {role} for {expected.name} is not finite")
    return [
        leaf if is_traced(leaf) else leaf.astype(expected.dtype)
        for leaf, expected in zip(leaves, layout.leaves, strict=True)
    ]


def _stack(parts: list[Any], shape: tuple[int, ...], dtype: Any) -> Any:
    return np.stack(parts) if parts else np.zeros((0, *shape), dtype)
