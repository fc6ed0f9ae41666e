"""How a tensor is held against another library's: in the max norm, to a budget of roundings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from diffkit.structure import flatten

ULPS = 8  # "a few", for each term of the longest sum


def budget(dtype: Any, length: int) -> float:
    """Return the relative error allowed, for sums of `length` terms."""
    if np.dtype(dtype) == np.float64:
        return 1e-12
    return ULPS * length * float(np.finfo(dtype).eps)


def require_close(got: Any, want: Any, allowed: float, name: str, least: float = 0.0) -> None:
    """Assert that two tensors agree: the largest difference against the largest entry.

    Against `least` where that is larger: the size of what the other library's result comes from.
    """
    got, want = np.asarray(got), np.asarray(want)
    assert got.shape == want.shape, name
    assert got.dtype == want.dtype, name
    if not want.size:
        return
    scale = max(float(np.max(np.abs(want))), least)
    error = float(np.max(np.abs(got.astype(float) - want.astype(float))))
    assert error <= allowed * scale, f"{name}: {error / (scale or 1):.3g} > {allowed:.3g}"


def leaves(structure: Any) -> Iterator[tuple[str, Any]]:
    """Yield the arrays of nested parameters with their names, in a fixed order."""
    layout, arrays = flatten(structure)
    yield from zip((leaf.name for leaf in layout.leaves), arrays, strict=True)
