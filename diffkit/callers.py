"""The user's line: where a warning belongs that arises deep inside this package."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from typing import Final

import numpy as np

_INTERNAL: Final = (
    str(Path(__file__).resolve().parent) + os.sep,
    str(Path(np.__file__).resolve().parent) + os.sep,
    "<__array_function__ internals>",
)


def warn_user(message: str, category: type[Warning]) -> None:
    """Warn at the line of the innermost caller outside this package and NumPy."""
    level, frame = 1, sys._getframe(0)
    while frame is not None and frame.f_code.co_filename.startswith(_INTERNAL):
        level, frame = level + 1, frame.f_back  # type: ignore[assignment]
    warnings.warn(message, category, stacklevel=level)
