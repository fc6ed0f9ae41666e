"""The analytic backend: looks a function up among closed forms, and evaluates those."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar, overload

import numpy as np

from diffkit.backends.formulas import shipped
from diffkit.backends.formulas.forms import Forms
from diffkit.errors import InvalidInput, InvalidOutput, NoClosedForm
from diffkit.interface import Cost, Differentiator, Prepared
from diffkit.structure import Layout, Leaves, flatten, is_traced
from diffkit.target import Function, Output, Point, Target

_F = TypeVar("_F", bound=Function)
_Key = tuple[int, ...]

REGISTERED: dict[_Key, tuple[Function, Forms]] = {}
"""What users registered, by identity. The function is kept, so that its identity is."""


@overload
def register(
    f: _F,
    /,
    *,
    derivative: Function | Sequence[Function] | None = None,
    gradient: Function | None = None,
    jacobian: Function | None = None,
    hessian: Function | None = None,
) -> _F: ...


@overload
def register(
    f: None = None,
    /,
    *,
    derivative: Function | Sequence[Function] | None = None,
    gradient: Function | None = None,
    jacobian: Function | None = None,
    hessian: Function | None = None,
) -> Callable[[_F], _F]: ...


def register(
    f: Function | None = None,
    /,
    *,
    derivative: Function | Sequence[Function] | None = None,
    gradient: Function | None = None,
    jacobian: Function | None = None,
    hessian: Function | None = None,
) -> Any:
    """Register closed forms of `f` for the analytic backend, and return `f`.

    Without `f`, returns a decorator. Registering a function again replaces its forms. Every
    form is called with f's own positional arguments and speaks of the first of them, x.

    Args:
        f: the function, known from then on by its identity (a bound method: by its owner's).
        derivative: f' by a scalar x, in the shape of f(x); or the sequence f', f'', ...
        gradient: of a scalar f, in the structure of x.
        jacobian: in the structure of f(x) with that of x within; the shape of an array is
            that of f(x) followed by that of x.
        hessian: of a scalar f: the structure of x nested twice in the same way.

    Raises:
        InvalidInput: nothing is registered, or something that is not callable.
    """
    derivatives = _sequence(derivative)
    forms = Forms(derivatives, gradient, jacobian, hessian)
    given = (*derivatives, *(form for form in (gradient, jacobian, hessian) if form is not None))
    if not given:
        raise InvalidInput(
            "nothing to register: give at least one of derivative=, gradient=, jacobian= and "
            "hessian="
        )
    for form in given:
        _require_callable(form, "a closed form")

    def decorate(function: Any) -> Any:
        _require_callable(function, "the function to register a closed form for")
        REGISTERED[_key(function)] = (function, forms)
        return function

    return decorate if f is None else decorate(f)


def closed_forms(f: Function) -> Forms | None:
    """Return the closed forms known for `f`: the user's own first, then those shipped."""
    entry = REGISTERED.get(_key(f))
    return entry[1] if entry else shipped(f)


@dataclass(frozen=True)
class Analytic(Differentiator):
    """Differentiates by closed forms: those shipped, and those given to `register`."""

    name: ClassVar[str] = "analytic"

    def bind(self, target: Target, point: Point) -> Prepared:
        """Look `target` up.

        Raises:
            NoClosedForm: none is known, or `wrt` is not the first argument.
        """
        if target.wrt != 0:
            raise NoClosedForm(
                f"closed forms of {target.name} speak of its first argument, and wrt="
                f"{target.wrt!r} asks for another; register a function that takes it first, or "
                "use backend='tape'"
            )
        forms = closed_forms(target.f)
        if forms is None:
            raise NoClosedForm(
                f"no closed form is known for {target.name}; register one with "
                "dk.register(f, derivative=...) (or gradient=, jacobian=, "
                "hessian=), or use backend='tape'"
            )
        return AnalyticPrepared(self, target, forms)


class AnalyticPrepared(Prepared):
    """A function with its closed forms. Each operator follows from the forms there are."""

    def __init__(self, differentiator: Differentiator, target: Target, forms: Forms) -> None:
        super().__init__(differentiator, target)
        self.forms = forms
        self._evaluations = 0

    @property
    def cost(self) -> Cost:
        return Cost(evaluations=self._evaluations)

    def _value(self, point: Point) -> Output:
        self._evaluations += 1
        return _evaluate(self.target, point)

    def _jvp(self, point: Point, tangents: Leaves) -> tuple[Output, Leaves]:
        if not self._is_elementwise(point):
            return super()._jvp(point, tangents)
        output = self._value(point)
        return output, [self._slope(point, output, 1) * tangents[0]]

    def _vjp(self, point: Point, cotangents: Callable[[Output], Leaves]) -> tuple[Output, Leaves]:
        if not self._is_elementwise(point):
            return super()._vjp(point, cotangents)
        output = self._value(point)
        return output, [cotangents(output)[0] * self._slope(point, output, 1)]

    def _gradient(self, point: Point) -> tuple[Output, Leaves]:
        if self.forms.gradient is None:
            return super()._gradient(point)
        output = self._value(point)
        self._require_scalar(output)
        return output, self._form(self.forms.gradient, "gradient", point, point.layout)

    def _jacobian(self, point: Point) -> tuple[Output, list[Leaves]]:
        if self.forms.jacobian is not None:
            output = self._value(point)
            layout = _nested(output.layout, point.layout)
            leaves = self._form(self.forms.jacobian, "jacobian", point, layout)
            return output, _rows(leaves, output.layout, point.layout)
        if self.forms.gradient is not None:
            output, leaves = self._gradient(point)
            return output, [leaves]
        if self._is_elementwise(point):
            output = self._value(point)
            return output, [[_diagonal(self._slope(point, output, 1))]]
        if self.forms.derivatives and point.layout.is_scalar:
            output = self._value(point)
            leaves = self._form(self.forms.derivatives[0], "derivative", point, output.layout)
            return output, [[leaf] for leaf in leaves]
        raise self._missing("the derivative", self._wanted_first_order(point))

    def _hessian(self, point: Point) -> tuple[Output, list[Leaves]]:
        output = self._value(point)
        self._require_scalar(output)
        if self.forms.hessian is not None:
            layout = _nested(point.layout, point.layout)
            leaves = self._form(self.forms.hessian, "hessian", point, layout)
            return output, _rows(leaves, point.layout, point.layout)
        if point.layout.is_scalar and len(self.forms.derivatives) > 1:
            return output, [[self._slope(point, output, 2)]]
        raise self._missing("the Hessian", "hessian=...")

    def _derivative(self, point: Point, order: int) -> tuple[Output, Leaves]:
        if order <= len(self.forms.derivatives):
            output = self._value(point)
            form = self.forms.derivatives[order - 1]
            return output, self._form(form, "derivative", point, output.layout)
        if order == 1:
            return super()._derivative(point, 1)
        if order == 2 and self.forms.hessian is not None:
            output, blocks = self._hessian(point)
            return output, blocks[0]
        sequence = ", ".join("f" + "'" * k for k in range(1, order + 1))
        raise self._missing(f"the derivative of order {order}", f"derivative=({sequence})")

    def _is_elementwise(self, point: Point) -> bool:
        return self.forms.elementwise and point.layout.is_single

    def _slope(self, point: Point, output: Output, order: int) -> Any:
        form = self.forms.derivatives[order - 1]
        return self._form(form, "derivative", point, output.layout)[0]

    def _form(self, form: Function, keyword: str, point: Point, layout: Layout) -> Leaves:
        """The leaves of what a closed form returns, which must be laid out like `layout`.

        Whatever is not finite is reported by the operators, so NumPy need not warn of it.
        """
        role = f"the {keyword}= form of {self.target.name}"
        try:
            with np.errstate(all="ignore"):
                output = _evaluate(Target(form), point)
        except InvalidOutput as error:
            raise InvalidOutput(f"{role}: {error}") from error
        _require_layout(output.layout, layout, role)
        return output.leaves

    def _wanted_first_order(self, point: Point) -> str:
        if point.layout.is_scalar:
            return "derivative=..."
        return "gradient=... (if it returns one number) or jacobian=..."

    def _missing(self, wanted: str, keyword: str) -> NoClosedForm:
        return NoClosedForm(
            f"the closed forms known for {self.target.name} do not give {wanted} here; register "
            f"it with dk.register(f, {keyword}), or use backend='tape'"
        )


def _evaluate(target: Target, point: Point) -> Output:
    """The value of a function at a point: on fresh copies, unless the point is traced."""
    if any(is_traced(leaf) for leaf in point.leaves):
        return target.output(target.call(point.x, point.data))
    return target.evaluate(point.layout, point.leaves, point.data)


def _nested(rows: Layout, columns: Layout) -> Layout:
    """The layout of a derivative: that of `columns` within each leaf of `rows`."""
    template = rows.unflatten(
        [
            columns.unflatten(
                [np.broadcast_to(0.0, row.shape + column.shape) for column in columns.leaves]
            )
            for row in rows.leaves
        ]
    )
    return flatten(template)[0]


def _require_layout(got: Layout, expected: Layout, role: str) -> None:
    if got.nesting != expected.nesting:
        raise InvalidOutput(
            f"{role} returned {got.summary()}, nested differently from the expected "
            f"{expected.summary()}"
        )
    for mine, theirs in zip(got.leaves, expected.leaves, strict=True):
        if mine.shape != theirs.shape:
            raise InvalidOutput(
                f"{role} returned an array of shape {mine.shape} where {theirs.name} needs "
                f"shape {theirs.shape}"
            )


def _rows(leaves: Leaves, rows: Layout, columns: Layout) -> list[Leaves]:
    width = len(columns.leaves)
    return [leaves[i * width : (i + 1) * width] for i in range(len(rows.leaves))]


def _diagonal(slope: Any) -> Any:
    """The Jacobian of an elementwise function from the derivative at each entry."""
    shape = np.shape(slope)
    size = int(np.prod(shape))
    return np.reshape(np.eye(size) * np.reshape(slope, (1, size)), shape + shape)


def _sequence(derivative: Function | Sequence[Function] | None) -> tuple[Any, ...]:
    if derivative is None:
        return ()
    return tuple(derivative) if isinstance(derivative, (tuple, list)) else (derivative,)


def _key(f: Function) -> _Key:
    """What a function is known by: itself, or owner and function if it is a bound method."""
    function = getattr(f, "__func__", None)
    return (id(f),) if function is None else (id(getattr(f, "__self__", None)), id(function))


def _require_callable(value: Any, role: str) -> None:
    if not callable(value):
        raise InvalidInput(f"{role} must be callable, and is of type {type(value).__name__}")
