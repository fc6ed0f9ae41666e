"""Is a gradient right? Verdicts with derived tolerances, against a reference that is checked."""

from __future__ import annotations

from diffkit.validation.crosscheck import CrossCheck, cross_check
from diffkit.validation.verdict import LeafVerdict, Validation, validate

__all__ = ["CrossCheck", "LeafVerdict", "Validation", "cross_check", "validate"]
