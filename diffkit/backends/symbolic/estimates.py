"""A derivative with how far rounding took it, entry by entry."""

from __future__ import annotations

from typing import Any

import numpy as np

from diffkit.assembly import assembled, assembled_blocks, derivative_name
from diffkit.backends.symbolic.digits import digits_kept
from diffkit.backends.symbolic.matrices import blocks_of
from diffkit.interface import Estimate
from diffkit.structure import Layout


def estimated(
    value: Any, matrix: Any, error: Any, output: Layout, x: Layout, evaluations: int
) -> Estimate:
    """Return a gradient or Jacobian with its error.

    An entry is `noisy` where the error is more than half of its digits.

    Args:
        value: as the operator returns it.
        matrix: the Jacobian.
        error: how far each entry of it may be off; None if that is not known.
        output: the layout of the value of the function.
        x: the layout of the point.
        evaluations: calls of the function.
    """
    if error is None:
        return Estimate(value, None, evaluations)
    blocks = blocks_of(error, output, x)
    if output.is_scalar:
        shown = assembled(blocks[0], x)[0]
        names = np.array(x.entry_names(), object)[None]
    else:
        shown = assembled_blocks(blocks, output, x)[0]
        names = np.array(
            [[derivative_name(r, c) for c in x.entry_names()] for r in output.entry_names()], object
        )
    unit = np.finfo(matrix.dtype).eps / 2
    sizes, errors = np.abs(matrix).reshape(1, -1), np.abs(error).reshape(1, -1) / unit
    kept = digits_kept(sizes, errors, matrix.dtype).reshape(matrix.shape)
    named_blocks = blocks_of(names.reshape(matrix.shape), output, x)
    judged = blocks_of(kept, output, x)
    status = {
        str(name): "converged" if sure else "noisy"
        for named, row in zip(named_blocks, judged, strict=True)
        for part, sures in zip(named, row, strict=True)
        for name, sure in zip(np.ravel(part), np.ravel(sures), strict=True)
    }
    return Estimate(value, shown, evaluations, status)
