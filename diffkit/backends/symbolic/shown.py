"""What can be looked at of a symbolic derivative: expressions, their source, where they hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from diffkit.backends.symbolic.samples import is_mean, is_network_loss, rows
from diffkit.errors import InvalidInput, UnsupportedOperation
from diffkit.interface import Prepared

if TYPE_CHECKING:
    from diffkit.backends.symbolic.program import Recorded
    from diffkit.backends.symbolic.scalar_form import ScalarForm
    from diffkit.tracing.to_sympy import Condition


class Shown(Prepared):
    """A prepared function with its programs, of which the one used last is shown."""

    _programs: list[Recorded]
    _by_sample: bool | None

    @property
    def form(self) -> str:
        """The form of the program used last: `shared`, `expanded` or `array`."""
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
    def _shown(self) -> ScalarForm:
        """The scalar form that is looked at: of one sample where there is a mean over several."""
        from diffkit.backends.symbolic.program import sample_of

        latest, point = self._latest, self._latest.course.point
        if self._by_sample or not is_network_loss(self.target) or not is_mean(self.target, point):
            return latest.scalar
        return sample_of(latest, rows(point)[0])

    @property
    def function_expression(self) -> Any:
        """`f` as SymPy expressions, in the structure of its value.

        Of the mean loss of a network it is the loss of one sample.

        Raises:
            ExpressionTooLarge: written out, it would exceed the budget.
        """
        shown = self._shown
        return shown.shown_function(shown.function_entries())

    @property
    def expression(self) -> Any:
        """The gradient (scalar `f`, in the structure of `x`) or Jacobian as SymPy expressions.

        An array is an `ImmutableDenseNDimArray`. `constants` tells what the symbols stand for
        that are no entries of `x`, and `domain` where the expression holds.

        Raises:
            ExpressionTooLarge: written out, it would exceed the budget.
        """
        shown = self._shown
        return shown.shown_derivative(shown.derivative_entries())

    def latex(self) -> str:
        """Return the LaTeX source of `expression`, one line per array of a nested structure."""
        from diffkit.backends.symbolic.display import latex

        return latex(self.expression)

    def source(self, language: str = "python", *, order: int = 1) -> str:
        """Return the program of a derivative, as the form used last computes it.

        It is a function `derivative` of x, and of b where there are data or constants: the
        entries of `x` in order, and the values of `constants` in order. Python and C give a
        matrix with a row for each entry of the value (in C, row by row), LaTeX the entries that
        are not zero. Only generated names occur. The program holds in `domain`, which it does not
        check. In Python the array form is a function `program` of whole arrays, and gives the
        values, the gradient or the products with `m` directions, and what must differ; the other
        languages print the shared form. SciPy's functions are `special`'s.

        Args:
            language: `python` (NumPy), `mpmath`, `c` (C99), `latex` or `mathematica`.
            order: 1 for the gradient or Jacobian; by a scalar `x` that of the derivative, and of
                a scalar function of several entries 2 for the Hessian.

        Raises:
            InvalidInput: the language is another, or there is no such order here.
            UnsupportedOperation: it has no counterpart of an operation.
            ExpressionTooLarge: there is no shared form within the budget.
        """
        graph = self._latest.course.graph
        by_number, scalar = graph.layout.is_scalar, graph.output_layout.is_scalar
        if isinstance(order, bool) or not isinstance(order, int) or order < 1:
            raise InvalidInput(f"order={order!r} must be a positive integer")
        if order > 1 and not by_number and not (order == 2 and scalar):
            raise InvalidInput(
                f"order={order}: only a derivative by one number, and the Hessian of a scalar "
                "function as order 2, have a program"
            )
        array = self._latest.array
        if array is not None and language == "python":
            return array.source(order)
        what = "jacobian" if order == 1 else f"derivative {order}" if by_number else "hessian"
        return self._shown.source(language, what)

    @property
    def constants(self) -> dict[Any, Any]:
        """What each symbol that is no entry of `x` stood for at the latest recording."""
        return self._shown.constants()

    @property
    def domain(self) -> list[Condition]:
        """The branches that `f` took; `expression` holds where they are taken again."""
        return self._shown.conditions()
