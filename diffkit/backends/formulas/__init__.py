"""The closed forms that are shipped, each written out by hand.

`elementary` for NumPy's own functions, `networks` for activations, losses and
backpropagation, `problems` for the named problems.
"""

from __future__ import annotations

from diffkit.backends.formulas.elementary import ELEMENTARY
from diffkit.backends.formulas.forms import Forms, Function
from diffkit.backends.formulas.networks import (
    ACTIVATION_FORMS,
    LOSS_FORMS,
    activation_forms,
    loss_forms,
    network_loss_forms,
)
from diffkit.backends.formulas.problems import PROBLEM_FORMS
from diffkit.expressions import Expression
from diffkit.nn.activations import Activation
from diffkit.nn.losses import Loss
from diffkit.nn.penalties import Penalty

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
    if isinstance(f, Expression):
        return None if f.alone is None else shipped(f.alone)
    if isinstance(f, Activation):
        return activation_forms(f)
    if isinstance(f, Loss):
        return loss_forms(f)
    if isinstance(f, Penalty):
        return Forms(gradient=f.gradient)
    try:
        return next((table[f] for table in TABLES if f in table), None)
    except TypeError:  # a callable that cannot be hashed is in no table
        return None
