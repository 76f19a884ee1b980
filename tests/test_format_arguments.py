"""What formats, granularities, carriers and modes accept, and every error they raise."""

import pickle
import re
from fractions import Fraction

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from lowprec.errors import type_error, value_error
from lowprec.formats import (
    BlockFloatingPoint,
    FixedPoint,
    FloatingPoint,
    PerChannel,
    PerGroup,
    PerTensor,
    parse,
)
from lowprec.formats.format import exact_float
from lowprec.modes import Overflow, Rounding, Specials


class TestConstructors:
    @pytest.mark.parametrize(
        ("build", "error", "message"),
        [
            (lambda: FloatingPoint(0, 3), ValueError, "`exponent_bits` must lie between 1 and 11"),
            (lambda: FloatingPoint(12, 3), ValueError, "`exponent_bits` must lie between 1 and 11"),
            (
                lambda: FloatingPoint(4.0, 3),
                TypeError,
                "`exponent_bits` must be an integer, got 4.0",
            ),
            (lambda: FloatingPoint(True, 3), TypeError, "`exponent_bits` must be an integer"),
            (lambda: FloatingPoint(4, -1), ValueError, "`mantissa_bits` must lie between 0 and 52"),
            (lambda: FloatingPoint(4, 53), ValueError, "`mantissa_bits` must lie between 0 and 52"),
            (lambda: FloatingPoint(4, 3, bias=2048), ValueError, "`bias` must lie between"),
            (
                lambda: FloatingPoint(4, 3, bias="7"),
                TypeError,
                "`bias` must be an integer, got '7'",
            ),
            (
                lambda: FloatingPoint(4, 3, bias=1073),
                ValueError,
                "`bias` must keep every value within",
            ),
            (
                lambda: FloatingPoint(11, 3, bias=9),
                ValueError,
                "`bias` must keep every value within",
            ),
            (
                lambda: FloatingPoint(1, 0),
                ValueError,
                "`exponent_bits` must leave a finite value .* Widen",
            ),
            (
                lambda: FloatingPoint(4, 3, specials="fnuz"),
                ValueError,
                "`specials` must be a known name, got 'fnuz'. Choose one of: ieee, fn.",
            ),
            (lambda: FloatingPoint(4, 3, specials=None), TypeError, "`specials` must be a string"),
            (
                lambda: FloatingPoint(4, 3, overflow="wrap"),
                ValueError,
                "`overflow` must be a known name, got 'wrap'. Choose one of: saturate, ",
            ),
            (
                lambda: FloatingPoint(4, 3, overflow=1),
                TypeError,
                "`overflow` must be a string, got 1",
            ),
            (lambda: FixedPoint(1, 0), ValueError, "`word_bits` must lie between 2 and 32, got 1"),
            (
                lambda: FixedPoint(33, 0),
                ValueError,
                "`word_bits` must lie between 2 and 32, got 33",
            ),
            (lambda: FixedPoint("8", 0), TypeError, "`word_bits` must be an integer, got '8'"),
            (lambda: FixedPoint(8, 1075), ValueError, "`fraction_bits` must lie between -960 and"),
            (lambda: FixedPoint(8, 0.5), TypeError, "`fraction_bits` must be an integer, got 0.5"),
            (lambda: FixedPoint(8, 4, symmetric=1), TypeError, "`symmetric` must be True or False"),
            (
                lambda: FixedPoint(8, 4, overflow="infinity"),
                ValueError,
                "`overflow` must be 'saturate' in fixed point, got 'infinity'",
            ),
            (
                lambda: FixedPoint(8, 4, overflow="no"),
                ValueError,
                "`overflow` must be a known name",
            ),
            (
                lambda: BlockFloatingPoint(1),
                ValueError,
                "`word_bits` must lie between 2 and 25, got 1",
            ),
            (lambda: BlockFloatingPoint(26), ValueError, "`word_bits` must lie between 2 and 25"),
            (lambda: BlockFloatingPoint(8.0), TypeError, "`word_bits` must be an integer, got 8.0"),
            (
                lambda: BlockFloatingPoint(8, "group32"),
                TypeError,
                "`granularity` must be a PerTensor, PerChannel or PerGroup, got 'group32'",
            ),
            (lambda: PerChannel(0.0), TypeError, "`axis` must be an integer, got 0.0"),
            (lambda: PerChannel([0]), TypeError, r"`axis` must be an integer, got \[0\]"),
            (
                lambda: PerChannel(()),
                ValueError,
                r"`axis` must name at least one axis, .* got \(\)",
            ),
            (
                lambda: PerChannel((0, 0)),
                ValueError,
                "`axis` must name at least one axis, and none twice",
            ),
            (lambda: PerGroup(0), ValueError, "`size` must be at least 1, got 0"),
            (lambda: PerGroup(True), TypeError, "`size` must be an integer or None, got True"),
            (lambda: PerGroup(2.0), TypeError, "`size` must be an integer or None, got 2.0"),
            (lambda: PerGroup(2, "rows"), TypeError, "`axis` must be an integer, got 'rows'"),
        ],
    )
    def test_errors(self, build, error, message):
        with pytest.raises(error, match=message):
            build()

    def test_exact_float_refuses_what_float64_does_not_hold(self):
        assert exact_float(Fraction(3, 4)) == 0.75
        with pytest.raises(OverflowError, match=r"1/3|Fraction\(1, 3\)"):
            exact_float(Fraction(1, 3))


class TestCarriers:
    @pytest.mark.parametrize(
        ("name", "carriers"),
        [
            ("e4m3fn", "bfloat16 float32"), ("e5m2", "bfloat16 float32"),
            ("bfloat16", "bfloat16 float32"), ("binary16", "float32"), ("binary32", "float32"),
            ("e5m7ieee", "bfloat16 float32"), ("e5m8ieee", "float32"), ("e5m23ieee", "float32"),
            ("e5m24ieee", ""), ("e8m0fn", "bfloat16 float32"), ("e8m0fn<bias126>", ""),
            ("e8m7fn", ""), ("e8m6fn<bias128>", "bfloat16 float32"),
            ("e8m6ieee<bias129>", "float32"),
            ("e2m7ieee<bias150>", ""), ("e2m7ieee<bias143>", "float32"), ("e11m2ieee", ""),
            ("fixed8f7", "bfloat16 float32"), ("fixed9f0", "bfloat16 float32"),
            ("fixed10f0", "float32"), ("fixed25f0", "float32"), ("fixed26f0", ""),
            ("fixed8f133", "bfloat16 float32"), ("fixed8f134", "float32"), ("fixed8f150", ""),
            ("fixed8f-120", "bfloat16 float32"), ("fixed8f-121", ""),
            ("fixed8f-121<symmetric>", "bfloat16 float32"),
            ("fixed8f-122<symmetric>", ""), ("bfp9", "bfloat16 float32"), ("bfp10", "float32"),
            ("bfp25", "float32"),
        ],
    )  # fmt: skip
    def test_who_holds_what(self, name, carriers):
        format = parse(name)
        for carrier in ("bfloat16", "float32"):
            if carrier in carriers.split():
                format.check_carrier(carrier)
                continue
            remedy = "Pass a float32 tensor." if carriers else "No carrier holds it."
            message = rf"`format` must be exact in the carrier {carrier} \(.*{re.escape(remedy)}"
            with pytest.raises(ValueError, match=message):
                format.check_carrier(carrier)

    @pytest.mark.parametrize(
        ("name", "missing"),
        [
            ("binary16", "11 significant bits, it has 8"),
            ("e3m7ieee<bias140>", "its smallest value 2^-133 is too large"),
            ("e9m3ieee<bias130>", "its largest value is too small"),
            ("fixed16f3", "15 significant bits, it has 8"),
            ("fixed8f140", "its smallest value 2^-133 is too large"),
            ("fixed8f-121", "its largest value is too small"),
            ("bfp16", "15 significant bits, it has 8"),
        ],
    )
    def test_the_error_says_what_is_missing(self, name, missing):
        with pytest.raises(ValueError, match=re.escape(f"bfloat16 ({missing}), got '{name}'")):
            parse(name).check_carrier("bfloat16")

    @pytest.mark.parametrize(
        "name", ["e4m3fn", "e5m2", "e3m0ieee", "bfloat16", "fixed8f7", "fixed4f-9", "bfp8"]
    )
    def test_every_value_is_exact_in_a_carrier_that_holds_it(self, name):
        values = parse(name).values()
        parse(name).check_carrier("bfloat16")
        bits = values.astype(np.float32).view(np.uint32)
        assert_array_equal(values.astype(np.float32).astype(np.float64), values)
        assert not (bits & 0xFFFF).any()


class TestGranularities:
    @pytest.mark.parametrize(
        ("granularity", "shape", "tiles"),
        [
            (PerTensor(), (2, 3), (2, 3)),
            (PerTensor(), (), ()),
            (PerTensor(), (0, 3), (0, 3)),
            (PerChannel(0), (4, 3, 2), (1, 3, 2)),
            (PerChannel(-1), (4, 3, 2), (4, 3, 1)),
            (PerChannel((0, -1)), (4, 3, 2), (1, 3, 1)),
            (PerGroup(2), (4, 5), (1, 2)),
            (PerGroup(99), (4, 5), (1, 99)),
            (PerGroup(2, 0), (4, 5), (2, 1)),
            (PerGroup(None, 0), (4, 5), (4, 1)),
            (PerGroup(), (4, 0), (1, 1)),
        ],
    )
    def test_tiles(self, granularity, shape, tiles):
        assert granularity.tiles(shape) == tiles

    @pytest.mark.parametrize("granularity", [PerChannel(2), PerChannel(-3), PerGroup(2, 2)])
    def test_an_axis_that_is_not_there(self, granularity):
        message = "`axis` must lie within the 2 dimensions of the tensor, got"
        with pytest.raises(ValueError, match=message):
            granularity.tiles((4, 5))

    def test_one_dimension_by_two_names(self):
        with pytest.raises(ValueError, match=r"`axis` must name no dimension twice, got \(1, -1\)"):
            PerChannel((1, -1)).tiles((4, 5))

    def test_contraction_is_settled_by_a_product(self):
        group = PerGroup(2, "contraction")
        message = "`axis` must be an integer outside a product, got 'contraction'. Only the casts"
        with pytest.raises(ValueError, match=message):
            group.tiles((4, 5))
        assert group.along(0) == PerGroup(2, 0)
        assert PerGroup(2, 1).along(0) == PerGroup(2, 1)
        assert BlockFloatingPoint(8, group).along(-2) == BlockFloatingPoint(8, PerGroup(2, -2))
        per_channel = BlockFloatingPoint(8, PerChannel(0))
        assert per_channel.along(1) is per_channel


class TestModes:
    @pytest.mark.parametrize("choice", [Rounding, Overflow, Specials])
    def test_every_member_by_its_name(self, choice):
        for member in choice:
            assert choice.parse(member, "mode") is member
            assert choice.parse(str(member), "mode") is member
            assert pickle.loads(pickle.dumps(member)) is member

    def test_nearest_is_nearest_even(self):
        assert Rounding.parse("nearest", "rounding") is Rounding.NEAREST_EVEN

    @pytest.mark.parametrize("choice", [Rounding, Overflow, Specials])
    def test_unknown_names_list_the_members(self, choice):
        members = re.escape(", ".join(choice))
        with pytest.raises(ValueError, match=f"`mode` must be a known name, got 'up'. .*{members}."):
            choice.parse("up", "mode")
        with pytest.raises(TypeError, match=f"`mode` must be a string, got 3. .*{members}."):
            choice.parse(3, "mode")


def test_how_errors_are_worded():
    error = value_error("seeds", "be at least 1", 0)
    assert isinstance(error, ValueError)
    assert str(error) == "`seeds` must be at least 1, got 0."
    error = type_error("name", "be a string", None, "Pass a name.")
    assert isinstance(error, TypeError)
    assert str(error) == "`name` must be a string, got None. Pass a name."
