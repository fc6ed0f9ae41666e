"""The operators as functions: prepare once, differentiate once.

Each takes the function, its positional arguments (`x`, then data) and `backend=`, a name or a
`Differentiator`. `wrt=` picks the positional argument(s) to differentiate by. A tangent or
cotangent stands second, after the first argument of `f`. What each returns and raises is
said at the method of `Prepared` with the same name.
"""

from __future__ import annotations

from typing import Any

from diffkit.backends import resolve
from diffkit.interface import Differentiator, Prepared
from diffkit.target import Function

Backend = str | Differentiator
Positions = int | tuple[int, ...]


def prepare(
    f: Function, *arguments: Any, backend: Backend = "tape", wrt: Positions = 0
) -> Prepared:
    """Return `f` prepared at the given arguments: for many calls, cheaper than the operators."""
    return resolve(backend).prepare(f, *arguments, wrt=wrt)


def derivative(
    f: Function, *arguments: Any, order: int = 1, backend: Backend = "tape", wrt: Positions = 0
) -> Any:
    """Return the derivative of `f` by a scalar `x`, in the shape of `f(x)`."""
    return resolve(backend).once(f, *arguments, wrt=wrt).derivative(*arguments, order=order)


def gradient(f: Function, *arguments: Any, backend: Backend = "tape", wrt: Positions = 0) -> Any:
    """Return the gradient of a scalar function, in the structure of `x`."""
    return resolve(backend).value_and_gradient_once(f, *arguments, wrt=wrt)[1]


def value_and_gradient(
    f: Function, *arguments: Any, backend: Backend = "tape", wrt: Positions = 0
) -> tuple[Any, Any]:
    """Return `f(x)` and its gradient, in the structure of `x`."""
    return resolve(backend).value_and_gradient_once(f, *arguments, wrt=wrt)


def jacobian(f: Function, *arguments: Any, backend: Backend = "tape", wrt: Positions = 0) -> Any:
    """Return the Jacobian: each leaf has the shape of the output, then the shape of `x`."""
    return resolve(backend).once(f, *arguments, wrt=wrt).jacobian(*arguments)


def hessian(f: Function, *arguments: Any, backend: Backend = "tape", wrt: Positions = 0) -> Any:
    """Return the Hessian of a scalar function: the structure of `x` nested twice."""
    return resolve(backend).once(f, *arguments, wrt=wrt).hessian(*arguments)


def jvp(
    f: Function,
    x: Any,
    tangent: Any,
    *rest: Any,
    value: bool = False,
    batched: bool = False,
    backend: Backend = "tape",
    wrt: Positions = 0,
) -> Any:
    """Return the derivative of `f` along `tangent`, in the structure of `f(x)`."""
    prepared = resolve(backend).once(f, x, *rest, wrt=wrt)
    return prepared.jvp(x, tangent, *rest, value=value, batched=batched)


def vjp(
    f: Function,
    x: Any,
    cotangent: Any,
    *rest: Any,
    value: bool = False,
    batched: bool = False,
    backend: Backend = "tape",
    wrt: Positions = 0,
) -> Any:
    """Return the pullback of `cotangent` (shaped like `f(x)`), in the structure of `x`."""
    prepared = resolve(backend).once(f, x, *rest, wrt=wrt)
    return prepared.vjp(x, cotangent, *rest, value=value, batched=batched)


def hvp(
    f: Function,
    x: Any,
    tangent: Any,
    *rest: Any,
    value: bool = False,
    batched: bool = False,
    backend: Backend = "tape",
    wrt: Positions = 0,
) -> Any:
    """Return the Hessian of a scalar function times `tangent`, in the structure of `x`."""
    prepared = resolve(backend).once(f, x, *rest, wrt=wrt)
    return prepared.hvp(x, tangent, *rest, value=value, batched=batched)
