"""The symbolic backend: SymPy expressions of `f`, differentiated by SymPy and compiled."""

from __future__ import annotations

import sys
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np

from diffkit.errors import InvalidInput, UnsupportedOperation
from diffkit.interface import Cost, Differentiator, Prepared
from diffkit.structure import Layout, Leaves
from diffkit.target import Output, Point, Target, require_plain

if TYPE_CHECKING:
    from diffkit.backends.symbolic.code import Code
    from diffkit.backends.symbolic.program import Batch, Recorded
    from diffkit.tracing.to_sympy import Condition

PROGRAMS_KEPT: Final = 8
FORMS: Final = ("shared", "expanded")
SIMPLIFICATIONS: Final = ("none", "together", "factor", "full")


@dataclass(frozen=True)
class Symbolic(Differentiator):
    """Differentiates by SymPy, on the expressions that `f` computed.

    The function is traced and becomes a program of SymPy expressions, and SymPy takes its
    derivatives, in one of two forms:

    - `shared`: each operation is differentiated by `sympy.diff`, and the derivatives are chained
      with everything shared, so that they stay a few times as large as the function.
    - `expanded`: the textbook. Each entry of the derivative is one closed expression; it swells,
      may lose digits where the function loses none (1 - tanh(x)²), and fills removable
      singularities as SymPy does (sqrt(x)² becomes x). Branches and steps are differentiated as
      in the shared form, then written out.

    Either is compiled to straight-line NumPy. Where the outcome of a branch changes, the
    function is traced and derived anew.

    The mean loss of a `diffkit.nn.Network` over a batch is derived for one sample, features and
    target as symbols; it is evaluated over the rows of the batch and averaged.

    Attributes:
        max_operations: how many operations a derivative may have, as a program and, for
            `expression` and the expanded form, written out; beyond it `ExpressionTooLarge` is
            raised.
        form: `shared`, `expanded`, or None: expanded for polynomials of a few operations, which
            lose no digits by it, else shared.
        simplify: `none`, `together`, `factor` or `full`: how SymPy simplifies `expression`,
            `latex()`, and in the expanded form what is computed.
        max_seconds: how long that may take; then `ExpressionTooLarge` is raised.
    """

    name: ClassVar[str] = "symbolic"

    max_operations: int = 100_000
    form: str | None = None
    simplify: str = "none"
    max_seconds: float = 60.0

    def __post_init__(self) -> None:
        if isinstance(self.max_operations, bool) or not isinstance(self.max_operations, int):
            raise InvalidInput(f"max_operations={self.max_operations!r} must be an integer")
        if self.max_operations < 1:
            raise InvalidInput(f"max_operations={self.max_operations} must be positive")
        if self.form is not None and self.form not in FORMS:
            raise InvalidInput(f"form={self.form!r} must be None or one of {', '.join(FORMS)}")
        if self.simplify not in SIMPLIFICATIONS:
            options = ", ".join(SIMPLIFICATIONS)
            raise InvalidInput(f"simplify={self.simplify!r} must be one of {options}")
        if not isinstance(self.max_seconds, (int, float)) or not self.max_seconds > 0:
            raise InvalidInput(f"max_seconds={self.max_seconds!r} must be a positive number")

    def bind(self, target: Target, point: Point) -> SymbolicPrepared:
        require_plain(point, self.name)
        prepared = SymbolicPrepared(self, target)
        prepared.record(point)
        return prepared


class SymbolicPrepared(Prepared):
    """A function with its derivatives as expressions and as compiled code.

    Several threads may use it at once. It can be pickled if its function can; what was derived
    is left behind.
    """

    differentiator: Symbolic

    def __init__(self, differentiator: Symbolic, target: Target) -> None:
        super().__init__(differentiator, target)
        self._programs: list[Recorded] = []
        self._latest_code: Code | None = None
        self._evaluations = 0
        self._by_sample: bool | None = None
        self._keeping = threading.Lock()

    def __reduce__(self) -> Any:
        return type(self), (self.differentiator, self.target)

    def record(self, point: Point) -> None:
        """Have a program for the point; its derivatives follow when they are asked for."""
        self._batches(point)

    def _is_mean(self, point: Point) -> bool:
        """Whether the loss over the batch is the mean over its samples, as it should be."""
        samples = _rows(point)
        if len(samples) < 2:
            return False
        values = [self.target.call(sample.x, sample.data) for sample in samples]
        whole = np.asarray(self.target.call(point.x, point.data))
        return bool(np.isclose(np.mean(values), whole, rtol=np.sqrt(np.finfo(whole.dtype).eps)))

    # ------------------------------------------------------------------ hooks

    def _value(self, point: Point) -> Output:
        require_plain(point, "symbolic")
        with self._keeping:
            self._evaluations += 1
        return super()._value(point)

    def _jacobian(self, point: Point) -> tuple[Output, list[Leaves]]:
        output = self._value(point)
        matrix = self._evaluated(point, "jacobian", (output.layout.size, point.layout.size))
        _spoil_rows(matrix, output)
        return output, _blocks(matrix, output.layout, point.layout)

    def _gradient(self, point: Point) -> tuple[Output, Leaves]:
        output, blocks = self._jacobian(point)
        self._require_scalar(output)
        return output, blocks[0]

    def _hessian(self, point: Point) -> tuple[Output, list[Leaves]]:
        output = self._value(point)
        self._require_scalar(output)
        matrix = self._evaluated(point, "hessian", (point.layout.size, point.layout.size))
        if not np.all(np.isfinite(output.leaves[0])):
            matrix[...] = np.nan
        return output, _blocks(matrix, point.layout, point.layout)

    def _hvp(self, point: Point, tangents: Leaves) -> tuple[Output, Leaves]:
        output = self._value(point)
        self._require_scalar(output)
        product = self._evaluated(point, "hvp", (1, point.layout.size), tangents)
        _spoil_rows(product, output)
        return output, _blocks(product, output.layout, point.layout)[0]

    def _derivative(self, point: Point, order: int) -> tuple[Output, Leaves]:
        output = self._value(point)
        column = self._evaluated(point, f"derivative {order}", (output.layout.size, 1))
        _spoil_rows(column, output)
        return output, [row[0] for row in _blocks(column, output.layout, point.layout)]

    @property
    def cost(self) -> Cost:
        """The calls of `f`, and the operations of the code compiled last."""
        code = self._latest_code
        return Cost(self._evaluations, code.operations if code else None)

    # ------------------------------------------------------------------ evaluation

    def _evaluated(
        self, point: Point, what: str, shape: tuple[int, int], tangents: Leaves | None = None
    ) -> Any:
        """A derivative as a matrix, averaged over the samples where there are several."""
        require_plain(point, "symbolic")
        batches = self._batches(point)
        total: Any = None
        for batch in batches:
            matrix = batch.recorded.evaluated(what, shape, point.leaves, batch.bound, tangents)
            self._latest_code = batch.recorded.derived(what).code
            total = matrix if total is None else total + matrix
        count = sum(len(batch.bound) for batch in batches)
        return total if count == 1 else total / np.asarray(count, total.dtype)

    def _batches(self, point: Point) -> list[Batch]:
        """The points (one per sample) with the programs that hold there."""
        from diffkit.backends.symbolic.program import Recorded

        if self._by_sample is None:
            self._by_sample = _is_network_loss(self.target) and self._is_mean(point)
        waiting = _rows(point) if self._by_sample else [point]
        batches: list[Batch] = []
        for recorded in reversed(self._programs):
            batch, waiting = recorded.take(waiting)
            if batch.bound:
                batches.append(batch)
            if not waiting:
                break
        while waiting:
            recorded = Recorded(self.target, waiting[0], self.differentiator)
            batch, waiting = recorded.take(waiting)
            if not batch.bound:
                raise UnsupportedOperation(
                    f"{self.target.name} takes another course each time it is called; "
                    "it must depend on its arguments alone"
                )
            batches.append(batch)
        self._keep([batch.recorded for batch in batches])
        return batches

    def _keep(self, used: list[Recorded]) -> None:
        """Make programs the ones used last; those unused for longest leave."""
        with self._keeping:
            others = [program for program in self._programs if program not in used]
            self._programs = [*others, *used][-max(PROGRAMS_KEPT, len(used)) :]

    # ------------------------------------------------------------------ what can be looked at

    @property
    def form(self) -> str:
        """The form of the derivatives of the program used last: `shared` or `expanded`."""
        return self._latest.form

    @property
    def _latest(self) -> Recorded:
        """The program used last.

        Raises:
            UnsupportedOperation: there is none yet.
        """
        if not self._programs:
            raise UnsupportedOperation(
                f"nothing has been derived from {self.target.name} since it was unpickled; "
                "evaluate a derivative first"
            )
        return self._programs[-1]

    @property
    def function_expression(self) -> Any:
        """`f` as SymPy expressions, in the structure of its value.

        Of the mean loss of a network it is the loss of one sample.

        Raises:
            ExpressionTooLarge: written out, it would exceed the budget.
        """
        recorded = self._latest
        return recorded.shown_function(recorded.function_entries())

    @property
    def expression(self) -> Any:
        """The gradient (scalar `f`, in the structure of `x`) or Jacobian as SymPy expressions.

        An array is an `ImmutableDenseNDimArray`. `constants` tells what the symbols stand for
        that are no entries of `x`, and `domain` where the expression holds.

        Raises:
            ExpressionTooLarge: written out, it would exceed the budget.
        """
        recorded = self._latest
        return recorded.shown_derivative(recorded.derivative_entries())

    def latex(self) -> str:
        """Return the LaTeX source of `expression`, one line per array of a nested structure."""
        from diffkit.backends.symbolic.display import latex

        return latex(self.expression)

    def source(self, language: str = "python") -> str:
        """Return the program of the gradient or Jacobian, as the form used last computes it.

        It is a function `derivative` of x, and of b where there are data or constants: the
        entries of `x` in order, and the values of `constants` in order. Python and C give a
        matrix with a row for each entry of the value (in C, row by row), LaTeX the entries that
        are not zero. Only generated names occur. The program holds in `domain`, which it does not
        check.

        Args:
            language: `python` (NumPy), `c` (C99), `latex` or `mathematica`.

        Raises:
            InvalidInput: the language is another.
            UnsupportedOperation: it has no counterpart of an operation.
        """
        return self._latest.source(language)

    @property
    def constants(self) -> dict[Any, Any]:
        """What each symbol that is no entry of `x` stood for at the latest recording."""
        return self._latest.constants()

    @property
    def domain(self) -> list[Condition]:
        """The branches that `f` took; `expression` holds where they are taken again."""
        return self._latest.conditions()


def _is_network_loss(target: Target) -> bool:
    """Whether `target` is the bound method `loss` of a `Network`, by its parameters.

    Such a loss is a mean over the batch.
    """
    networks = sys.modules.get("diffkit.nn.network")  # no network exists before it is imported
    if networks is None or target.wrt != 0:
        return False
    return getattr(target.f, "__func__", None) is networks.Network.loss


def _rows(point: Point) -> list[Point]:
    """One point per sample of the data (features, targets)."""
    if len(point.data) != 2:
        return [point]
    X, y = point.data
    if np.ndim(X) != 2 or np.shape(y)[:1] != np.shape(X)[:1] or len(X) < 2:
        return [point]
    rows = ((X[i : i + 1], y[i : i + 1]) for i in range(len(X)))
    return [Point(point.layout, point.leaves, row) for row in rows]


def _spoil_rows(matrix: Any, output: Output) -> None:
    """Where `f` itself is not a number there is no derivative, whatever a formula says."""
    values = output.layout.ravel(output.leaves)
    matrix[~np.isfinite(values)] = np.nan


def _blocks(matrix: Any, rows: Layout, columns: Layout) -> list[Leaves]:
    """Cut a matrix into blocks: for each leaf of the rows, one per leaf of the columns."""
    blocks, top = [], 0
    for row in rows.leaves:
        part, left = [], 0
        for column in columns.leaves:
            block = matrix[top : top + row.size, left : left + column.size]
            part.append(block.reshape(row.shape + column.shape))
            left += column.size
        blocks.append(part)
        top += row.size
    return blocks
