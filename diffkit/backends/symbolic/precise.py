"""Entries of a derivative to all digits: the same program in as high a precision as it takes.

This module imports SymPy and mpmath; import it inside functions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import mpmath
import numpy as np

from diffkit.backends.symbolic.languages import MpmathCode
from diffkit.tracing.shared_expressions import Expression, Symbol

DIGITS: Final = (40, 80, 160, 320, 640, 1280)
SETTLED: Final = 2.0**-70  # relative error at which an entry is taken
WRITTEN: Final = 40  # decimal digits of an entry that is rounded to longdouble
LARGEST_EXPONENT: Final = 1e9  # of e: what is larger is infinite in every floating dtype

Place = tuple[int, int]


class PreciseProgram:
    """The entries of a derivative in arbitrary precision, with their rounding errors.

    Args:
        definitions: what the entries and errors share, each after those that it refers to.
        entries: the entries, by row and column.
        errors: their errors, in units of the last place of 1.
        groups: the symbols that are read, group by group.

    Raises:
        UnsupportedOperation: mpmath has no counterpart of a function in it.
    """

    def __init__(
        self,
        definitions: Mapping[Symbol, Expression],
        entries: Mapping[Place, Expression],
        errors: Sequence[Expression],
        groups: Mapping[str, Sequence[Symbol]],
    ) -> None:
        names = {s: f"{g}[{i}]" for g, symbols in groups.items() for i, s in enumerate(symbols)}
        names |= {symbol: f"v{i}" for i, symbol in enumerate(definitions)}
        printer = MpmathCode(names)
        lines = [
            f"    {names[symbol]} = known(lambda: {printer.code(definition)})"
            for symbol, definition in definitions.items()
        ]
        self._places = list(entries)
        values, bounds = (
            "".join(f"known(lambda: {printer.code(e)}), " for e in part)
            for part in (entries.values(), errors)
        )
        header = f"def program({', '.join(groups)}, known, mpmath):"
        source = "\n".join([header, *lines, f"    return ({values}), ({bounds})"])
        namespace: dict[str, Any] = {}
        exec(compile(source, "<diffkit symbolic>", "exec"), namespace)
        self._program: Callable[..., tuple[Any, Any]] = namespace["program"]

    def entries(
        self, places: Iterable[Place], dtype: np.dtype[Any], *groups: Sequence[Any]
    ) -> dict[Place, Any]:
        """Return entries rounded in a dtype, the values of the symbols given group by group.

        Those are missing that are no real numbers, or need more digits than can be afforded.
        """
        settled: dict[Place, Any] = {}
        waiting = dict.fromkeys(places)
        for digits in DIGITS:
            context = _context(digits)
            values, errors = self._run(context, groups)
            found = dict(zip(self._places, zip(values, errors, strict=True), strict=True))
            for place in list(waiting):
                if _is_settled(context, *found[place], dtype):
                    settled[place] = _rounded(context, found[place][0], dtype)
                    del waiting[place]
            if not waiting or not all(context.isfinite(found[place][0]) for place in waiting):
                break
        return settled

    def _run(self, context: Any, groups: Sequence[Sequence[Any]]) -> tuple[Any, Any]:
        def known(compute: Callable[[], Any]) -> Any:
            try:
                value = context.convert(compute())
            except (ArithmeticError, ValueError, TypeError, NotImplementedError):
                return context.nan
            return value if isinstance(value, context.mpf) else context.nan

        given = [[_exact(context, value) for value in group] for group in groups]
        return self._program(*given, known, context)


def _context(digits: int) -> Any:
    """mpmath with so many digits, its exponentials bounded: larger ones would fill the memory."""
    context = mpmath.mp.clone()
    context.dps = digits
    plain = context.exp

    def exp(x: Any) -> Any:
        return plain(x) if abs(x) < LARGEST_EXPONENT else context.inf if x > 0 else context.zero

    context.exp = exp
    return context


def _exact(context: Any, value: Any) -> Any:
    """A floating-point number, exactly."""
    if isinstance(value, np.longdouble):
        numerator, denominator = value.as_integer_ratio()
        return context.mpf(numerator) / denominator
    return context.mpf(float(value))


def _is_settled(context: Any, value: Any, error: Any, dtype: np.dtype[Any]) -> bool:
    """Whether rounding has left the digits of a value, or the value is 0 in the dtype."""
    if not (context.isfinite(value) and context.isfinite(error)):
        return False
    uncertain = 4 * error * context.eps
    smallest = context.mpf(2) ** (np.finfo(dtype).minexp - 2 * np.finfo(dtype).nmant)
    return bool(uncertain <= SETTLED * abs(value) or max(uncertain, abs(value)) < smallest)


def _rounded(context: Any, value: Any, dtype: np.dtype[Any]) -> Any:
    if dtype == np.longdouble:
        return np.longdouble(context.nstr(value, WRITTEN))
    return dtype.type(float(value))
