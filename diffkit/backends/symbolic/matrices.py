"""Derivatives as matrices, cut into the blocks of a structure."""

from __future__ import annotations

from typing import Any

import numpy as np

from diffkit.structure import Layout, Leaves
from diffkit.target import Output


def spoil_rows(matrix: Any, output: Output) -> None:
    """Where `f` itself is not a number there is no derivative, whatever a formula says."""
    values = output.layout.ravel(output.leaves)
    matrix[~np.isfinite(values)] = np.nan


def blocks_of(matrix: Any, rows: Layout, columns: Layout) -> list[Leaves]:
    """Cut a matrix into blocks: for each leaf of the rows, one per leaf of the columns."""
    blocks, top = [], 0
    for row in rows.leaves:
        part, left = [], 0
        for column in columns.leaves:
            block = matrix[top : top + row.size, left : left + column.size]
            part.append(block.reshape(row.shape + column.shape))
            left += column.size
        blocks.append(part)
        top += row.size
    return blocks


def matrix_of_blocks(blocks: list[Leaves], rows: Layout, columns: Layout) -> Any:
    """The matrix that was cut into blocks."""
    bands = [
        np.concatenate([np.reshape(block, (row.size, -1)) for block in part], axis=1)
        for row, part in zip(rows.leaves, blocks, strict=True)
        if part
    ]
    return np.concatenate(bands) if bands else np.zeros((rows.size, columns.size))
