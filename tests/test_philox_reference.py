"""The reference's random words: published vectors, and the layout that every kernel must follow."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from lowprec.reference import philox4x32, random_word, random_words

ONES = 2**32 - 1
PI = (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344)
PI_KEY = (0xA4093822, 0x299F31D0)


class TestPhilox:
    @pytest.mark.parametrize(
        ("counter", "key", "rounds", "want"),
        [
            ((0,) * 4, (0,) * 2, 10, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
            ((ONES,) * 4, (ONES,) * 2, 10, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
            (PI, PI_KEY, 10, (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1)),
            ((0,) * 4, (0,) * 2, 7, (0x5F6FB709, 0x0D893F64, 0x4F121F81, 0x4F730A48)),
        ],
    )
    def test_known_answers_of_random123(self, counter, key, rounds, want):
        assert philox4x32(counter, key, rounds) == want

    def test_no_round_changes_nothing(self):
        assert philox4x32(PI, PI_KEY, 0) == PI

    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            (((0,) * 3, (0, 0)), ValueError, r"`counter` must hold 4 words, got \(0, 0, 0\)"),
            (((0,) * 4, (0,)), ValueError, r"`key` must hold 2 words, got \(0,\)"),
            (((0, 0, 0, 2**32), (0, 0)), ValueError, "`counter` must lie between 0 and 4294967295"),
            (((0,) * 4, (0, -1)), ValueError, "`key` must lie between 0 and 4294967295, got -1"),
            (((0,) * 4, (0, 0.5)), TypeError, "`key` must be an integer, got 0.5"),
            (((0,) * 4, (0, 0), -1), ValueError, "`rounds` must lie between 0 and 16, got -1"),
        ],
    )
    def test_errors(self, arguments, error, message):
        with pytest.raises(error, match=message):
            philox4x32(*arguments)


class TestLayout:
    SEED, STREAM = 0x0123456789ABCDEF, 0xFEDCBA9876543210

    @pytest.mark.parametrize(
        ("index", "n", "output"),
        [
            (0, 0, 0),
            (1, 1, 0),
            (255, 255, 0),
            (256, 0, 1),
            (1023, 255, 3),
            (1024, 256, 0),
            (5 * 1024 + 2 * 256 + 7, 5 * 256 + 7, 2),
            (2**34 + 3 * 256 + 9, 2**32 + 9, 3),
            (2**63 - 1, 2**61 - 1, 3),
        ],
    )
    def test_counter_and_output_of_an_index(self, index, n, output):
        counter = (n % 2**32, n // 2**32, 0x76543210, 0xFEDCBA98)
        want = philox4x32(counter, (0x89ABCDEF, 0x01234567))[output]
        assert random_word(self.SEED, self.STREAM, index) == want

    def test_negative_seeds_are_their_bits(self):
        assert random_word(-1, 0, 5) == random_word(2**64 - 1, 0, 5)
        assert random_word(-(2**63), 0, 5) == random_word(2**63, 0, 5)

    def test_words_differ_by_index_stream_and_both_halves_of_the_seed(self):
        words = {random_word(3, 0, index) for index in range(4096)}
        assert len(words) > 4090  # of 2^32 words two in 4096 rarely agree
        others = [(4, 0), (3 + 2**32, 0), (3, 1), (3, 2**32)]
        assert len({random_word(*other, 9) for other in [(3, 0), *others]}) == 5


class TestRandomWords:
    def test_row_major_positions(self):
        got = random_words(11, 2, (3, 5, 7))
        assert got.dtype == np.uint32
        assert got.shape == (3, 5, 7)
        assert_array_equal(got.ravel(), [random_word(11, 2, i) for i in range(105)])

    def test_a_part_has_the_words_of_the_whole(self):
        whole = random_words(11, 0, (6, 300))
        part = random_words(11, 0, (2, 40), offset=3 * 300 + 250, strides=(300, 1))
        assert_array_equal(part, whole[3:5, 250:290])
        transposed = random_words(11, 0, (300, 6), strides=(1, 300))
        assert_array_equal(transposed, whole.T)

    @pytest.mark.parametrize("shape", [(0,), (2, 0)])
    def test_empty(self, shape):
        assert random_words(1, 0, shape).shape == shape

    def test_no_dimension(self):
        assert random_words(1, 0, ()) == random_word(1, 0, 0)
        assert random_words(1, 0, (), offset=77) == random_word(1, 0, 77)

    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            ({"seed": 2**64}, ValueError, "`seed` must lie between"),
            ({"seed": -(2**63) - 1}, ValueError, "`seed` must lie between"),
            ({"seed": 1.0}, TypeError, "`seed` must be an integer, got 1.0"),
            ({"stream": -1}, ValueError, "`stream` must lie between 0 and"),
            ({"stream": 2**64}, ValueError, "`stream` must lie between 0 and"),
            ({"offset": -1}, ValueError, "`index` must lie between 0 and .*got -1"),
            ({"offset": 2**63 - 1}, ValueError, "`index` must lie between 0 and"),
            (
                {"strides": (1,)},
                ValueError,
                r"`strides` must have one entry for each of 2 .*\(1,\)",
            ),
        ],
    )
    def test_errors(self, arguments, error, message):
        with pytest.raises(error, match=message):
            random_words(**{"seed": 1, "stream": 0, "shape": (2, 2), **arguments})
