"""CUDA's compiler infers the types of every variable of every decision as the CPU's does.

The simulator runs NumPy's integers, not Numba's, so what it shows is true of the device only if the types
are: a mask that is 64 bits wide on one side, a sum that is binary64, would be seen here.
"""

import importlib
import inspect
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("numba_cuda", reason="needs numba-cuda, the extra `cuda`")

from numba import njit, types
from ptx import compiled, named_device, text_of
from twins import cases

from lowprec.kernels import philox
from lowprec.kernels.counting import counters
from lowprec.kernels.cuda.twin import device
from lowprec.kernels.elementary import operations_of, roundings_of
from lowprec.kernels.products import decisions_of
from lowprec.kernels.specialize import specialized
from lowprec.kernels.steps import steps_of
from lowprec.kernels.updates import mixer

pytestmark = compiled
MAKERS = specialized, steps_of, mixer, counters, operations_of, roundings_of, decisions_of
"""The functions that make copies of decisions."""
OWN = ("packing.",)
"""Kernels that call no decision."""
TABLES = {name: table for name, table in cases("ptx").items() if not name.startswith(OWN)}
EVERY = [(name, constants) for name, table in TABLES.items() for constants in table]
CHOSEN = [(name, constants) for name, table in TABLES.items() for constants in table[::2]]


def annotated(compilation: Any) -> dict[str, str]:
    """The type of each variable, of its result, and of its arguments."""
    variables = compilation.type_annotation.typemap
    named = {name: str(kind) for name, kind in variables.items() if not _is_function(kind)}
    return named | {"result": str(compilation.signature.return_type)}


def _is_function(kind: types.Type) -> bool:
    """Whether it is what is called, whose type names the compiler."""
    return isinstance(kind, types.Callable | types.Module) or type(kind).__name__ == "NumberClass"


def differences(name: str, on_device: Any, on_cpu: Any) -> list[str]:
    """The variables of a decision that have another type on the CPU, for all arguments it is called with."""
    found = []
    for arguments, compilation in on_device.overloads.items():
        on_cpu.compile(arguments)
        got, want = annotated(compilation), annotated(on_cpu.overloads[arguments])
        assert got.keys() == want.keys(), name
        found += [f"{name}.{one}: {got[one]}, not {want[one]}" for one in got if got[one] != want[one]]
    return found


def all_differences(
    name: str, constants: tuple, monkeypatch: pytest.MonkeyPatch
) -> tuple[list[str], set[str]]:
    """Those of all decisions that a kernel calls, and the names of these."""
    made: list[tuple[dict[str, Any], dict[str, Any]]] = []
    owner = importlib.import_module(f"lowprec.kernels.cuda.{name.split('.')[0]}")

    def recording(make: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
        """A function that makes copies: those for the device, and the CPU's beside them."""

        def recorded(*arguments: Any, **options: Any) -> dict[str, Any]:
            names = make(*arguments, **options)
            given = inspect.signature(make).bind(*arguments, **options).arguments
            given.pop("instructions", None)
            if given.pop("compiler", None) is device:
                made.append((names, make(**given)))
            return names

        return recorded

    for known, module in list(sys.modules.items()):
        for make in MAKERS if known.startswith("lowprec.kernels.") else ():
            if getattr(module, make.__name__, None) is make:
                monkeypatch.setattr(module, make.__name__, recording(make))
    text_of(getattr(owner, name.split(".")[1]).__wrapped__(*constants))
    found, seen, done = [], set(), set()
    left = [(key, on_device[key], on_cpu.get(key)) for on_device, on_cpu in made for key in on_device]
    while left:
        key, on_device, on_cpu = left.pop()
        if not getattr(on_device, "overloads", None) or id(on_device) in done:
            continue
        done.add(id(on_device))
        found += differences(key, on_device, on_cpu)
        own, other = on_device.py_func.__globals__, on_cpu.py_func.__globals__
        left += [(one, own[one], other[one]) for one in on_device.py_func.__code__.co_names if one in own]
        seen.add(f"{on_device.py_func.__module__.rpartition('.')[2]}.{on_device.py_func.__name__}")
    return found, seen


@pytest.mark.parametrize("turn", range(len(CHOSEN)))
def test_every_variable_of_a_decision_has_the_type_it_has_on_the_cpu(turn: int, monkeypatch) -> None:
    found, seen = all_differences(*CHOSEN[turn], monkeypatch)
    assert found == []
    assert seen


@pytest.mark.exhaustive
@pytest.mark.parametrize("turn", range(len(EVERY)))
def test_so_it_is_for_all_constants(turn: int, monkeypatch) -> None:
    found, seen = all_differences(*EVERY[turn], monkeypatch)
    assert found == []
    assert seen


def test_random_words_have_the_types_that_they_have_on_the_cpu() -> None:
    from lowprec.kernels.cuda import words

    with named_device():
        words.word_at.compile_device((types.uint64,) * 3)
    for name in ("word_at", "words_of", "philox", "_mix"):
        on_device = words._names[name]
        assert on_device.overloads
        assert differences(name, on_device, getattr(philox, name)) == []


def test_another_type_is_seen() -> None:
    from numba import cuda

    def narrow(x):
        kept = np.uint32(x)
        return np.uint32(kept + kept)

    def wide(x):
        kept = np.uint64(x)
        return np.uint32(kept + kept)

    on_device = cuda.jit(device=True)(narrow)
    with named_device():
        on_device.compile_device((types.uint32,))
    assert differences("f", on_device, njit(narrow)) == []
    assert "f.kept: uint32, not uint64" in differences("f", on_device, njit(wide))
