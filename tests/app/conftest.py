"""A command line in the same process, and jobs small enough to train in a second."""

import pytest
from typer.testing import CliRunner, Result

from lowprec.app.cli import app

TINY = ["--model", "mlp", "--train-size", "200", "--batch-size", "20", "--epochs", "2"]
TINY += ["--threads", "1"]


@pytest.fixture
def lowprec_command(tmp_path, monkeypatch):
    """Calls ``lowprec`` with arguments, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> Result:
        return CliRunner().invoke(app, list(arguments))

    return call


@pytest.fixture
def train_tiny(lowprec_command):
    """Calls ``lowprec train`` with a tiny job and further options."""

    def call(*arguments: str) -> Result:
        return lowprec_command("train", *TINY, *arguments)

    return call
