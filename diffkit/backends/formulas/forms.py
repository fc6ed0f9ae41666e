"""What is known in closed form of one function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Function = Callable[..., Any]


@dataclass(frozen=True)
class Forms:
    """The closed forms of a function f, each called with f's own positional arguments.

    Attributes:
        derivatives: f', f'', ... by a scalar x, each in the shape of f(x).
        gradient: of a scalar f, in the structure of x.
        jacobian: in the structure of f(x), and within each of its leaves that of x; arrays
            have the shape of the leaf of f(x) followed by that of x.
        hessian: of a scalar f, the structure of x nested twice in the same way.
        elementwise: the derivatives hold for arrays too, entry by entry.
    """

    derivatives: tuple[Function, ...] = ()
    gradient: Function | None = None
    jacobian: Function | None = None
    hessian: Function | None = None
    elementwise: bool = False
