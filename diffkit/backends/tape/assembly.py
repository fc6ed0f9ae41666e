"""The text of a generated function, in parts where it is long, and the function itself."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Final

LINES_AT_ONCE: Final = 10_000  # compiling many more at once takes much memory

_LOCAL: Final = re.compile(r"\b[vl]\d+\b")
_ASSIGNED: Final = re.compile(r"([vl]\d+) = ")


def assembled(
    opening: Sequence[str], body: Sequence[str], ending: Sequence[str], names: dict[str, Any]
) -> tuple[Callable[[Any, Any], Any], str]:
    """The function `program(x, data)` made of these lines, and its source.

    A long body becomes several functions, which hand their values on in a dictionary.
    """
    if len(body) <= LINES_AT_ONCE:
        source = _function("program(x, data)", [*opening, *body, *ending])
        exec(compile(source, "<diffkit program>", "exec"), names)
        return names["program"], source
    pieces = [body[i : i + LINES_AT_ONCE] for i in range(0, len(body), LINES_AT_ONCE)]
    lines = [list(opening), *map(list, pieces), list(ending)]
    made = [_assigned(part) for part in lines]
    read = [_read(part, own, names) for part, own in zip(lines, made, strict=True)]
    handed_on = set().union(*read)
    sources = []
    for k, part in enumerate(lines):
        loads = [f"{name} = kept[{name!r}]" for name in sorted(read[k])]
        stores = [f"kept[{name!r}] = {name}" for name in sorted(made[k] & handed_on)]
        head = f"part_{k}(x, data, kept)" if k == 0 else f"part_{k}(kept)"
        last = k == len(lines) - 1
        sources.append(
            _function(head, [*loads, *part, *stores, *([] if last else ["return True"])])
        )
    calls = ["kept = {}", "if not part_0(x, data, kept): return None"]
    calls += [f"if not part_{k}(kept): return None" for k in range(1, len(lines) - 1)]
    sources.append(_function("program(x, data)", [*calls, f"return part_{len(lines) - 1}(kept)"]))
    for source in sources:
        exec(compile(source, "<diffkit program>", "exec"), names)
    return names["program"], "\n".join([sources[-1], *sources[:-1]])


def _function(head: str, lines: Sequence[str]) -> str:
    return "\n".join([f"def {head}:", *(f"    {line}" for line in lines), ""])


def _assigned(lines: Sequence[str]) -> set[str]:
    return {found.group(1) for line in lines for found in _ASSIGNED.finditer(line)}


def _read(lines: Sequence[str], own: set[str], names: dict[str, Any]) -> set[str]:
    """What the lines read that another part has computed."""
    found = {name for line in lines for name in _LOCAL.findall(line.partition("  #")[0])}
    return {name for name in found if name not in own and name not in names}
