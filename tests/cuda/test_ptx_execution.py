"""The compiled kernels themselves, run by a machine for PTX: the CPU's bits. And what that machine does."""

from collections.abc import Callable
from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("numba_cuda", reason="needs numba-cuda, the extra `cuda`")

from ptx import compiled
from ptx_machine import Program, Regions, execute
from ptx_meaning import NAMES as MEANINGS
from ptx_meaning import exactly, number, value_of
from simulator import queue, same_bits
from twins import cases, factories

from lowprec import Rounding, reference
from lowprec.kernels.cpu import VALUES

pytestmark = compiled


@pytest.mark.parametrize("name", factories())
def test_every_kernel_gives_the_bits_of_the_cpu(name: str, machine, monkeypatch) -> None:
    cases("simulated")[name](monkeypatch)


def check_all_of_16_bits(format: str, mode: str) -> None:
    """All numbers of bfloat16 are rounded as the CPU rounds them, NaN among them."""
    from lowprec.kernels.cuda import elementwise

    x = torch.arange(1 << 16).to(torch.uint16).view(torch.bfloat16)
    seed, out = torch.tensor([7]), torch.empty_like(x)
    elementwise.quantize(
        queue((3, (32, 1))), x.data_ptr(), out.data_ptr(), "bfloat16", tuple(x.shape), x.stride(),
        out.stride(), format, mode, 32, VALUES, (seed.data_ptr(), 0, -1),
    )  # fmt: skip
    assert same_bits(out, torch.ops.lowprec.quantize(x, seed, format, mode, 32))


@pytest.mark.parametrize("mode", ["nearest_even", "stochastic"])
def test_all_numbers_of_16_bits(mode: str, machine) -> None:
    check_all_of_16_bits("e4m3fn", mode)


@pytest.mark.exhaustive
@pytest.mark.parametrize("mode", list(Rounding), ids=str)
@pytest.mark.parametrize("format", ["e4m3fn", "e5m2<saturate>", "fixed8f4<wrap>", "posit8", "log4f3"])
def test_all_numbers_of_16_bits_in_every_family_and_mode(format: str, mode: Rounding, machine) -> None:
    check_all_of_16_bits(format, str(mode))


def meaning(opcode: str, *operands: int) -> int:
    """What an instruction makes of patterns."""
    with np.errstate(all="ignore"):
        return int(eval(value_of(opcode, list(map(str, operands))), dict(MEANINGS)))


WORDS = [0, 1, 2, 31, 63, 64, 1000, 2**31 - 1, 2**31, 2**32 - 1, 2**62 + 12345, 2**63, 2**64 - 7, 2**64 - 1]
INTEGERS: dict[str, Callable[[Any, Any], Any]] = {
    "add": np.add, "sub": np.subtract, "mul.lo": np.multiply, "and": np.bitwise_and, "xor": np.bitwise_xor,
    "min": np.minimum, "max": np.maximum,
}  # fmt: skip


@pytest.mark.parametrize("kind", ["s32", "u32", "s64", "u64"])
def test_integers_are_those_of_numpy(kind: str) -> None:
    size, word = int(kind[1:]), np.dtype(f"u{int(kind[1:]) // 8}").type
    own = np.dtype({"s": "i", "u": "u"}[kind[0]] + str(size // 8)).type
    for x, y in product({w % 2**size for w in WORDS}, repeat=2):
        a, b = (np.array([z], word).view(own)[0] for z in (x, y))
        with np.errstate(all="ignore"):
            for name, apply in INTEGERS.items():
                assert meaning(f"{name}.{kind}", x, y) == int(np.array([apply(a, b)]).view(word)[0]), name
        whole = int(a) * int(b)
        assert meaning(f"mul.wide.{kind}", x, y) == whole % 2 ** (2 * size)
        assert meaning(f"mul.hi.{kind}", x, y) == (whole >> size) % 2**size
        assert meaning(f"setp.lt.{kind}", x, y) == (int(a) < int(b))
        assert meaning(f"shl.b{size}", x, y % 200) == (x << y % 200) % 2**size
        assert meaning(f"shr.{kind}", x, y % 200) == (int(a) >> y % 200) % 2**size
        if y:
            toward_zero = int(Fraction(int(a), int(b)))
            assert meaning(f"div.{kind}", x, y) == toward_zero % 2**size
            assert meaning(f"rem.{kind}", x, y) == (int(a) - toward_zero * int(b)) % 2**size


def test_bytes_and_fields() -> None:
    assert meaning("prmt.b32", 0x33221180, 0x77665544, 0x7508) == 0x775580FF
    assert meaning("bfi.b32", 0b101, 2**32 - 1, 4, 3) == 0xFFFFFFDF
    assert meaning("selp.b32", 5, 6, 0) == 6
    assert meaning("abs.s32", 2**32 - 5) == meaning("neg.s32", 2**32 - 5) == 5
    assert meaning("not.pred", 1) == 0
    assert meaning("cvt.s64.s32", 2**32 - 5) == 2**64 - 5
    assert meaning("cvt.u64.u32", 2**32 - 5) == 2**32 - 5
    assert meaning("cvt.u16.u64", 2**40 + 7) == 7


def hard(width: int) -> list[int]:
    """Patterns of ends, middles and NaN."""
    rng = np.random.default_rng(width)
    dtype = np.float64 if width == 64 else np.float32
    info = np.finfo(dtype)
    ends = [0.0, 1, 1 + info.eps, 3, 0.1, info.max, info.tiny, info.smallest_subnormal, np.inf, np.nan]
    some = np.concatenate([ends, np.ldexp(1 + rng.random(12), rng.integers(-140, 120, 12))]).astype(dtype)
    return np.concatenate([some, -some]).view(f"u{width // 8}").tolist()


def same(got: int, want: float, width: int) -> bool:
    """Whether a pattern is a number's, and NaN's any of NaN."""
    x = number(got, width)
    return x == want and np.signbit(x) == np.signbit(want) if want == want else x != x


@pytest.mark.parametrize("width", [32, 64])
def test_numbers_are_those_of_ieee_754(width: int) -> None:
    dtype = np.float64 if width == 64 else np.float32
    apply = {"add": np.add, "sub": np.subtract, "mul.rn": np.multiply, "div.rn": np.divide}
    with np.errstate(all="ignore"):
        for x, y in product(hard(width), repeat=2):
            a, b = dtype(number(x, width)), dtype(number(y, width))
            for name, function in apply.items():
                assert same(meaning(f"{name}.f{width}", x, y), function(a, b), width), (name, a, b)
            assert same(meaning(f"sqrt.rn.f{width}", x), np.sqrt(a), width)
            assert meaning(f"setp.lt.f{width}", x, y) == (a < b)
            assert meaning(f"setp.gtu.f{width}", x, y) == (not a <= b)
            assert meaning(f"setp.nan.f{width}", x, y) == (np.isnan(a) or np.isnan(b))
        for x in hard(32):
            assert same(meaning("cvt.f64.f32", x), float(number(x, 32)), 64)
        for x in hard(64):
            assert same(meaning("cvt.rn.f32.f64", x), float(np.float32(number(x, 64))), 32)
        for whole in WORDS:
            assert same(meaning(f"cvt.rn.f{width}.u64", whole), float(dtype(np.uint64(whole))), width)


@pytest.mark.parametrize("width", [32, 64])
def test_a_fused_multiply_add_is_rounded_once(width: int) -> None:
    rows = np.random.default_rng(1).choice(hard(width), (3000, 3)).astype(f"u{width // 8}")
    given = [np.ascontiguousarray(column).view(f"f{width // 8}") for column in rows.T]
    want = reference.elementary("fma", given, f"binary{width}")
    for row, result in zip(rows.tolist(), want.tolist(), strict=True):
        assert same(meaning(f"fma.rn.f{width}", *row), result, width)
    tie = Fraction(1) + Fraction(1, 2**24)
    assert number(exactly(tie, 32), 32) == 1
    assert number(exactly(tie + Fraction(1, 2**80), 32), 32) == 1 + 2**-23  # in binary64 it is the tie


def ran(body: str, threads: int = 1, declared: str = "") -> list[int]:
    """What each thread leaves in a word of its own; the body may use its address, %rd1, and number, %r1."""
    out = np.zeros(threads, np.uint32)
    text = (
        f"{declared}\n.visible .entry f(\n)\n{{\nmov.u32 %r1, %tid.x;\nld.param.u64 %rd9, [f_param_0];\n"
        f"mad.lo.s64 %rd1, 4, %tid.x, %rd9;\n{body}\nret;\n}}\n"
    )
    regions = Regions()
    regions.add(out.ctypes.data, out.nbytes)
    execute(Program(text), 1, (threads, 1), [out.ctypes.data], regions)
    return out.tolist()


EXCHANGE = "mov.u32 %r2, 1; mov.u32 %r3, 31; shfl.sync.bfly.b32 %r4|%p1, %r1, %r2, %r3, %r9;"


def test_threads_exchange_what_they_have() -> None:
    got = ran(f"mov.u32 %r9, -1; {EXCHANGE} st.global.u32 [%rd1], %r4;", 32)
    assert got == [lane ^ 1 for lane in range(32)]


def test_threads_meet_at_a_barrier() -> None:
    shared = ".visible .shared .align 4 .b8 room[32];"
    body = (
        "mad.lo.s64 %rd2, 4, %tid.x, room; st.shared.u32 [%rd2], %r1; {} sub.s32 %r5, 7, %r1;"
        "mad.lo.s64 %rd3, 4, %r5, room; ld.shared.u32 %r6, [%rd3]; st.global.u32 [%rd1], %r6;"
    )
    assert ran(body.format("bar.sync 0;"), 8, shared) == [7, 6, 5, 4, 3, 2, 1, 0]
    assert ran(body.format(""), 8, shared) != [7, 6, 5, 4, 3, 2, 1, 0]  # what the barrier is there for


@pytest.mark.parametrize(("body", "error", "message"), [
    ("st.global.u32 [%rd1+2], 1;", AssertionError, "is not aligned to 4"),
    ("st.global.u32 [%rd1+4], 1;", AssertionError, "the kernel was given no global memory at"),
    ("ld.global.u32 %r2, [%rd9+-4];", AssertionError, "the kernel was given no global memory at"),
    ("st.global.u32 [%rd1], %r7;", TypeError, "NoneType"),
    ("mov.u64 %rd5, 8; st.local.u32 [%rd5], 1;", AssertionError, "local memory has 0 bytes"),
    ("fma.rz.f32 %f1, %f1, %f1, %f1;", NotImplementedError, "rz"),
    (f"mov.u32 %r9, 3; {EXCHANGE}", AssertionError, r"lanes \[0, 1\] are to exchange values, and \[0, 1, 2"),
    (
        f"mov.u32 %r9, -1; setp.eq.s32 %p2, %r1, 0; @%p2 bra $L1; {EXCHANGE}\n$L1:\n{EXCHANGE}",
        AssertionError, "are to exchange values",
    ),
])  # fmt: skip
def test_what_no_device_does_is_an_error(body: str, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        ran(body, 32)
