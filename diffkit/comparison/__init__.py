"""Every backend on one derivative, against the truth; and how the forms of one swell."""

from __future__ import annotations

from diffkit.comparison.comparison import Comparison, Reference, compare
from diffkit.comparison.measurement import Row
from diffkit.comparison.swell import Size, Swell, measure_swell

__all__ = ["Comparison", "Reference", "Row", "Size", "Swell", "compare", "measure_swell"]
