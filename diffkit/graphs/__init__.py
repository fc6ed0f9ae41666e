"""Computational graphs: what a function computes, with a value and an adjoint at every node."""

from __future__ import annotations

from diffkit.graphs.building import computational_graph
from diffkit.graphs.definition import ComputationalGraph, Edge, Node

__all__ = ["ComputationalGraph", "Edge", "Node", "computational_graph"]
