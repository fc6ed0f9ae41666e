"""Special functions in generated source: SymPy's, as SciPy computes them.

SciPy is used where the differentiated function has imported it, and only there.
"""

# SymPy looks printing methods up by the names of its classes.
# ruff: noqa: N802

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from diffkit.errors import UnsupportedOperation


class SpecialFunctions:
    """Gives a printer the special functions, as attributes of the name `special`."""

    _print: Callable[[Any], str]

    def _special(self, name: str, *arguments: Any) -> str:
        return f"special.{name}({', '.join(self._print(a) for a in arguments)})"

    def _print_erf(self, expr: Any) -> str:
        return self._special("erf", *expr.args)

    def _print_erfc(self, expr: Any) -> str:
        return self._special("erfc", *expr.args)

    def _print_erfi(self, expr: Any) -> str:
        return self._special("erfi", *expr.args)

    def _print_erfinv(self, expr: Any) -> str:
        return self._special("erfinv", *expr.args)

    def _print_erfcinv(self, expr: Any) -> str:
        return self._special("erfcinv", *expr.args)

    def _print_gamma(self, expr: Any) -> str:
        return self._special("gamma", *expr.args)

    def _print_loggamma(self, expr: Any) -> str:
        return self._special("gammaln", *expr.args)

    def _print_digamma(self, expr: Any) -> str:
        return self._special("digamma", *expr.args)

    def _print_polygamma(self, expr: Any) -> str:
        return f"{self._special('polygamma', *expr.args)}[()]"

    def _print_lowergamma(self, expr: Any) -> str:
        a, x = expr.args
        return f"({self._special('gammainc', a, x)}*{self._special('gamma', a)})"

    def _print_uppergamma(self, expr: Any) -> str:
        a, x = expr.args
        return f"({self._special('gammaincc', a, x)}*{self._special('gamma', a)})"

    def _print_besselj(self, expr: Any) -> str:
        return self._special("jv", *expr.args)

    def _print_bessely(self, expr: Any) -> str:
        return self._special("yv", *expr.args)

    def _print_besseli(self, expr: Any) -> str:
        return self._special("iv", *expr.args)

    def _print_besselk(self, expr: Any) -> str:
        return self._special("kv", *expr.args)

    def _print_Ei(self, expr: Any) -> str:
        return self._special("expi", *expr.args)

    def _print_expint(self, expr: Any) -> str:
        return self._special("expn", *expr.args)


class Special:
    """What the name `special` stands for in generated source: scipy.special, once imported."""

    def __getattr__(self, name: str) -> Any:
        module = sys.modules.get("scipy.special")
        if module is None:
            raise UnsupportedOperation(
                f"the derivative contains scipy.special.{name}, which NumPy cannot compute; "
                "import scipy.special, or use backend='tape'"
            )
        return getattr(module, name)
