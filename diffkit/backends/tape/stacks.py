"""Rows of arrays: which values stand together in one, and how to take some of them."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass
class Stack:
    """Values of the old plan as rows of one array of the new one.

    Attributes:
        members: the old positions, in the order of the rows.
        position: where the array is in the new plan.
    """

    members: list[int]
    position: int


def sorted_by(places: list[int | None], members: list[int]) -> list[int]:
    """The members by the places of their operands; those without one stay at their end."""
    known = [place for place in places if place is not None]
    if known == sorted(known, reverse=True):
        return members[::-1]
    if known == sorted(known):
        return members
    order = sorted(range(len(members)), key=lambda k: -1 if (p := places[k]) is None else p)
    return [members[k] for k in order]


def chosen_rows(rows: list[int]) -> Any:
    """The index that takes these rows of an array, as a view where that is possible."""
    strides = {b - a for a, b in itertools.pairwise(rows)}
    if strides == {1}:
        return slice(rows[0], rows[-1] + 1)
    if strides == {-1}:
        return slice(rows[0], rows[-1] - 1 if rows[-1] else None, -1)
    return (np.array(rows),)
