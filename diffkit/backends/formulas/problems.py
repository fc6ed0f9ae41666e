"""Closed forms of the named problems, which carry their own hand-written derivatives."""

from __future__ import annotations

from diffkit.backends.formulas.forms import Forms, Function
from diffkit.problems import PROBLEMS

PROBLEM_FORMS: dict[Function, Forms] = {
    problem.f: Forms(
        derivatives=problem.derivatives,
        gradient=problem.gradient,
        jacobian=problem.jacobian,
        hessian=problem.hessian,
    )
    for problem in PROBLEMS.values()
}
