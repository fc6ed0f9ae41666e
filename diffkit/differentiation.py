"""`differentiate`: the derivative of a formula by several backends, side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations_with_replacement
from typing import Any

import numpy as np

from diffkit.backends import BACKENDS
from diffkit.display import Display, Displayed, to_json
from diffkit.errors import DiffkitError, InvalidInput
from diffkit.expressions import Expression
from diffkit.operators import derivative, gradient, hessian, prepare

Compute = Callable[[str], dict[str, float]]


@dataclass(frozen=True)
class Derivative:
    """What one backend says: a number for every entry, or why it refuses."""

    backend: str
    entries: dict[str, float] | None
    error: str | None = None


@dataclass(frozen=True)
class Derivatives(Displayed):
    """The derivative of a formula at a point, by each backend.

    Attributes:
        expression: the formula.
        at: the value of each variable.
        order: 1, 2, ...
        results: one per backend. Entries are named `d/dx`, `d^2/dx^2`, `d^2/dx dy`.
        latex: the LaTeX source of each entry, if it was asked for.
        domain: the conditions under which that formula holds.
    """

    expression: str
    at: dict[str, float]
    order: int
    results: tuple[Derivative, ...]
    latex: dict[str, str] | None = None
    domain: tuple[str, ...] = ()

    @property
    def refused(self) -> bool:
        """Whether no backend has an answer."""
        return all(result.entries is None for result in self.results)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def to_json(self) -> str:
        return to_json(self.to_dict())

    def _display(self) -> Display:
        point = ", ".join(f"{name} = {value!r}" for name, value in self.at.items())
        names = next((list(r.entries) for r in self.results if r.entries is not None), [])
        rows = [
            (name, *("-" if r.entries is None else repr(r.entries[name]) for r in self.results))
            for name in names
        ]
        formulas = [f"{name} = {latex}" for name, latex in (self.latex or {}).items()]
        domain = [f"This formula holds where {' and '.join(self.domain)}."] if self.domain else []
        refusals = [f"{r.backend} refuses: {r.error}" for r in self.results if r.error]
        return Display(
            (f"{self.expression} at {point}",),
            ("", *(result.backend for result in self.results)),
            tuple(rows),
            (*formulas, *domain, *refusals),
        )


def differentiate(
    expression: Expression,
    at: Mapping[str, float],
    *,
    backends: Sequence[str] = tuple(BACKENDS),
    order: int = 1,
    wrt: str | None = None,
    latex: bool = False,
) -> Derivatives:
    """Return the derivative of `expression` at a point, by each of `backends`.

    Args:
        expression: from `parse` or `from_sympy`.
        at: a value for every variable.
        backends: names. A backend that refuses is reported, not raised.
        order: of the derivative. With several variables and no `wrt`, 1 is the gradient and 2
            the Hessian.
        wrt: the variable to differentiate by, the others held fixed; by default all.
        latex: give the formula too, from the symbolic backend.

    Raises:
        InvalidInput: a variable or the formula has no value there, or the order makes no sense.
        DiffkitError: the formula was asked for and cannot be given.
    """
    variables = expression.variables
    if missing := [name for name in variables if name not in at]:
        raise InvalidInput(f"no value for {', '.join(missing)} of {expression.text}")
    if not variables:
        raise InvalidInput(f"{expression.text} has no variable to differentiate by")
    point = {name: float(at[name]) for name in variables}
    value = expression(point if len(point) > 1 else point[variables[0]])
    if not np.isfinite(value):
        raise InvalidInput(f"{expression.text} is {value} there, and so has no derivative")
    single = wrt if wrt is not None else variables[0] if len(variables) == 1 else None
    if single is None and order > 2:
        raise InvalidInput(f"order {order} needs one variable to differentiate by: name it by wrt")
    compute = (
        _of_one(expression, point, single, order) if single else _of_all(expression, point, order)
    )
    formulas, domain = _formulas(expression, point, single, order) if latex else (None, ())
    results = tuple(_attempt(compute, backend) for backend in backends)
    return Derivatives(expression.text, point, order, results, formulas, domain)


def _attempt(compute: Compute, backend: str) -> Derivative:
    try:
        return Derivative(backend, compute(backend))
    except DiffkitError as error:
        return Derivative(backend, None, " ".join(str(error).split()))


def _of_one(expression: Expression, point: dict[str, float], name: str, order: int) -> Compute:
    others = {other: value for other, value in point.items() if other != name}
    # A formula of one variable stays itself, so that a closed form for it can be found.
    f, data = (expression.along(name), (others,)) if others else (expression, ())

    def compute(backend: str) -> dict[str, float]:
        value = derivative(f, point[name], *data, order=order, backend=backend)
        return {_label([name] * order): float(value)}

    return compute


def _of_all(expression: Expression, point: dict[str, float], order: int) -> Compute:
    def by_gradient(backend: str) -> dict[str, float]:
        values = gradient(expression, point, backend=backend)
        return {_label([name]): float(values[name]) for name in point}

    def by_hessian(backend: str) -> dict[str, float]:
        values = hessian(expression, point, backend=backend)
        pairs = combinations_with_replacement(point, 2)
        return {_label([a, b]): float(values[a][b]) for a, b in pairs}

    return by_gradient if order == 1 else by_hessian


def _formulas(
    expression: Expression, point: dict[str, float], single: str | None, order: int
) -> tuple[dict[str, str], tuple[str, ...]]:
    """The LaTeX of each entry, and where it holds. Names are kept by passing a dict."""
    import sympy

    def f(x: dict[str, Any]) -> Any:
        return expression(x if len(point) > 1 else x[next(iter(point))])

    prepared: Any = prepare(f, point, backend="symbolic")
    gradients = prepared.expression
    formulas = {}
    for names in combinations_with_replacement([single] if single else list(point), order):
        formula = sympy.sympify(gradients[names[0]])
        symbols = {symbol.name: symbol for symbol in formula.free_symbols}
        for name in names[1:]:
            formula = sympy.diff(formula, symbols.get(name, sympy.Symbol(name)))
        formulas[_label(names)] = sympy.latex(formula)
    return formulas, tuple(
        str(c.expression if c.expected else sympy.Not(c.expression)) for c in prepared.domain
    )


def _label(names: Sequence[str]) -> str:
    """`d/dx`, `d^2/dx^2`, `d^2/dx dy`."""
    power = "" if len(names) == 1 else f"^{len(names)}"
    if len(set(names)) == 1:
        return f"d{power}/d{names[0]}{power}"
    return f"d{power}/{' '.join(f'd{name}' for name in names)}"
