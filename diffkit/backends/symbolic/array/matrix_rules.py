"""Primitives of linear algebra, as index operations."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from diffkit.backends.symbolic.array.indexing import gathered, places
from diffkit.backends.symbolic.array.notation import ArrayProgram
from diffkit.backends.symbolic.array.operations import repeated, reshaped
from diffkit.backends.symbolic.array.products import (
    Cofactors,
    Determinant,
    DeterminantSign,
    Factor,
    Inverse,
    Solution,
    product,
)
from diffkit.tracing.graph import Node
from diffkit.tracing.shared_expressions import Expression

if TYPE_CHECKING:
    from diffkit.backends.symbolic.array.lowering import Lowering

Rule = Callable[["Lowering", Node], Any]
_STACK = "abcdefgh"


def matrix_rules() -> dict[str, Rule]:
    """The rules of this module by the names of the primitives."""
    return {
        "matmul": _matmul,
        "contraction": _contraction,
        "convolution": _convolution,
        "solve": _solve,
        "inv": _inverse,
        "inv_or_nan": _inverse,
        "det": lambda lowering, node: _determinant(lowering, node, False),
        "log_abs_det": lambda lowering, node: _determinant(lowering, node, True),
        "sign_of_det": _sign_of_det,
        "large_cofactors": _cofactors,
        "cholesky": _cholesky,
    }


def _matmul(lowering: Lowering, node: Node) -> Any:
    program = lowering.program
    a, b = (lowering.array(i) for i in node.inputs)
    first, second = program.shape(a), program.shape(b)
    left = "i" * (len(first) > 1) + "j"
    right = "j" + "k" * (len(second) > 1)
    a, stack_a = _stacked(program, a, first[: -len(left)])
    b, stack_b = _stacked(program, b, second[: -len(right)])
    both = "".join(letter for letter in _STACK if letter in stack_a + stack_b)
    target = both + left[:-1] + right[1:]
    result = product(program, a, b, (stack_a + left, stack_b + right, target))
    return reshaped(program, result, np.shape(node.value))


def _stacked(
    program: ArrayProgram, a: Expression, stack: tuple[int, ...]
) -> tuple[Expression, str]:
    """`a` without the axes of length 1 of its stack, and the letters of those that are left.

    Axes are lettered from the last one on, as broadcasting aligns them.
    """
    letters = _STACK[len(_STACK) - len(stack) :]
    kept = [i for i, n in enumerate(stack) if n != 1]
    shape = program.shape(a)
    squeezed = tuple(shape[i] for i in kept) + shape[len(stack) :]
    return reshaped(program, a, squeezed), "".join(letters[i] for i in kept)


def _contraction(lowering: Lowering, node: Node) -> Any:
    """In the order of pairs that NumPy finds cheap."""
    sources, target = node.static["subscripts"].split("->")
    operands = [
        (lowering.array(source), letters)
        for source, letters in zip(node.inputs, sources.split(","), strict=True)
    ]
    values = [np.broadcast_to(np.int8(0), np.shape(source.value)) for source in node.inputs]
    path, _ = np.einsum_path(f"{sources}->{target}", *values, optimize="greedy")
    for pair in _pairs(path[1:]):
        first, second = pair
        b, right = operands.pop(second)
        a, left = operands.pop(first)
        needed = set(target).union(*(letters for _, letters in operands))
        kept = "".join(dict.fromkeys(x for x in left + right if x in needed))
        if not operands:
            kept = target
        operands.append((product(lowering.program, a, b, (left, right, kept)), kept))
    return operands[0][0]


def _pairs(path: Any) -> list[tuple[int, int]]:
    """The steps of a path, each of two operands.

    NumPy lists those that it would join three or more at once by their places before the step;
    what has been joined stands last.
    """
    pairs: list[tuple[int, int]] = []
    for step in path:
        waiting = sorted(step)
        pairs.append((waiting.pop(-2), waiting.pop()))
        while waiting:
            pairs.append((waiting.pop(), -1))
    return pairs


def _convolution(lowering: Lowering, node: Node) -> Any:
    """Σ_k a_k v_{n-k}: the shorter vector against the windows of the other."""
    program = lowering.program
    a, v = (lowering.array(i) for i in node.inputs)
    if program.shape(a)[0] < program.shape(v)[0]:
        a, v = v, a
    (count,), (width,) = program.shape(a), program.shape(v)
    padded = np.pad(places((count,)), width - 1)
    windows = np.lib.stride_tricks.sliding_window_view(padded, width)[:, ::-1]
    return product(program, gathered(lowering, a, windows), v, ("ij", "j", "i"))


# ---------------------------------------------------------------------- systems


def _solve(lowering: Lowering, node: Node) -> Any:
    program = lowering.program
    a, b = (lowering.array(i) for i in node.inputs)
    first, second = program.shape(a), program.shape(b)
    stack = np.broadcast_shapes(first[:-2], second[:-2])
    a = repeated(program, a, stack + first[-2:])
    b = repeated(program, b, stack + second[-2:])
    return program.apply(Solution((a, b)))


def _inverse(lowering: Lowering, node: Node) -> Any:
    return lowering.program.apply(Inverse((lowering.array(node.inputs[0]),)))


def _determinant(lowering: Lowering, node: Node, logarithm: bool) -> Any:
    a = lowering.array(node.inputs[0])
    value = lowering.program.apply(Determinant((a,), logarithm))
    return reshaped(lowering.program, value, np.shape(node.value))


def _sign_of_det(lowering: Lowering, node: Node) -> Any:
    value = lowering.program.apply(DeterminantSign((lowering.array(node.inputs[0]),)))
    return reshaped(lowering.program, value, np.shape(node.value))


def _cofactors(lowering: Lowering, node: Node) -> Any:
    return lowering.program.apply(Cofactors((lowering.array(node.inputs[0]),)))


def _cholesky(lowering: Lowering, node: Node) -> Any:
    """Of the matrix whose lower triangle this is, which is all that NumPy reads."""
    (source,) = node.inputs
    there = places(np.shape(source.value))
    symmetric = np.where(np.tri(there.shape[-1], dtype=bool), there, np.swapaxes(there, -1, -2))
    a = gathered(lowering, lowering.array(source), symmetric)
    return lowering.program.apply(Factor((a,)))
