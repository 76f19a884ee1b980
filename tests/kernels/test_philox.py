"""The random words of the kernels: published vectors, the layout, and shards of a whole."""

import numpy as np
import numpy.typing as npt
import pytest
import torch
from numba import njit
from oracle import SEED, assert_same, spread
from torch import Tensor

from lowprec import reference
from lowprec.kernels import philox, tiles

ONES = 2**32 - 1
PI = (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344)
SEEDS = [0, 1, SEED, 2**64 - 1, 1 << 32]
STREAMS = [0, 1, 2**32 - 1, 2**32, 2**64 - 1]
SIGNED_SEED = SEED - 2**64


@njit
def _philox(counter, key):
    return philox.philox(counter[0], counter[1], counter[2], counter[3], key[0], key[1])


@njit
def _word_at(seed, stream, index):
    return philox.word_at(seed, stream, index)


@njit
def _fill_tile(ceilings, seed, stream, tile):
    tiles.fill_tile(ceilings, seed, stream, tile)


def tile_of(seed: int, stream: int, tile: int) -> npt.NDArray[np.uint32]:
    """The words of one tile."""
    ceilings = np.empty(philox.TILE, np.uint32)
    _fill_tile(ceilings, np.uint64(seed), np.uint64(stream), np.uint64(tile))
    return ~ceilings


@pytest.mark.parametrize(
    ("counter", "key", "want"),
    [
        ((0,) * 4, (0,) * 2, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((ONES,) * 4, (ONES,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (PI, (0xA4093822, 0x299F31D0), (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1)),
    ],
)
def test_known_answers_of_random123(counter, key, want) -> None:
    assert _philox(np.uint32(counter), np.uint32(key)) == want


def test_any_counter_and_key_agree_with_the_reference() -> None:
    rng = np.random.default_rng(4)
    for row in rng.integers(0, 2**32, (200, 6), dtype=np.uint32):
        want = reference.philox4x32(tuple(row[:4].tolist()), tuple(row[4:].tolist()))
        assert _philox(row[:4], row[4:]) == want


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_word_by_its_index(seed: int, stream: int) -> None:
    indices = [0, 1, 255, 256, 511, 512, 767, 768, 1023, 1024, 5 * 1024 + 519, 2**32 - 1, 2**32,
               2**34 - 1, 2**34, 2**34 + 300, 2**36 + 1023, 2**62 + 7, 2**63 - 1]  # fmt: skip
    got = [_word_at(np.uint64(seed), np.uint64(stream), np.uint64(index)) for index in indices]
    assert got == [reference.random_word(seed, stream, index) for index in indices]


# n = 2^32 lies at the beginning of tile 2^24: a carry into the counter's second word.
@pytest.mark.parametrize("tile", [0, 1, 77, 2**24 - 1, 2**24, 2**24 + 1, 2**40, 2**53 - 1])
@pytest.mark.parametrize(("seed", "stream"), [(0, 0), (SEED, 0), (SEED, 1), (2**64 - 1, 2**33 + 5)])
def test_a_tile_is_the_words_of_its_elements(tile: int, seed: int, stream: int) -> None:
    want = reference.random_words(seed, stream, (philox.TILE,), offset=tile * philox.TILE)
    np.testing.assert_array_equal(tile_of(seed, stream, tile), want)


def quantized(x: Tensor, offset: int = 0, strides: tuple[int, ...] | None = None,
              format: str = "e4m3fn", stream: int = 0) -> Tensor:  # fmt: skip
    """The operator with an index map."""
    seed = torch.tensor([SIGNED_SEED])
    arguments = (format, "stochastic", 32, stream, offset, strides)
    return torch.ops.lowprec.quantize(x, seed, *arguments)


def fired(x: Tensor, offset: int = 0, strides: tuple[int, ...] | None = None) -> Tensor:
    """The flags with an index map."""
    seed = torch.tensor([SIGNED_SEED])
    return torch.ops.lowprec.overflowed(x, seed, "fixed8f7", "stochastic", 32, 0, offset, strides)


@pytest.mark.parametrize("format", ["e4m3fn", "fixed8f4"])
@pytest.mark.parametrize("stream", [0, 1, 2**31, 2**62])
@pytest.mark.parametrize("offset", [0, 5, 1023, 2**34 - 700, 2**40 + 3])
def test_the_operator_takes_the_words_from_an_offset_on(offset: int, stream: int, format: str) -> None:
    x = spread(1500)
    words = reference.random_words(SEED, stream, x.shape, offset=offset)
    want = reference.quantize(x.numpy(), format, rounding="stochastic", words=words)
    assert_same(quantized(x, offset, None, format, stream), torch.from_numpy(want))


class TestAShardRoundsAsPartOfItsWhole:
    def test_rows(self) -> None:
        x = spread(40, 333)
        whole, flags = quantized(x), fired(x)
        for first, last in ((0, 1), (1, 7), (7, 40)):
            part = x[first:last]
            assert_same(quantized(part, first * 333, (333, 1)), whole[first:last])
            assert_same(quantized(part, first * 333), whole[first:last])  # rows are consecutive
            assert_same(fired(part, first * 333, (333, 1)), flags[first:last])

    @pytest.mark.parametrize("copied", [False, True])
    def test_columns(self, copied: bool) -> None:
        x = spread(40, 1333)
        whole, flags = quantized(x), fired(x)
        for first, last in ((0, 500), (500, 501), (501, 1333)):
            part = x[:, first:last].clone() if copied else x[:, first:last]
            assert_same(quantized(part, first, (1333, 1)), whole[:, first:last])
            assert_same(fired(part, first, (1333, 1)), flags[:, first:last])

    @pytest.mark.parametrize("format", ["e4m3fn", "bfp8<group8>", "bfp8<channel0>"])
    def test_blocks_of_three_dimensions(self, format: str) -> None:
        x = spread(6, 20, 64)
        whole = quantized(x, format=format)
        i, j = slice(2, 5), slice(3, 19)
        k = slice(16, 40) if "group" in format else slice(0, 64)
        j = slice(0, 20) if "channel" in format else j
        part = x[i, j, k]
        offset = (i.start * 20 + j.start) * 64 + k.start
        assert_same(quantized(part, offset, (1280, 64, 1), format), whole[i, j, k])

    def test_every_other_element(self) -> None:
        x = spread(50, 60)
        assert_same(quantized(x[1::2, 3::4], 60 + 3, (120, 4)), quantized(x)[1::2, 3::4])

    def test_a_transposed_shard(self) -> None:
        x = spread(50, 60)
        assert_same(quantized(x.T, 0, (1, 60)), quantized(x).T)

    def test_an_index_that_all_elements_share(self) -> None:
        x = torch.full((7, 9), 1.06)
        got = quantized(x, 12, (0, 0))
        word = reference.random_words(SEED, 0, (1,), offset=12)
        want = reference.quantize(np.float32([1.06]), "e4m3fn", rounding="stochastic", words=word)
        assert_same(got, torch.from_numpy(want).expand(7, 9))

    def test_other_words_give_another_result(self) -> None:
        x = torch.full((4096,), 1.0625)
        results = [quantized(x), quantized(x, 1), quantized(x, stream=1), quantized(x, 0, (3,))]
        for number, result in enumerate(results):
            assert not any(torch.equal(result, other) for other in results[:number])
