"""The closed forms that are shipped, each written out by hand.

`elementary` for NumPy's own functions, `networks` for activations, losses and
backpropagation, `problems` for the named problems.
"""

from __future__ import annotations

from diffkit.backends.formulas.elementary import ELEMENTARY
from diffkit.backends.formulas.forms import Forms, Function
from diffkit.backends.formulas.networks import ACTIVATION_FORMS, LOSS_FORMS, network_loss_forms
from diffkit.backends.formulas.problems import PROBLEM_FORMS

TABLES: tuple[dict[Function, Forms], ...] = (
    ELEMENTARY,
    ACTIVATION_FORMS,
    LOSS_FORMS,
    PROBLEM_FORMS,
)


def shipped(f: Function) -> Forms | None:
    """Return the closed forms shipped for `f`, if there are any."""
    owner, function = getattr(f, "__self__", None), getattr(f, "__func__", None)
    if function is not None:
        return network_loss_forms(owner, function)
    try:
        return next((table[f] for table in TABLES if f in table), None)
    except TypeError:  # a callable that cannot be hashed is in no table
        return None
