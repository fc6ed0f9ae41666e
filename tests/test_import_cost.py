"""`import diffkit` stays light: what is heavy loads when it is used."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("sympy", "mpmath", "flint", "matplotlib", "jinja2", "rich", "joblib", "scipy", "click")


def loaded_after(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint(*(name for name in {HEAVY!r} if name in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_importing_diffkit_loads_nothing_heavy() -> None:
    assert loaded_after("import diffkit") == set()


@pytest.mark.parametrize(
    ("code", "may_load"),
    [
        ("dk.gradient(np.sum, np.ones(3))", set()),
        ("dk.derivative(np.sin, 1.0, backend='finite')", set()),
        ("dk.derivative(np.sin, 1.0, backend='analytic')", set()),
        ("dk.derivative(np.sin, 1.0, backend='symbolic')", {"sympy", "mpmath", "flint"}),
        ("dk.parse('sin(x)')(1.0)", set()),
        ("dk.nn.iris()", set()),
    ],
    ids=["tape", "finite", "analytic", "symbolic", "parse", "data"],
)
def test_each_use_loads_what_it_needs(code: str, may_load: set[str]) -> None:
    loaded = loaded_after(f"import numpy as np, diffkit as dk\n{code}")
    assert loaded <= may_load, loaded
