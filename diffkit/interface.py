"""The one interface of all backends: a `Differentiator` prepares, a `Prepared` differentiates.

A backend implements as few of the underscored hooks of `Prepared` as it likes (at least one
of `_jvp`, `_vjp`, `_jacobian`); every public operator, its checks and its conventions live
here, once. Hooks work on *leaves*: plain lists of arrays in the order of a `Layout`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from diffkit.assembly import (
    assembled,
    assembled_batch,
    assembled_blocks,
    batch_leaves,
    by_columns,
    by_rows,
    contracted,
    direction_leaves,
    non_finite,
    not_finite,
    one_by_one,
    transposed,
)
from diffkit.errors import InvalidInput, InvalidOutput, UnsupportedOperation
from diffkit.plateaus import jump, warn_of_steps
from diffkit.structure import Layout, Leaves
from diffkit.target import (
    Function,
    Output,
    Point,
    Target,
    point_of,
    warn_of_reservation,
    with_x_first,
)


@dataclass(frozen=True)
class Estimate:
    """A derivative with what is known of its error.

    Attributes:
        value: the gradient (scalar `f`) or Jacobian, as the operator returns it.
        error: an estimate (not a bound) of the absolute error of each entry, in the same
            structure; None where the method makes none.
        evaluations: how many times `f` was called.
        status: `converged`, `noisy`, `kink`, `domain` or `unresolved` for each entry name.
        truncation: the part of the error that is due to steps that are not zero; None if unknown.
        roundoff: the part that is due to rounding or noise in `f`; None if unknown.
    """

    value: Any
    error: Any
    evaluations: int
    status: dict[str, str] = field(default_factory=dict)
    truncation: Any = None
    roundoff: Any = None


@dataclass(frozen=True)
class Cost:
    """What the calls of a prepared derivative have cost so far.

    Attributes:
        evaluations: calls of `f` as a black box.
        operations: elementary operations (graph nodes, or operations of the compiled
            expression) that one derivative takes; None where the method cannot tell.
    """

    evaluations: int = 0
    operations: int | None = None


class Differentiator(ABC):
    """A way to differentiate: a small frozen configuration that prepares functions."""

    name: ClassVar[str]

    @abstractmethod
    def bind(self, target: Target, point: Point) -> Prepared:
        """Do the reusable work for `target` at points laid out like `point`."""

    def prepare(self, f: Function, *arguments: Any, wrt: int | tuple[int, ...] = 0) -> Prepared:
        """Return a `Prepared` for `f` at the given positional arguments (`x`, then data).

        Raises:
            InvalidInput: `f` is not callable, or `x` is not made of real numbers.
        """
        return self.bind(*self._target_and_point(f, arguments, wrt))

    def once(self, f: Function, *arguments: Any, wrt: int | tuple[int, ...] = 0) -> Prepared:
        """Return a `Prepared` good for one call of an operator, at these very arguments."""
        return self.prepare(f, *arguments, wrt=wrt)

    def value_and_gradient_once(
        self, f: Function, *arguments: Any, wrt: int | tuple[int, ...] = 0
    ) -> tuple[Any, Any]:
        """Return `f(x)` and its gradient, for one call at these very arguments."""
        return self.once(f, *arguments, wrt=wrt).value_and_gradient(*arguments)

    @staticmethod
    def _target_and_point(
        f: Function, arguments: tuple[Any, ...], wrt: int | tuple[int, ...]
    ) -> tuple[Target, Point]:
        if not callable(f):
            raise InvalidInput(
                f"the function to differentiate is of type {type(f).__name__}, not callable; "
                "for a text use dk.parse, for a SymPy expression dk.from_sympy"
            )
        if not arguments:
            raise InvalidInput("no point to differentiate at: pass x after the function")
        warn_of_reservation(f)
        target = Target(f, wrt)
        return target, point_of(target, arguments)


class Prepared:
    """A function made ready for differentiation by one backend.

    Every operator takes the positional arguments of `f` (the point, then the data) and may be
    called any number of times, at any point. A point of another shape is prepared anew.
    """

    _looked_for_steps = False

    def __init__(self, differentiator: Differentiator, target: Target) -> None:
        self.differentiator = differentiator
        self.target = target

    # ------------------------------------------------------------------ hooks of a backend

    def _value(self, point: Point) -> Output:
        """`f` itself."""
        return self.target.evaluate(point.layout, point.leaves, point.data)

    def _jvp(self, point: Point, tangents: Leaves) -> tuple[Output, Leaves]:
        """The value, and the derivative of `f` along `tangents` (leaves of the output)."""
        output, blocks = self._jacobian(point)
        return output, contracted(blocks, tangents, output.layout)

    def _vjp(self, point: Point, cotangents: Callable[[Output], Leaves]) -> tuple[Output, Leaves]:
        """The value, and the pullback (leaves of `x`) of the cotangent chosen for the value."""
        output, blocks = self._jacobian(point)
        turned = transposed(blocks, output.layout, point.layout)
        return output, contracted(turned, cotangents(output), point.layout)

    def _jacobian(self, point: Point) -> tuple[Output, list[Leaves]]:
        """The value, and for each leaf of the output one block per leaf of `x`.

        A block has the shape of the output's leaf followed by the shape of the leaf of `x`.
        """
        output = self._value(point)
        if self._overrides("_vjp"):
            return output, by_rows(output, point.layout, lambda w: self._vjp(point, lambda _: w)[1])
        if self._overrides("_jvp"):
            return output, by_columns(output, point.layout, lambda v: self._jvp(point, v)[1])
        raise UnsupportedOperation(
            f"{type(self).__name__} implements none of _jvp, _vjp and _jacobian"
        )

    def _gradient(self, point: Point) -> tuple[Output, Leaves]:
        """The value and the gradient of a function with one number as its value."""
        if not self._overrides("_vjp"):
            output, jacobian = self._jacobian(point)
            self._require_scalar(output)
            return output, jacobian[0]

        def one(output: Output) -> Leaves:
            self._require_scalar(output)
            return [np.ones((), output.layout.leaves[0].dtype)]

        return self._vjp(point, one)

    def _hvp(self, point: Point, tangents: Leaves) -> tuple[Output, Leaves]:
        """The value, and the Hessian times `tangents`."""
        if not self._overrides("_hessian"):
            nested = self._gradient_function(point)
            _, product = nested._jvp(point, tangents)
            return self._value(point), product
        output, blocks = self._hessian(point)
        return output, contracted(blocks, tangents, point.layout)

    def _jvps(self, point: Point, tangents: Leaves) -> tuple[Output, Leaves]:
        """`_jvp` for several tangents, batched along a leading axis, as is the result."""
        return one_by_one(lambda tangent: self._jvp(point, tangent), tangents)

    def _vjps(self, point: Point, cotangents: Leaves) -> tuple[Output, Leaves]:
        """`_vjp` for several cotangents."""
        return one_by_one(lambda weights: self._vjp(point, lambda _: weights), cotangents)

    def _hvps(self, point: Point, tangents: Leaves) -> tuple[Output, Leaves]:
        """`_hvp` for several tangents."""
        return one_by_one(lambda tangent: self._hvp(point, tangent), tangents)

    def _hessian(self, point: Point) -> tuple[Output, list[Leaves]]:
        """The value, and for each leaf of `x` one block per leaf of `x`."""
        nested = self._gradient_function(point)
        _, blocks = nested._jacobian(point)
        return self._value(point), blocks

    def _derivative(self, point: Point, order: int) -> tuple[Output, Leaves]:
        """The value, and the `order`-th derivative by a scalar `x` (leaves of the output)."""
        if order == 1:
            return self._jvp(point, [np.ones((), point.layout.leaves[0].dtype)])

        def lower(x: Any, *data: Any) -> Any:
            prepared = self.differentiator.once(with_x_first(self.target), x, *data)
            return prepared.derivative(x, *data, order=order - 1)

        lower.__qualname__ = f"the derivative of {self.target.name}"
        nested = self._bind(Target(lower), point)
        _, leaves = nested._derivative(point, 1)
        return self._value(point), leaves

    def _steps(self, point: Point, output: Output, leaf: int) -> str:
        """The steps by which alone `f` depends on a leaf with gradient 0; empty if there are none.

        Found by values, along one path. A method that sees the operations of `f` knows better.
        """
        return jump(self.target, point, output, leaf)

    def _estimate(self, point: Point) -> Estimate:
        """The derivative with its error."""
        value = self._public_derivative(point)
        return Estimate(value, None, self.cost.evaluations)

    # ------------------------------------------------------------------ what the user calls

    @property
    def cost(self) -> Cost:
        """What the calls so far have cost."""
        return Cost()

    def value(self, *arguments: Any) -> Any:
        """Return `f` at the point, in `f`'s own structure."""
        return self._value(self._point(arguments)).value

    def derivative(self, *arguments: Any, order: int = 1) -> Any:
        """Return the derivative by a scalar `x`, in the structure and shape of `f(x)`.

        Raises:
            InvalidInput: `x` is not a scalar, or `order` not a positive integer.
            NonFiniteDerivative: an entry is infinite or NaN.
        """
        if isinstance(order, bool) or not isinstance(order, int) or order < 1:
            raise InvalidInput(f"order={order!r} must be a positive integer")
        point = self._point(arguments)
        if not point.layout.is_scalar:
            raise InvalidInput(
                "derivative takes a function of one number, and x is "
                f"{point.layout.summary()}; use gradient or jacobian"
            )
        output, leaves = self._derivative(point, order)
        return self._finite(output, *assembled(leaves, output.layout))

    def gradient(self, *arguments: Any) -> Any:
        """Return the gradient of a scalar function, in the structure of `x`.

        Raises:
            InvalidOutput: `f(x)` is not a single number.
            NonFiniteDerivative: an entry is infinite or NaN.

        Warns:
            StepWarning: a leaf has gradient 0 because `f` is constant in it but for jumps.
        """
        return self.value_and_gradient(*arguments)[1]

    def value_and_gradient(self, *arguments: Any) -> tuple[Any, Any]:
        """Return `f(x)` and its gradient, in the structure of `x`."""
        point = self._point(arguments)
        output, leaves = self._gradient(point)
        self._require_scalar(output)
        gradient = self._finite(output, *assembled(leaves, point.layout))
        if not self._looked_for_steps:
            self._looked_for_steps = warn_of_steps(
                self.target, point, leaves, lambda i: self._steps(point, output, i)
            )
        return output.value, gradient

    def jacobian(self, *arguments: Any) -> Any:
        """Return the Jacobian: in the structure of `f(x)`, for each leaf, the structure of `x`.

        The array for a leaf of `f(x)` and a leaf of `x` has the two shapes one after the other.
        """
        point = self._point(arguments)
        output, blocks = self._jacobian(point)
        return self._finite(output, *assembled_blocks(blocks, output.layout, point.layout))

    def hessian(self, *arguments: Any) -> Any:
        """Return the Hessian of a scalar function: the structure of `x` nested twice."""
        point = self._point(arguments)
        output, blocks = self._hessian(point)
        self._require_scalar(output)
        return self._finite(output, *assembled_blocks(blocks, point.layout, point.layout, order=2))

    def jvp(
        self, x: Any, tangent: Any, *rest: Any, value: bool = False, batched: bool = False
    ) -> Any:
        """Return the derivative along `tangent` (in the structure of `x`), shaped like `f(x)`.

        Args:
            x: the first positional argument of `f`.
            tangent: the direction; with `batched`, each leaf has one more leading axis.
            rest: the further positional arguments of `f`.
            value: return the pair (f(x), product).
            batched: map over the leading axis of the tangent.
        """
        point = self._point((x, *rest))
        if batched:
            output, result = self._jvps(point, batch_leaves(tangent, point.layout, "tangent"))
        else:
            output, result = self._jvp(point, direction_leaves(tangent, point.layout, "tangent"))
        return self._product(output, result, output.layout, value, batched)

    def vjp(
        self, x: Any, cotangent: Any, *rest: Any, value: bool = False, batched: bool = False
    ) -> Any:
        """Return the pullback of `cotangent` (in the structure of `f(x)`), shaped like `x`.

        The other arguments are those of `jvp`.
        """
        point = self._point((x, *rest))
        if batched:
            layout = self._value(point).layout
            output, result = self._vjps(point, batch_leaves(cotangent, layout, "cotangent"))
        else:
            output, result = self._vjp(
                point, lambda output: direction_leaves(cotangent, output.layout, "cotangent")
            )
        return self._product(output, result, point.layout, value, batched)

    def hvp(
        self, x: Any, tangent: Any, *rest: Any, value: bool = False, batched: bool = False
    ) -> Any:
        """Return the Hessian of a scalar function times `tangent`, shaped like `x`.

        The other arguments are those of `jvp`.
        """
        point = self._point((x, *rest))
        if batched:
            output, result = self._hvps(point, batch_leaves(tangent, point.layout, "tangent"))
        else:
            output, result = self._hvp(point, direction_leaves(tangent, point.layout, "tangent"))
        self._require_scalar(output)
        return self._product(output, result, point.layout, value, batched)

    def estimate(self, *arguments: Any) -> Estimate:
        """Return the gradient (scalar `f`) or Jacobian with its error estimate and status."""
        return self._estimate(self._point(arguments))

    # ------------------------------------------------------------------ shared machinery

    def _overrides(self, hook: str) -> bool:
        return getattr(type(self), hook) is not getattr(Prepared, hook)

    def _point(self, arguments: tuple[Any, ...]) -> Point:
        if not arguments:
            raise InvalidInput("no point to differentiate at: pass x")
        return point_of(self.target, arguments)

    def _bind(self, target: Target, point: Point) -> Prepared:
        """Another function prepared by the same differentiator."""
        return self.differentiator.bind(target, point)

    def _require_scalar(self, output: Output) -> None:
        if not output.layout.is_scalar:
            raise InvalidOutput(
                f"{self.target.name} must return one number here, and returned "
                f"{output.layout.summary()}; use jacobian, or reduce it to a number"
            )

    def _public_derivative(self, point: Point) -> Any:
        """The gradient where `f` is scalar, else the Jacobian, as the user sees them."""
        output, blocks = self._jacobian(point)
        if output.layout.is_scalar:
            return self._finite(output, *assembled(blocks[0], point.layout))
        return self._finite(output, *assembled_blocks(blocks, output.layout, point.layout))

    def _gradient_function(self, point: Point) -> Prepared:
        """The gradient, itself prepared as a function of `x` by the same differentiator."""
        function = with_x_first(self.target)

        def gradient(x: Any, *data: Any) -> Any:
            return self.differentiator.once(function, x, *data).gradient(x, *data)

        vars(gradient)["__wrapped__"] = self.target.f
        return self._bind(Target(gradient), point)

    def _finite(self, output: Output, derivative: Any, bad: list[str]) -> Any:
        """The derivative, if every entry of it and of `f(x)` is finite.

        Raises:
            NonFiniteDerivative: one is not. Where `f` itself is not finite a formula for its
                derivative may well give a number (1/x for log x at x = -1), and it is wrong.
        """
        undefined = not_finite(output.leaves, output.layout)
        if undefined or bad:
            name, method = self.target.name, self.differentiator.name
            raise non_finite(name, method, bad or undefined, derivative)
        return derivative

    def _product(
        self, output: Output, leaves: Leaves, layout: Layout, value: bool, batched: bool
    ) -> Any:
        if batched:
            product = self._finite(output, *assembled_batch(leaves, layout))
        else:
            product = self._finite(output, *assembled(leaves, layout))
        return (output.value, product) if value else product
