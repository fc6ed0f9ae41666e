"""Recording what a plain NumPy function computes."""

from __future__ import annotations

from diffkit.tracing.graph import Graph, Guard, Missing, Node, Primitive
from diffkit.tracing.recording import record, trace
from diffkit.tracing.tracer import Traced

__all__ = ["Graph", "Guard", "Missing", "Node", "Primitive", "Traced", "record", "trace"]
