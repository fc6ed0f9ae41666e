"""THE table: one row per primitive, and the NumPy functions that are written in terms of them.

`PRIMITIVES` holds the rows. `FUNCTIONS` tells the tracer what to call in place of a NumPy
function that was given a traced value: a primitive, or a *definition*, a Python function with
NumPy's signature written in traceable NumPy, whose derivative therefore follows from its parts.
`METHODS` does the same for the methods of ufuncs (`np.add.reduce`).
"""

from __future__ import annotations

from diffkit.tracing.primitives import (
    bessel,
    choices,
    complex_pairs,
    creation,
    decompositions,
    elementwise,
    error_functions,
    fourier,
    gathering,
    indexing,
    joining,
    least_squares,
    linear_algebra,
    methods,
    norms,
    ordering,
    polynomials,
    products,
    quantiles,
    reductions,
    samples,
    selection,
    shapes,
    special,
    statistics,
)
from diffkit.tracing.primitives.rows import FUNCTIONS, METHODS, PRIMITIVES

__all__ = [
    "FUNCTIONS",
    "METHODS",
    "PRIMITIVES",
    "bessel",
    "choices",
    "complex_pairs",
    "creation",
    "decompositions",
    "elementwise",
    "error_functions",
    "fourier",
    "gathering",
    "indexing",
    "joining",
    "least_squares",
    "linear_algebra",
    "methods",
    "norms",
    "ordering",
    "polynomials",
    "products",
    "quantiles",
    "reductions",
    "samples",
    "selection",
    "shapes",
    "special",
    "statistics",
]
