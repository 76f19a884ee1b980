"""Files that are whole or not there."""

import os

import pytest

from lowprec import files


def test_a_file_that_cannot_be_written_is_named_as_it_was_given(tmp_path, monkeypatch):
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "no" / "a.csv", tmp_path / "folder"):
        with pytest.raises(OSError, match=r"\[(Errno|WinError) ") as caught:
            files.write(path, b"whole")
        assert str(caught.value).endswith(f": {str(path)!r}")

    def full(_):
        raise OSError(28, "No space left on device")

    path = tmp_path / "a.csv"
    files.write(path, b"old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device") as caught:
        files.write(path, b"new")
    assert caught.value.filename == str(path)
    assert path.read_bytes() == b"old"
