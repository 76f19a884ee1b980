"""Fixtures of the tests of optimizers."""

import pytest

from lowprec.optim.one_pass import Plan


@pytest.fixture
def runs(monkeypatch):
    """How many steps were taken in one pass."""
    taken = []
    run = Plan.run
    monkeypatch.setattr(Plan, "run", lambda self, *rest: (taken.append(len(self.parts)), run(self, *rest)))
    return taken
