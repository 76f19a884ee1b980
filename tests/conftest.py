"""Settings that every test shares."""

import gc
import os

import pytest
from hypothesis import settings

from lowprec.formats import names

# No example has a deadline: it may compile a kernel. Choose one with --hypothesis-profile.
settings.register_profile("dev", max_examples=50, deadline=None)
settings.register_profile("ci", max_examples=200, deadline=None, derandomize=True)
settings.register_profile("nightly", max_examples=5000, deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "dev")


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown() -> None:
    """Look for garbage among a test's own objects alone: those of a compiler stay, and they are millions."""
    gc.collect(1)
    gc.freeze()


@pytest.fixture
def own_names(monkeypatch):
    """Forget afterwards which formats of one's own a test has made known: pages may use the same name."""
    monkeypatch.setattr(names, "_REGISTERED", dict(names._REGISTERED))
    monkeypatch.setattr(names, "_REGISTERED_FORMATS", set(names._REGISTERED_FORMATS))
