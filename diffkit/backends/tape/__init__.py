"""Reverse mode over what NumPy computed, recorded once and compiled for repeated calls."""

from __future__ import annotations

from diffkit.backends.tape.differentiator import Tape

__all__ = ["Tape"]
