"""The symbolic backend: SymPy expressions of `f`, differentiated by SymPy and compiled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from diffkit.backends.symbolic.prepared import SymbolicPrepared
from diffkit.errors import InvalidInput
from diffkit.interface import Differentiator
from diffkit.target import Point, Target, require_plain

FORMS: Final = ("shared", "expanded", "array")
SIMPLIFICATIONS: Final = ("none", "together", "factor", "full")


@dataclass(frozen=True)
class Symbolic(Differentiator):
    """Differentiates by SymPy, on the expressions that `f` computed.

    The function is traced and becomes a program of SymPy expressions, and SymPy takes its
    derivatives, in one of three forms:

    - `shared`: symbols stand for single numbers. Each operation is differentiated by
      `sympy.diff`, and the derivatives are chained with everything shared, so that they stay a
      few times as large as the function.
    - `array`: the same with symbols for whole arrays, so that size does not matter. Products,
      sums and movements of entries follow the product rule in index notation.
    - `expanded`: the textbook. Each entry of the derivative is one closed expression; it swells,
      may lose digits where the function loses none (1 - tanh(x)²), and fills removable
      singularities as SymPy does (sqrt(x)² becomes x). Branches and steps are differentiated as in
      the shared form, then written out.

    Where terms cancel, the scalar forms notice: they follow the rounding of what they compute, up
    to `scalar_derivation.LONGEST_FOLLOWED` operations, and compute an entry again from the same
    formula in as high a precision as it takes. (Called by the fast way, a long expanded derivative
    looks at its last sums alone.) The array form holds the first derivative of each kind against
    longdouble, and what rests on LAPACK against a point rounded otherwise; if digits are lost, a
    function that is small enough is left to the shared form, else `RoundingWarning` is given. What
    is lost at a later point, or in longdouble as well, only `estimate` and another form can tell.

    Each is compiled to straight-line NumPy, and what is asked for again to one function from the
    arguments to the result. Where the outcome of a branch changes, the function is traced and
    derived anew.

    In the scalar forms the mean loss of a `diffkit.nn.Network` over a batch is derived for one
    sample, features and target as symbols, evaluated over the rows of the batch and averaged.

    Attributes:
        max_operations: how many operations a derivative may have, as a program and, for
            `expression` and the expanded form, written out; beyond it `ExpressionTooLarge` is
            raised.
        form: `shared`, `array`, `expanded`, or None: expanded for polynomials of a few
            operations, which lose no digits by it, array for large functions of arrays and for
            matrices that are solved or factored, else shared.
        simplify: `none`, `together`, `factor` or `full`: how SymPy simplifies `expression`,
            `latex()`, and in the expanded form what is computed.
        max_seconds: how long that may take; then `ExpressionTooLarge` is raised.
        max_bytes: how much memory it may take.
        refine: whether rounding is looked after in this way, which costs some milliseconds where
            terms cancel; without it a form shows what it loses.
    """

    name: ClassVar[str] = "symbolic"

    max_operations: int = 100_000
    form: str | None = None
    simplify: str = "none"
    max_seconds: float = 60.0
    max_bytes: int = 2**32
    refine: bool = True

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
        if not isinstance(self.max_bytes, int) or not self.max_bytes > 0:
            raise InvalidInput(f"max_bytes={self.max_bytes!r} must be a positive integer")
        if not isinstance(self.refine, bool):
            raise InvalidInput(f"refine={self.refine!r} must be True or False")

    def bind(self, target: Target, point: Point) -> SymbolicPrepared:
        require_plain(point, self.name)
        prepared = SymbolicPrepared(self, target)
        prepared.record(point)
        return prepared
