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

from diffkit.errors import (
    InvalidInput,
    InvalidOutput,
    NonFiniteDerivative,
    TracingError,
    UnsupportedOperation,
)
from diffkit.structure import Layout, Leaves, concrete, flatten, is_traced, map_leaves

Function = Callable[..., Any]


@dataclass(frozen=True)
class Output:
    """What `f` returned, as leaves."""

    layout: Layout
    leaves: Leaves

    @property
    def value(self) -> Any:
        return self.layout.restore(self.leaves)


@dataclass(frozen=True)
class Point:
    """Where to differentiate: the leaves of `x`, and the data that go with it."""

    layout: Layout
    leaves: Leaves
    data: tuple[Any, ...]

    @property
    def x(self) -> Any:
        return self.layout.restore(self.leaves)


@dataclass(frozen=True)
class Estimate:
    """A derivative with what is known of its error.

    Attributes:
        value: the gradient (scalar `f`) or Jacobian, as the operator returns it.
        error: an estimate (not a bound) of the absolute error of each entry, in the same
            structure; None where the method is exact up to rounding.
        evaluations: how many times `f` was called.
        status: `converged`, `noisy`, `kink`, `domain` or `unresolved` for each entry name.
    """

    value: Any
    error: Any
    evaluations: int
    status: dict[str, str] = field(default_factory=dict)


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


@dataclass(frozen=True)
class Target:
    """`f`, and which of its positional arguments are differentiated.

    Attributes:
        f: the user's function.
        wrt: the position, or the positions, of the differentiated arguments. With several,
            `x` is the tuple of them.
    """

    f: Function
    wrt: int | tuple[int, ...] = 0

    @property
    def name(self) -> str:
        return str(getattr(self.f, "__name__", None) or type(self.f).__name__)

    def split(self, arguments: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...]]:
        """Part the positional arguments into `x` and the data."""
        positions = (self.wrt,) if isinstance(self.wrt, int) else self.wrt
        if not positions or not all(0 <= i < len(arguments) for i in positions):
            raise InvalidInput(
                f"wrt={self.wrt!r} does not name positional arguments of {self.name}, which was "
                f"given {len(arguments)}"
            )
        chosen = tuple(arguments[i] for i in positions)
        data = tuple(a for i, a in enumerate(arguments) if i not in positions)
        return (chosen[0] if isinstance(self.wrt, int) else chosen), data

    def call(self, x: Any, data: tuple[Any, ...]) -> Any:
        """Call `f` with `x` and the data back in their places."""
        if self.wrt == 0:
            return self.f(x, *data)
        chosen = {self.wrt: x} if isinstance(self.wrt, int) else dict(zip(self.wrt, x, strict=True))
        rest = iter(data)
        count = len(chosen) + len(data)
        return self.f(*(chosen[i] if i in chosen else next(rest) for i in range(count)))

    def evaluate(self, layout: Layout, leaves: Leaves, data: tuple[Any, ...]) -> Output:
        """Call `f` as a black box, on fresh copies of the leaves and read-only data."""
        x = layout.restore(leaves)
        try:
            result = self.call(x, tuple(map_leaves(_read_only, item) for item in data))
        except ValueError as error:
            if "read-only" not in str(error) or not data:
                raise
            raise InvalidInput(
                f"{self.name} writes into one of its data arguments; let it work on a copy"
            ) from error
        return self.output(result)

    def output(self, result: Any) -> Output:
        """Part what `f` returned into leaves.

        Raises:
            InvalidOutput: it is None, complex, or not made of numbers.
        """
        if result is None:
            raise InvalidOutput(f"{self.name} returned None; does it lack a return statement?")
        layout, leaves = flatten(
            result, f"{self.name}(x)", promote_integers=True, error=InvalidOutput
        )
        return Output(layout, leaves)


class Differentiator(ABC):
    """A way to differentiate: a small frozen configuration that prepares functions."""

    name: ClassVar[str]

    @abstractmethod
    def bind(self, target: Target, point: Point) -> Prepared:
        """Do the reusable work for `target` at points laid out like `point`."""

    def prepare(
        self, f: Function, *arguments: Any, wrt: int | tuple[int, ...] = 0
    ) -> Prepared:
        """Return a `Prepared` for `f` at the given positional arguments (`x`, then data).

        Raises:
            InvalidInput: `f` is not callable, or `x` is not made of real numbers.
        """
        if not callable(f):
            raise InvalidInput(
                f"the function to differentiate is of type {type(f).__name__}, not callable; "
                "for a text use dk.parse, for a SymPy expression dk.from_sympy"
            )
        if not arguments:
            raise InvalidInput("no point to differentiate at: pass x after the function")
        target = Target(f, wrt)
        return self.bind(target, point_of(target, arguments))


def point_of(target: Target, arguments: tuple[Any, ...]) -> Point:
    """Check the positional arguments and part them into leaves and data.

    Raises:
        InvalidInput: `x` is complex, not a number, or not finite.
    """
    x, data = target.split(arguments)
    layout, leaves = flatten(x, "x")
    for leaf, array in zip(layout.leaves, leaves, strict=True):
        finite = np.isfinite(concrete(array))
        if not np.all(finite):
            where = leaf.entry_name(int(np.argmin(finite)))
            raise InvalidInput(f"{where} is not finite; there is no derivative there")
    return Point(layout, leaves, data)


class Prepared(ABC):
    """A function made ready for differentiation by one backend.

    Every operator takes the positional arguments of `f` (the point, then the data) and may be
    called any number of times, at any point. A point of another shape is prepared anew.
    """

    def __init__(self, differentiator: Differentiator, target: Target) -> None:
        self.differentiator = differentiator
        self.target = target

    # ------------------------------------------------------------------ hooks of a backend

    def _value(self, point: Point) -> Output:
        """`f` itself."""
        return self.target.evaluate(point.layout, point.leaves, point.data)

    def _jvp(self, point: Point, tangents: Leaves) -> tuple[Output, Leaves]:
        """The value, and the derivative of `f` along `tangents` (leaves of the output)."""
        output, jacobian = self._jacobian(point)
        return output, [
            sum(
                (np.tensordot(block, v, np.ndim(v)) for block, v in zip(row, tangents, strict=True)),
                start=np.zeros(leaf.shape, leaf.dtype),
            )
            for row, leaf in zip(jacobian, output.layout.leaves, strict=True)
        ]

    def _vjp(
        self, point: Point, cotangents: Callable[[Output], Leaves]
    ) -> tuple[Output, Leaves]:
        """The value, and the pullback (leaves of `x`) of the cotangent chosen for the value."""
        output, jacobian = self._jacobian(point)
        weights = cotangents(output)
        return output, [
            sum(
                (
                    np.tensordot(w, row[k], np.ndim(w))
                    for row, w in zip(jacobian, weights, strict=True)
                ),
                start=np.zeros(leaf.shape, leaf.dtype),
            )
            for k, leaf in enumerate(point.layout.leaves)
        ]

    def _jacobian(self, point: Point) -> tuple[Output, list[Leaves]]:
        """The value, and for each leaf of the output one block per leaf of `x`.

        A block has the shape of the output's leaf followed by the shape of the leaf of `x`.
        """
        if self._overrides("_vjp"):
            return self._rows(
                self._value(point), point, lambda w: self._vjp(point, lambda _: w)[1]
            )
        if self._overrides("_jvp"):
            return self._columns(
                self._value(point), point, lambda v: self._jvp(point, v)[1]
            )
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
        output, hessian = self._hessian(point)
        return output, [
            sum(
                (np.tensordot(block, v, np.ndim(v)) for block, v in zip(row, tangents, strict=True)),
                start=np.zeros(leaf.shape, leaf.dtype),
            )
            for row, leaf in zip(hessian, point.layout.leaves, strict=True)
        ]

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
            prepared = self.differentiator.prepare(_with_x_first(self.target), x, *data)
            return prepared.derivative(x, *data, order=order - 1)

        nested = self.differentiator.bind(Target(lower), point)
        _, leaves = nested._derivative(point, 1)
        return self._value(point), leaves

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
        return self._result(leaves, output.layout)

    def gradient(self, *arguments: Any) -> Any:
        """Return the gradient of a scalar function, in the structure of `x`.

        Raises:
            InvalidOutput: `f(x)` is not a single number.
            NonFiniteDerivative: an entry is infinite or NaN.
        """
        return self.value_and_gradient(*arguments)[1]

    def value_and_gradient(self, *arguments: Any) -> tuple[Any, Any]:
        """Return `f(x)` and its gradient, in the structure of `x`."""
        point = self._point(arguments)
        output, leaves = self._gradient(point)
        self._require_scalar(output)
        return output.value, self._result(leaves, point.layout)

    def jacobian(self, *arguments: Any) -> Any:
        """Return the Jacobian: in the structure of `f(x)`, for each leaf, the structure of `x`.

        The array for a leaf of `f(x)` and a leaf of `x` has the two shapes one after the other.
        """
        point = self._point(arguments)
        output, blocks = self._jacobian(point)
        return self._blocks(blocks, output.layout, point.layout)

    def hessian(self, *arguments: Any) -> Any:
        """Return the Hessian of a scalar function: the structure of `x` nested twice."""
        point = self._point(arguments)
        output, blocks = self._hessian(point)
        self._require_scalar(output)
        return self._blocks(blocks, point.layout, point.layout)

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

        def product(leaves: Leaves) -> tuple[Output, Leaves]:
            return self._jvp(point, leaves)

        output, result = _mapped(product, tangent, point.layout, "tangent", batched)
        return self._product(output, result, output.layout, value, batched)

    def vjp(
        self, x: Any, cotangent: Any, *rest: Any, value: bool = False, batched: bool = False
    ) -> Any:
        """Return the pullback of `cotangent` (in the structure of `f(x)`), shaped like `x`.

        The other arguments are those of `jvp`.
        """
        point = self._point((x, *rest))
        layout = self._value(point).layout

        def product(leaves: Leaves) -> tuple[Output, Leaves]:
            return self._vjp(point, lambda _: leaves)

        output, result = _mapped(product, cotangent, layout, "cotangent", batched)
        return self._product(output, result, point.layout, value, batched)

    def hvp(
        self, x: Any, tangent: Any, *rest: Any, value: bool = False, batched: bool = False
    ) -> Any:
        """Return the Hessian of a scalar function times `tangent`, shaped like `x`.

        The other arguments are those of `jvp`.
        """
        point = self._point((x, *rest))

        def product(leaves: Leaves) -> tuple[Output, Leaves]:
            output, leaves = self._hvp(point, leaves)
            self._require_scalar(output)
            return output, leaves

        output, result = _mapped(product, tangent, point.layout, "tangent", batched)
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
            return self._result(blocks[0], point.layout)
        return self._blocks(blocks, output.layout, point.layout)

    def _gradient_function(self, point: Point) -> Prepared:
        """The gradient, itself prepared as a function of `x` by the same differentiator."""
        function = _with_x_first(self.target)

        def gradient(x: Any, *data: Any) -> Any:
            return self.differentiator.prepare(function, x, *data).gradient(x, *data)

        return self.differentiator.bind(Target(gradient), point)

    def _rows(
        self, output: Output, point: Point, pull: Callable[[Leaves], Leaves]
    ) -> tuple[Output, list[Leaves]]:
        """The Jacobian from one pullback per entry of the output."""
        rows = [pull(unit) for unit in output.layout.units()]
        blocks: list[Leaves] = []
        start = 0
        for leaf in output.layout.leaves:
            part = rows[start : start + leaf.size]
            start += leaf.size
            blocks.append(
                [
                    np.reshape(_stack([row[k] for row in part], x.shape, x.dtype), leaf.shape + x.shape)
                    for k, x in enumerate(point.layout.leaves)
                ]
            )
        return output, blocks

    def _columns(
        self, output: Output, point: Point, push: Callable[[Leaves], Leaves]
    ) -> tuple[Output, list[Leaves]]:
        """The Jacobian from one forward product per entry of `x`."""
        columns = [push(unit) for unit in point.layout.units()]
        blocks: list[Leaves] = []
        for j, leaf in enumerate(output.layout.leaves):
            start, row = 0, []
            for x in point.layout.leaves:
                part = [column[j] for column in columns[start : start + x.size]]
                start += x.size
                stacked = _stack(part, leaf.shape, leaf.dtype)
                row.append(np.reshape(np.moveaxis(stacked, 0, -1), leaf.shape + x.shape))
            blocks.append(row)
        return output, blocks

    def _result(self, leaves: Leaves, layout: Layout) -> Any:
        """The leaves in the user's structure and dtypes, if they are all finite."""
        value = layout.restore(leaves)
        bad = [
            leaf.entry_name(int(i))
            for leaf, array in zip(layout.leaves, layout.cast(leaves), strict=True)
            for i in np.flatnonzero(~np.isfinite(np.asarray(concrete(array))))
        ]
        if bad:
            raise _non_finite(self.target, self.differentiator, bad, value)
        return value

    def _blocks(self, blocks: list[Leaves], rows: Layout, columns: Layout) -> Any:
        bad: list[str] = []
        members = []
        for row_leaf, row in zip(rows.leaves, blocks, strict=True):
            cast: Leaves = []
            for column_leaf, block in zip(columns.leaves, row, strict=True):
                if is_traced(block):
                    cast.append(block)
                    continue
                array = np.array(block, column_leaf.dtype)
                for i in np.flatnonzero(~np.isfinite(array)):
                    r, c = divmod(int(i), column_leaf.size)
                    bad.append(f"d {row_leaf.entry_name(r)} / d {column_leaf.entry_name(c)}")
                scalar = row_leaf.scalar and column_leaf.scalar
                cast.append(array[()] if scalar else array)
            members.append(columns.unflatten(cast))
        value = rows.unflatten(members)
        if bad:
            raise _non_finite(self.target, self.differentiator, bad, value)
        return value

    def _product(
        self, output: Output, leaves: Leaves, layout: Layout, value: bool, batched: bool
    ) -> Any:
        if batched:
            product = layout.unflatten(
                [
                    array if is_traced(array) else array.astype(leaf.dtype)
                    for array, leaf in zip(leaves, layout.leaves, strict=True)
                ]
            )
        else:
            product = self._result(leaves, layout)
        return (output.value, product) if value else product


def _with_x_first(target: Target) -> Function:
    """`f` as a function of `x` and the data, whatever `wrt` is."""

    def function(x: Any, *data: Any) -> Any:
        return target.call(x, data)

    function.__name__ = target.name
    return function


def _mapped(
    product: Callable[[Leaves], tuple[Output, Leaves]],
    direction: Any,
    layout: Layout,
    role: str,
    batched: bool,
) -> tuple[Output, Leaves]:
    """Apply `product` to one direction, or to each along the leading axis of its leaves."""
    if not batched:
        return product(_direction(direction, layout, role))
    _, leaves = flatten(direction, role, promote_integers=True)
    lengths = {np.shape(leaf)[:1] for leaf in leaves}
    if len(lengths) != 1 or () in lengths:
        raise InvalidInput(f"a batched {role} needs the same leading axis on every leaf")
    count = lengths.pop()[0]
    if not count:
        raise InvalidInput(f"a batched {role} needs at least one entry along its leading axis")
    results = [
        product(_direction(layout.unflatten([leaf[i] for leaf in leaves]), layout, role))
        for i in range(count)
    ]
    return results[0][0], [np.stack(parts) for parts in zip(*(r for _, r in results), strict=True)]


def _direction(direction: Any, layout: Layout, role: str) -> Leaves:
    """The leaves of a tangent or cotangent, in the dtypes of the space it belongs to."""
    leaves = layout.flatten(direction, role)
    for expected, leaf in zip(layout.leaves, leaves, strict=True):
        if not np.all(np.isfinite(concrete(leaf))):
            raise InvalidInput(f"the {role} for {expected.name} is not finite")
    return [
        leaf if is_traced(leaf) else leaf.astype(expected.dtype)
        for leaf, expected in zip(leaves, layout.leaves, strict=True)
    ]


def _non_finite(
    target: Target, differentiator: Differentiator, bad: list[str], value: Any
) -> NonFiniteDerivative:
    shown = ", ".join(bad[:5]) + (f" and {len(bad) - 5} more" if len(bad) > 5 else "")
    return NonFiniteDerivative(
        f"the derivative of {target.name} by {differentiator.name} is not finite at {shown}; "
        "the function has no finite derivative there or overflows (the other entries are in "
        "this error's .value)",
        value,
        bad,
    )


def _stack(parts: list[Any], shape: tuple[int, ...], dtype: Any) -> Any:
    return np.stack(parts) if parts else np.zeros((0, *shape), dtype)


def _read_only(value: Any) -> Any:
    if not isinstance(value, np.ndarray):
        return value
    view = value.view()
    view.flags.writeable = False
    return view


def require_plain(point: Point, backend: str) -> None:
    """Refuse a traced point, for backends that cannot be nested inside a derivative.

    Raises:
        TracingError: a leaf of the point is a traced value.
    """
    if any(is_traced(leaf) for leaf in point.leaves):
        raise TracingError(
            f"the {backend} backend was called on a value that is being traced; inside a "
            "differentiated function use backend='tape'"
        )
