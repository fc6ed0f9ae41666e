"""The complex step: Im f(x + ih) / h, a first derivative without subtraction.

Squire and Trapp, "Using complex variables to estimate derivatives of real functions", SIAM
Rev. 40 (1998); Martins, Sturdza and Alonso, ACM TOMS 29 (2003). It holds for functions that
are complex-analytic as they are written, which `np.abs` is not.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from diffkit.backends.finite.limit import Limit
from diffkit.backends.finite.lines import Direction
from diffkit.backends.finite.sampling import Sampler, require_same_layout
from diffkit.errors import InvalidOutput, NotAnalytic
from diffkit.structure import Array, Leaves, flatten, map_leaves
from diffkit.target import Target

STEP = 1e-20
TOLERANCE = 16  # times the central difference's own error estimate
WAY_OUT = (
    "operations such as np.abs, np.linalg.norm, np.real and comparisons are not analytic; "
    "use scheme='central', or write abs(x) as np.sqrt(x**2)"
)


def complex_step(sampler: Sampler, direction: Direction, step: float | None) -> Array:
    """Return the derivative along a line, for each entry of the output.

    Args:
        sampler: the function around the point.
        direction: the line.
        step: h as it is used; None for 1e-20 times the size of `x` (1 where `x` is 0).

    Raises:
        NotAnalytic: `f` does not accept complex numbers, or drops an imaginary part.
    """
    size = direction.inner if direction.inner > 0 else sampler.dtype.type(1)
    tiny = np.finfo(sampler.dtype).tiny
    h = max(STEP * size, min(tiny / STEP, 1e-4 * size), tiny) if step is None else step
    h = sampler.dtype.type(h)
    turned = np.result_type(sampler.dtype, np.complex128).type(1j) * h
    leaves = [
        np.asarray(leaf + turned * tangent)
        for leaf, tangent in zip(sampler.point.leaves, direction.tangents, strict=True)
    ]
    with np.errstate(all="ignore"):
        return np.asarray(_imaginary(sampler, leaves) / h)


def confirm(
    found: Array,
    reference: Limit,
    line: int,
    sampler: Sampler,
    direction: Direction,
    name: str,
) -> None:
    """Compare a complex step with the central difference along one line, entry by entry.

    Raises:
        NotAnalytic: they differ by more than the central difference's error estimate allows,
            or the central difference did not converge and so confirms nothing.
    """
    value, error, status = (a[line] for a in (reference.value, reference.error, reference.status))
    rounding = sampler.eps(direction.leaves) * abs(value)
    with np.errstate(invalid="ignore"):
        agree = abs(found - value) <= TOLERANCE * (error + rounding)
    agree &= status == "converged"
    if agree.all():
        return
    i = int(np.argmin(agree))
    entry = sampler.output.layout.entry_names()[i]
    raise NotAnalytic(
        f"by {name}, the complex step through {sampler.target.name} gives {found[i]:.6g} for "
        f"{entry}, and the central difference {value[i]:.6g} "
        f"({status[i]}, error about {error[i]:.1e}); {WAY_OUT}"
    )


def _imaginary(sampler: Sampler, leaves: Leaves) -> Array:
    """The imaginary parts of the output at complex leaves."""
    target, point = sampler.target, sampler.point
    scalars = [leaf.scalar for leaf in point.layout.leaves]
    x = point.layout.unflatten(
        [leaf[()] if scalar else leaf for leaf, scalar in zip(leaves, scalars, strict=True)]
    )
    sampler.tally.evaluations += 1
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            warnings.simplefilter("error", np.exceptions.ComplexWarning)
            result = target.call(x, point.data)
    except (TypeError, np.exceptions.ComplexWarning) as error:
        raise NotAnalytic(
            f"{target.name} does not let complex numbers through ({error}); {WAY_OUT}"
        ) from error
    layout, parts = flatten(
        map_leaves(lambda value: _imaginary_part(value, target), result),
        f"{target.name}(x)",
        promote_integers=True,
        error=InvalidOutput,
    )
    require_same_layout(target, sampler.output.layout, layout)
    return layout.ravel(parts).astype(sampler.dtype)


def _imaginary_part(value: Any, target: Target) -> Any:
    array = np.asarray(value)
    if array.dtype.kind not in "biufc":
        raise InvalidOutput(f"{target.name} returned {type(value).__name__} for a complex x")
    part = np.imag(array) if array.dtype.kind == "c" else np.zeros(array.shape)
    return part if isinstance(value, np.ndarray) else part[()]
