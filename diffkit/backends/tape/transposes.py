"""Products of matrices that are only read transposed, computed transposed.

The pullback of a pullback of a product gives (V @ g.T).T where g @ V.T is meant: the same numbers,
and an array whose rows lie apart, which costs several times as much to add to another.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from diffkit.backends.tape.plan import Plan, Step
from diffkit.tracing.primitives import PRIMITIVES


def untransposed(plan: Plan) -> Plan:
    """The plan with each transpose of a product that nothing else reads moved into the product."""
    uses = plan.uses()
    steps: list[Step] = []
    place: dict[int, int] = {}

    def add(step: Step) -> int:
        steps.append(step)
        return len(steps) - 1

    def transposed(i: int, like: Step) -> int:
        source = steps[i]
        if _is_transpose(source):
            return source.inputs[0]
        turned = Step(PRIMITIVES["transpose"], (i,), {"axes": (1, 0)}, source.value.T, False)
        return add(turned._replace(origin=like.origin))

    for position, step in plan.enumerated():
        product = plan.steps[step.inputs[0]] if _is_transpose(step) else None
        if product is not None and uses[step.inputs[0]] == 1 and _is_product(product, plan):
            a, b = (transposed(place[i], step) for i in reversed(product.inputs))
            value = np.ascontiguousarray(step.value)
            place[position] = add(Step(product.primitive, (a, b), {}, value, False, step.origin))
        else:
            place[position] = add(step.on(tuple(place[i] for i in step.inputs)))
    follows = {place[i]: place[leader] for i, leader in plan.follows.items()}
    ties = {place[i]: None if g is None else place[g] for i, g in plan.ties.items()}
    return replace(plan.moved(steps, place), follows=follows, ties=ties)


def _is_transpose(step: Step) -> bool:
    if step.primitive is None or step.primitive.name != "transpose":
        return False
    return np.ndim(step.value) == 2 and step.static.get("axes") in (None, (1, 0))


def _is_product(step: Step, plan: Plan) -> bool:
    if step.primitive is None or step.primitive.name != "matmul":
        return False
    return all(np.ndim(plan.steps[i].value) == 2 for i in step.inputs)
