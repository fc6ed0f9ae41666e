"""Nested parameters and their leaves, with a name for every entry.

A *structure* is a scalar, an array, or nested dicts, lists, tuples and named tuples of
those. Its `Layout` records the nesting and each leaf's name, shape and dtype; with it, the
backends work on a plain list of leaves and give the user's own structure back.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Final, TypeGuard

import numpy as np
import numpy.typing as npt

from diffkit.errors import DiffkitError, InvalidInput

Array = npt.NDArray[Any]
Leaves = list[Any]


@dataclass(frozen=True)
class Leaf:
    """One array of a structure. A scalar is a leaf of shape () that comes back as a scalar."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    scalar: bool

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def entry_name(self, position: int) -> str:
        """The name of one entry by its position in C order: `W[1, 2]`."""
        if not self.shape:
            return self.name
        index = np.unravel_index(position, self.shape)
        return f"{self.name}[{', '.join(str(int(i)) for i in index)}]"


@dataclass(frozen=True)
class _Nesting:
    """How leaves nest: the container's type (None for a leaf), its keys and its members."""

    container: type | None
    keys: tuple[Any, ...] = ()
    members: tuple[_Nesting, ...] = ()


@dataclass(frozen=True)
class Layout:
    """The shape of a structure: how its leaves nest, and what each leaf is.

    `layout.unflatten(layout.flatten(x))` has the same structure, shapes and dtypes as `x`.
    Two layouts are equal when nesting, names, shapes and dtypes are.
    """

    nesting: _Nesting
    leaves: tuple[Leaf, ...]

    @cached_property
    def size(self) -> int:
        """How many numbers the structure holds."""
        return sum(leaf.size for leaf in self.leaves)

    @cached_property
    def signature(self) -> int:
        """A number that equal layouts have in common."""
        return hash(self)

    @property
    def is_single(self) -> bool:
        """Whether the structure is one bare leaf."""
        return self.nesting.container is None

    @property
    def is_scalar(self) -> bool:
        """Whether the structure is a single number (a scalar or a 0-d array)."""
        return self.is_single and self.leaves[0].shape == ()

    def flatten(self, x: Any, role: str = "x") -> Leaves:
        """Return the leaves of `x`, which must have this layout, up to the order of dict keys.

        Raises:
            InvalidInput: `x` nests differently, a leaf has another shape or is not a number.
        """
        layout, leaves = flatten(_in_order(x, self.nesting), role, promote_integers=True)
        if layout.nesting != self.nesting:
            raise InvalidInput(
                f"the {role} is nested differently: expected {self.summary()}, "
                f"got {layout.summary()}"
            )
        for expected, got in zip(self.leaves, layout.leaves, strict=True):
            if expected.shape != got.shape:
                raise InvalidInput(
                    f"the {role} has shape {got.shape} for {expected.name}, which has shape "
                    f"{expected.shape}"
                )
        return leaves

    def unflatten(self, leaves: Sequence[Any]) -> Any:
        """Build the structure from one array (or anything else) per leaf."""
        if self._is_plain_list:
            return list(leaves)
        if self.is_single:
            return leaves[0]
        return _build(self.nesting, iter(leaves))

    @cached_property
    def _is_plain_list(self) -> bool:
        members = self.nesting.members
        return self.nesting.container is list and all(m.container is None for m in members)

    def cast(self, leaves: Sequence[Any]) -> Leaves:
        """Each leaf in its own dtype, scalars as NumPy scalars."""
        if len(self.leaves) == 1:
            return [_as_leaf(leaves[0], self.leaves[0])]
        return [_as_leaf(value, leaf) for value, leaf in zip(leaves, self.leaves, strict=True)]

    def restore(self, leaves: Sequence[Any]) -> Any:
        """Build the structure with each leaf `cast`, sharing no memory with what was given."""
        return self.assemble(self.cast(leaves))

    def assemble(self, cast: Sequence[Any]) -> Any:
        """Build the structure from leaves that were `cast`, sharing no memory with them."""
        return self.unflatten([_own(leaf) for leaf in cast])

    def ravel(self, leaves: Sequence[Any]) -> Array:
        """Join leaves to one vector of the dtype that holds them all."""
        if not leaves:
            return np.zeros(0)
        return np.concatenate([np.ravel(leaf) for leaf in leaves])

    def unravel(self, vector: Array) -> Leaves:
        """Split a vector of `size` entries into leaves, each in its own shape and dtype."""
        ends = np.cumsum([leaf.size for leaf in self.leaves])
        pieces = np.split(vector, ends[:-1]) if self.leaves else []
        return [
            piece.reshape(leaf.shape).astype(leaf.dtype)
            for piece, leaf in zip(pieces, self.leaves, strict=True)
        ]

    def entry_names(self) -> list[str]:
        """The name of every entry, in the order of `ravel`."""
        return [leaf.entry_name(i) for leaf in self.leaves for i in range(leaf.size)]

    def zeros(self) -> Leaves:
        return [np.zeros(leaf.shape, leaf.dtype) for leaf in self.leaves]

    def units(self) -> Iterator[Leaves]:
        """Yield the unit vectors of the space, one per entry, as leaves."""
        for k, leaf in enumerate(self.leaves):
            for i in range(leaf.size):
                unit = self.zeros()
                unit[k].reshape(-1)[i] = 1
                yield unit

    def summary(self) -> str:
        """One line for error messages."""
        if not self.leaves:
            return "an empty structure"
        parts = [f"{leaf.name} {leaf.shape}" for leaf in self.leaves[:4]]
        more = f" and {len(self.leaves) - 4} more" if len(self.leaves) > 4 else ""
        return ", ".join(parts) + more


def is_traced(value: object) -> bool:
    """Whether `value` is a traced array: a number that records what is done with it."""
    return getattr(type(value), "__diffkit_traced__", False)


def concrete(value: Any) -> Any:
    """The plain NumPy value beneath any levels of tracing."""
    while is_traced(value):
        value = value.value
    return value


def flatten(
    x: Any,
    role: str = "x",
    *,
    promote_integers: bool = False,
    error: type[DiffkitError] = InvalidInput,
) -> tuple[Layout, Leaves]:
    """Return the layout of `x` and its leaves as arrays (scalars as 0-d arrays).

    Args:
        x: a scalar, an array, or nested dicts, lists and tuples of those.
        role: the name of the root in error messages and entry names.
        promote_integers: accept integers and booleans anywhere, as float64. Without it, only
            an integer that is the whole of `x` is promoted; one inside a structure is refused.
        error: the class of error to raise.

    Raises:
        error: a leaf is complex, not a number, or an integer inside a structure.
    """
    leaves: Leaves = []
    form = _form(x, leaves)
    if form is not None:
        return _layout(role, form), leaves
    names: list[Leaf] = []
    leaves = []

    def visit(value: Any, name: str, root: bool) -> _Nesting:
        items = _members(value)
        if items is None:
            array, scalar = _leaf_array(value, name, promote_integers, root, error)
            names.append(Leaf(name, tuple(array.shape), np.dtype(array.dtype), scalar))
            leaves.append(array)
            return _Nesting(None)
        children = tuple(visit(v, _join(name, key, type(value), root), False) for key, v in items)
        return _Nesting(type(value), tuple(key for key, _ in items), children)

    nesting = visit(x, role, True)
    return Layout(nesting, tuple(names)), leaves


_FLOAT64: Final = np.dtype(np.float64)


def _form(x: Any, leaves: Leaves) -> Any:
    """What the layout of an everyday structure depends on, and its leaves in `leaves`.

    That is (None, shape, scalar) of a leaf of double precision, and (type, names, *members) of
    a list, tuple or dict named by texts. None if it is not made of those alone.
    """
    kind = type(x)
    if kind is np.ndarray:
        leaves.append(x)
        return (None, x.shape, False) if x.dtype is _FLOAT64 else None
    if kind is float or kind is np.float64:
        leaves.append(np.asarray(x))
        return _SCALAR
    if kind is list or kind is tuple:
        form: list[Any] = [kind, None]
        members = x
    elif kind is dict:
        form = [kind, tuple(x)]
        if not all(type(name) is str for name in x):
            return None
        members = x.values()
    elif is_traced(x) and x.dtype is _FLOAT64:
        leaves.append(x)
        return None, x.shape, not isinstance(concrete(x), np.ndarray)
    else:
        return None
    for member in members:
        part = _form(member, leaves)
        if part is None:
            return None
        form.append(part)
    return tuple(form)


_SCALAR: Final = (None, (), True)


@lru_cache(maxsize=256)
def _layout(role: str, form: Any) -> Layout:
    """The layout of a structure of the given form."""
    leaves: list[Leaf] = []

    def nesting(form: Any, name: str, root: bool) -> _Nesting:
        kind, names, *members = form
        if kind is None:
            leaves.append(Leaf(name, names, _FLOAT64, members[0]))
            return _Nesting(None)
        keys = tuple(range(len(members))) if names is None else names
        return _Nesting(
            kind,
            keys,
            tuple(
                nesting(member, _join(name, key, kind, root), False)
                for key, member in zip(keys, members, strict=True)
            ),
        )

    return Layout(nesting(form, role, True), tuple(leaves))


def map_leaves(function: Callable[[Any], Any], x: Any) -> Any:
    """Apply `function` to everything in `x` that is not a dict, list or tuple."""
    if type(x) is np.ndarray:
        return function(x)
    items = _members(x)
    if items is None:
        return function(x)
    return _assemble(type(x), [k for k, _ in items], [map_leaves(function, v) for _, v in items])


def _in_order(x: Any, nesting: _Nesting) -> Any:
    """`x` with the keys of its dicts in the order of `nesting`, where they are the same keys."""
    items = _members(x)
    if items is None or nesting.container is not type(x) or len(items) != len(nesting.keys):
        return x
    members = dict(items)
    if any(key not in members for key in nesting.keys):
        return x
    ordered = [
        _in_order(members[key], inner)
        for key, inner in zip(nesting.keys, nesting.members, strict=True)
    ]
    return _assemble(type(x), nesting.keys, ordered)


def _members(value: Any) -> list[tuple[Any, Any]] | None:
    if isinstance(value, dict):
        return list(value.items())
    if isinstance(value, (list, tuple)):
        return list(enumerate(value))
    return None


def _is_namedtuple(container: type) -> TypeGuard[Any]:
    return issubclass(container, tuple) and hasattr(container, "_fields")


def _join(name: str, key: Any, container: type, root: bool) -> str:
    if _is_namedtuple(container):
        key = container._fields[key]
    if isinstance(key, str):
        return key if root else f"{name}.{key}"
    return f"{name}[{key!r}]"


def _assemble(container: type, keys: Sequence[Any], members: list[Any]) -> Any:
    if issubclass(container, dict):
        return dict(zip(keys, members, strict=True))
    if _is_namedtuple(container):
        return container(*members)
    return tuple(members) if issubclass(container, tuple) else members


def _build(nesting: _Nesting, leaves: Iterator[Any]) -> Any:
    if nesting.container is None:
        return next(leaves)
    members = [
        next(leaves) if member.container is None else _build(member, leaves)
        for member in nesting.members
    ]
    return _assemble(nesting.container, nesting.keys, members)


def _own(leaf: Any) -> Any:
    if type(leaf) is np.float64:
        return leaf
    return leaf.copy(order="K") if isinstance(leaf, np.ndarray) else leaf


def all_finite(value: Any) -> bool:
    """Whether every number in a plain or traced array is finite."""
    kind = type(value)
    if kind is np.float64:
        return math.isfinite(value)
    if kind is np.ndarray:
        return bool(np.count_nonzero(np.isfinite(value)) == value.size)
    value = concrete(value)
    if isinstance(value, float):
        return math.isfinite(value)
    finite = np.isfinite(value)
    return bool(finite.all() if finite.ndim else finite)


def _as_leaf(value: Any, leaf: Leaf) -> Any:
    kind = type(value)
    if kind is np.ndarray:
        if value.dtype is leaf.dtype:
            return value[()] if leaf.scalar else value
    elif (leaf.scalar and kind is leaf.dtype.type) or is_traced(value):
        return value
    array = np.asarray(value).astype(leaf.dtype, copy=False)
    return array[()] if leaf.scalar else array


def _leaf_array(
    value: Any, name: str, promote: bool, root: bool, error: type[DiffkitError]
) -> tuple[Any, bool]:
    """One leaf as an array of native floating dtype, and whether it was a scalar."""
    if is_traced(value) and value.dtype.kind != "c":
        inner = concrete(value)
        return value, not isinstance(inner, np.ndarray)
    value = concrete(value)
    if isinstance(value, (np.ma.MaskedArray, np.matrix)):
        raise error(f"{name} is a {type(value).__name__}; pass a plain array (np.asarray({name}))")
    if not isinstance(value, (bool, int, float, complex, np.generic, np.ndarray)):
        raise error(
            f"{name} is of type {type(value).__name__}, which is not a number, an array, "
            "or a dict, list or tuple of those; convert it with np.asarray first"
        )
    scalar = not isinstance(value, np.ndarray)
    if isinstance(value, int) and abs(value) > sys.float_info.max:
        raise error(f"{name} is an integer too large for a floating-point number")
    array = np.asarray(value)
    kind = array.dtype.kind
    if kind == "f":
        return array.astype(array.dtype.newbyteorder("="), copy=False), scalar
    if kind == "c":
        raise error(
            f"{name} is complex; diffkit differentiates real functions of real numbers: "
            "pass the real and the imaginary part as separate real arrays"
        )
    if kind in "iu" and (root or promote):
        return array.astype(np.float64), scalar
    if kind == "b" and promote:
        return array.astype(np.float64), scalar
    if kind in "iub":
        word = "boolean" if kind == "b" else "integer"
        raise error(
            f"{name} is {word}, which cannot be differentiated by; convert it to float, or "
            "pass it as data (a further positional argument)"
        )
    if kind == "O":
        raise error(f"{name} is an object array; convert it with np.asarray({name}, dtype=float)")
    raise error(f"{name} has dtype {array.dtype}, which is not a floating-point number")
