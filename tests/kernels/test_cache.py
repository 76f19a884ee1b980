"""The disk cache of compiled kernels: never stale, never in the way, and what it says."""

import json
import os
import shutil
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from comparison import assert_same_bits
from decisions import floats

import lowprec
from lowprec import reference
from lowprec.formats import FixedPoint, parse
from lowprec.kernels import cpu, dispatch, threads
from lowprec.kernels.numbers import describe
from lowprec.modes import Rounding

PACKAGE = Path(lowprec.__file__).parent

SCRIPT = """
import numpy as np
from lowprec.kernels import dispatch
ties = np.full(16, 1.0625, np.float32)  # halfway from 1 to 1.125
for rounding in ("nearest_zero", "stochastic"):
    out = np.empty_like(ties)
    dispatch.quantize(
        ties.ctypes.data, out.ctypes.data, "float32", (16,), (1,), (1,), "e4m3fn", rounding
    )
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
    for file in ("arithmetic.py", "errors.py", "modes.py"):
        shutil.copy(PACKAGE / file, copy)
    (copy / "__init__.py").touch()
    return copy


def run(package: Path, cache: Path, script: str = SCRIPT, *arguments: str) -> tuple[list[str], str]:
    """The lines that a script prints with a copy of the package, and what it complains of."""
    finished = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        cwd=package.parent,
        env={**os.environ, "PYTHONPATH": str(package.parent), "NUMBA_CACHE_DIR": str(cache)},
        capture_output=True,
        text=True,
        timeout=600,
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

    edit(package / "kernels" / "scalar.py", "NEAREST_AWAY, NEAREST_ZERO,", "NEAREST_ZERO, NEAREST_AWAY,")
    after, notice = run(package, cache)
    assert after == [WENT_UP, drawn()]
    assert notice.count(ANNOUNCEMENT) == 1

    edit(package / "kernels" / "philox.py", "0xBB67AE85", "0xBB67AE87")
    last, notice = run(package, cache)
    assert last[0] == WENT_UP
    assert last[1] not in (drawn(), STAYED, WENT_UP)
    assert notice.count(ANNOUNCEMENT) == 1


# Loops of cpu.py and blocks.py inline functions of these: Numba looks at a loop's own file only.
SOURCES = """
from pathlib import Path
from lowprec.kernels import cpu
for name in ("codes", "cpu", "groups", "memory", "philox", "scalar", "specialize"):
    before = cpu.source_hash.__wrapped__()
    with Path(cpu.__file__).with_name(name + ".py").open("a", encoding="utf-8") as file:
        file.write("\\n")
    print(name, "counts" if cpu.source_hash.__wrapped__() != before else "does not count")
"""


def test_every_file_whose_functions_are_inlined_counts(package: Path, tmp_path: Path) -> None:
    printed, _ = run(package, tmp_path / "cache", SOURCES)
    assert len(printed) == 7
    assert [line for line in printed if not line.endswith(" counts")] == []


def test_a_cache_folder_that_cannot_be_made_is_no_error(package: Path, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    printed, notice = run(package, file / "below")
    assert printed == [STAYED, drawn()]
    assert notice.count("lowprec: compiling kernels once (") == 1
    assert str(file) not in notice  # it names the folder that is used instead


SPECIALIZED = """
import json, sys
import numpy as np
from lowprec.formats import resolve
from lowprec.kernels import cpu, dispatch, threads
values, flags, codes, word, count = json.loads(sys.argv[1])
x = np.arange(count, dtype=np.uint16) * 129 | np.arange(count, dtype=np.uint16) % 2 << 15
def show(*arrays):
    print(json.dumps([array.tolist() for array in arrays]))
def quantize(carrier, format, rounding, bits, out, kind=cpu.VALUES):
    dispatch.quantize(
        x.ctypes.data, out.ctypes.data, carrier, (count,), (1,), (1,), format, rounding,
        random_bits=bits, word=word, kind=kind,
    )
    return out
for case in values:
    show(quantize(*case, np.empty_like(x)))
for case in flags:
    show(quantize(*case, np.empty(count, np.uint8), cpu.FLAGS))
for carrier, format, code in codes:
    coded, decoded = np.empty(count, code), np.empty_like(x)
    place, back = coded.ctypes.data, decoded.ctypes.data
    if "bfp" in format:
        parsed = resolve(format)
        scales = dispatch.encode_groups(
            x.ctypes.data, place, carrier, code, (count,), parsed, "nearest_even"
        )
        dispatch.decode_groups(place, back, scales, carrier, code, (count,), parsed)
    else:
        rounded = quantize(carrier, format, "nearest_even", 32, np.empty_like(x))
        dispatch.encode(rounded.ctypes.data, place, carrier, code, count, format)
        dispatch.encode(place, back, carrier, code, count, format, decode=True)
    show(coded, decoded)
"""
ELEMENTWISE = [  # carrier, format, mode, random bits
    ("float16", "e4m3fn", "nearest_even", 32),
    ("bfloat16", "e4m3fn", "nearest_even", 32),
    ("float16", "e4m3fn", "away", 32),
    ("float16", "e5m2", "away", 32),
    ("float16", "e4m3fn<bias22>", "away", 32),
    ("float16", "e5m2<saturate>", "away", 32),
    ("float16", "fixed8f4", "away", 32),
    ("float16", "fixed8f4<wrap>", "away", 32),
    ("float16", "e5m2", "stochastic", 32),
    ("float16", "e5m2", "stochastic", 3),
]
BLOCKS = [
    ("float16", "bfp4<group4>", "nearest_even", 32),
    ("bfloat16", "bfp4<group4>", "nearest_even", 32),
    ("float16", "bfp4<group4>", "away", 32),
]
FLAGS = [ELEMENTWISE[0], ELEMENTWISE[6], BLOCKS[0]]
CODES = [  # carrier, format, dtype of the codes
    ("float16", "e5m2", "uint8"),
    ("bfloat16", "e5m2", "uint8"),
    ("float16", "fixed8f4", "uint8"),
    ("float16", "fixed11f4", "uint16"),
    ("float16", "bfp4<group4>", "uint8"),
    ("bfloat16", "bfp4<group4>", "uint8"),
]
WORD = 0x9E3779B9
COUNT = 240


def reference_options(carrier: str, rounding: str, random_bits: int) -> dict[str, object]:
    """The options of the reference for one case."""
    words = {"words": np.full(COUNT, WORD, np.uint32), "random_bits": random_bits}
    return {"carrier": carrier, "rounding": rounding, **(words if rounding == "stochastic" else {})}


def test_each_constant_tells_two_of_these_loops_apart() -> None:
    """Else a constant that the disk cache forgets would go unnoticed below."""
    loops = [
        (carrier, mode, *describe(parse(format), Rounding(mode), bits, carrier)[1:], bits == 32)
        for carrier, format, mode, bits in ELEMENTWISE
    ]
    apart = [[a != b for a, b in zip(*pair, strict=True)] for pair in combinations(loops, 2)]
    assert {row.index(True) for row in apart if sum(row) == 1} == set(range(5))


@pytest.mark.parametrize(
    ("values", "flags", "codes"),
    [
        (ELEMENTWISE[:2], [], []),
        pytest.param([*ELEMENTWISE, *BLOCKS], FLAGS, CODES, marks=pytest.mark.slow),
    ],
    ids=["two carriers of 16 bits", "everything"],
)
def test_every_specialization_is_cached_apart(package, tmp_path, values, flags, codes) -> None:
    arguments = json.dumps([values, flags, codes, WORD, COUNT])
    cold, _ = run(package, tmp_path / "cache", SPECIALIZED, arguments)
    warm, notice = run(package, tmp_path / "cache", SPECIALIZED, arguments)
    assert notice == ""  # all of them came from the disk
    assert warm == cold

    numbers = np.arange(COUNT, dtype=np.uint16)
    bits = numbers * 129 | numbers % 2 << 15  # finite, both signs
    lines = iter(map(json.loads, cold))
    for carrier, format, *mode in values:
        wanted = reference.quantize(floats(bits, carrier), format, **reference_options(carrier, *mode))
        assert_same_bits(floats(next(lines)[0], carrier), wanted)
    for carrier, format, *mode in flags:
        wanted = reference.overflowed(floats(bits, carrier), format, **reference_options(carrier, *mode))
        assert next(lines)[0] == wanted.tolist()
    for carrier, format, _ in codes:
        x = floats(bits, carrier)
        coded, decoded = next(lines)
        wanted = reference.encode(x, format, carrier=carrier)
        assert coded == (wanted[0] if "bfp" in format else wanted).tolist()
        assert_same_bits(floats(decoded, carrier), reference.quantize(x, format, carrier=carrier))
    assert next(lines, None) is None


FIRST = """
import sys
import numpy as np
from lowprec.kernels import dispatch, threads
x = np.linspace(-500, 500, 1 << 17, dtype=np.float32)
threads.use_openmp_of(sys.argv[1])
answers = []
for count in (1, 3):  # alone first: all kernels are loaded before any is shared among threads
    for rounding in sys.argv[2:]:
        out = np.empty_like(x)
        dispatch.quantize(
            x.ctypes.data, out.ctypes.data, "float32", x.shape, (1,), (1,), "e4m3fn", rounding, threads=count
        )
        answers.append(out.tobytes())
half = len(answers) // 2
print(len(set(answers)), answers[:half] == answers[half:])
"""


def test_kernels_that_other_processes_compiled_are_never_mistaken(package: Path, tmp_path: Path) -> None:
    """Numba numbers functions process by process: what each compiles first would have one name."""
    library = str(threads._library)
    modes = ["toward_zero", "up", "down", "away"]
    for mode in modes:
        run(package, tmp_path / "cache", FIRST, library, mode)
    lines, _ = run(package, tmp_path / "cache", FIRST, library, *modes)
    assert lines == [f"{len(modes)} True"]


def test_what_a_bug_report_says() -> None:
    info = dispatch.info()
    assert info["kernel sources"] == cpu.source_hash()[:12]
    assert Path(info["kernel cache"]).name
    assert info["threading layer"].endswith(("Python threads", "the OpenMP threads of torch"))


def test_a_format_of_another_family_has_no_kernel() -> None:
    class Other(FixedPoint.__base__):  # type: ignore[misc, name-defined]
        bits = max = min = smallest_normal = smallest_subnormal = eps = 0
        has_infinity = has_nan = has_signed_zero = False
        magnitudes = missing_in = _on_grid = None

    x = np.zeros(1, np.float32)
    place = x.ctypes.data
    with pytest.raises(TypeError, match="Other"):
        dispatch.quantize(place, place, "float32", (1,), (1,), (1,), Other(), "nearest_even")
    dispatch.quantize(place, place, "float32", (1,), (1,), (1,), "fixed8f4", "nearest_even")
