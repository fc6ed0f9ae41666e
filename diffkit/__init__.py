"""Differentiate one function in four independent ways, and learn which result to trust.

Every name is loaded when it is first used, so that importing diffkit costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diffkit import nn, problems, training, truth
    from diffkit.backends.analytic import Analytic, register
    from diffkit.backends.finite import FiniteDifference
    from diffkit.backends.symbolic import Symbolic
    from diffkit.backends.tape import Tape
    from diffkit.comparison import Comparison, Swell, compare, measure_swell
    from diffkit.errors import (
        DatasetError,
        DiffkitError,
        DiffkitWarning,
        ExpressionTooLarge,
        InvalidInput,
        InvalidOutput,
        KinkWarning,
        NoClosedForm,
        NonFiniteDerivative,
        NotAnalytic,
        ParseError,
        RoundingWarning,
        StepWarning,
        TracingError,
        TruthUnavailable,
        UnderflowWarning,
        UnsupportedOperation,
    )
    from diffkit.expressions import Expression, from_sympy, parse
    from diffkit.graphs import ComputationalGraph, computational_graph
    from diffkit.interface import Cost, Differentiator, Estimate, Prepared
    from diffkit.operators import (
        derivative,
        gradient,
        hessian,
        hvp,
        jacobian,
        jvp,
        prepare,
        value_and_gradient,
        vjp,
    )
    from diffkit.reporting.build import report
    from diffkit.reporting.graph_drawing import draw
    from diffkit.reporting.swell import draw_swell
    from diffkit.tracing import Graph, trace
    from diffkit.validation import Validation, validate

__version__ = "0.1.0"

__all__ = [
    "Analytic",
    "Comparison",
    "ComputationalGraph",
    "Cost",
    "DatasetError",
    "Differentiator",
    "DiffkitError",
    "DiffkitWarning",
    "Estimate",
    "Expression",
    "ExpressionTooLarge",
    "FiniteDifference",
    "Graph",
    "InvalidInput",
    "InvalidOutput",
    "KinkWarning",
    "NoClosedForm",
    "NonFiniteDerivative",
    "NotAnalytic",
    "ParseError",
    "Prepared",
    "RoundingWarning",
    "StepWarning",
    "Swell",
    "Symbolic",
    "Tape",
    "TracingError",
    "TruthUnavailable",
    "UnderflowWarning",
    "UnsupportedOperation",
    "Validation",
    "__version__",
    "compare",
    "computational_graph",
    "derivative",
    "draw",
    "draw_swell",
    "from_sympy",
    "gradient",
    "hessian",
    "hvp",
    "jacobian",
    "jvp",
    "measure_swell",
    "nn",
    "parse",
    "prepare",
    "problems",
    "register",
    "report",
    "trace",
    "training",
    "truth",
    "validate",
    "value_and_gradient",
    "vjp",
]

_CONTENTS = {
    "backends.analytic": ("Analytic", "register"),
    "backends.finite": ("FiniteDifference",),
    "backends.symbolic": ("Symbolic",),
    "backends.tape": ("Tape",),
    "comparison": ("Comparison", "Swell", "compare", "measure_swell"),
    "errors": (
        "DatasetError",
        "DiffkitError",
        "DiffkitWarning",
        "ExpressionTooLarge",
        "InvalidInput",
        "InvalidOutput",
        "KinkWarning",
        "NoClosedForm",
        "NonFiniteDerivative",
        "NotAnalytic",
        "ParseError",
        "RoundingWarning",
        "StepWarning",
        "TracingError",
        "TruthUnavailable",
        "UnderflowWarning",
        "UnsupportedOperation",
    ),
    "expressions": ("Expression", "from_sympy", "parse"),
    "graphs": ("ComputationalGraph", "computational_graph"),
    "interface": ("Cost", "Differentiator", "Estimate", "Prepared"),
    "operators": (
        "derivative",
        "gradient",
        "hessian",
        "hvp",
        "jacobian",
        "jvp",
        "prepare",
        "value_and_gradient",
        "vjp",
    ),
    "reporting.build": ("report",),
    "reporting.graph_drawing": ("draw",),
    "reporting.swell": ("draw_swell",),
    "tracing": ("Graph", "trace"),
    "validation": ("Validation", "validate"),
}
_HOMES = {name: module for module, names in _CONTENTS.items() for name in names}
_MODULES = frozenset({"nn", "problems", "training", "truth"})


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
