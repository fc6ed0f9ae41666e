"""How much a recorded graph computes, and how precisely."""

from __future__ import annotations

from typing import Any

import numpy as np

from diffkit.tracing.graph import Graph


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
            inner = np.shape(node.inputs[0].value)[-1]
            total += 2 * int(inner) * int(np.size(node.value))
        else:
            total += int(max(sizes, default=0))
    return total


def working_dtype(graph: Graph) -> np.dtype[Any]:
    """The widest floating dtype that the function computed in."""
    kinds = {np.asarray(node.value).dtype for node in graph.nodes if node.active}
    kinds |= {leaf.dtype for leaf in graph.layout.leaves}
    floating = [kind for kind in kinds if kind.kind == "f"]
    return np.result_type(*floating) if floating else np.dtype(np.float64)
