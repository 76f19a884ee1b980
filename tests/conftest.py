"""Settings that every test shares."""

import os

from hypothesis import settings

# No example has a deadline: it may compile a kernel. Choose one with --hypothesis-profile.
settings.register_profile("dev", max_examples=50, deadline=None)
settings.register_profile("ci", max_examples=200, deadline=None, derandomize=True)
settings.register_profile("nightly", max_examples=5000, deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "dev")
