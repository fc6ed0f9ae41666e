"""Finite differences: `f` is a black box, and its derivative a limit of its values."""

from diffkit.backends.finite.differentiator import FiniteDifference

__all__ = ["FiniteDifference"]
