"""What a problem is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Function = Callable[..., Any]

SURVEY = (
    "Baydin, Pearlmutter, Radul, Siskind, Automatic differentiation in machine learning: "
    "a survey, JMLR 18(153), 2018"
)


@dataclass(frozen=True, eq=False)
class Problem:
    """A function to differentiate, where, and what its derivatives are.

    Attributes:
        name: its name in `PROBLEMS`.
        f: the function, called as f(x, *data).
        x: the point.
        description: the formula, and what is hard about it.
        source: where it comes from.
        data: further arguments, not differentiated.
        derivatives: f', f'', ... by a scalar x.
        gradient: of a scalar f, in the structure of x.
        jacobian: leaves shaped like f(x), then x.
        hessian: of a scalar f.
    """

    name: str
    f: Function
    x: Any
    description: str
    source: str
    data: tuple[Any, ...] = ()
    derivatives: tuple[Function, ...] = ()
    gradient: Function | None = None
    jacobian: Function | None = None
    hessian: Function | None = None

    @property
    def arguments(self) -> tuple[Any, ...]:
        """The positional arguments of `f`: the point, then the data."""
        return (self.x, *self.data)
