"""The CUDA kernels of updates, digests and packed codes as text: what is rounded, and that they assemble.

An operation of one element occurs once for each time that its loop is unrolled, which stores tell.
"""

import re
from collections import Counter
from types import SimpleNamespace

import pytest

pytest.importorskip("numba_cuda", reason="needs numba-cuda, the extra `cuda`")

from numba.core import config

if config.ENABLE_CUDASIM:
    pytest.skip("the simulator compiles nothing", allow_module_level=True)

from numba.cuda import dispatcher
from ptx import CAPABILITIES, assemble, assembler, text_of

from lowprec.kernels.cuda import packing, updates
from lowprec.kernels.steps import Descent, Moments

pytestmark = pytest.mark.ptx

needs_assembler = pytest.mark.skipif(assembler() is None, reason="needs ptxas, of PyPI's nvidia-cuda-nvcc")

# Of each update: how many states and weights are stored for an element, and what is rounded by what.
UPDATES = {
    Descent(False, False, False, False): (1, {"fma.rn": 1}),
    Descent(True, True, True, True): (2, {"fma.rn": 4, "mul.rn": 1, "neg": 1}),
    Descent(True, True, False, False, True): (2, {"fma.rn": 2}),
    Moments(True, True, False, False, False): (
        3, {"fma.rn": 2, "mul.rn": 4, "sub": 1, "add": 2, "div.rn": 2, "sqrt.rn": 1},
    ),
    Moments(True, False, True, True, True): (
        4, {"fma.rn": 3, "mul.rn": 3, "sub": 1, "add": 2, "div.rn": 2, "sqrt.rn": 1, "neg": 1},
    ),
}  # fmt: skip
ONCE = {"add": 1}
"""What may be done once before the loop: the weight of the far end of an average."""


@pytest.fixture(params=CAPABILITIES, ids=str)
def capability(request, monkeypatch):
    """Name a device: numba-cuda asks the driver for one when a function calls another."""
    device = SimpleNamespace(compute_capability=request.param)
    monkeypatch.setattr(dispatcher, "get_current_device", lambda: device)
    return request.param


def twin_of(carrier, kind):
    """The kernel."""
    make = updates.descending if isinstance(kind, Descent) else updates.averaging
    return make(carrier, kind)


def instructions(text):
    """Names of instructions, types included."""
    return re.findall(r"^\t(?:@!?%\w+ )?([a-z][\w.]*)\s", text, re.MULTILINE)


def check_assembled(text, capability, folder, registers):
    """No stack, no spills, and few registers: two thousand threads have 32 each."""
    made = assemble(text, capability, folder)
    assert made.stack == made.spilled == 0
    assert made.registers <= registers


@needs_assembler
@pytest.mark.parametrize("kind", UPDATES, ids=str)
def test_each_operation_of_an_update_is_rounded_once_and_as_asked(kind, capability, tmp_path):
    text = text_of(twin_of("float32", kind), capability)
    stores, wanted = UPDATES[kind]
    found = instructions(text)
    assert not [i for i in found if "f64" in i or "ftz" in i or "approx" in i or i.startswith("call")]
    turns, rest = divmod(sum(i.startswith("st.global") for i in found), stores)
    assert turns >= 1
    assert rest == 0
    rounded = Counter(i.removesuffix(".f32") for i in found if re.fullmatch(r"(\w+)(\.r[nzmp]i?)?\.f32", i))
    for name in ("mov", "ld", "st", "selp", "setp"):
        rounded.pop(name, None)
    for name, count in (rounded | {n: rounded[n] for n in wanted}).items():
        assert 0 <= count - turns * wanted.get(name, 0) <= ONCE.get(name, 0), (name, rounded)
    check_assembled(text, capability, tmp_path, 40)


@needs_assembler
def test_binary64_assembles(capability, tmp_path):
    kind = Moments(True, False, True, True, True)
    text = text_of(twin_of("float64", kind), capability)
    found = instructions(text)
    assert not [i for i in found if "f32" in i or "approx" in i]
    assert found.count("sqrt.rn.f64") * 3 == found.count("fma.rn.f64")
    check_assembled(text, capability, tmp_path, 64)


INTEGERS = {
    "digests of 16 bits": lambda: updates.digesting(2),
    "digests of 32 bits": lambda: updates.digesting(4),
    "digests of 64 bits": lambda: updates.digesting(8),
    "codes of 11 bits packed": lambda: packing.packing(11),
    "codes of 5 bits unpacked": lambda: packing.unpacking(5),
}


@needs_assembler
@pytest.mark.parametrize("name", INTEGERS)
def test_digests_and_codes_are_integers(name, capability, tmp_path):
    text = text_of(INTEGERS[name](), capability)
    found = instructions(text)
    assert not [i for i in found if re.search(r"\.f\d\d", i)]
    assert sum(i.startswith(("atom", "red")) for i in found) == ("unpacked" not in name)
    check_assembled(text, capability, tmp_path, 48)


TWINS = {
    "descending": [("float32", kind) for kind in UPDATES if isinstance(kind, Descent)],
    "averaging": [("float32", kind) for kind in UPDATES if isinstance(kind, Moments)],
    "digesting": [(2,), (4,), (8,)],
    "packing.packing": [(11,)],
    "packing.unpacking": [(5,)],
}
"""Constants for each function of updates.py and packing.py that makes a kernel."""
