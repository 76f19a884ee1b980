"""Bars in a terminal, lines elsewhere, and nothing but text in a log."""

import io
import sys

import pytest

from lowprec.app import progress


class Terminal(io.StringIO):
    """A stream that says it is one."""

    def isatty(self):
        return True


def test_the_display_fits_the_stream(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert isinstance(progress.display(1, 0, 10), progress.Bars)
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(progress.display(1, 0, 10), progress.Lines)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert isinstance(progress.display(1, 0, 10), progress.Lines)


def test_lines_tell_the_start_the_epochs_and_the_time_left(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    clock = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with progress.Lines(2, 10, 400) as shown:
        shown.begin("bf16", 10, 200)
        for _ in range(20):
            clock[0] += 1.5
            shown.step()
        shown.reached("epoch 1/2, accuracy 85.2 %")
        shown.end()
    assert sys.stderr.getvalue().splitlines() == [
        "bf16: step 10 of 200",
        "bf16: step 17 of 200 (9 min 34 s left for all)",
        "bf16: step 24 of 200 (9 min 24 s left for all)",
        "bf16: epoch 1/2, accuracy 85.2 % (9 min 15 s left for all)",
    ]


@pytest.mark.parametrize(("seconds", "text"), [(0.2, "0 s"), (59.6, "1 min 0 s"), (3601.0, "1 h 0 min")])
def test_durations_are_readable(seconds, text):
    assert progress._readable(seconds) == text


def test_bars_show_the_run_and_leave_a_line(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(sys, "stderr", Terminal())
    with progress.Bars(2, 0, 20) as shown:
        for name in ("float32", "bf16"):
            shown.begin(name, 0, 10)
            for _ in range(10):
                shown.step()
            shown.reached("epoch 1/1, accuracy 85.2 %")
            shown.end()
    text = sys.stderr.getvalue()
    assert "float32: epoch 1/1, accuracy 85.2 %" in text
    assert "all 2 runs" in text
    assert "100 %" in text
