"""The formats of IEEE P3109 against values worked out by hand, and against gfloat."""

import dataclasses
import pickle
from importlib import import_module
from itertools import product
from types import ModuleType

import numpy as np
import numpy.typing as npt
import pytest
import torch
from comparison import assert_same_bits, words_like
from hard_inputs import hard_values

import lowprec
from lowprec import reference
from lowprec.formats import P3109, FloatingPoint, Scaled, p3109, parse
from lowprec.kernels import dispatch

INF, NAN = np.inf, np.nan
RULES = ("infinity", "saturate", "saturate_all")


def formats(widths: range) -> list[P3109]:
    """Every format of these widths whose values float64 holds."""
    return [
        p3109(bits, precision, signed, extended)
        for bits, signed, extended in product(widths, (True, False), (True, False))
        for precision in range(max(1, bits - signed - 10), bits + (not signed))
    ]


@pytest.fixture
def gfloat() -> ModuleType:
    return pytest.importorskip("gfloat", reason="an oracle; extra `test`")


def info_of(format: P3109, gfloat: ModuleType) -> object:
    """The format as gfloat has it."""
    types, build = gfloat.types, import_module("gfloat.formats").format_info_p3109
    signedness = types.Signedness.Signed if format.signed else types.Signedness.Unsigned
    domain = types.Domain.Extended if format.extended else types.Domain.Finite
    return build(format.bits, format.precision, signedness, domain)


def decoded(format: P3109, gfloat: ModuleType) -> npt.NDArray[np.float64]:
    """The values of all codes by gfloat."""
    with np.errstate(all="ignore"):
        return gfloat.decode_ndarray(info_of(format, gfloat), np.arange(1 << format.bits))


class TestValues:
    @pytest.mark.parametrize(
        ("name", "table"),
        [
            # Bias 8: the least value is 2^(1 - 8 - 3), the largest 1.75 * 2^(15 - 8), for infinity has 0x7f.
            ("binary8p4se", {0: 0.0, 1: 2.0**-10, 7: 7 * 2.0**-10, 8: 2.0**-7, 0x40: 1.0, 0x41: 1.125,
                             0x7E: 224.0, 0x7F: INF, 0x80: NAN, 0x81: -(2.0**-10), 0xC0: -1.0,
                             0xFE: -224.0, 0xFF: -INF}),
            # Bias 16; without infinity 0x7f would be 1.75 * 2^15.
            ("binary8p3se", {1: 2.0**-17, 3: 3 * 2.0**-17, 4: 2.0**-15, 0x40: 1.0, 0x7E: 1.5 * 2.0**15,
                             0x7F: INF, 0x80: NAN, 0xFE: -1.5 * 2.0**15, 0xFF: -INF}),
            ("binary8p3sf", {0x7E: 1.5 * 2.0**15, 0x7F: 1.75 * 2.0**15, 0x80: NAN, 0xFF: -1.75 * 2.0**15}),
            # Five bits of exponent, bias 16; the last two codes are infinity and NaN.
            ("binary8p4ue", {0: 0.0, 1: 2.0**-18, 8: 2.0**-15, 0x80: 1.0, 0xFD: 1.625 * 2.0**15, 0xFE: INF,
                             0xFF: NAN}),
            ("binary8p4uf", {0xFD: 1.625 * 2.0**15, 0xFE: 1.75 * 2.0**15, 0xFF: NAN}),
            # Nothing but powers of two.
            ("binary8p1se", {0: 0.0, 1: 2.0**-63, 0x40: 1.0, 0x7E: 2.0**62, 0x7F: INF, 0xFE: -(2.0**62)}),
            # One bit of exponent: as many subnormals as normal values, in equal steps.
            ("binary8p7se", {1: 2.0**-6, 0x40: 1.0, 0x7E: 126 / 64, 0x7F: INF}),
            ("binary8p8uf", {1: 2.0**-7, 0x80: 1.0, 0xFE: 254 / 128, 0xFF: NAN}),
            ("binary6p3sf", {1: 2.0**-5, 0x10: 1.0, 0x1F: 14.0, 0x20: NAN, 0x3F: -14.0}),
            ("binary3p2se", {0: 0.0, 1: 0.5, 2: 1.0, 3: INF, 4: NAN, 5: -0.5, 6: -1.0, 7: -INF}),
        ],
    )  # fmt: skip
    def test_by_hand(self, name, table):
        format, codes = parse(name), np.array(list(table), np.uint8)
        assert_same_bits(reference.decode(codes, name), list(table.values()))
        np.testing.assert_array_equal(reference.encode(np.float32(list(table.values())), name), codes)
        largest = max(x for x in table.values() if np.isfinite(x))
        assert (format.max, format.min) == (largest, -largest if format.signed else 0.0)
        if 1 in table:
            assert format.smallest_subnormal == table[1]

    def test_properties(self):
        format = p3109(8, 3, signed=False, extended=False)
        assert (format.bits, format.precision, format.exponent_bits, format.mantissa_bits) == (8, 3, 6, 2)
        assert (format.bias, format.eps, format.smallest_normal) == (32, 0.25, 2.0**-31)
        assert (format.has_infinity, format.has_nan, format.has_signed_zero) == (False, True, False)
        assert [format.contains(x) for x in (-1.0, -0.0, 0.0, 1.0, INF)] == [False, False, True, True, False]

    def test_the_signed_finite_ones_are_fnuz(self):
        for name, other in (("binary8p4sf", "e4m3fnuz"), ("binary8p3sf", "e5m2fnuz")):
            assert parse(name).values().tolist() == parse(other).values().tolist()
            codes = np.arange(256, dtype=np.uint8)
            assert_same_bits(reference.decode(codes, name), reference.decode(codes, other))

    @pytest.mark.parametrize(
        "widths", [range(3, 10), pytest.param(range(10, 17), marks=pytest.mark.exhaustive)]
    )
    def test_every_format_has_the_values_of_gfloat(self, widths, gfloat):
        for format in formats(widths):
            values = decoded(format, gfloat)
            assert format.values().tolist() == np.sort(values[np.isfinite(values)]).tolist(), str(format)

    def test_every_format_has_the_properties_of_gfloat(self, gfloat):
        every = formats(range(3, 17))
        assert len(every) == 454
        for format in every:
            info = info_of(format, gfloat)
            assert (format.max, format.min, format.bias) == (info.max, info.min, info.bias), str(format)
            assert format.smallest_subnormal == info.smallest_subnormal
            assert (format.has_infinity, format.has_nan) == (info.num_infs > 0, info.num_nans == 1)

    def test_every_code_of_every_format_is_decoded_as_by_gfloat_and_encoded_back(self, gfloat):
        for format in formats(range(3, 17)):
            codes = torch.arange(1 << format.bits).to(torch.uint8 if format.bits <= 8 else torch.uint16)
            values = lowprec.decode(codes, format, dtype=torch.float64)
            assert_same_bits(values.numpy(), decoded(format, gfloat))
            back = torch.empty_like(codes)
            width = str(codes.dtype).removeprefix("torch.")
            dispatch.encode(values.data_ptr(), back.data_ptr(), "float64", width, codes.numel(), str(format))
            assert torch.equal(back, codes), str(format)

    def test_the_reference_has_the_codes_of_gfloat(self, gfloat):
        for format in formats(range(3, 8)):
            codes, values = np.arange(1 << format.bits, dtype=np.uint8), decoded(format, gfloat)
            assert_same_bits(reference.decode(codes, format, dtype=np.float64), values)
            np.testing.assert_array_equal(reference.encode(values, format), codes)

    @pytest.mark.parametrize("name", ["binary8p3se", "binary8p4se", "binary8p4ue", "binary6p3sf"])
    def test_encode_and_decode(self, name):
        format = parse(name)
        codes = torch.arange(1 << format.bits, dtype=torch.uint8)
        values = lowprec.decode(codes, name)
        assert torch.equal(lowprec.encode(values, name), codes)
        x = torch.from_numpy(hard_values(format))
        assert_same_bits(
            lowprec.decode(lowprec.encode(x, name), name).numpy(), lowprec.quantize(x, name).numpy()
        )
        assert_same_bits(lowprec.quantize(x, name).numpy(), reference.quantize(x.numpy(), name))

    def test_minus_infinity_has_no_code_in_an_unsigned_format(self):
        with pytest.raises(ValueError, match="`value` must be a value of binary8p4ue, got -inf"):
            reference.code_of(-INF, parse("binary8p4ue"))


class TestRounding:
    """gfloat takes ties by the parity of the exponent where there is no mantissa: of the code, that is."""

    MODES = (
        ("nearest_even", "TiesToEven"), ("nearest_away", "TiesToAway"), ("toward_zero", "TowardZero"),
        ("up", "TowardPositive"), ("down", "TowardNegative"), ("stochastic", "StochasticFastest"),
        ("stochastic_midpoint", "StochasticFast"), ("stochastic_nearest", "Stochastic"),
    )  # fmt: skip

    @pytest.mark.parametrize("overflow", RULES)
    @pytest.mark.parametrize(
        "format", [*formats(range(4, 5)), p3109(6, 1), p3109(6, 1, False), p3109(8, 4)], ids=str
    )
    def test_as_gfloat(self, format, overflow, gfloat):
        self.compare(dataclasses.replace(format, overflow=overflow), gfloat)

    @pytest.mark.exhaustive
    @pytest.mark.parametrize("overflow", RULES)
    @pytest.mark.parametrize("format", formats(range(3, 9)), ids=str)
    def test_every_narrow_format_as_gfloat(self, format, overflow, gfloat):
        self.compare(dataclasses.replace(format, overflow=overflow), gfloat)

    def compare(self, format: P3109, gfloat: ModuleType) -> None:
        """Every mode that gfloat has; of unsigned formats numbers without a sign, which it asks for."""
        x = hard_values(format).astype(np.float64)  # whose sums gfloat does not round
        x = x if format.signed else x[~np.signbit(x)]
        saturates = format.overflow != "infinity"
        for ours, theirs in self.MODES:
            options, noise = {}, {}
            if ours.startswith("stochastic"):
                words = words_like(x)
                options = {"words": words, "random_bits": 3}
                noise = {"srbits": (words >> 29).astype(np.int64), "srnumbits": 3}
            with np.errstate(all="ignore"):
                want = gfloat.round_ndarray(
                    info_of(format, gfloat), x, gfloat.RoundMode[theirs], saturates, **noise
                )
            if format.overflow == "saturate" and format.extended:  # SatPropagate, which gfloat has not
                want = np.where(np.isinf(x), x, want)
            assert_same_bits(reference.quantize(x, format, rounding=ours, **options), want)

    def test_a_tie_between_powers_of_two_goes_to_the_even_code(self):
        # Codes 0x40 and 0x41 are 1 and 2, 0x42 is 4; 1 and 2 are the codes of 2^-63 and 2^-62.
        x = np.float32([1.5, 3.0, -3.0, 6.0, 2.0**-64, 1.5 * 2.0**-63])
        assert_same_bits(reference.quantize(x, "binary8p1se"), [1, 4, -4, 4, 0, 2.0**-62])

    def test_negative_values_that_round_to_zero_lose_their_sign(self):
        for rounding in ("nearest_even", "toward_zero", "up"):
            got = lowprec.quantize(torch.tensor([-0.0, -(2.0**-40)]), "binary8p4se", rounding=rounding)
            assert_same_bits(got.numpy(), [0.0, 0.0])


class TestOverflow:
    # max 224 with the even code 0x7e, the next value would be 240: the tie 232 stays.
    X = (232.0, 232.5, 1e9, INF, -233.0, -INF)

    @pytest.mark.parametrize(
        ("name", "want", "fired"),
        [
            ("binary8p4se", [224, INF, INF, INF, -INF, -INF], [0, 1, 1, 0, 1, 0]),
            ("binary8p4se<saturate>", [224, 224, 224, INF, -224, -INF], [0, 1, 1, 0, 1, 0]),
            ("binary8p4se<saturate_all>", [224, 224, 224, 224, -224, -224], [0, 1, 1, 1, 1, 1]),
            # Here 240 is a value, and 256 comes next.
            ("binary8p4sf", [224, 240, 240, 240, -240, -240], [0, 0, 1, 1, 0, 1]),
            ("binary8p4sf<infinity>", [224, 240, NAN, NAN, -240, NAN], [0, 0, 1, 1, 0, 1]),
        ],
    )
    def test_signed(self, name, want, fired):
        self.check(self.X, name, want, fired)

    # No value lies below zero; the largest is 1.625 * 2^15 with the odd code 0xfd, the next 1.75 * 2^15.
    Y = (1.6875 * 2.0**15, 1e9, INF, -0.0, -1e-9, -1.0, -1e9, -INF)
    TOP = 1.625 * 2.0**15

    @pytest.mark.parametrize(
        ("name", "want", "fired"),
        [
            ("binary8p4ue", [INF, INF, INF, 0, 0, 0, 0, NAN], [1, 1, 0, 0, 0, 1, 1, 1]),
            ("binary8p4ue<saturate>", [TOP, TOP, INF, 0, 0, 0, 0, 0], [1, 1, 0, 0, 0, 1, 1, 1]),
            ("binary8p4ue<saturate_all>", [TOP, TOP, TOP, 0, 0, 0, 0, 0], [1, 1, 1, 0, 0, 1, 1, 1]),
            ("binary8p4uf<infinity>", [1.75 * 2.0**15, NAN, NAN, 0, 0, 0, 0, NAN], [0, 1, 1, 0, 0, 1, 1, 1]),
        ],
    )
    def test_unsigned(self, name, want, fired):
        self.check(self.Y, name, want, fired)

    @staticmethod
    def check(x, name, want, fired):
        """The kernel and the reference, values and flags."""
        x = torch.tensor(x, dtype=torch.float32)
        assert_same_bits(reference.quantize(x.numpy(), name), want)
        assert_same_bits(lowprec.quantize(x, name).numpy(), want)
        np.testing.assert_array_equal(reference.overflowed(x.numpy(), name), fired)
        assert torch.ops.lowprec.overflowed(x, None, name, "nearest_even", 32).tolist() == list(
            map(bool, fired)
        )

    @pytest.mark.parametrize(
        ("rounding", "want", "fired"),
        [
            ("toward_zero", [0, 0, NAN], [0, 0, 1]),
            ("up", [0, 0, NAN], [0, 0, 1]),
            ("down", [0, 0, NAN], [1, 1, 1]),
            ("away", [0, 0, NAN], [1, 1, 1]),
        ],
    )
    def test_below_zero_in_directed_modes(self, rounding, want, fired):
        x = np.float32([-1e-9, -1.0, -INF])
        assert_same_bits(reference.quantize(x, "binary8p4ue", rounding=rounding), want)
        np.testing.assert_array_equal(reference.overflowed(x, "binary8p4ue", rounding=rounding), fired)


class TestValueSemantics:
    def test_it_is_no_other_floating_point_format(self):
        format = p3109(8, 4, extended=False)
        twin = FloatingPoint(4, 3, specials="fnuz")
        assert format.values().tolist() == twin.values().tolist()
        assert format != twin
        assert twin != format
        assert len({format, twin, P3109(8, 4, extended=False), p3109(8, 4)}) == 3

    def test_names(self):
        for format in formats(range(3, 10)):
            assert parse(str(format)) == format
        assert str(p3109(8, 4)) == "binary8p4se"
        assert str(p3109(8, 4, False, False)) == "binary8p4uf"
        assert parse("binary8p4se<saturate>") == p3109(8, 4, overflow="saturate")
        assert parse("binary8p4sf<saturate_all>") == p3109(8, 4, extended=False)
        assert str(parse("binary8p4se<bias9,saturate>")) == "binary8p4se<saturate,bias9>"
        assert parse("binary8p4se<bias8>") == p3109(8, 4)

    def test_replace_and_pickle(self):
        format = p3109(8, 4, overflow="saturate")
        assert dataclasses.replace(format, overflow=None) == p3109(8, 4)
        assert dataclasses.replace(format, bits=7, bias=None, signed=False) == p3109(
            7, 4, False, overflow="saturate"
        )
        assert pickle.loads(pickle.dumps(format)) == format
        assert "bits=8, precision=4, signed=True, extended=True" in repr(format)

    @pytest.mark.parametrize("format", [p3109(8, 4), p3109(8, 4, False), p3109(6, 3, True, False)], ids=str)
    def test_shifted(self, format):
        assert format.shifted(0) == format
        assert format.shifted(3).values().tolist() == (format.values() / 8).tolist()
        assert format.shifted(3).shifted(-3) == format
        assert parse(str(format.shifted(-2))) == format.shifted(-2)

    @pytest.mark.parametrize(
        ("build", "error", "message"),
        [
            (lambda: p3109(2, 1), ValueError, "`bits` must lie between 3 and 16, got 2"),
            (lambda: p3109(17, 9), ValueError, "`bits` must lie between 3 and 16, got 17"),
            (lambda: p3109(8, 8), ValueError, "`precision` must lie between 1 and 7, got 8"),
            (lambda: p3109(8, 9, False), ValueError, "`precision` must lie between 1 and 8, got 9"),
            (lambda: p3109(8, 0), ValueError, "`precision` must lie between 1 and 7, got 0"),
            (lambda: p3109(16, 4), ValueError, "`precision` must leave at most 11 bits to the exponent, for"),
            (lambda: p3109(16, 5, False), ValueError, r"`precision` must .* got 5\. Choose 6 or more"),
            (lambda: parse("binary13p1se"), ValueError, r"`precision` must .* got 1\. Choose 2 or more"),
            (lambda: p3109(8.0, 4), TypeError, "`bits` must be an integer, got 8.0"),
            (lambda: p3109(8, "4"), TypeError, "`precision` must be an integer, got '4'"),
            (lambda: p3109(8, 4, "s"), TypeError, "`signed` must be True or False, got 's'"),
            (lambda: p3109(8, 4, True, 1), TypeError, "`extended` must be True or False, got 1"),
            (lambda: p3109(8, 4, overflow="wrap"), ValueError, "`overflow` must be 'saturate', 'sat"),
            (lambda: p3109(8, 4, overflow=""), ValueError, "`overflow` must be a known name, got ''"),
            (lambda: P3109(8, 4, bias=0.5), TypeError, "`bias` must be an integer, got 0.5"),
            (lambda: P3109(8, 4, bias=2000), ValueError, "`bias` must keep every value within float64"),
            (lambda: parse("binary8p4se<infinity,saturate>"), ValueError, "`format` must be a known name"),
            (lambda: parse("binary8p4"), ValueError, r"known name, got 'binary8p4'\. Did you mean binary8p4"),
            (lambda: Scaled("binary8p4ue"), ValueError, "`element` must have negative values, got"),
            (lambda: Scaled("e2m1", "binary8p4ue"), ValueError, "`scale` must be e8m0, float32"),
        ],
    )  # fmt: skip
    def test_what_is_refused(self, build, error, message):
        with pytest.raises(error, match=message):
            build()


def test_as_elements_of_groups():
    """Over scales that are powers of two the values are the element's, but for the scale."""
    x = torch.tensor([1000.0, 0.3, -0.0, -900.0, INF, NAN, -1e-9, 3.0])
    got = lowprec.quantize(x, "scaled<binary8p4se<saturate>,e8m0>")  # 2^9 over 2^7 is the scale
    want = reference.quantize((x / 4).numpy(), "binary8p4se<saturate>") * 4
    assert_same_bits(got.numpy(), want)
    assert_same_bits(reference.quantize(x.numpy(), "scaled<binary8p4se<saturate>,e8m0>"), want)
