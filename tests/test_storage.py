"""save_packed and load_packed: quantized values, exact sizes, policies, models, what is refused."""

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from oracle import assert_same, holders, spread
from torch import Tensor

import lowprec
from lowprec import Cast, Scheme, load_packed, save_packed, storage
from lowprec.storage import packed
from lowprec.storage.policy import choose

NAN, INFINITY = float("nan"), float("inf")

WITHOUT_GROUPS = ["e2m1", "e3m2", "e4m3fn", "e5m2", "e4m3fnuz", "bfloat16", "tf32", "binary32", "e2m0ieee",
                  "fixed8f6", "fixed4f2<wrap>", "ufixed3f1", "fixed12f4<symmetric>", "fixed17f9"]  # fmt: skip
WITH_GROUPS = ["bfp8", "bfp4<group32>", "bfp5<channel0>", "bfp3<block2x3>", "bfp17<group8@0>",
               "mxfp8_e4m3", "mxfp6_e2m3", "mxfp4", "mxint8", "scaled<e2m1,e8m0,group16,ceil>"]  # fmt: skip
BITS = {
    "e2m1": 4, "e4m3fn": 8, "tf32": 32, "binary32": 32, "fixed12f4": 12, "fixed5f2": 5, "e2m0ieee": 3,
    "bfp4<group32>": 4, "mxfp6_e2m3": 6, "mxfp4": 4,
}  # fmt: skip
"""What a code takes in the file."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.safetensors"


def values(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Finite values of every magnitude, -0 among them."""
    return spread(*shape).nan_to_num(0.25, 3.0, -3.0).to(dtype)


def kept(state: dict[str, Tensor], path: Path, policy: Any) -> dict[str, Tensor]:
    """What comes back; the file has the size that is foretold, and leaves nothing beside it."""
    save_packed(state, path, policy)
    assert list(path.parent.iterdir()) == [path]
    content = path.read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    assert len(content) == header + storage.nbytes(state, policy)
    loaded = load_packed(path)
    assert list(loaded) == list(state)
    return loaded


@pytest.mark.parametrize("format", WITHOUT_GROUPS + WITH_GROUPS)
def test_what_comes_back_is_quantized(format: str, path: Path) -> None:
    dtypes = holders(format) if format in WITHOUT_GROUPS else [torch.float32]
    state = {f"{d}": values(9, 70, dtype=d) for d in dtypes}
    state |= {
        "turned": values(5, 7).T,
        "empty": torch.empty(3, 0),
        "parameter": torch.nn.Parameter(values(2, 3)),
    }
    for name, x in kept(state, path, format).items():
        assert_same(x, lowprec.quantize(state[name].detach(), format))
        assert not x.requires_grad


@pytest.mark.parametrize("format", ["e5m2", "e4m3fn", "bfloat16", "binary32"])
def test_specials_come_back(format: str, path: Path) -> None:
    x = torch.tensor([NAN, INFINITY, -INFINITY, 0.0, -0.0, 1e30, -1e-30])
    assert_same(kept({"x": x}, path, format)["x"], lowprec.quantize(x, format))


@pytest.mark.parametrize("format", WITHOUT_GROUPS + WITH_GROUPS)
def test_values_of_the_format_come_back_unchanged(format: str, path: Path) -> None:
    x = lowprec.quantize(values(9, 70), format)
    assert_same(kept({"x": x}, path, format)["x"], x)


def test_scales_in_the_dtype_of_the_values(path: Path) -> None:
    x = values(9, 70, dtype=torch.bfloat16)
    assert_same(kept({"x": x}, path, "bfp4<group32>")["x"], lowprec.quantize(x, "bfp4<group32>"))


def test_scales_of_several_levels_and_dtypes(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever encode gives is what decode is given."""
    codes = torch.arange(16).to(torch.uint8).view(2, 8)
    scales = (torch.tensor([[127], [130]], dtype=torch.uint8).view(torch.float8_e8m0fnu), torch.tensor(0.75))
    taken = []

    def decode(*arguments: Any, **options: Any) -> Tensor:
        taken.append((*arguments, options))
        return codes.float()

    monkeypatch.setattr(packed, "encode", lambda *_, **__: (codes, scales))
    monkeypatch.setattr(packed, "decode", decode)
    save_packed({"x": codes.double()}, path, "mxfp4")
    assert_same(load_packed(path)["x"], codes.float())
    [(got, format, options)] = taken
    assert_same(got, codes)
    assert (str(format), options["dtype"]) == ("mxfp4", torch.float64)
    for one, other in zip(options["scales"], scales, strict=True):
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        assert torch.equal(one.float(), other.float())
    monkeypatch.undo()
    size = len(path.read_bytes())
    assert size == 8 + int.from_bytes(path.read_bytes()[:8], "little") + 16 // 2 + 2 + 4


def test_numbers_and_vectors(path: Path) -> None:
    state = {"number": torch.tensor(0.3), "vector": values(5)}
    for format in ("e4m3fn", "bfp8"):
        for name, x in kept(state, path, format).items():
            assert_same(x, lowprec.quantize(state[name], format))


OTHERS = [
    torch.tensor(7), torch.tensor([True, False]), torch.arange(6, dtype=torch.int8).view(2, 3).T,
    torch.arange(5).to(torch.uint16), torch.tensor([1 + 2j]), torch.ones(2, 1, dtype=torch.complex128),
]  # fmt: skip
UNUSUAL = [torch.float8_e4m3fn, torch.float8_e5m2fnuz, torch.float8_e8m0fnu, torch.float4_e2m1fn_x2]


def test_other_tensors_are_stored_as_they_are(path: Path) -> None:
    state = {f"{i}": x for i, x in enumerate(OTHERS)}
    assert all(map(torch.equal, kept(state, path, "e2m1").values(), OTHERS))
    pair = torch.tensor([1 + 2j, 3 - 4j])
    state |= {"pair": pair, "conjugate": pair.conj(), "part": pair.conj().imag}
    for name, x in kept(state, path, {"*": None}).items():
        assert torch.equal(x, state[name])
    state = {"half": values(3, 4).half(), "slice": values(50)[3:9], "none": torch.empty(0, 3).double()}
    for name, x in kept(state, path, {"*": None}).items():
        assert_same(x, state[name])
    state = {str(dtype): torch.arange(12, dtype=torch.uint8).view(3, 4).view(dtype) for dtype in UNUSUAL}
    for name, x in kept(state, path, {}).items():
        assert x.dtype == state[name].dtype
        assert_same(x.view(torch.uint8), state[name].view(torch.uint8))


def test_parts_of_one_memory_come_back_apart(path: Path) -> None:
    whole = values(12)
    state = {"whole": whole, "left": whole[:6], "matrix": whole.view(3, 4), "right": whole[6:]}
    for name, x in kept(state, path, {"right": "e2m1"}).items():
        assert_same(x, lowprec.quantize(state[name], "e2m1") if name == "right" else state[name])


@pytest.mark.parametrize("policy", [None, "e2m1", "mxfp4"])
def test_tied_tensors_are_stored_once_and_come_back_tied(policy: str | None, path: Path) -> None:
    x = values(64, 32)
    state = {"one": x, "two": x.detach(), "three": torch.nn.Parameter(x), "other": x.clone()}
    loaded = kept(state, path, {"*": policy})
    assert loaded["one"] is loaded["two"] is loaded["three"]
    assert loaded["other"] is not loaded["one"]
    assert_same(loaded["other"], loaded["one"])
    once = storage.nbytes({"one": x}, {"*": policy})
    assert storage.nbytes(state, {"*": policy}) == 2 * once


@pytest.mark.parametrize("format", BITS)
def test_the_size_of_a_file_is_what_arithmetic_says(format: str, path: Path) -> None:
    state = {"a": values(7, 45), "b": values(33), "c": torch.arange(5), "d": values(2, 3, 5, 7)}
    groups = {"bfp4<group32>": 4, "mxfp6_e2m3": 1, "mxfp4": 1}.get(format)  # bytes of a scale
    foretold = 5 * 8
    for x in (state["a"], state["b"], state["d"]):
        foretold += math.ceil(x.numel() * BITS[format] / 8)
        if groups:
            foretold += x.numel() // x.shape[-1] * math.ceil(x.shape[-1] / 32) * groups
    save_packed(state, path, format)
    content = path.read_bytes()
    assert len(content) - 8 - int.from_bytes(content[:8], "little") == foretold
    meta = {name: x.to("meta") for name, x in state.items()}
    assert storage.nbytes(meta, format) == foretold


def test_other_readers_of_safetensors_see_the_parts(path: Path) -> None:
    x = values(4, 32)
    save_packed({"w": x, "n": torch.tensor(3)}, path, "mxfp4")
    parts = safetensors.torch.load_file(path)
    codes, scales = lowprec.encode(x, "mxfp4")
    assert set(parts) == {"w:codes", "w:scales0", "n"}
    assert torch.equal(parts["w:codes"], lowprec.pack(codes, 4))
    assert parts["w:scales0"].tolist() == scales.view(torch.uint8).flatten().tolist()


STATE = {"a.weight": values(8, 64), "a.bias": values(8), "b.weight": values(6, 3, 5, 5)}


class TestPolicies:
    AXIS = "bfp4<group2@contraction>"

    def check(self, path: Path, policy: Any, *formats: str | None, rounding: str = "nearest_even") -> None:
        """The tensors are in these formats."""
        for (name, x), format in zip(kept(STATE, path, policy).items(), formats, strict=True):
            want = STATE[name]
            assert_same(x, want if format is None else lowprec.quantize(want, format, rounding=rounding))

    def test_one_format(self, path: Path) -> None:
        for policy in ("e5m2", lowprec.formats.parse("e5m2"), torch.float8_e5m2, Cast("e5m2")):
            self.check(path, policy, "e5m2", "e5m2", "e5m2")

    def test_the_first_pattern_that_matches_counts(self, path: Path) -> None:
        self.check(path, {"b.*": "e2m1", "*.weight": "mxfp4"}, "mxfp4", None, "e2m1")
        self.check(path, {"b.*": None, "*": torch.bfloat16}, "bfloat16", "bfloat16", None)
        self.check(path, {"*.weight": "e2m1", "*.bias": None, "*": "e4m3fn"}, "e2m1", None, "e2m1")
        self.check(path, {}, None, None, None)

    def test_contraction_is_the_second_axis(self, path: Path) -> None:
        self.check(path, self.AXIS, "bfp4<group2@1>", "bfp4<group2@0>", "bfp4<group2@1>")

    def test_a_cast_rounds_as_it_does_in_eval(self, path: Path) -> None:
        mode = "toward_zero"
        for cast in (Cast("e2m1", mode), Cast("e2m1", "stochastic", eval_rounding=mode)):
            self.check(path, {"*": cast}, "e2m1", "e2m1", "e2m1", rounding=mode)
        quiet = Cast(self.AXIS, "stochastic", eval_rounding=mode)
        assert choose(STATE, quiet)["b.weight"] == Cast("bfp4<group2@-3>", mode)

    def test_a_scheme_speaks_of_weights(self, path: Path) -> None:
        self.check(path, Scheme(weight="e5m2"), "e5m2", None, "e5m2")
        self.check(path, Scheme(weight="e5m2", stored_weight="e4m3fn"), "e4m3fn", None, "e4m3fn")
        self.check(path, Scheme.named("bfp8-sr"), "bfp8", None, "bfp8")

    @pytest.mark.parametrize(
        ("policy", "error", "message"),
        [
            ("e2m11", ValueError, "`format` must be a known name, got 'e2m11'"),
            (None, TypeError, "`format` must be a format, a name or a torch dtype, got None"),
            ({"*": 4}, TypeError, "`format` must be a format, a name or a torch dtype, got 4"),
            (Cast("e2m1", "stochastic"), ValueError, "`policy` must round det.* got 'e2m1 stoch.*Quant"),
            ({"b.*": Cast("e2m1", "stochastic")}, ValueError, "`policy` must round deterministically"),
            ({"c.*": "e2m1"}, ValueError, r"`policy` must have no pattern .* got \['c.\*'\]. The first"),
            ({"*": "e2m1", "b.*": None}, ValueError, r"`policy` must have no pattern .* got \['b.\*'\]"),
            (Scheme(weight="e2m1", rules=[lowprec.Rule(":last")]), ValueError,
             r"`policy` must be a scheme without rules: .* got \[':last'\]. Pass a mapping"),
            (Scheme(input="e2m1"), ValueError, "`policy` must be a scheme with stored_weight or weight, got"),
            ("fixedf4<unbounded>", ValueError, "Tensor 'a.weight' of `state_dict`: `format` must have codes"),
            ("binary64", ValueError, "Tensor 'a.weight' of `state_dict`: `format` must be exact in the carr"),
            ({"a.bias": "bfp4<channel1>"}, ValueError, "Tensor 'a.bias' of `state_dict`: `axis` must lie"),
        ],
    )  # fmt: skip
    @pytest.mark.parametrize(
        "call", [storage.nbytes, lambda state, policy: save_packed(state, "none", policy)]
    )
    def test_what_is_refused(self, call: Callable[..., Any], policy: Any, error: type, message: str) -> None:
        with pytest.raises(error, match=message):
            call(STATE, policy)
        assert not Path("none").exists()


class Elsewhere(Tensor):
    """A tensor that says that it lies on another device."""

    is_cpu = is_meta = False
    device = torch.device("cuda:0")


X = torch.ones(4)


@pytest.mark.parametrize(
    ("state", "error", "message"),
    [
        ([X], TypeError, "`state_dict` must map names to tensors, got <class 'list'>. Pass model.state_dict"),
        ({3: X}, TypeError, "`state_dict` must have strings for names, got 3"),
        ({"x": X, "y": [1]}, TypeError, "`state_dict` must hold tensors only, got {'y': <class 'list'>}"),
        ({"x": X, "y": X * NAN}, ValueError, "Tensor 'y' of `state_dict`: `x` must hold nothing that bec"),
        ({"x": X.to(torch.float8_e5m2)}, TypeError, "Tensor 'x' of `state_dict`: `x` must be float32, .*"),
        ({"x": X.to_sparse()}, ValueError, "`state_dict` must hold strided tensors only, 'x' too, got 'tor"),
        ({"x": X.as_subclass(Elsewhere)}, ValueError, "`state_dict` must be on the CPU, 'x' too, got 'cuda"),
        ({"x": X.int().to("meta")}, ValueError, "`state_dict` must be on the CPU, 'x' too, got 'meta'"),
        ({"x": X, "x:codes": X.int()}, ValueError, "`state_dict` must have no name that .*, got 'x:codes'"),
        ({"x:codes": X.int(), "x": X}, ValueError, "`state_dict` must have no name that .*, got 'x:codes'"),
        ({"__metadata__": X.int()}, ValueError, "`state_dict` must have no name that .*, got '__metadata__'"),
    ],
)  # fmt: skip
def test_what_is_not_saved(state: Any, error: type, message: str, path: Path) -> None:
    with pytest.raises(error, match=message):
        save_packed(state, path, "e2m1")
    assert not path.exists()


def test_tied_tensors_in_two_formats_are_refused(path: Path) -> None:
    message = r"`policy` must give 'a' and 'b', which share their memory, one format, got \['e2m1 .*', None\]"
    with pytest.raises(ValueError, match=message):
        save_packed({"a": X, "b": X}, path, {"a": "e2m1"})


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failed_write_leaves_the_file_before(path: Path, monkeypatch: Any, step: str) -> None:
    save_packed({"x": X}, path, "e2m1")

    def fail(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match="No space left"):
        save_packed({"x": X * 2}, path, "e2m1")
    assert_same(load_packed(path)["x"], X)


class Net(torch.nn.Module):
    """A convolution, a norm with buffers, and layers with a weight in common."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 8, 3)
        self.norm = torch.nn.BatchNorm2d(8)
        self.first, self.second = torch.nn.Linear(32, 32), torch.nn.Linear(32, 32)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        x = self.norm(self.conv(x)).relu().flatten(1)
        return self.second(self.first(x).relu())


IMAGES = spread(16, 3, 4, 4).nan_to_num(0.5, 1.0, -1.0).clamp(-4, 4)


def trained(scheme: str) -> Net:
    """A model after two steps."""
    torch.manual_seed(3)
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)
    model, optimizer = lowprec.prepare(model, optimizer, scheme, seed=1)
    for _ in range(2):
        optimizer.zero_grad()
        model(IMAGES).square().mean().backward()
        optimizer.step()
    return model


def outputs(model: Net) -> Tensor:
    """What a model says in eval()."""
    with torch.no_grad():
        return model.eval()(IMAGES)


class TestModels:
    @pytest.mark.parametrize("format", ["mxfp4", "e2m1", "bfp4<group8@contraction>"])
    def test_a_loaded_model_evaluates_as_one_with_quantized_weights(self, format: str, path: Path) -> None:
        model = trained("fp8-hybrid")
        before = outputs(model)
        save_packed(model.state_dict(), path, {"*norm*": None, "*.bias": None, "*": format})
        fresh = lowprec.convert(Net(), "fp8-hybrid")
        fresh.load_state_dict(load_packed(path))
        with torch.no_grad():
            for p in model.parameters():
                if p.dim() >= 2:
                    axis = format.replace("contraction", "1")
                    lowprec.quantize(p, axis, out=p)
        assert_same(outputs(fresh), outputs(model))
        assert not torch.equal(outputs(model), before)

    @pytest.mark.parametrize("scheme", ["fp8-hybrid", "bfp8-sr", "fixed8"])
    def test_what_a_scheme_stores_loses_nothing(self, scheme: str, path: Path) -> None:
        model = trained(scheme)
        save_packed(model.state_dict(), path, Scheme.named(scheme))
        fresh = lowprec.convert(Net(), scheme)
        fresh.load_state_dict(load_packed(path))
        assert_same(outputs(fresh), outputs(model))
        assert fresh.first.weight is fresh.second.weight
