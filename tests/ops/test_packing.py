"""pack and unpack against one big integer: every code of every width, every end, every error."""

import itertools
import random
from collections.abc import Iterator, Sequence
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from oracle import assert_same, spread
from torch import Tensor
from torch.library import opcheck

import lowprec
from lowprec import decode, encode, pack, unpack
from lowprec.kernels import packing

WIDTHS = range(1, 17)
BYTES = torch.zeros(4, dtype=torch.uint8)


def as_codes(codes: Sequence[int], bits: int) -> Tensor:
    """A tensor as encode gives it."""
    return torch.tensor(codes, dtype=torch.int32).to(torch.uint8 if bits <= 8 else torch.uint16)


def packed_by_definition(codes: Sequence[int], bits: int) -> bytes:
    """One number, the first code in its lowest bits, as little-endian bytes."""
    digits = "".join(f"{code:0{bits}b}" for code in reversed(codes))
    return int(f"0{digits}", 2).to_bytes(-(-len(digits) // 8), "little")


def shuffled(bits: int) -> list[int]:
    """All codes of a width in an arbitrary order."""
    return random.Random(bits).sample(range(1 << bits), 1 << bits)


def drawn(count: int, bits: int) -> list[int]:
    """Arbitrary codes, among which the largest is frequent."""
    source, largest = random.Random(count * 17 + bits), (1 << bits) - 1
    return [source.choice((largest, source.randint(0, largest))) for _ in range(count)]


def check(codes: Sequence[int], bits: int) -> None:
    """There and back."""
    x = as_codes(codes, bits)
    packed = pack(x, bits)
    assert (packed.dtype, packed.dim()) == (torch.uint8, 1)
    assert packed.nbytes == -(-len(codes) * bits // 8)
    assert packed.numpy().tobytes() == packed_by_definition(codes, bits)
    assert_same(unpack(packed, bits, len(codes)), x)


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """So many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("bits", WIDTHS)
def test_every_code(bits: int) -> None:
    check(shuffled(bits), bits)


@pytest.mark.parametrize("bits", WIDTHS)
def test_every_length(bits: int) -> None:
    for count in (*range(42), 127, 128, 129):
        check(drawn(count, bits), bits)


@pytest.mark.parametrize("bits", WIDTHS)
def test_parts_may_end_in_any_order(bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def backwards(kernel: Any, calls: Sequence[tuple[int, ...]], threads: int) -> None:
        assert len(calls) > 1
        for call in reversed(calls):
            kernel(*call)

    monkeypatch.setattr(packing, "SERIAL_BELOW", 0)
    monkeypatch.setattr(packing, "share", backwards)
    for count in (9, 63, 65, 200, 1001):
        check(drawn(count, bits), bits)


@pytest.mark.parametrize("bits", WIDTHS)
def test_threads_share_no_byte(bits: int, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "SERIAL_BELOW", 0)
    for count in (1, 8, 9, 63, 64, 65, 200, 1001):
        check(drawn(count, bits), bits)


@pytest.mark.parametrize("bits", [3, 4, 11])
def test_as_many_as_threads_are_woken_for(bits: int, threads: int) -> None:
    check(drawn(packing.SERIAL_BELOW + 11, bits), bits)


@pytest.mark.parametrize("bits", WIDTHS)
def test_nothing_else_is_written(bits: int) -> None:
    """Bytes of 0xA5 around the results, at addresses that are no multiple of anything, stay."""
    margin, untouched = 33, 0xA5
    for count, threads in itertools.product((0, 1, 7, 8, 9, 40, 41), (1, 2)):
        x = as_codes(drawn(count, bits), bits)
        expected = packed_by_definition(x.tolist(), bits)
        room = np.full(2 * margin + len(expected), untouched, np.uint8)
        start = room.ctypes.data + margin
        assert packing.pack(x.data_ptr(), start, bits, count, threads)
        rim = bytes([untouched] * margin)
        assert room.tobytes() == rim + expected + rim
        back = np.full(2 * margin + x.nbytes, untouched, np.uint8)
        packing.unpack(start, back.ctypes.data + margin, bits, count, threads)
        assert back.tobytes() == rim + x.numpy().tobytes() + rim


class TestTensors:
    @pytest.mark.parametrize("shape", [(), (1,), (0,), (3, 0, 2), (3, 5), (2, 3, 5, 7)])
    @pytest.mark.parametrize("bits", [3, 8, 12])
    def test_any_shape(self, shape: tuple[int, ...], bits: int) -> None:
        codes = as_codes(drawn(int(np.prod(shape)), bits), bits).view(shape)
        packed = pack(codes, bits)
        assert_same(packed, pack(codes.flatten(), bits))
        for same in (shape, list(shape), torch.Size(shape)):
            assert_same(unpack(packed, bits, same), codes)

    @pytest.mark.parametrize("bits", [5, 13])
    def test_any_strides(self, bits: int) -> None:
        codes = as_codes(drawn(240, bits), bits).view(12, 20)
        for view in (codes.T, codes[::2, 1::3], codes[:1].expand(5, 20), codes.flatten()[1:]):
            assert_same(pack(view, bits), pack(view.clone(memory_format=torch.contiguous_format), bits))
        packed = pack(codes, bits)
        spaced = torch.stack([packed, packed + 1], 1)[:, 0]
        for view in (spaced, torch.cat([BYTES[:1], packed])[1:]):
            assert_same(unpack(view, bits, (12, 20)), codes)

    def test_meta_tensors_show_shapes_and_dtypes(self) -> None:
        packed = pack(torch.empty(3, 5, dtype=torch.uint16, device="meta"), 11)
        assert (packed.shape, packed.dtype, packed.device.type) == ((21,), torch.uint8, "meta")
        codes = unpack(packed, 11, (3, 5))
        assert (codes.shape, codes.dtype, codes.device.type) == ((3, 5), torch.uint16, "meta")
        with pytest.raises(ValueError, match="`packed` must have 22 bytes in one dimension"):
            unpack(packed, 11, 16)

    def test_opcheck(self) -> None:
        codes = as_codes(drawn(15, 11), 11).view(3, 5)
        opcheck(torch.ops.lowprec.pack.default, (codes, 11))
        opcheck(torch.ops.lowprec.pack.default, (BYTES, 3))
        opcheck(torch.ops.lowprec.unpack.default, (pack(codes, 11), 11, (3, 5)))

    @pytest.mark.parametrize("dynamic", [False, True])
    def test_compiled(self, dynamic: bool) -> None:
        def function(x: Tensor) -> tuple[Tensor, Tensor]:
            packed = pack(encode(x, "e3m2"), 6)
            return packed, decode(unpack(packed, 6, x.shape), "e3m2")

        torch.compiler.reset()
        compiled = torch.compile(function, fullgraph=True, dynamic=dynamic, backend="aot_eager")
        for shape in ((40, 33), (7, 3)):
            x = spread(*shape).nan_to_num(0.5)
            for got, want in zip(compiled(x), function(x), strict=True):
                assert_same(got, want)
        torch.compiler.reset()


FORMATS = {
    "e4m3fn": (ml_dtypes.float8_e4m3fn, torch.float8_e4m3fn),
    "e4m3fnuz": (ml_dtypes.float8_e4m3fnuz, torch.float8_e4m3fnuz),
    "e5m2": (ml_dtypes.float8_e5m2, torch.float8_e5m2),
    "e5m2fnuz": (ml_dtypes.float8_e5m2fnuz, torch.float8_e5m2fnuz),
    "bfloat16": (ml_dtypes.bfloat16, torch.bfloat16),
    "binary16": (np.float16, torch.float16),
    "e2m1": (ml_dtypes.float4_e2m1fn, None),
    "e3m2": (ml_dtypes.float6_e3m2fn, None),
    "e2m3": (ml_dtypes.float6_e2m3fn, None),
    "fixed4f0": (ml_dtypes.int4, None),
    "ufixed4f0": (ml_dtypes.uint4, None),
    "fixed8f0": (np.int8, torch.int8),
}


class TestInterchange:
    @pytest.mark.parametrize("format", FORMATS)
    def test_codes_are_the_memory_of_other_packages(self, format: str) -> None:
        bits = lowprec.finfo(format).bits
        codes = as_codes(shuffled(bits), bits)
        values = decode(unpack(pack(codes, bits), bits, codes.shape), format)
        peer, dtype = FORMATS[format]
        views = [torch.from_numpy(codes.numpy().view(peer).astype(np.float32))]
        if dtype is not None:
            assert codes.view(dtype).data_ptr() == codes.data_ptr()
            views.append(codes.view(dtype).float())
        for view in views:
            assert_same(view, values)

    def test_two_codes_of_4_bits_are_a_float4_e2m1fn_x2(self) -> None:
        codes = as_codes([code for first in range(16) for code in (first, first ^ 5)], 4)
        packed = pack(codes, 4)
        pairs = packed.view(torch.float4_e2m1fn_x2)
        assert pairs.data_ptr() == packed.data_ptr()
        assert pairs.shape == (16,)
        nibbles = pairs.view(torch.uint8).numpy()  # torch itself cannot compute with them
        first, second = ((nibbles >> shift & 15).view(ml_dtypes.float4_e2m1fn) for shift in (0, 4))
        values = decode(codes, "e2m1").view(16, 2)
        assert_same(torch.from_numpy(first.astype(np.float32)), values[:, 0].clone())
        assert_same(torch.from_numpy(second.astype(np.float32)), values[:, 1].clone())


class Elsewhere(Tensor):
    """A tensor that says that it lies on another device."""

    is_cpu = is_cuda = is_meta = False
    device = torch.device("mps:0")


@pytest.mark.parametrize("bits", [bits for bits in WIDTHS if bits not in (8, 16)])
def test_a_code_that_does_not_fit_is_named(bits: int) -> None:
    codes = as_codes([0] * 100, bits)
    for at in (0, 7, 50, 99):
        wrong = codes.clone()
        wrong[at] = 1 << bits
        with pytest.raises(ValueError, match=rf"`codes` must lie below 2\^{bits}, got {1 << bits}"):
            pack(wrong, bits)


@pytest.mark.parametrize("bits", [1, 3, 4, 7, 9, 15])
def test_bits_after_the_last_code_are_an_error(bits: int) -> None:
    packed = pack(as_codes(drawn(5, bits), bits), bits)
    for bit in range(5 * bits % 8, 8):
        wrong = packed.clone()
        wrong[-1] |= 1 << bit
        message = (
            f"`packed` must have a last byte whose upper {8 - 5 * bits % 8} .* got '{int(wrong[-1]):08b}'"
        )
        with pytest.raises(ValueError, match=message):
            unpack(wrong, bits, 5)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"codes": [3]}, TypeError, "`codes` must be a tensor, got <class 'list'>"),
        ({"codes": BYTES.int()}, TypeError, "`codes` must be a tensor of torch.uint8 for 4 bits, got"),
        ({"codes": BYTES.to(torch.uint16)}, TypeError, "`codes` must be a tensor of torch.uint8 for 4 bits"),
        ({"bits": 9}, TypeError, "`codes` must be a tensor of torch.uint16 for 9 bits, got"),
        (
            {"codes": BYTES.as_subclass(Elsewhere)},
            ValueError,
            "`codes` must be on the CPU or a CUDA device",
        ),
        ({"bits": 0}, ValueError, "`bits` must lie between 1 and 16, got 0"),
        ({"bits": 17}, ValueError, "`bits` must lie between 1 and 16, got 17"),
        ({"bits": 4.0}, TypeError, "`bits` must be an integer, got 4.0"),
    ],
)
def test_what_pack_refuses(arguments, error, message) -> None:
    with pytest.raises(error, match=message):
        pack(**{"codes": BYTES, "bits": 4, **arguments})


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"packed": [3]}, TypeError, "`packed` must be a tensor, got <class 'list'>"),
        ({"packed": BYTES.int()}, TypeError, "`packed` must be a tensor of torch.uint8, got torch.int32"),
        (
            {"packed": BYTES.as_subclass(Elsewhere)},
            ValueError,
            "`packed` must be on the CPU or a CUDA device",
        ),
        ({"packed": BYTES.view(2, 2)}, ValueError, r"must have 4 bytes in one dim.* got \(2, 2\)"),
        ({"packed": BYTES[:3]}, ValueError, r"4 bytes in one .* for 8 codes of 4 bits, got \(3,\)"),
        ({"shape": (3, 3)}, ValueError, r"`packed` must have 5 bytes .* for 9 codes .* got \(4,\)"),
        ({"shape": (-2, -4)}, ValueError, r"`shape` must hold sizes of at least 0, got \(-2, -4\)"),
        ({"shape": 8.0}, TypeError, "`shape` must be an integer or a sequence of integers, got 8.0"),
        ({"shape": (8, True)}, TypeError, r"`shape` must be an integer or .*, got \(8, True\)"),
        ({"bits": 17}, ValueError, "`bits` must lie between 1 and 16, got 17"),
        ({"bits": True}, TypeError, "`bits` must be an integer, got True"),
    ],
)
def test_what_unpack_refuses(arguments, error, message) -> None:
    with pytest.raises(error, match=message):
        unpack(**{"packed": BYTES, "bits": 4, "shape": 8, **arguments})
