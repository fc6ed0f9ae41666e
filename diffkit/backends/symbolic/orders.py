"""Orders and places that hang on an equality: of sort, median, argmax, searchsorted.

They are no formulas but integers that a recording holds fixed; where two of the numbers that were
compared are equal, the function may bend.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import numpy as np

from diffkit.tracing.graph import Guard, Node

Tied = Callable[..., bool]


def ordering_nodes(guards: Iterable[Guard]) -> list[Node]:
    """Return the nodes among those guarded that order or place what depends on `x`."""
    nodes = dict.fromkeys(guard.node for guard in guards)
    return [n for n in nodes if n.depends and n.primitive is not None and n.primitive.name in _TIED]


def is_tied(node: Node, *arguments: Any) -> bool:
    """Whether some of the numbers that a node compares are equal."""
    assert node.primitive is not None
    return _TIED[node.primitive.name](*arguments, **node.static)


def _repeated(a: Any, *, axis: Any, **static: Any) -> bool:
    ordered = np.moveaxis(np.sort(a, axis=axis), 0 if axis is None else axis, 0)
    return bool(np.any(ordered[1:] == ordered[:-1]))


def _shared_by(extreme: Callable[..., Any]) -> Tied:
    def tied(a: Any, *, axis: Any, **static: Any) -> bool:
        best = extreme(a, axis=axis, keepdims=True)
        return bool(np.any(np.sum(a == best, axis=axis) > 1))

    return tied


def _searchsorted(a: Any, v: Any, **static: Any) -> bool:
    return bool(np.any(np.expand_dims(v, -1) == a))


_TIED: Final[Mapping[str, Tied]] = {
    "argsort": _repeated,
    "argpartition": _repeated,
    "argmax": _shared_by(np.max),
    "argmin": _shared_by(np.min),
    "searchsorted": _searchsorted,
    "digitize": _searchsorted,
}
