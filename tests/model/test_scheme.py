"""Casts, operands, rules and schemes: values, their names, their dicts and TOML."""

import pickle
import tomllib
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lowprec import (
    SCHEMES,
    BlockFloatingPoint,
    Cast,
    FixedPoint,
    FloatingPoint,
    Operands,
    PerChannel,
    PerGroup,
    Rule,
    Scheme,
    toml,
)
from lowprec.formats import parse
from lowprec.modes import Rounding
from lowprec.scheme import CAST_ROLES, scheme_of

FORMATS = [
    "e4m3fn", "e5m2<saturate_all>", "bfloat16", "binary16", "e3m4ieee<bias5>", "fixed8f7",
    "fixed6f-2<symmetric>", "bfp8", "bfp4<group16@contraction>", "bfp6<channel0&2>",
]  # fmt: skip
STOCHASTIC_EVALS = st.sampled_from([None, "nearest_even", "toward_zero", "stochastic"])
CASTS = st.one_of(
    st.builds(
        Cast,
        st.sampled_from(FORMATS),
        st.sampled_from(["nearest_even", "toward_zero"]),
        eval_rounding=st.sampled_from([None, "nearest_even", "toward_zero"]),
    ),
    st.builds(
        Cast,
        st.sampled_from(FORMATS),
        st.just("stochastic"),
        random_bits=st.none() | st.integers(1, 32),
        eval_rounding=STOCHASTIC_EVALS,
    ),
)
CLIPPING = st.builds(Cast, st.sampled_from(FORMATS), clip_gradient=st.booleans())
MAYBE = st.none() | CASTS
NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)
CHANGES = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(CAST_ROLES, MAYBE),
        "grad_input": st.none() | st.builds(Operands, weight=CASTS, error=MAYBE),
        "grad_weight": st.none() | st.builds(Operands, input=CASTS, error=MAYBE),
    },
)
RULES = st.builds(Rule, NAMES, st.none() | CHANGES.map(lambda changes: tuple(changes.items())))
SCHEME_VALUES = st.builds(
    Scheme,
    input=MAYBE | CLIPPING,
    weight=MAYBE,
    error=MAYBE,
    output=MAYBE | CLIPPING,
    grad_input=st.none() | st.builds(Operands, weight=MAYBE, error=MAYBE),
    grad_weight=st.none() | st.builds(Operands, input=MAYBE, error=MAYBE),
    stored_weight=MAYBE,
    gradient=MAYBE,
    state=MAYBE | st.dictionaries(NAMES, CASTS, min_size=1, max_size=3),
    master=MAYBE,
    loss_scale=st.integers(-100, 100).map(lambda exponent: 2.0**exponent),
    rules=st.lists(RULES, max_size=3).map(tuple),
)


@given(SCHEME_VALUES)
def test_a_scheme_survives_dict_toml_pickle_and_hash(scheme):
    plain = scheme.to_dict()
    assert Scheme.from_dict(plain) == scheme
    assert tomllib.loads(scheme.to_toml()) == plain
    assert pickle.loads(pickle.dumps(scheme)) == scheme
    assert hash(Scheme.from_dict(plain)) == hash(scheme)


@given(SCHEME_VALUES)
def test_every_field_that_is_set_is_in_the_dict(scheme):
    set_fields = {
        name for name in Scheme.__dataclass_fields__ if getattr(scheme, name) not in (None, (), 1.0)
    }
    assert set(scheme.to_dict()) == set_fields


@given(st.dictionaries(NAMES, st.text(st.characters(codec="utf-8")) | st.booleans() | st.integers()))
def test_toml_writes_what_the_standard_library_reads(plain):
    assert tomllib.loads(toml.dumps(plain)) == plain
    assert tomllib.loads(toml.dumps({"inner": [plain], "mapping": plain})) == {
        "inner": [plain],
        "mapping": plain,
    }


@pytest.mark.parametrize("name", SCHEMES)
def test_named_schemes_survive_a_toml_file(tmp_path, name):
    path = tmp_path / "scheme.toml"
    path.write_text(SCHEMES[name].to_toml(), encoding="utf-8")
    assert Scheme.from_toml(path) == Scheme.from_toml(str(path)) == SCHEMES[name]


def test_the_named_schemes_are_those_that_were_promised():
    scaled = ["mxfp8", "mxfp6", "mxfp4", "nvfp4", "int8"]
    own = ["bf16", "fp8-hybrid", "fp8-acc12", "bfp8", "bfp8-sr", "fixed8", "fixed8-sr"]
    assert list(SCHEMES) == [*own, *scaled, *(f"{name}-sr" for name in scaled)]
    elements = [str(SCHEMES[name].weight.format.element) for name in scaled]
    assert elements == ["e4m3fn", "e2m3", "e2m1", "e2m1", "fixed8f0<symmetric>"]
    assert str(SCHEMES["mxfp6"].error.format.element) == "e3m2"
    assert str(SCHEMES["nvfp4"].error.format.along(-1)) == "nvfp4"
    assert str(SCHEMES["mxfp4"].input.format.along(-1)) == "mxfp4"
    fp8 = SCHEMES["fp8-hybrid"]
    assert (fp8.input, fp8.weight) == (Cast("e4m3fn<saturate_all>"), Cast("e4m3fn<saturate_all>"))
    assert fp8.error == Cast(FloatingPoint(5, 2, overflow="saturate_all"))
    assert fp8.loss_scale > 1
    assert (fp8.stored_weight, fp8.gradient, fp8.state, fp8.master) == (None, None, None, None)
    narrow = SCHEMES["fp8-acc12"]
    assert replace(narrow, arithmetic=None) == fp8
    assert narrow.arithmetic.accumulate.bits == 12
    assert narrow.arithmetic.accumulate == narrow.arithmetic.chunk_accumulate
    assert SCHEMES["fixed8"] == Scheme(
        stored_weight="fixed8f7", input="fixed8f4", error="fixed8f7", gradient="fixed8f7", loss_scale=64
    )
    assert SCHEMES["bf16"].input == SCHEMES["bf16"].weight == SCHEMES["bf16"].error == Cast("bfloat16")
    bfp8 = SCHEMES["bfp8"]
    roles = (bfp8.input, bfp8.weight, bfp8.error, bfp8.stored_weight, bfp8.gradient, bfp8.state)
    assert set(roles) == {Cast(BlockFloatingPoint(8))}


@pytest.mark.parametrize("name", ["bfp8", "fixed8", "mxfp8", "mxfp6", "mxfp4", "nvfp4", "int8"])
def test_the_stochastic_schemes_differ_in_rounding_alone_and_evaluate_to_nearest(name):
    plain, noisy = SCHEMES[name].to_dict(), SCHEMES[f"{name}-sr"].to_dict()
    assert list(plain) == list(noisy)
    for role, cast in plain.items():
        wanted = {"format": cast, "rounding": "stochastic", "eval_rounding": "nearest_even"}
        assert noisy[role] == (cast if role == "loss_scale" else wanted)


@pytest.mark.parametrize(
    ("like", "format"),
    [
        ("e4m3fn", FloatingPoint(4, 3, specials="fn")),
        (torch.float8_e5m2, FloatingPoint(5, 2)),
        (FixedPoint(8, 4), FixedPoint(8, 4)),
    ],
)
def test_a_format_its_name_or_a_dtype_stands_for_a_cast_to_nearest(like, format):
    want = Cast(format, "nearest_even")
    scheme = Scheme(
        input=like, grad_input=Operands(error=like), state={"exp_avg": like},
        rules=(Rule("Linear", (("weight", like),)), Rule("Conv2d", {"output": like})),
    )  # fmt: skip
    assert scheme.input == scheme.grad_input.error == Cast(like) == want
    assert scheme.state == (("exp_avg", want),)
    assert scheme.rules == (Rule("Linear", (("weight", want),)), Rule("Conv2d", (("output", want),)))


def test_nearest_is_nearest_even_and_eval_rounding_applies_in_eval_alone():
    cast = Cast("bfp8", "stochastic", eval_rounding="nearest")
    assert cast.mode(training=True) is Rounding.STOCHASTIC
    assert cast.mode(training=False) is Rounding.NEAREST_EVEN
    assert Cast("bfp8", "toward_zero").mode(training=False) is Rounding.TOWARD_ZERO


def test_describe_says_all_options():
    cast = Cast("bfp8", "stochastic", random_bits=4, eval_rounding="nearest_even", clip_gradient=True)
    assert cast.describe() == "bfp8 stochastic 4 random bits (eval nearest_even) clipping gradients"


def test_a_rule_with_none_removes_a_cast_and_changes_lie_on_top_of_the_scheme():
    scheme = Scheme(input="e4m3fn", weight="e4m3fn", rules=(Rule("x", {"input": None}),))
    own = scheme.for_layer({"input": None, "output": Cast("bfloat16")})
    assert own == Scheme(weight="e4m3fn", output="bfloat16")


def test_formats_with_contraction_axes_survive():
    scheme = Scheme(input=BlockFloatingPoint(4, PerGroup(16, "contraction")))
    assert scheme.to_dict() == {"input": "bfp4<group16@contraction>"}
    assert parse(str(BlockFloatingPoint(6, PerChannel((0, 2))))).granularity == PerChannel((0, 2))


def test_schemes_are_frozen():
    with pytest.raises(AttributeError, match="cannot assign"):
        SCHEMES["bfp8"].loss_scale = 2.0


ERRORS = {
    "unknown rounding": (lambda: Cast("e4m3fn", "upward"), ValueError, "`rounding` must be a known name"),
    "rounding of another type": (lambda: Cast("e4m3fn", 1), TypeError, "`rounding` must be a string"),
    "unknown eval_rounding": (
        lambda: Cast("e4m3fn", eval_rounding="upward"), ValueError, "`eval_rounding` must be a known name",
    ),
    "unknown format": (lambda: Cast("e4m3fm"), ValueError, "`format` must be a known name.*e4m3fn"),
    "no format": (lambda: Cast(8), TypeError, "`format` must be a format, a name or a torch dtype"),
    "random_bits without noise": (
        lambda: Cast("e4m3fn", random_bits=3), ValueError, "`random_bits` must be None where rounding",
    ),
    "random_bits out of range": (
        lambda: Cast("e4m3fn", "stochastic", random_bits=33), ValueError, "between 1 and 32, got 33",
    ),
    "random_bits no integer": (
        lambda: Cast("e4m3fn", "stochastic", random_bits=1.5), TypeError, "`random_bits` must be an int",
    ),
    "clip_gradient no bool": (
        lambda: Cast("e4m3fn", clip_gradient=1), TypeError, "`clip_gradient` must be True or False",
    ),
    "cast with an unknown key": (
        lambda: Scheme(input={"format": "e4m3fn", "mode": "up"}), ValueError,
        r"`input` must have no keys but .*rounding, got \['mode'\]",
    ),
    "cast without a format": (
        lambda: Scheme(output={"rounding": "nearest"}), ValueError, "`output` must name a format",
    ),
    "operands with an unknown role": (
        lambda: Scheme(grad_input={"bias": "e4m3fn"}), ValueError, "`grad_input` must map some of arithm",
    ),
    "operands that are none": (
        lambda: Scheme(grad_weight="e4m3fn"), ValueError, "`grad_weight` must map some of arithm",
    ),
    "an operand that grad_input does not read": (
        lambda: Scheme(grad_input=Operands(input="e4m3fn")), ValueError, "`grad_input` must not name input",
    ),
    "an operand that grad_weight does not read": (
        lambda: Scheme(grad_weight=Operands(weight="e4m3fn")), ValueError, "must not name weight",
    ),
    "rule with an optimizer role": (
        lambda: Rule("Linear", {"master": "bfloat16"}), ValueError, r"name roles among .*\['master'\]",
    ),
    "rule without a pattern": (lambda: Rule(3), TypeError, "`match` must be a string, got 3"),
    "rule of text": (
        lambda: Scheme(rules=("Linear",)), ValueError, "`rules` must hold match and either changes or",
    ),
    "rule with an unknown key": (
        lambda: Scheme(rules=({"match": "x", "leave": True},)), ValueError, "`rules` must hold match",
    ),
    "rule that excludes by false": (
        lambda: Scheme(rules=({"match": "x", "exclude": False},)), ValueError,
        "`exclude` must be true where it is given",
    ),
    "rule whose changes are no table": (
        lambda: Scheme(rules=({"match": "x", "changes": "e4m3fn"},)), TypeError, "map roles to casts",
    ),
    "loss scale no power of two": (
        lambda: Scheme(loss_scale=1000), ValueError, "`loss_scale` must be a power of two from .*, got 1000",
    ),
    "negative loss scale": (lambda: Scheme(loss_scale=-2), ValueError, "power of two from .*, got -2"),
    "infinite loss scale": (lambda: Scheme(loss_scale=float("inf")), ValueError, "power of two"),
    "state without names": (lambda: Scheme(state={3: "e5m2"}), TypeError, "`state` must map names of state"),
    "loss scale of text": (lambda: Scheme(loss_scale="2"), TypeError, "`loss_scale` must be a number"),
    "loss scale of bool": (lambda: Scheme(loss_scale=True), TypeError, "`loss_scale` must be a number"),
    "clipping in a backward role": (
        lambda: Scheme(error=Cast("e5m2", clip_gradient=True)), ValueError, "`error` must not clip",
    ),
    "unknown scheme": (lambda: Scheme.named("fp8"), ValueError, "`scheme` must be one of bf16, fp8-hybrid"),
    "scheme of another type": (lambda: scheme_of(8), TypeError, "`scheme` must be a Scheme or a name"),
    "unknown key of a scheme": (
        lambda: Scheme.from_dict({"activation": "e4m3fn"}), ValueError, r"`scheme` must have no keys but",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", ERRORS)
def test_what_cannot_be_meant_is_an_error(case):
    make, kind, message = ERRORS[case]
    with pytest.raises(kind, match=message):
        make()


@pytest.mark.parametrize(
    "text",
    [
        'input = "e4m3fn',
        'input = "e9m99fn"',
        'inputs = "e4m3fn"',
        'loss_scale = "big"',
        'rules = [{match = "x", changes = "e4m3fn"}]',
        'grad_input = "e4m3fn"',
        b"input = \xff",
    ],
)
def test_a_damaged_toml_file_is_named(tmp_path, text):
    path = tmp_path / "damaged.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=r"`path` must hold a scheme \(.*damaged\.toml"):
        Scheme.from_toml(path)


def test_a_missing_toml_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent\.toml"):
        Scheme.from_toml(tmp_path / "absent.toml")
