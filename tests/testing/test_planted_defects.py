"""Planted defects of formats: check_format finds each and shows a counterexample."""

import ctypes
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest

from lowprec.formats import FixedPoint, FloatingPoint, Format, Logarithmic, Posit, TabledFormat, parse
from lowprec.kernels import cpu, dispatch
from lowprec.kernels.layout import row_major
from lowprec.reference import elements
from lowprec.testing import FormatError, check_format

Patch = pytest.MonkeyPatch
Array = Any


def memory(address: int, shape: tuple[int, ...], strides: tuple[int, ...], dtype: Any = np.float32) -> Array:
    """The array at an address; strides count elements."""
    width = np.dtype(dtype).itemsize
    span = 1 + sum((size - 1) * step for size, step in zip(shape, strides, strict=True))
    flat = np.frombuffer((ctypes.c_char * (span * width)).from_address(address), dtype)
    return np.lib.stride_tricks.as_strided(flat, shape, [step * width for step in strides])


def kernel(change: Callable[..., None]) -> Callable[[Patch], None]:
    """Replace the kernel call by one that gets the real one first, then the same arguments."""
    real = dispatch.quantize

    def plant(patch: Patch) -> None:
        patch.setattr(dispatch, "quantize", functools.partial(change, real))

    return plant


def results(change: Callable[[Array], Array]) -> Callable[[Patch], None]:
    """A kernel whose results are changed afterwards."""

    def changed(real: Any, x: int, out: int, carrier: str, shape: Any, xs: Any, outs: Any, *rest: Any,
                **options: Any) -> None:  # fmt: skip
        real(x, out, carrier, shape, xs, outs, *rest, **options)
        if options.get("kind", cpu.VALUES) == cpu.VALUES:
            values = memory(out, tuple(shape), tuple(outs))
            values[...] = change(values.copy())

    return kernel(changed)


def inputs(change: Callable[[Array], Array]) -> Callable[[Patch], None]:
    """A kernel that looks at other inputs."""

    def changed(real: Any, x: int, out: int, carrier: str, shape: Any, xs: Any, *rest: Any,
                **options: Any) -> None:  # fmt: skip
        with np.errstate(over="ignore"):
            other = np.ascontiguousarray(change(memory(x, tuple(shape), tuple(xs)).copy()))
        real(other.ctypes.data, out, carrier, shape, row_major(tuple(shape)), *rest, **options)

    return kernel(changed)


def arguments(change: Callable[[dict[str, Any]], None]) -> Callable[[Patch], None]:
    """A kernel that is called with other arguments."""
    names = ("x", "out", "carrier", "shape", "x_strides", "out_strides", "format", "rounding")

    def changed(real: Any, *given: Any, **options: Any) -> None:
        bound = {**dict(zip(names, given, strict=True)), **options}
        change(bound)
        real(**bound)

    return kernel(changed)


def mode(wrong: dict[str, str]) -> Callable[[Patch], None]:
    """A kernel that mistakes modes."""
    return arguments(lambda bound: bound.update(rounding=wrong.get(bound["rounding"], bound["rounding"])))


def coder(change: Callable[[Array], None], *, decode: bool = False) -> Callable[[Patch], None]:
    """Codes that are changed: those that encode writes, or those that decode reads."""

    def plant(patch: Patch) -> None:
        real = dispatch.encode

        def changed(x: int, out: int, carrier: str, code: str, size: int, *rest: Any, **options: Any) -> None:
            if decode and options.get("decode"):
                codes = memory(x, (size,), (1,), code).copy()
                change(codes)
                x = codes.ctypes.data
            real(x, out, carrier, code, size, *rest, **options)
            if not decode and not options.get("decode"):
                change(memory(out, (size,), (1,), code))

        patch.setattr(dispatch, "encode", changed)

    return plant


def attribute(owner: type, name: str, change: Callable[[Any, Any], Any]) -> Callable[[Patch], None]:
    """A property of a class of formats that is something else."""
    real = vars(owner)[name]

    def plant(patch: Patch) -> None:
        patch.setattr(owner, name, property(lambda self: change(self, real.fget(self))))

    return plant


def method(owner: type, name: str, change: Callable[..., Any]) -> Callable[[Patch], None]:
    """A method that is given the real one first."""
    real = getattr(owner, name)
    return lambda patch: patch.setattr(owner, name, lambda self, *given: change(real, self, *given))


def drawn(change: Callable[[int], int]) -> Callable[[Patch], None]:
    """A reference that looks at other words."""
    real = elements.rounds_up

    def changed(*given: Any, word: int = 0, **options: Any) -> bool:
        return real(*given, word=change(word), **options)

    return lambda patch: patch.setattr(elements, "rounds_up", changed)


def swap(first: int, second: int) -> Callable[[Array], None]:
    """Exchange two codes."""

    def change(codes: Array) -> None:
        is_first, is_second = codes == first, codes == second
        codes[is_first], codes[is_second] = second, first

    return change


def lose_last(real: Any, *given: Any, **options: Any) -> None:
    """What several threads do, but for the last element."""
    real(*given, **options)
    if options.get("threads", 1) > 1 and np.prod(given[3]) > 1 << 16:
        memory(given[1], tuple(given[3]), tuple(given[5])).flat[-1] = 7


def clip_scales(bound: dict[str, Any]) -> None:
    """Scales of e8m0 no less than 2^-27."""
    spec = bound["x"], bound["carrier"], tuple(bound["shape"]), tuple(bound["x_strides"])
    found = dispatch.make_scales(*spec, parse(bound["format"]))
    bound["scales"] = tuple(np.maximum(codes, 100).astype(codes.dtype) for codes in found)


@dataclass(frozen=True)
class WrongMax(TabledFormat):
    """A format of somebody's own that says something else than its codes."""

    def code_values(self) -> list[float]:
        return [0, 1, 2, 4, 6]

    @property
    def max(self) -> float:
        return 4.0


class Defect(NamedTuple):
    """What is planted where, and the property that it breaks."""

    name: str
    format: str | Format
    plant: Callable[[Patch], None]
    breaks: str


DEFECTS = [
    # Ties, directions, precision.
    Defect("ties toward zero", "e4m3fn", mode({"nearest_even": "nearest_zero"}), "ties"),
    Defect("nearest by truncation", "e4m3fn", mode({"nearest_even": "toward_zero"}), "nearest"),
    Defect("rounded twice, by way of float16", "e4m3fn", inputs(lambda x: x.astype("f2").astype("f4")),
           "nearest"),
    Defect("ties of fixed point", "fixed8f4", mode({"nearest_even": "nearest_zero"}), "ties"),
    # Noise.
    Defect("one word too far", "e4m3fn",
           arguments(lambda bound: bound.update(word=min(bound.get("word", -1) + 1, 2**32 - 1))),
           "stochastic rounding"),
    Defect("a random bit too many", "e4m3fn",
           arguments(lambda bound: bound.update(random_bits=bound.get("random_bits", 32) % 32 + 1)),
           "stochastic rounding"),
    Defect("noise of the next position", "e4m3fn",
           arguments(lambda bound: bound.update(index_offset=1 if bound.get("word", -1) < 0 else 0)),
           "noise of seed and position"),
    Defect("the reference one word behind", "e2m3", drawn(lambda word: max(word - 1, 0)),
           "stochastic rounding"),
    # Specials and ends.
    Defect("-0 lost", "e4m3fn", results(lambda y: y + np.float32(0)), "the sign of zero"),
    Defect("NaN lost", "e4m3fn", results(lambda y: np.nan_to_num(y, nan=448)), "NaN stays NaN"),
    Defect("infinity kept finite", "e5m2", results(lambda y: np.clip(y, -57344, 57344)), "overflow"),
    Defect("saturates one value early", "e4m3fn", results(lambda y: np.clip(y, -416, 416)),
           "ties"),
    Defect("subnormals lost", "e4m3fn", results(lambda y: np.where(abs(y) < 2**-6, np.copysign(0, y), y)),
           "nearest"),
    Defect("wraps at another width", "fixed8f4<wrap>", results(lambda y: np.where(y == -8, 8, y)),
           "overflow"),
    # Memory and threads.
    Defect("strides ignored", "e4m3fn",
           arguments(lambda bound: bound.update(x_strides=row_major(tuple(bound["shape"])))),
           "strides change no bit"),
    Defect("an element lost between threads", "e4m3fn", kernel(lose_last), "threads change no bit"),
    # Codes.
    Defect("two codes swapped", "e4m3fn", coder(swap(3, 4)), "codes round-trip"),
    Defect("two codes read as each other", "e4m3fn", coder(swap(3, 4), decode=True), "codes decode"),
    Defect("another code of NaN", "e4m3fn", coder(swap(0x7F, 0xFF)), "codes round-trip"),
    # What a format says of itself.
    Defect("wrong bias", "e4m3fn", attribute(FloatingPoint, "_bias", lambda _, bias: bias + 1),
           "published numbers"),
    Defect("wrong bias of a format without a name", "e3m3fn<bias1>",
           attribute(FloatingPoint, "_bias", lambda _, bias: bias + 1), "ends"),
    Defect("wrong max", "e4m3fn", attribute(FloatingPoint, "max", lambda *_: 480.0), "published numbers"),
    Defect("wrong max of one's own", WrongMax(), lambda _: None, "ends"),
    Defect("wrong width", "e3m2", attribute(FloatingPoint, "bits", lambda _, bits: bits + 1), "bits"),
    Defect("a value lost", "e3m2",
           method(FloatingPoint, "values", lambda real, self: np.delete(real(self), 5)),
           "values are those of the definition"),
    Defect("a value that is none", "e3m2",
           method(FloatingPoint, "_on_grid", lambda real, self, x: real(self, x) or x == 15), "contains"),
    Defect("an option that its name leaves out", "fixed8f4<wrap>",
           method(FixedPoint, "__str__", lambda real, self: real(self).removesuffix("<wrap>")),
           "names and pickles"),
    # Formats that list their values: each is met nowhere else, since what was made of it is remembered.
    Defect("ties to odd positions", "codebook<0,1,2.5,5,9>",
           method(TabledFormat, "is_even", lambda real, self, index: not real(self, index)), "ties"),
    Defect("boundaries too low", "codebook<0,1,2.5,6,9>",
           method(TabledFormat, "boundaries", lambda real, self: [x * 7 / 8 for x in real(self)]), "nearest"),
    Defect("logarithms rounded by value", "log3f2",
           method(Logarithmic, "boundaries", lambda _, self: TabledFormat.boundaries(self)), "nearest"),
    Defect("two regimes mixed up", "posit7es1",
           method(Posit, "magnitude", lambda real, self, code: real(self, {5: 6, 6: 5}.get(code, code))),
           "values ascend"),
    # Groups.
    Defect("groups along the wrong axis", "bfp8<group32>",
           arguments(lambda bound: bound.update(format="bfp8<group32@0>")), "nearest|values"),
    Defect("one scale for two groups", "mxfp4",
           arguments(lambda bound: bound.update(format="scaled<e2m1,e8m0,group64>")), "nearest|values"),
    Defect("clipped scales", "mxfp4", arguments(clip_scales), "nearest|values"),
]  # fmt: skip


LISTED = ("codebook", "log", "posit")
NAMES = {defect.format for defect in DEFECTS if isinstance(defect.format, str)}
FORMATS = sorted(name for name in NAMES if not name.startswith(LISTED))


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.name)
def test_every_defect_is_found_and_shown(defect: Defect, monkeypatch: Patch) -> None:
    defect.plant(monkeypatch)
    with pytest.raises(FormatError, match=defect.breaks) as raised:
        check_format(defect.format)
    monkeypatch.undo()
    first, *lines = str(raised.value).splitlines()
    assert str(defect.format).removesuffix("<wrap>") in first
    shown = [line.split()[0] for line in lines]
    assert shown[:3] == ["input", "got", "want"]
    assert lines[1].split()[1:] != lines[2].split()[1:]


@pytest.mark.parametrize("format", FORMATS)
def test_without_a_defect_nothing_is_found(format: str) -> None:
    assert check_format(format).cases.total() > 10_000
