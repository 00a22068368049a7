"""What every test shares: hypothesis measures nothing here, and takes few examples so that a run stays short."""

from __future__ import annotations

import hypothesis

hypothesis.settings.register_profile("listener", deadline=None, max_examples=60)
hypothesis.settings.load_profile("listener")
