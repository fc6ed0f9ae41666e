"""Drawings of what the swell meter measured."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from diffkit.comparison.swell import TIMES, Swell
from diffkit.errors import InvalidInput
from diffkit.files import write_whole
from diffkit.measures import Growth
from diffkit.reporting.figures import Curve, Panel, bitmap, drawing

# What each form looks like in every drawing: colour and marker.
STYLES: Final = {
    "multiplied out": ("orange", "v"),
    "expanded": ("vermilion", "s"),
    "shared": ("sky", "o"),
    "array": ("green", "D"),
    "tape": ("blue", "^"),
}
LABELS: Final = {
    "tree": "operations, written out",
    "dag": "different operations",
    "operations": "operations in the program",
    "lines": "lines of the program",
    "bytes": "bytes of source",
    "error_ulps": "error (ulps)",
    "derive_seconds": "time to derive (s)",
    "compile_seconds": "time to compile (s)",
    "call_seconds": "time of a call (µs)",
}
WRITERS: Final = {".svg": lambda panel: drawing(panel).encode(), ".png": bitmap}


def swell_panel(
    swell: Swell,
    quantity: str = "tree",
    title: str = "",
    y_limits: tuple[float, float] | None = None,
    floor: float = 0.0,
) -> Panel:
    """Return a panel of a quantity against the size, a curve for each form.

    Dashed lines are the fitted growth, over the sizes fitted and no further.

    Args:
        swell: what was measured.
        quantity: out of `QUANTITIES` of `diffkit.comparison.swell`.
        title: by default the name of the family.
        y_limits: of the axis; None leaves them to the curves.
        floor: smaller values, which a logarithmic axis cannot show, are drawn here; 0 leaves
            those of 0 out.
    """
    unit = 1e6 if quantity == "call_seconds" else 1.0
    curves: list[Curve] = []
    fitted = quantity not in (*TIMES, "error_ulps")
    for form in swell.forms:
        sizes, values = swell.series(form, quantity)
        if not sizes:
            continue
        colour, marker = STYLES.get(form, ("black", "P"))
        shown = [max(unit * value, floor) or float("nan") for value in values]
        fit = swell.growth(form, quantity) if fitted else None
        label = form if fit is None else f"{form}: {growth_label(fit)}"
        joined = fit is None or fit.kind == "constant"
        curves.append(Curve(label, sizes, shown, colour, marker=marker, joined=joined))
        if fit is not None and fit.kind != "constant":
            grid = _grid(fit)
            heights = [fit.at(n) for n in grid]
            positive = [y if y > 0 else float("nan") for y in heights]
            curves.append(Curve("", grid, positive, colour, measured=False))
    return Panel(
        title or swell.family,
        swell.size,
        LABELS[quantity],
        tuple(curves),
        log_x=False,
        y_limits=y_limits,
        columns=1 if fitted else 2,
    )


def growth_label(fit: Growth) -> str:
    """Return the fitted growth in a few characters: a factor or a degree, with its interval."""
    if fit.kind == "constant":
        return "constant"
    bounds = f"{fit.rate:.3g} [{fit.low:.3g}, {fit.high:.3g}]"
    other = "" if fit.decided else " (kind undecided)"
    factor = f"\N{MULTIPLICATION SIGN} {bounds} a step"
    return (factor if fit.kind == "exponential" else f"degree {bounds}") + other


def draw_swell(swell: Swell, path: str, quantity: str = "tree") -> None:
    """Draw a quantity into an SVG or PNG file, by the end of its name.

    Raises:
        InvalidInput: the name ends otherwise, or the file cannot be written.
    """
    file = Path(path)
    if file.suffix not in WRITERS:
        raise InvalidInput(f"the figure {path} must end in .svg or .png")
    content = WRITERS[file.suffix](swell_panel(swell, quantity))
    try:
        write_whole(file, content)
    except OSError as error:
        raise InvalidInput(f"{path} cannot be written: {error.strerror}") from error


def _grid(fit: Growth) -> list[float]:
    low, high = fit.sizes
    return [low + (high - low) * i / 60 for i in range(61)]
