"""What every test shares: hypothesis without deadlines, since machines differ in speed."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("diffkit", deadline=None, max_examples=50, derandomize=True)
settings.load_profile("diffkit")
