"""MultiheadAttention: torch's bits without casts for all options, and no way past it in eval."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

import lowprec
from lowprec import Cast, Rule, Scheme

CASTS = Scheme(input="e4m3fn", weight="e4m3fn", error="e5m2", output="bfloat16")
BATCH, LENGTH, LONGER = 3, 4, 6


def draw(*shape: int, seed: int = 0) -> Tensor:
    """Ordinary numbers."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def pair(**options: Any) -> tuple[lowprec.nn.MultiheadAttention, nn.MultiheadAttention]:
    """Ours, which does nothing, and torch's, with equal parameters and heads of 16 features."""
    torch.manual_seed(0)
    plain = nn.MultiheadAttention(32, 2, **options)
    with torch.no_grad():
        for p in plain.parameters():
            p.add_(torch.randn_like(p), alpha=0.1)
    mine = lowprec.nn.MultiheadAttention(32, 2, **options, scheme=Scheme())
    mine.load_state_dict(plain.state_dict())
    return mine, plain


def step(layer: nn.Module, inputs: list[Tensor], **options: Any) -> dict[str, Tensor]:
    """Results and gradients by name; inputs that are one tensor stay one."""
    leaves = {id(x): x.detach().clone().requires_grad_() for x in inputs}
    torch.manual_seed(3)
    with sdpa_kernel(SDPBackend.MATH):
        y, weights = layer(*[leaves[id(x)] for x in inputs], **options)
    loss = (y * draw(*y.shape, seed=1)).sum()
    found = {"y": y.detach()}
    if weights is not None:
        found["weights"] = weights.detach()
        loss = loss + (weights * draw(*weights.shape, seed=2)).sum()
    wanted = {**{f"input {i}": x for i, x in enumerate(leaves.values())}, **dict(layer.named_parameters())}
    return {**found, **dict(zip(wanted, torch.autograd.grad(loss, list(wanted.values())), strict=True))}


def inputs_of(kind: str, layer: nn.MultiheadAttention) -> list[Tensor]:
    """Query, key and value."""
    query, key = draw(LENGTH, BATCH, 32, seed=4), draw(LONGER, BATCH, layer.kdim, seed=5)
    given = {
        "self": [query] * 3,
        "encoder": [query, key, key],
        "three": [query, key, draw(LONGER, BATCH, layer.vdim, seed=6)],
    }[kind]
    if layer.batch_first:
        turned = {id(x): x.transpose(0, 1).contiguous() for x in given}
        given = [turned[id(x)] for x in given]
    return given


def masks(keys: int) -> dict[str, dict[str, Tensor | bool]]:
    """The masks that torch's layer takes."""
    causal = torch.ones(LENGTH, keys, dtype=torch.bool).triu(1)
    padding = torch.zeros(BATCH, keys, dtype=torch.bool)
    padding[1, -2:] = True
    return {
        "none": {},
        "padding": {"key_padding_mask": padding},
        "causal": {"attn_mask": causal, "is_causal": True},
        "both": {"attn_mask": causal, "key_padding_mask": padding, "is_causal": True},
        "float": {"attn_mask": torch.where(draw(BATCH * 2, LENGTH, keys) > 1, -torch.inf, 0.0)},
    }


ASKED: dict[str, dict[str, bool]] = {
    "none": {"need_weights": False},
    "padding": {"average_attn_weights": False},
    "causal": {"need_weights": False},
    "both": {"need_weights": False},
    "float": {},
}
"""What is asked for with each mask."""
OPTIONS: list[dict[str, Any]] = [
    {},
    {"batch_first": True, "dropout": 0.25},
    {"bias": False, "add_bias_kv": True, "add_zero_attn": True},
    {"kdim": 6, "vdim": 10, "add_zero_attn": True, "dropout": 0.25},
    {"kdim": 6, "vdim": 10, "batch_first": True, "bias": False, "add_bias_kv": True},
]


@pytest.mark.parametrize("number", range(len(OPTIONS)))
def test_without_casts_results_and_gradients_are_torchs(number: int) -> None:
    """To the bit, where the root of the head's size is a power of two; see the tests of attention.

    The one exception is the gradient of the bias of three products in a layer that gets the batch first:
    torch sums its rows in another order.
    """
    mine, plain = pair(**OPTIONS[number])
    kinds = ["three"] if "kdim" in OPTIONS[number] else ["self", "encoder", "three"]
    for kind in kinds:
        inputs = inputs_of(kind, plain)
        keys = LENGTH if kind == "self" else LONGER
        for name, given in masks(keys).items():
            wants = ASKED[name]
            got, want = step(mine, inputs, **given, **wants), step(plain, inputs, **given, **wants)
            assert list(got) == list(want)
            unequal = [name for name in got if not torch.equal(got[name], want[name])]
            assert unequal in ([], ["in_proj_bias"] if kind == "three" and plain.batch_first else [])


def test_without_a_batch_it_is_a_batch_of_one() -> None:
    """Also with masks; torch's results are within the roundings of a sum of three products instead of one."""
    mine, plain = pair()
    x = draw(LENGTH, 32)
    mask = torch.tensor([False, False, True, False])
    for wants in ({"need_weights": False}, {}, {"average_attn_weights": False}):
        alone = mine(x, x, x, key_padding_mask=mask, **wants)
        row = x[:, None]
        whole = mine(row, row, row, key_padding_mask=mask[None], **wants)
        with sdpa_kernel(SDPBackend.MATH):
            want = plain(x, x, x, key_padding_mask=mask, **wants)
        assert torch.equal(alone[0], whole[0][:, 0])
        assert torch.equal(alone[0], want[0])
        if wants.get("need_weights", True):
            assert torch.equal(alone[1], whole[1][0])
            assert torch.equal(alone[1], want[1])


def test_a_query_that_may_attend_to_nothing_is_as_in_torchs_layer() -> None:
    """Zeros where no weights are asked for, NaN where they are."""
    mine, plain = pair(bias=False)
    x = draw(LENGTH, 1, 32)
    mask = torch.ones(1, LENGTH, dtype=torch.bool)
    assert not mine(x, x, x, key_padding_mask=mask, need_weights=False)[0].any()
    assert mine(x, x, x, key_padding_mask=mask)[0].isnan().all()
    assert plain(x, x, x, key_padding_mask=mask)[0].isnan().all()


def test_its_parts_are_the_functions_of_lowprec() -> None:
    """Projections as linear, attention as scaled_dot_product_attention, out_proj as a layer."""
    torch.manual_seed(0)
    layer = lowprec.nn.MultiheadAttention(8, 2, scheme=CASTS, batch_first=True)
    x = draw(2, 5, 8)
    y, none = layer(x, x, x, need_weights=False)
    assert none is None
    z = lowprec.functional.linear(x, layer.in_proj_weight, layer.in_proj_bias, scheme=CASTS)
    q, k, v = (part.unflatten(-1, (2, 4)).transpose(1, 2) for part in z.chunk(3, -1))
    heads = lowprec.functional.scaled_dot_product_attention(q, k, v, scheme=CASTS)
    assert torch.equal(y, layer.out_proj(heads.transpose(1, 2).flatten(2)))
    assert type(layer.out_proj) is lowprec.nn.attention.OutProjection


def test_noise() -> None:
    """One for the weight in each forward of a converted model, and others for products."""
    noisy = Cast("e4m3fn", "stochastic")
    torch.manual_seed(0)
    layer = nn.MultiheadAttention(8, 2)

    class Twice(nn.Module):
        """Reads its layer twice."""

        def __init__(self) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            """Both readings."""
            return self.layer(x, x, x)[0], self.layer(x, x, x)[0]

    model = lowprec.convert(Twice(), Scheme(weight=noisy))
    x = draw(5, 1, 8)
    torch.manual_seed(1)
    first, second = model(x)
    assert torch.equal(first, second)
    third, _ = model(x)
    assert not torch.equal(first, third)
    torch.manual_seed(1)
    assert torch.equal(model(x)[0], first)
    lowprec.revert(model)
    model = lowprec.convert(Twice(), Scheme(input=noisy))
    first, second = model(x)
    assert not torch.equal(first, second)


class Operators(TorchDispatchMode):
    """Counts operators by their names."""

    def __init__(self) -> None:
        super().__init__()
        self.names: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names[func.name().split("::")[1].split(".")[0]] += 1
        return func(*args, **(kwargs or {}))


@contextmanager
def operators() -> Iterator[Counter[str]]:
    """What ran within the block."""
    with Operators() as seen:
        yield seen.names


def encoder(**options: Any) -> nn.TransformerEncoder:
    """Two layers that torch would fuse in eval."""
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, **options)
    return nn.TransformerEncoder(layer, 2)


def padded() -> tuple[Tensor, Tensor]:
    """Sequences and their padding, for which torch makes nested tensors."""
    padding = torch.zeros(3, 5, dtype=torch.bool)
    padding[1, 3:] = True
    return draw(3, 5, 8), padding


SUMS = Scheme(input="e4m3fn", weight="e4m3fn", arithmetic="e4m3fn")
EACH = 1 + 2 + 1 + 2
"""Products of a layer of the encoder: of the projections, attention, the last projection, linear layers."""
FUSED = {"_transformer_encoder_layer_fwd", "_native_multi_head_attention", "_nested_tensor_from_mask"}


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_torchs_fused_inference_is_what_would_run() -> None:
    """Else the next test could not fail."""
    x, padding = padded()
    with torch.no_grad(), operators() as seen:
        encoder().eval()(x, src_key_padding_mask=padding)
    assert {"_transformer_encoder_layer_fwd", "_nested_tensor_from_mask"} <= set(seen)
    attention = nn.MultiheadAttention(8, 2, batch_first=True).eval()
    with torch.no_grad(), operators() as seen:
        attention(x, x, x)
    assert "_native_multi_head_attention" in seen


@pytest.mark.parametrize("grad", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_a_converted_encoder_runs_every_product_in_eval(grad: Callable[[], Any]) -> None:
    model = lowprec.convert(encoder(), SUMS).eval()
    x, padding = padded()
    results = []
    for mask in ({}, {"src_key_padding_mask": padding}):
        with grad(), operators() as seen:
            results.append(model(x, **mask))
        assert seen["product"] == 2 * EACH
        assert not FUSED & set(seen)
    assert torch.equal(results[0][[0, 2]], results[1][[0, 2]])
    assert not torch.equal(results[0][1], results[1][1])


@pytest.mark.parametrize(
    ("exclude", "count"),
    [
        (("*.self_attn",), 2 * 2),
        (("*.out_proj",), 2 * 5),
        (("*.linear1", "*.linear2"), 2 * 4),
        (("layers.0",), EACH),
        (("layers.1", "*.self_attn", "*.linear1"), 1),
    ],
)
def test_parts_that_are_excluded_do_not_bring_the_fused_operator_back(
    exclude: tuple[str, ...], count: int
) -> None:
    model = lowprec.convert(encoder(), SUMS, exclude=exclude).eval()
    x, padding = padded()
    with torch.no_grad(), operators() as seen:
        model(x, src_key_padding_mask=padding)
    assert seen["product"] == count
    assert "_nested_tensor_from_mask" not in seen
    assert seen["_transformer_encoder_layer_fwd"] == (exclude[0].startswith("layers."))


def test_a_layer_that_was_put_into_torchs_is_called_in_eval() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    layer.self_attn = lowprec.nn.MultiheadAttention(8, 2, batch_first=True, scheme=SUMS).eval()
    with torch.no_grad(), operators() as seen:
        layer(draw(3, 5, 8))
    assert seen["product"] == 4


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.filterwarnings("ignore:enable_nested_tensor is True")
def test_a_converted_transformer_is_torchs_where_nothing_is_cast(norm_first: bool) -> None:
    """Encoder, decoder, masks, dropout; in training and in eval; and revert gives torch's classes back."""
    torch.manual_seed(0)
    options = {"norm_first": norm_first, "batch_first": True, "dropout": 0.25}
    plain = nn.Transformer(32, 2, 2, 1, 16, **options)
    classes = [type(m) for m in plain.modules()]
    attributes = [set(vars(m)) for m in plain.modules()]
    source, target = draw(2, 5, 32), draw(2, 4, 32, seed=1)
    mask = nn.Transformer.generate_square_subsequent_mask(4)

    def run(model: nn.Module) -> list[Tensor]:
        torch.manual_seed(2)
        with sdpa_kernel(SDPBackend.MATH):
            y = model.train()(source, target, tgt_mask=mask, tgt_is_causal=True)
            still = model.eval()(source, target, tgt_mask=mask)
        gradients = torch.autograd.grad(y.square().sum(), list(model.parameters()))
        return [y.detach(), *gradients, still.detach()]

    want = run(plain)
    model = lowprec.convert(plain, Scheme())
    assert type(model.encoder.layers[0]) is lowprec.nn.attention.TransformerEncoderLayer
    got = run(model)
    biases = [name.endswith("in_proj_bias") for name, _ in model.named_parameters()]
    for a, b, skipped in zip(got, want, [False, *biases, False], strict=True):
        assert skipped or torch.equal(a, b)
    lowprec.revert(model)
    assert [type(m) for m in model.modules()] == classes
    assert [set(vars(m)) for m in model.modules()] == attributes


def test_rules_reach_the_parts_that_have_names() -> None:
    """Attention and its out_proj; a rule for Linear reaches out_proj, too."""
    rules = [Rule("*.self_attn", {"input": "e5m2"}), Rule("Linear", {"weight": "e2m1"}), Rule(":last", None)]
    model = lowprec.convert(encoder(), Scheme(input="e4m3fn", rules=rules))
    told = {row.name: dict(row.casts) for row in lowprec.describe(model).rows}
    assert told["layers.0.self_attn"] == {"input": "e5m2 nearest_even"}
    assert told["layers.0.self_attn.out_proj"] == {
        "input": "e5m2 nearest_even", "weight": "e2m1 nearest_even"}  # fmt: skip
    assert told["layers.1.linear2"] == {}


def test_record_and_sensitivity_know_its_parts() -> None:
    """Operands of attention have roles of their own; out_proj alone has an effect."""
    model, x = encoder(), draw(2, 5, 8)
    layer = model.layers[0].eval()
    with torch.no_grad():
        found = lowprec.sensitivity(layer, lambda m: m(x)[..., :3].sum(), "e4m3fn")
    parts = ["linear1", "linear2", "self_attn", "self_attn.out_proj"]
    assert sorted(e.layer for e in found.effects) == parts
    assert all(effect.change for effect in found.effects)
    assert type(layer) is nn.TransformerEncoderLayer
    lowprec.convert(model, CASTS)
    with lowprec.record(model) as recording:
        model(x).sum().backward()
    own = "layers.1.self_attn"
    roles = {role: c.count for (layer, role), c in recording.counters.items() if layer == own}
    assert {"query", "key", "attention", "value", "input", "weight", "error", "output"} == set(roles)
    assert (roles["query"], roles["attention"]) == (2 * 5 * 8, 2 * 2 * 5 * 5)
    assert recording.counters[f"{own}.out_proj", "input"].count == 2 * 5 * 8


def test_prepare_trains_it() -> None:
    """A step of an optimizer changes every parameter."""
    model = encoder()
    before = [p.detach().clone() for p in model.parameters()]
    model, optimizer = lowprec.prepare(model, torch.optim.SGD(model.parameters(), 0.1), "fp8-hybrid")
    model(draw(2, 5, 8)).square().mul(draw(2, 5, 8, seed=1)).sum().backward()
    optimizer.step()
    assert not any(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


ERRORS: dict[str, tuple[type[Exception], str, list[Tensor], dict[str, Any]]] = {
    "vector": (ValueError, "`query` must have two dimensions, or three with a batch",
               [torch.ones(8)] * 3, {}),
    "batch": (ValueError, r"`key` must have the batch of the query, \(2,\)",
              [torch.ones(5, 2, 8), torch.ones(5, 3, 8), torch.ones(5, 2, 8)], {}),
    "rows": (ValueError, "`value` must have 4 rows, as many as the key",
             [torch.ones(5, 2, 8), torch.ones(4, 2, 8), torch.ones(5, 2, 8)], {}),
    "heads": (ValueError, "`query` must have features for 2 heads", [torch.ones(5, 2, 7)] * 3, {}),
    "padding": (ValueError, r"`key_padding_mask` must have the shape \(2, 5\)", [torch.ones(5, 2, 8)] * 3,
                {"key_padding_mask": torch.ones(5, 2)}),
    "mask": (ValueError, r"`attn_mask` must have the shape \(5, 5\) or \(4, 5, 5\)",
             [torch.ones(5, 2, 8)] * 3, {"attn_mask": torch.ones(2, 5, 5)}),
    "causal": (ValueError, "`attn_mask` must be the causal mask where is_causal is set",
               [torch.ones(5, 2, 8)] * 3, {"is_causal": True}),
    "integers": (TypeError, "`key_padding_mask` must be boolean or floating-point", [torch.ones(5, 2, 8)] * 3,
                 {"key_padding_mask": torch.ones(2, 5, dtype=torch.int64)}),
}  # fmt: skip


@pytest.mark.parametrize("name", ERRORS)
def test_shapes_that_do_not_fit_are_refused(name: str) -> None:
    kind, message, inputs, options = ERRORS[name]
    with pytest.raises(kind, match=message):
        lowprec.nn.MultiheadAttention(8, 2, scheme="bf16")(*inputs, **options)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_nested_tensors_are_refused_with_a_way_out() -> None:
    x = torch.nested.nested_tensor([torch.ones(2, 8), torch.ones(3, 8)])
    layer = lowprec.nn.MultiheadAttention(8, 2, scheme="bf16", batch_first=True).eval()
    with pytest.raises(TypeError, match=r"`query` must be padded.*Pad it and pass key_padding_mask"):
        layer(x, x, x)


def test_parameters_can_be_drawn_anew() -> None:
    layer = lowprec.nn.MultiheadAttention(8, 2, scheme="bf16")
    torch.manual_seed(0)
    layer._reset_parameters()
    torch.manual_seed(0)
    want = lowprec.nn.MultiheadAttention(8, 2, scheme="bf16")
    layer._reset_parameters()
    assert layer.scheme == want.scheme
    assert layer.in_proj_weight.shape == (24, 8)
