"""How much a recorded graph computes, and how precisely."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from diffkit.tracing.graph import Graph

GRADIENT_GROWTH: Final = 4  # operations of a gradient for one of the function, about


def predicted_operations(graph: Graph) -> int:
    """About how many operations on single numbers the graph does on what depends on `x`."""
    total = 0
    for node in graph.nodes:
        primitive = node.primitive
        if primitive is None or primitive.movement or not node.active:
            continue
        sizes = [np.size(i.value) for i in node.inputs]
        if primitive.elementwise:
            total += int(np.size(node.value))
        elif primitive.name in ("matmul", "contraction"):
            total += 2 * math.isqrt(math.prod((*sizes, int(np.size(node.value)))))
        elif primitive.name == "convolution":
            total += 2 * math.prod(sizes)
        else:
            total += int(max(sizes, default=0))
    return total


def working_dtype(graph: Graph) -> np.dtype[Any]:
    """The widest floating dtype that the function computed in."""
    kinds = {np.asarray(node.value).dtype for node in graph.nodes if node.active}
    kinds |= {leaf.dtype for leaf in graph.layout.leaves}
    floating = [kind for kind in kinds if kind.kind == "f"]
    return np.result_type(*floating) if floating else np.dtype(np.float64)
