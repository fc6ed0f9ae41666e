"""Structures: the nesting, names, shapes and dtypes survive, whatever is nested."""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from diffkit.errors import InvalidInput
from diffkit.structure import flatten, map_leaves

FLOATS = [np.float16, np.float32, np.float64, np.longdouble]
Pair = namedtuple("Pair", "left right")

arrays = st.sampled_from(FLOATS).flatmap(
    lambda dtype: hnp.arrays(
        dtype,
        hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
        elements=st.floats(-4, 4, width=16),
    )
)
trees = st.recursive(
    arrays | st.floats(-4, 4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=2) | st.integers(0, 3), inner, max_size=3)
        | st.tuples(inner, inner)
        | st.builds(Pair, inner, inner)
    ),
    max_leaves=8,
)


def same(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return np.asarray(a).dtype == np.asarray(b).dtype and np.array_equal(a, b)


@given(trees)
def test_unflatten_inverts_flatten(x: Any) -> None:
    layout, leaves = flatten(x)
    assert same(layout.restore(leaves), x)
    assert same(layout.restore(layout.flatten(x)), x)


@given(trees)
def test_ravel_and_unravel_are_inverse_and_names_are_unique(x: Any) -> None:
    layout, leaves = flatten(x)
    vector = layout.ravel(leaves)
    assert vector.size == layout.size == len(layout.entry_names())
    assert same(layout.restore(layout.unravel(vector)), x)


@given(trees)
def test_units_are_the_identity_matrix(x: Any) -> None:
    layout, _ = flatten(x)
    rows = [layout.ravel(unit) for unit in layout.units()]
    assert np.array_equal(np.reshape(rows, (layout.size, layout.size)), np.eye(layout.size))


def test_names_read_like_the_code_that_finds_the_entry() -> None:
    layout, _ = flatten({"layer1": {"W": np.zeros((1, 2)), "b": [1.0, 2.0]}, 3: 0.5})
    assert layout.entry_names() == [
        "layer1.W[0, 0]",
        "layer1.W[0, 1]",
        "layer1.b[0]",
        "layer1.b[1]",
        "x[3]",
    ]
    assert flatten(1.0)[0].entry_names() == ["x"]
    assert flatten((np.zeros(1), Pair(1.0, 2.0)))[0].entry_names() == [
        "x[0][0]",
        "x[1].left",
        "x[1].right",
    ]


def test_a_whole_integer_is_promoted_and_a_nested_one_refused() -> None:
    for x in (3, np.int32(3), np.array([3, 4])):
        layout, _ = flatten(x)
        assert layout.leaves[0].dtype == np.float64
    with pytest.raises(InvalidInput, match="n is integer"):
        flatten({"n": 3})


def test_byte_order_is_made_native() -> None:
    layout, leaves = flatten(np.array([1.0, 2.0], dtype=">f8"))
    assert leaves[0].dtype.isnative
    assert layout.leaves[0].dtype == np.float64


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ({"a": np.zeros(3)}, "nested differently"),
        ([np.zeros(2), 1.0, 2.0], "nested differently"),
        ([np.zeros(3), 1.0], r"shape \(3,\) for x\[0\], which has shape \(2,\)"),
    ],
)
def test_another_structure_is_refused(other: Any, says: str) -> None:
    layout, _ = flatten([np.zeros(2), 1.0])
    with pytest.raises(InvalidInput, match=says):
        layout.flatten(other)


def test_dict_keys_may_come_in_another_order() -> None:
    layout, _ = flatten({"a": 1.0, "b": {"c": 2.0, "d": np.ones(2)}})
    leaves = layout.flatten({"b": {"d": np.zeros(2), "c": 4.0}, "a": 3.0})
    assert [float(np.sum(leaf)) for leaf in leaves] == [3.0, 4.0, 0.0]


def test_map_leaves_keeps_the_containers() -> None:
    mapped = map_leaves(lambda v: v + 1, {"a": [1, (2,)], "b": Pair(3, 4)})
    assert mapped == {"a": [2, (3,)], "b": Pair(4, 5)}


def test_an_empty_structure() -> None:
    layout, leaves = flatten({})
    assert layout.size == 0
    assert layout.ravel(leaves).shape == (0,)
    assert layout.summary() == "an empty structure"
