"""The table oracle, which verification trusts on whole arrays, equals the reference."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from comparison import assert_same_bits

from lowprec.app.verify import grids, oracle
from lowprec.app.verify.comparison import Asked, Outcome
from lowprec.app.verify.inputs import hard_inputs, holders, ladder
from lowprec.app.verify.setting import settings
from lowprec.formats import NAMED, FloatingPoint, TabledFormat, parse
from lowprec.modes import Rounding

SMALL = ("e2m1", "e3m2<nosubnormals>", "e2m0ieee", "e1m2fn<infinity>", "e3m1fnuz", "fixed4f2<wrap>",
         "binary4p2ue", "ufixed4f5", "fixed4f-100<symmetric>", "bfp3<exponent2,group7>", "nvfp4",
         "scaled<e3m1fnuz,e5m2,group4,amax>", "scaled<fixed4f0<symmetric>,e4m3fn,group5,amax>",
         "scaled<ufixed4f0,float16,group8,amax,zero_point>",
         "posit2", "posit6es1", "log3f1", "binary", "ternary", "codebook<-1,3>", "nf4",
         "codebook<2,1,1.5>", "codebook<-3.5,-1,0.25,7,-0.125,0.1015625>",
         "scaled<binary,float32,group3,ceil>",
         "scaled<codebook<-1,-0.25,0.5,2>,bfloat16,group5,amax>",
         "scaled<ternary,scaled<e4m3fn,float32,amax>,group7,amax>",
         "scaled<e2m1,e8m0,group7>", "scaled<fixed4f100<symmetric>,e8m0,group7,rceil>")  # fmt: skip
AWKWARD = ("fixed24f3", "fixedf6<unbounded>", "ufixed8f3<wrap>", "ufixed1f0", "fixed2f149", "fixed4f-100",
           "e4m3fn<infinity>", "e4m3fn<saturate_all>", "e5m2<saturate>", "e5m2<saturate_all>",
           "e4m3fn<nosubnormals>", "e5m2fnuz<infinity>", "e4m3finite", "e1m0finite", "e1m2fn", "e2m0ieee",
           "e3m0fnuz", "e8m3fn<bias140>", "e8m0finite<bias140>", "e4m3fn<bias-100>", "binary8p4se<saturate>",
           "binary8p1ue<saturate_all>", "binary6p3uf<infinity>", "binary5p4ue<saturate>", "bfp2",
           "bfp6<exponent4>", "bfp5<group3@0>", "bfp8<channel1>", "bfp8<channel0&2>",
           "bfp6<exponent2,group7>", "scaled<e4m3fn,float32,amax>", "scaled<e5m2,bfloat16,channel1,amax>",
           "scaled<e4m3fn<infinity>,float16,block2x3,amax>", "scaled<fixed8f3<symmetric>,e5m2,group9,amax>",
           "scaled<e2m1,scaled<e5m2,bfloat16,channel0,amax>,group16,amax>", "scaled<e2m3,e5m2,group8,even>",
           "scaled<e2m1,scaled<binary16,float32,amax>,group3@1,amax>", "scaled<e4m3fn,e4m3fn,group7,rceil>",
           "scaled<ufixed8f0,e4m3fn,channel2,amax,zero_point>", "scaled<e2m1,e4m3fn,group1,amax>",
           "scaled<ufixed4f0,float32,group1,amax,zero_point>",
           "scaled<ufixed4f0,float32,group2,amax,zero_point>",
           "scaled<binary16,float32,group8,amax>",
           "scaled<e3m2ieee,e8m0,group5@0,even>", "scaled<e2m3,e8m0,channel1,ceil>")  # fmt: skip


def compare(name: str) -> Outcome:
    """Both oracles on hard inputs, in every mode and each carrier whose numbers the table takes."""
    format, outcome = parse(name), Outcome()
    for carrier in holders(format):
        if carrier == torch.float64:
            continue
        for setting in settings(format):
            x = hard_inputs(format, setting, carrier)
            got = torch.from_numpy(grids.by_table(x, format, setting, carrier))
            outcome.add(x.double(), got, grids.by_reference(x, format, setting), of=Asked(format, setting))
    return outcome


@pytest.mark.parametrize("name", SMALL)
def test_the_table_equals_the_reference(name: str) -> None:
    outcome = compare(name)
    assert outcome.results > 1000
    assert outcome.mismatches == []


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", [*NAMED, *AWKWARD])
def test_the_table_equals_the_reference_on_every_named_format(name: str) -> None:
    if isinstance(parse(name), FloatingPoint) and parse(name).bits > 19:
        with pytest.raises(ValueError, match="must have at most 262144 magnitudes"):
            oracle.quantize(np.zeros(1), parse(name), Rounding.UP)
    else:
        assert compare(name).mismatches == []


def test_a_word_for_each_element() -> None:
    x = np.full(4, 1.0625)
    words = np.array([0, 2**31 - 1, 2**31, 2**32 - 1], np.uint32)
    got = oracle.quantize(x, parse("e4m3fn"), Rounding.STOCHASTIC, words=words)
    assert got.tolist() == [1.0, 1.0, 1.125, 1.125]


@pytest.mark.parametrize("name", ["mxfp4", "mxint8", "scaled<e5m2,e8m0,ceil>"])
def test_scaled_numbers_keep_in_float64_what_float32_does_not_hold(name: str) -> None:
    limits = np.finfo(np.float32)
    x = np.array([[limits.smallest_subnormal, 0.0, -np.inf], [limits.max, 1.0, np.nan]], np.float32).T
    x = np.concatenate([x, np.linspace(-6, 6, 93, dtype=np.float32).reshape(31, 3)[:, :2]]).astype(np.float64)
    for setting in settings():
        tensor = torch.from_numpy(x)
        got = grids.by_table(tensor, parse(name), setting, torch.float64)
        assert_same_bits(got, grids.by_reference(tensor, parse(name), setting))


@pytest.mark.parametrize("name", ["e11m3finite<bias1024>", "binary12p1sf"])
def test_formats_up_to_the_last_number_of_float64(name: str) -> None:
    x = np.array([1.0, -2.0, 2.0**127, np.inf])
    want = [1.0, -2.0, 2.0**127, parse(name).max]
    assert oracle.quantize(x, parse(name), Rounding.NEAREST_EVEN).tolist() == want


def test_only_numbers_of_float32_are_taken() -> None:
    with pytest.raises(ValueError, match="`x` must be exact in float32"):
        oracle.quantize(np.array([0.1]), parse("e4m3fn"), Rounding.UP)


def test_only_formats_with_a_definition_are_taken() -> None:
    with pytest.raises(TypeError, match="`format` must be a FloatingPoint, FixedPoint or another that"):
        oracle.quantize(np.zeros(1), "e4m3fn", Rounding.UP)


def test_only_formats_with_a_definition_have_pairs() -> None:
    with pytest.raises(TypeError, match="must be floating or fixed point, a posit or a list, got 'e4m3fn'"):
        ladder("e4m3fn", every_code=False)


def test_posits_of_few_bits_are_taken() -> None:
    with pytest.raises(ValueError, match="`format` must have at most 17 bits, got 'posit18'"):
        oracle.quantize(np.zeros(1), parse("posit18"), Rounding.UP)


def test_zeros_and_infinities_of_ones_own_lists() -> None:
    @dataclass(frozen=True)
    class Own(TabledFormat):
        listed: tuple[float, ...]
        overflow: str = "saturate"
        infinity_is_nan: bool = False

        def code_values(self) -> tuple[float, ...]:
            return self.listed

    x = np.array([-0.0, 0.0, -0.125, 0.125, -5.0, 5.0, np.inf, -np.inf, np.nan])
    formats = (
        Own((0, 1, -0.0, 3)),
        Own((-2, 1, -np.inf, 3)),
        Own((-2, 2, np.inf, -np.inf), "saturate_all"),
        Own((-1, 1, 0, -0.0, np.inf), infinity_is_nan=True),
        Own((-1, 0.5)),
    )
    for format in formats:
        for setting in settings(format):
            tensor = torch.from_numpy(x)
            got = grids.by_table(tensor, format, setting, torch.float64)
            assert_same_bits(got, grids.by_reference(tensor, format, setting))


def test_modes_that_a_format_refuses_are_left_out() -> None:
    assert {s.rounding for s in settings(parse("nf4"))} == {m for m in Rounding if not m.is_stochastic}
    assert settings(parse("ternary")) == settings()


def test_words_that_a_mode_cannot_tell_apart_are_given_once() -> None:
    for setting in settings():
        same = [s for s in settings() if s[:2] == setting[:2]]
        kept = 32 - (setting.random_bits or 1)
        assert len({(s.word or 0) >> kept for s in same}) == len(same)
    assert {s.rounding for s in settings()} == set(Rounding)


def test_hard_inputs_show_a_division_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    def rounded(x: np.ndarray, divisor: np.ndarray) -> np.ndarray:
        """Quotients as float32 has them."""
        return (x.astype(np.float32) / divisor.astype(np.float32)).astype(np.float64)

    for name in ("nvfp4", "int8", "uint8", "scaled<e4m3fn,float32,group7,amax>"):
        format, outcome = parse(name), Outcome()
        for setting in settings()[:4]:
            x = hard_inputs(format, setting, torch.float32)
            want = grids.by_table(x, format, setting, torch.float32)
            with monkeypatch.context() as patched:
                patched.setattr(oracle.scaling, "divided", rounded)
                got = torch.from_numpy(grids.by_table(x, format, setting, torch.float32))
            outcome.add(x, got, want, of=Asked(format, setting))
        assert outcome.wrong > 0
