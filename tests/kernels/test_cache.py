"""The disk cache of compiled kernels: never stale, never in the way, and what it says."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import lowprec
from lowprec import reference
from lowprec.formats import FixedPoint, parse
from lowprec.kernels import cpu, dispatch
from lowprec.modes import Rounding

PACKAGE = Path(lowprec.__file__).parent

SCRIPT = """
import numpy as np
from lowprec.formats import parse
from lowprec.kernels import dispatch
from lowprec.modes import Rounding
ties = np.full(16, 1.0625, np.float32).view(np.uint32)  # halfway from 1 to 1.125
for rounding in (Rounding.NEAREST_EVEN, Rounding.STOCHASTIC):
    out = np.empty_like(ties)
    dispatch.quantize(ties, out, (16,), (1,), (1,), parse("e4m3fn"), rounding)
    print(*(out > ties).astype(int))
"""
STAYED = "0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0"
WENT_UP = STAYED.replace("0", "1")
ANNOUNCEMENT = "lowprec: compiling kernels once (cached in "


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of what kernels need, without torch, to be edited."""
    copy = tmp_path / "lowprec"
    ignored = shutil.ignore_patterns("__pycache__")
    for folder in ("formats", "kernels"):
        shutil.copytree(PACKAGE / folder, copy / folder, ignore=ignored)
    for file in ("errors.py", "modes.py"):
        shutil.copy(PACKAGE / file, copy)
    (copy / "__init__.py").touch()
    return copy


def run(package: Path, cache: Path) -> tuple[list[str], str]:
    """The two lines that the script prints with a copy of the package, and what it complains of."""
    finished = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=package.parent,
        env={**os.environ, "PYTHONPATH": str(package.parent), "NUMBA_CACHE_DIR": str(cache)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout.splitlines(), finished.stderr


def edit(file: Path, old: str, new: str) -> None:
    """Replace one piece of a source file."""
    source = file.read_text(encoding="utf-8")
    assert source.count(old) == 1
    file.write_text(source.replace(old, new), encoding="utf-8")


def drawn() -> str:
    """What becomes of the ties under seed 0: up where the word's top bit is set."""
    words = reference.random_words(0, 0, (16,))
    return " ".join(str(int(word) >> 31) for word in words)


def test_an_edited_source_is_compiled_anew(package: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    before, notice = run(package, cache)
    assert before == [STAYED, drawn()]
    assert notice.count(ANNOUNCEMENT + str(cache)) == 1  # once, for two kernels
    assert len(notice.splitlines()) == 1
    assert run(package, cache) == (before, "")  # warm

    edit(package / "kernels" / "scalar.py", "code & U(1))) > HALF", "code & U(1))) >= HALF")
    after, notice = run(package, cache)
    assert after == [WENT_UP, drawn()]
    assert notice.count(ANNOUNCEMENT) == 1

    edit(package / "kernels" / "philox.py", "0xBB67AE85", "0xBB67AE87")
    last, notice = run(package, cache)
    assert last[0] == WENT_UP
    assert last[1] not in (drawn(), STAYED, WENT_UP)
    assert notice.count(ANNOUNCEMENT) == 1


def test_a_cache_folder_that_cannot_be_made_is_no_error(package: Path, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    printed, notice = run(package, file / "below")
    assert printed == [STAYED, drawn()]
    assert notice.count("lowprec: compiling kernels once (") == 1
    assert str(file) not in notice  # it names the folder that is used instead


def test_what_a_bug_report_says() -> None:
    info = dispatch.info()
    assert info["kernel sources"] == cpu.source_hash()[:12]
    assert Path(info["kernel cache"]).name
    assert "GIL" in info["threading layer"]


def test_a_format_of_another_family_has_no_kernel() -> None:
    class Other(FixedPoint.__base__):  # type: ignore[misc, name-defined]
        bits = max = min = smallest_normal = smallest_subnormal = eps = has_signed_zero = 0
        magnitudes = missing_in = _on_grid = None

    x = np.zeros(1, np.uint32)
    with pytest.raises(TypeError, match="Other"):
        dispatch.quantize(x, x, (1,), (1,), (1,), Other(), Rounding.NEAREST_EVEN)
    dispatch.quantize(x, x, (1,), (1,), (1,), parse("fixed8f4"), Rounding.NEAREST_EVEN)
