"""THE table: one row per primitive, and the NumPy functions that are written in terms of them.

`PRIMITIVES` holds the rows. `FUNCTIONS` tells the tracer what to call in place of a NumPy
function that was given a traced value: a primitive, or a *definition*, a Python function with
NumPy's signature written in traceable NumPy, whose derivative therefore follows from its parts.
`METHODS` does the same for the methods of ufuncs (`np.add.reduce`).
"""

from __future__ import annotations

from diffkit.tracing.primitives import (
    choices,
    creation,
    elementwise,
    indexing,
    joining,
    linear_algebra,
    methods,
    norms,
    ordering,
    products,
    reductions,
    samples,
    selection,
    shapes,
    statistics,
)
from diffkit.tracing.primitives.rows import FUNCTIONS, METHODS, PRIMITIVES

__all__ = [
    "FUNCTIONS",
    "METHODS",
    "PRIMITIVES",
    "choices",
    "creation",
    "elementwise",
    "indexing",
    "joining",
    "linear_algebra",
    "methods",
    "norms",
    "ordering",
    "products",
    "reductions",
    "samples",
    "selection",
    "shapes",
    "statistics",
]
