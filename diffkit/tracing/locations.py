"""Lines of the user's code, to be named in errors and in the graph."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import CodeType
from typing import Final

import numpy as np


@dataclass(frozen=True, slots=True)
class Location:
    """A line of the user's code."""

    code: CodeType
    line: int

    def __str__(self) -> str:
        return f"{self.code.co_filename}:{self.line} (in {self.code.co_qualname})"


_PACKAGE: Final = Path(__file__).resolve().parent.parent
_INTERNAL: Final = (
    str(Path(np.__file__).resolve().parent) + os.sep,
    *(str(_PACKAGE / folder) + os.sep for folder in ("tracing", "backends", "expressions")),
    *(str(_PACKAGE / file) for file in ("interface.py", "operators.py")),
    *(str(_PACKAGE / file) for file in ("structure.py", "target.py", "assembly.py")),
    "<__array_function__ internals>",
)


@lru_cache(maxsize=4096)
def is_internal(filename: str) -> bool:
    """Whether a file belongs to diffkit's machinery or to NumPy, rather than to the user."""
    return filename.startswith(_INTERNAL)


Place = tuple[CodeType, int]
"""An instruction of the user's code: the code, and the offset into it. Its line costs more."""


def user_place() -> Place | None:
    """The instruction under way in the innermost caller outside diffkit's machinery and NumPy."""
    frame = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if not is_internal(code.co_filename):
            return code, frame.f_lasti
        frame = frame.f_back  # type: ignore[assignment]
    return None


def located(place: Place) -> Location:
    """The line that an instruction belongs to."""
    code, offset = place
    lines = (line for start, end, line in code.co_lines() if start <= offset < end)
    return Location(code, next(lines, None) or code.co_firstlineno)


def user_location() -> Location | None:
    """The line of the innermost caller outside diffkit's machinery and NumPy."""
    place = user_place()
    return None if place is None else located(place)
