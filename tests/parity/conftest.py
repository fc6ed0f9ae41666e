"""What needs PyTorch and scikit-learn is no part of `pytest`: run `pytest tests/parity`."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("parity", deadline=None, max_examples=15, derandomize=True)
settings.load_profile("parity")
