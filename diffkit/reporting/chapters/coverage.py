"""Chapter `coverage`: every function of NumPy and scipy.special, called and differentiated."""

from __future__ import annotations

import importlib
import importlib.util
import re
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import astuple, dataclass
from typing import Any, Final

import numpy as np

from diffkit import truth
from diffkit.errors import DiffkitError
from diffkit.operators import gradient
from diffkit.reporting.chapters.coverage_calls import CALLS, NOT_OF_VALUES, TEMPLATES
from diffkit.reporting.page import Chapter, Section, Table, command

NAME: Final = "coverage"
MODULES: Final = ("numpy", "numpy.linalg", "numpy.fft", "scipy.special")
QUICK: Final = ("numpy.linalg", "numpy.fft")
DISPATCHED: Final = (np.ufunc, type(np.sum))  # what hands traced arrays on to the tracer
STEP: Final = 1e-6
TOLERANCE: Final = 1e-5  # of differences, which the derivative is checked against
ARGUMENTS: Final[dict[str, Any]] = {
    "x": np.array([0.3, 0.7, 0.55, 0.2]),
    "m": np.array([[2.0, 0.25, 0.1], [0.25, 1.5, 0.2], [0.1, 0.2, 1.1]]),
}


@dataclass(frozen=True)
class Outcome:
    """What became of one function.

    Attributes:
        function: its full name.
        call: the example that was differentiated, by `x`, a vector, or `m`, a matrix.
        tape: "derivative", "constant" where it is zero everywhere, "refused", or "wrong" where
            it is not what differences give.
        symbolic: "formula", or "none" where SymPy has no counterpart.
        truth: "certified", "uncertified" or "none".
        reason: why the tape refused.
    """

    function: str
    call: str
    tape: str
    symbolic: str
    truth: str
    reason: str = ""


def chapter(quick: bool) -> Chapter:
    """Return the chapter, computed."""
    present = [name for name in MODULES if importlib.util.find_spec(name.split(".")[0])]
    for name in present:  # the symbolic backend uses SciPy where it is imported
        importlib.import_module(name)
    if quick:
        present = [name for name in present if name in QUICK]
    return Chapter(
        NAME,
        "What can be differentiated",
        "Every public function of NumPy, and every one of scipy.special that NumPy can dispatch, "
        "called on an example: whether the tape has its derivative, whether the symbolic backend "
        "has a formula, and whether the truth can be certified. What is not supported is refused "
        "by name. The part on SciPy appears where SciPy is installed.",
        command(NAME, quick),
        tuple(_section(name) for name in present),
    )


def outcomes(module: str) -> list[Outcome]:
    """Return the outcome for each public function of a module, by name."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return [_outcome(name, call) for name, call in examples(module).items() if call]


def examples(module: str) -> dict[str, str | None]:
    """Return a call of each public function of a module; None where none is known."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return {name: _example(name) for name in _functions(module)}


def _functions(module: str) -> Iterator[str]:
    """Names such as "np.sin"."""
    namespace = importlib.import_module(module)
    prefix = re.sub("^numpy", "np", module)
    for name in sorted(dir(namespace)):
        function, full = getattr(namespace, name), f"{prefix}.{name}"
        if full in CALLS or (isinstance(function, DISPATCHED) and full not in NOT_OF_VALUES):
            yield full


# ---------------------------------------------------------------------- examples


def _example(name: str) -> str | None:
    """A call of a function that gives numbers; None if none is known."""
    if name in CALLS:
        return CALLS[name]
    constant = None
    for template in TEMPLATES:
        call = template.replace("f(", f"{name}(")
        kind = _kind(call)
        if kind == "f":
            return call
        constant = constant or (call if kind else None)
    return constant


def _kind(call: str) -> str | None:
    """The kind of number that a call gives on plain arrays; None where it fails."""
    try:
        results = list(_parts(_function(call)(_argument(call))))
        kinds = {np.asarray(part).dtype.kind for part in results}
    except Exception:  # whatever NumPy raises for arguments that it does not take
        return None
    if not results or not kinds <= set("biufc"):
        return None
    finite = all(np.all(np.isfinite(part)) for part in results)
    return ("f" if kinds & {"f", "c"} else "i") if finite else None


def _function(call: str) -> Callable[[Any], Any]:
    """The example as a function; what it writes to is returned."""
    namespace: dict[str, Any] = {"np": np}
    if "scipy" in call:
        importlib.import_module("scipy.special")
        namespace["scipy"] = importlib.import_module("scipy")
    variable = _variable(call)
    if ";" not in call:
        function: Callable[[Any], Any] = eval(f"lambda {variable}: {call}", namespace)
        return function
    *statements, result = call.split("; ")
    lines = "".join(f"    {line}\n" for line in statements)
    exec(f"def function({variable}):\n{lines}    return {result}\n", namespace)
    written: Callable[[Any], Any] = namespace["function"]
    return written


def _variable(call: str) -> str:
    return "m" if re.search(r"\bm\b", call) else "x"


def _argument(call: str) -> Any:
    return ARGUMENTS[_variable(call)].copy()


def _parts(result: Any) -> Iterator[Any]:
    if isinstance(result, (list, tuple)):
        for part in result:
            yield from _parts(part)
    else:
        yield result


# ---------------------------------------------------------------------- outcomes


def _outcome(name: str, call: str) -> Outcome:
    tape, reason = by_tape(call)
    if reason:
        return Outcome(name, call, tape, "none", "none", reason)
    loss, x = _loss(call), _argument(call)
    return Outcome(name, call, tape, _symbolic(loss, x), _truth(loss, x))


def by_tape(call: str) -> tuple[str, str]:
    """Return what the tape makes of an example, as in `Outcome`, and why if it refuses."""
    loss, x = _loss(call), _argument(call)
    try:
        found = gradient(loss, x)
    except DiffkitError as error:
        return "refused", str(error).split(" [")[0]
    expected = _differences(loss, x)
    if not np.allclose(found, expected, rtol=0, atol=TOLERANCE * (1 + np.max(np.abs(expected)))):
        return "wrong", ""
    return ("derivative" if np.any(found) else "constant"), ""


def _loss(call: str) -> Callable[[Any], Any]:
    """One number made of all that an example gives."""
    function = _function(call)

    def loss(x: Any) -> Any:
        total = 0.0
        for part in _parts(function(x)):
            real = np.real(part)
            weights = np.cos(np.arange(np.size(real))).reshape(np.shape(real))
            total = total + np.sum(weights * real)
        return total

    return loss


def _differences(loss: Callable[[Any], Any], x: Any) -> Any:
    units = np.eye(x.size).reshape(x.size, *x.shape) * STEP
    slopes = [(loss(x + unit) - loss(x - unit)) / (2 * STEP) for unit in units]
    return np.reshape(slopes, x.shape)


def _symbolic(loss: Callable[[Any], Any], x: Any) -> str:
    try:
        gradient(loss, x, backend="symbolic")
    except DiffkitError:
        return "none"
    return "formula"


def _truth(loss: Callable[[Any], Any], x: Any) -> str:
    try:
        reference = truth.gradient(loss, x)
    except DiffkitError:
        return "none"
    return "certified" if reference.certified else "uncertified"


# ---------------------------------------------------------------------- the page

_COLUMNS: Final = ("function", "call", "tape", "symbolic", "truth", "reason")


def _section(module: str) -> Section:
    rows = outcomes(module)
    groups: dict[tuple[str, str, str], list[str]] = {}
    for row in rows:
        groups.setdefault((row.tape, row.symbolic, row.truth), []).append(row.function)
    file = f"coverage-{module.replace('.', '-')}"
    version = importlib.import_module(module.split(".")[0]).__version__
    return Section(
        f"{module} {version}",
        (_told(module, rows),),
        None,
        Table(
            file,
            "Functions by what each backend has for them. A derivative that is constant is zero "
            "wherever the function does not jump.",
            ("tape", "symbolic backend", "truth", "count", "functions"),
            tuple(
                (*key, len(names), _listed(names))
                for key, names in sorted(groups.items(), key=_rank)
            ),
        ),
        Table(
            file, "Every function, with the example called.", _COLUMNS, tuple(map(astuple, rows))
        ),
    )


def _told(module: str, rows: Iterable[Outcome]) -> str:
    counts: dict[str, int] = {}
    for row in rows:
        counts[row.tape] = counts.get(row.tape, 0) + 1
    known = counts.get("derivative", 0) + counts.get("constant", 0)
    return (
        f"Of {sum(counts.values())} functions of numbers in {module}, the tape differentiates "
        f"{known}, each checked against differences, and refuses {counts.get('refused', 0)}."
    )


def _rank(group: tuple[tuple[str, str, str], list[str]]) -> tuple[int, int, int]:
    (tape, symbolic, certainty), _ = group
    return (
        ("wrong", "derivative", "constant", "refused").index(tape),
        ("formula", "none").index(symbolic),
        ("certified", "uncertified", "none").index(certainty),
    )


def _listed(names: list[str]) -> str:
    return ", ".join(name.rpartition(".")[2] for name in names)
