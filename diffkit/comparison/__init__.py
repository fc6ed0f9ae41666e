"""Every backend on one derivative, against the truth."""

from __future__ import annotations

from diffkit.comparison.comparison import Comparison, Reference, compare
from diffkit.comparison.measurement import Row

__all__ = ["Comparison", "Reference", "Row", "compare"]
