"""audit: every product is counted, in its layer, and nothing unsimulated goes by."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

import lowprec
from lowprec.auditing import Audit

E4M3 = lowprec.Scheme(input="e4m3fn", weight="e4m3fn", error="e5m2")


def products(audit: Audit) -> dict[tuple[str, str, str], int]:
    """Multiply-adds by layer, operation and pass."""
    found = {(row.layer, row.operation, row.phase): row.multiply_adds for row in audit.products}
    assert len(found) == len(audit.products)
    return found


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(7, 5), nn.ReLU(), nn.Linear(5, 3))


class Attention(nn.Module):
    """Heads by hand, as people write them."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.query(x), self.key(x), self.value(x)
        return (q @ k.transpose(-1, -2)).softmax(-1) @ v


class Called(nn.Module):
    """A function of a tensor and of a layer's parameters."""

    def __init__(self, function: Callable[..., torch.Tensor], *shape: int) -> None:
        super().__init__()
        self.function = function
        self.weight = nn.Parameter(torch.ones(shape))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x, self.weight)


class Checkpointed(nn.Module):
    """Three layers, of which the second and a product of ours are computed again."""

    def __init__(self, *, reentrant: bool) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Linear(4, 6), nn.Linear(6, 5), nn.Linear(5, 3)
        self.reentrant = reentrant

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        def between(y: torch.Tensor) -> torch.Tensor:
            return (y @ y.t()).relu().mean() * self.second(y)

        return self.third(checkpoint(between, self.first(x), use_reentrant=self.reentrant))


@pytest.mark.parametrize("scheme", [None, E4M3, "mxfp8"], ids=["plain", "e4m3", "mxfp8"])
def test_the_products_of_an_mlp_are_those_counted_by_hand(scheme) -> None:
    model = mlp() if scheme is None else lowprec.convert(mlp(), scheme)
    audit = lowprec.audit(model, torch.ones(11, 7))
    name = "matrix product"
    assert products(audit) == {
        ("0", name, "forward"): 11 * 7 * 5,
        ("0", f"{name}, gradient of weight", "backward"): 11 * 7 * 5,
        ("2", name, "forward"): 11 * 5 * 3,
        ("2", f"{name}, gradient of input", "backward"): 11 * 5 * 3,
        ("2", f"{name}, gradient of weight", "backward"): 11 * 5 * 3,
    }
    assert audit.multiply_adds == 2 * 11 * 7 * 5 + 3 * 11 * 5 * 3
    simulated = float(scheme is not None)
    fractions = {"simulated": simulated, "carrier precision": 1 - simulated, "out of reach": 0.0}
    assert audit.fractions == fractions


@pytest.mark.parametrize("scheme", [E4M3, "mxfp8"], ids=["e4m3", "mxfp8"])
def test_the_products_of_a_cnn_are_those_counted_by_hand(scheme) -> None:
    model = nn.Sequential(nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2), nn.Conv2d(6, 8, (1, 3)))
    audit = lowprec.audit(lowprec.convert(model, scheme), torch.ones(2, 4, 9, 9))
    first, second = 2 * (5 * 5) * 6 * 2 * 9, 2 * (5 * 3) * 8 * 6 * 3
    assert products(audit) == {
        ("0", "convolution", "forward"): first,
        ("0", "convolution, gradient of weight", "backward"): first,
        ("1", "convolution", "forward"): second,
        ("1", "convolution, gradient of input", "backward"): second,
        ("1", "convolution, gradient of weight", "backward"): second,
    }
    assert audit.fractions["simulated"] == 1


def test_torchs_own_counter_counts_as_many() -> None:
    models = [
        (mlp(), torch.ones(3, 7)),
        (nn.Conv2d(3, 4, 3, dilation=2, padding=2), torch.ones(2, 3, 8, 8)),
        (nn.ConvTranspose2d(3, 4, 3, stride=2), torch.ones(2, 3, 8, 8)),
        (Attention(), torch.ones(2, 5, 6)),
    ]
    for model, x in models:
        with FlopCounterMode(display=False) as counter:
            model(x).sum().backward()
        assert 2 * lowprec.audit(model, x).multiply_adds == counter.get_total_flops()


@pytest.mark.parametrize("model", [mlp(), nn.Linear(7, 5, bias=False)])
def test_each_gradient_is_told_from_the_other(model) -> None:
    x = torch.ones(11, 7, requires_grad=True)
    every = products(lowprec.audit(model, x))
    for p in model.parameters():
        p.requires_grad_(False)
    assert products(lowprec.audit(model, x)) == {
        key: count for key, count in every.items() if "gradient of weight" not in key[1]
    }


def test_gradients_of_a_product_of_ones_own_are_told_by_their_shapes() -> None:
    left, right = [], []
    for x_needs, weight_needs, found in ((True, False, left), (False, True, right)):
        model = Called(torch.matmul, 2, 5, 3)
        model.weight.requires_grad_(weight_needs)
        x = torch.ones(2, 4, 5, requires_grad=x_needs)
        found += [row.operation for row in lowprec.audit(model, x).products]
    name = "batched matrix product"
    assert left == [name, f"{name}, gradient of left"]
    assert right == [name, f"{name}, gradient of right"]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(2, 4), (5, 2, 4), (4,)], ids=str)
def test_casts_are_named_by_role(bias, shape) -> None:
    scheme = lowprec.Scheme(input="e4m3fn", weight="fixed8f4", error="e5m2")
    model = lowprec.convert(nn.Linear(4, 3, bias=bias), scheme)
    rows = lowprec.audit(model, torch.ones(shape, requires_grad=True)).products
    assert {row.operation: row.how for row in rows} == {
        "matrix product": "input e4m3fn, weight fixed8f4; sum float32",
        "matrix product, gradient of input": "error e5m2, weight fixed8f4; sum float32",
        "matrix product, gradient of weight": "error e5m2, input e4m3fn; sum float32",
    }


def test_operands_of_backward_products_are_seen_where_they_differ() -> None:
    scheme = lowprec.Scheme(
        input="e4m3fn",
        weight="e5m2",
        grad_input=lowprec.Operands(error="e3m2", weight="e2m1"),
        grad_weight=lowprec.Operands(error="fixed8f4", input=lowprec.Cast("e4m3fn", "stochastic")),
    )
    for layer, x in ((nn.Linear(4, 3), torch.ones(2, 4)), (nn.Conv1d(4, 3, 2), torch.ones(2, 4, 5))):
        audit = lowprec.audit(lowprec.convert(layer, scheme), x.requires_grad_())
        assert [row.how for row in audit.products] == [
            "input e4m3fn, weight e5m2; sum float32",
            "error e3m2, weight e2m1; sum float32",
            "error fixed8f4, input e4m3fn stochastic; sum float32",
        ]


@pytest.mark.parametrize("mode", ["zeros", "circular", "reflect"])
def test_padding_does_not_hide_a_cast(mode) -> None:
    layer = nn.Conv2d(1, 2, 3, padding="same", padding_mode=mode)
    audit = lowprec.audit(lowprec.convert(layer, E4M3), torch.ones(1, 1, 5, 5))
    assert audit.fractions["simulated"] == 1


def test_casts_that_only_some_operands_get_are_told() -> None:
    model = lowprec.convert(mlp(), lowprec.Scheme(input="e4m3fn"))
    audit = lowprec.audit(model, torch.ones(2, 7))
    told = {row.operation: (row.status, row.how) for row in audit.products if row.layer == "2"}
    assert told == {
        "matrix product": ("simulated", "input e4m3fn, weight not cast; sum float32"),
        "matrix product, gradient of input": ("carrier precision", "its scheme casts none of the operands"),
        "matrix product, gradient of weight": ("simulated", "error not cast, input e4m3fn; sum float32"),
    }


def test_products_in_user_code_are_caught_and_named() -> None:
    model = lowprec.convert(nn.Sequential(nn.Linear(6, 6), Attention()), E4M3)
    audit = lowprec.audit(model, torch.ones(2, 5, 6))
    assert {(row.layer, row.status) for row in audit.unsimulated} == {("1", "carrier precision")}
    assert {row.how for row in audit.unsimulated} == {"lowprec.functional.matmul can simulate it"}
    assert sum(row.multiply_adds for row in audit.unsimulated) == 2 * 3 * 2 * 5 * 5 * 6
    assert "Carrier precision: batched matrix product in 1 (" in audit.summary()


def test_sums_in_an_arithmetic_are_told() -> None:
    scheme = lowprec.Scheme(input="e4m3fn", weight="e4m3fn", error="e5m2", arithmetic="bfloat16")
    layers = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Flatten(), nn.Linear(4 * 36, 10))
    audit = lowprec.audit(lowprec.convert(layers, scheme), torch.ones(2, 3, 6, 6))
    assert audit.unknown == ()
    told = {(row.layer, row.operation): (row.multiply_adds, row.how) for row in audit.products}
    ending = "; sum bfloat16 nearest_even, fused, sequential"
    conv, linear = 2 * 36 * 4 * 3 * 9, 2 * 10 * 4 * 36
    assert told == {
        ("0", "convolution"): (conv, f"input e4m3fn, weight e4m3fn{ending}"),
        ("0", "convolution, gradient of weight"): (conv, f"error e5m2, input e4m3fn{ending}"),
        ("2", "matrix product"): (linear, f"input e4m3fn, weight e4m3fn{ending}"),
        ("2", "matrix product, gradient of input"): (linear, f"error e5m2, weight e4m3fn{ending}"),
        ("2", "matrix product, gradient of weight"): (linear, f"error e5m2, input e4m3fn{ending}"),
    }
    model = Called(lambda x, w: lowprec.functional.matmul(x, w, scheme=scheme), 7, 3)
    audit = lowprec.audit(model, torch.ones(2, 5, 7, requires_grad=True))
    assert [(row.operation, row.multiply_adds, row.status) for row in audit.products] == [
        ("matrix product", 2 * 5 * 7 * 3, "simulated"),
        ("matrix product, gradient of left", 2 * 5 * 7 * 3, "simulated"),
        ("matrix product, gradient of right", 2 * 5 * 7 * 3, "simulated"),
    ]


def test_what_could_be_simulated_says_by_what() -> None:
    linear = lowprec.audit(Called(F.linear, 3, 7), torch.ones(2, 7))
    assert {row.how for row in linear.products} == {"lowprec.functional.linear can simulate it"}
    conv = lowprec.audit(Called(F.conv1d, 3, 7, 2), torch.ones(2, 7, 4))
    assert {row.how for row in conv.products} == {"lowprec.functional.conv can simulate it"}
    model = lowprec.convert(mlp(), E4M3, exclude=("2",))
    audit = lowprec.audit(model, torch.ones(2, 7))
    assert {(row.layer, row.how) for row in audit.unsimulated} == {("2", "lowprec.convert can simulate it")}


def test_functional_products_are_simulated_wherever_they_are_called() -> None:
    model = Called(lambda x, w: lowprec.functional.linear(x, w, scheme=E4M3), 3, 7)
    audit = lowprec.audit(model, torch.ones(2, 7))
    assert audit.fractions["simulated"] == 1
    assert {row.layer for row in audit.products} == {"(model)"}


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("scheme", [E4M3, "mxfp8"], ids=["e4m3", "mxfp8"])
def test_checkpointed_regions_are_counted_apart(scheme, reentrant) -> None:
    model = Checkpointed(reentrant=reentrant)
    plain = products(lowprec.audit(model, torch.ones(7, 4)))
    found = products(lowprec.audit(lowprec.convert(model, scheme), torch.ones(7, 4)))
    forward = {key: n for key, n in found.items() if key[2] != "recomputation"}
    assert forward == {key: n for key, n in plain.items() if key[2] != "recomputation"}
    assert forward == {
        ("first", "matrix product", "forward"): 7 * 4 * 6,
        ("first", "matrix product, gradient of weight", "backward"): 7 * 4 * 6,
        ("second", "matrix product", "forward"): 7 * 6 * 5,
        ("second", "matrix product, gradient of input", "backward"): 7 * 6 * 5,
        ("second", "matrix product, gradient of weight", "backward"): 7 * 6 * 5,
        ("(model)", "matrix product", "forward"): 7 * 6 * 7,
        ("(model)", "matrix product, gradient of left", "backward"): 7 * 6 * 7,
        ("(model)", "matrix product, gradient of right", "backward"): 7 * 6 * 7,
        ("third", "matrix product", "forward"): 7 * 5 * 3,
        ("third", "matrix product, gradient of input", "backward"): 7 * 5 * 3,
        ("third", "matrix product, gradient of weight", "backward"): 7 * 5 * 3,
    }
    again = {key for key in found if key[2] == "recomputation"}
    assert again == {(layer, "matrix product", "recomputation") for layer in ("second", "(model)")}


def test_a_gradient_within_the_forward_is_a_backward() -> None:
    def energy(x, weight):
        return torch.autograd.grad((x @ weight).square().sum(), x, create_graph=True)[0]

    audit = lowprec.audit(Called(energy, 5, 3), torch.ones(4, 5, requires_grad=True))
    assert {row.phase for row in audit.products} == {"forward", "backward"}
    assert {row.layer for row in audit.products} == {"(model)"}


def test_tied_weights_belong_to_the_layers_that_read_them() -> None:
    model = nn.Sequential(nn.Linear(5, 5), nn.Linear(5, 5))
    model[1].weight = model[0].weight
    audit = lowprec.audit(lowprec.convert(model, E4M3), torch.ones(2, 5))
    assert {row.layer: row.calls for row in audit.products if row.phase == "forward"} == {"0": 1, "1": 1}


def test_a_layer_called_twice_has_one_row() -> None:
    layer = nn.Linear(5, 5)
    audit = lowprec.audit(nn.Sequential(layer, layer), torch.ones(2, 5))
    assert audit.products[0].calls == 2
    assert audit.products[0].multiply_adds == 2 * 2 * 5 * 5


def test_autocast_shows_its_carrier() -> None:
    model = lowprec.convert(mlp(), E4M3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        audit = lowprec.audit(model, torch.ones(2, 7))
        assert lowprec.audit(model, torch.ones(2, 7)) == audit
    assert audit.fractions["simulated"] == 1
    assert {row.dtype for row in audit.products} == {"bfloat16"}
    assert audit.products[0].how == "input e4m3fn, weight e4m3fn; sum rounded to bfloat16"


def test_quantizers_are_casts_and_make_products_of_ones_own_simulated() -> None:
    class ByHand(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left = lowprec.Quantizer("e4m3fn", error="e5m2")
            self.right = lowprec.Quantizer("int8", observer=lowprec.observers.MinMax())

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.left(x) @ self.right(x).transpose(-1, -2)

    audit = lowprec.audit(ByHand(), torch.ones(2, 3, 4, requires_grad=True))
    casts = {(row.layer, row.operation, row.phase, row.elements) for row in audit.rows if row.kind == "cast"}
    assert casts == {
        ("left", "cast to e4m3fn", "forward", 24),
        ("left", "cast to e5m2", "backward", 24),
        ("right", "cast to int8", "forward", 24),
    }
    assert {row.layer for row in audit.rows} == {"left", "right", "(model)"}
    assert {row.operation: row.how for row in audit.products} == {
        "batched matrix product": "left e4m3fn, right int8; sum float32",
        "batched matrix product, gradient of left": "error not cast, right int8; sum float32",
        "batched matrix product, gradient of right": "error not cast, left e4m3fn; sum float32",
    }


def test_rounded_memory_that_is_written_anew_is_no_longer_rounded() -> None:
    def forgetful(x, weight):
        rounded = lowprec.quantize(x, "e4m3fn")
        rounded.mul_(0.3)
        return rounded @ weight

    audit = lowprec.audit(Called(forgetful, 7, 3), torch.ones(2, 7))
    assert audit.fractions["simulated"] == 0


def test_memory_that_is_used_again_is_no_longer_rounded() -> None:
    def careless(x, weight):
        for _ in range(50):  # each takes the place of the one before
            lowprec.quantize(x, "e4m3fn")
            fresh = torch.from_numpy(np.full((2, 7), 0.3, np.float32))  # torch runs no operator for this
            x = x + fresh @ weight
        return x

    assert lowprec.audit(Called(careless, 7, 7), torch.ones(2, 7)).fractions["simulated"] == 0


def test_a_compiled_function_within_is_seen_through() -> None:
    inner = torch.compile(lambda x, w: (x @ w).relu(), backend="eager")
    audit = lowprec.audit(Called(inner, 7, 3), torch.ones(2, 7))
    assert audit.multiply_adds == 2 * 2 * 7 * 3


@pytest.mark.parametrize(
    ("model", "shape", "forward", "backward"),
    [
        (nn.LSTM(3, 4), (5, 2, 3), 10 * (16 * 3 + 16 * 4), 20 * (16 * 3 + 16 * 4)),
        (nn.GRU(3, 4), (1, 2, 3), 2 * (12 * 3 + 12 * 4), 2 * (12 * 3 + 12 * 4)),
        (nn.Bilinear(3, 4, 5), None, 2 * 3 * 4 * 5, 2 * 3 * 4 * 5),
        (Called(lambda x, w: F.scaled_dot_product_attention(x * w, x, x), 1), (2, 3, 7, 4), 2 * 3 * 98 * 4,
         5 * 3 * 98 * 4),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)  # fmt: skip
def test_layers_out_of_reach_are_counted_too(model, shape, forward, backward) -> None:
    inputs = [torch.ones(2, 3), torch.ones(2, 4)] if shape is None else [torch.ones(shape)]
    audit = lowprec.audit(model, *inputs)
    counted = {"forward": 0, "backward": 0}
    for row in audit.products:
        counted[row.phase] += row.multiply_adds
    assert counted == {"forward": forward, "backward": backward}
    assert audit.fractions["out of reach"] == 1


def test_torchs_fast_path_is_seen() -> None:
    model = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval().requires_grad_(False)
    audit = lowprec.audit(model, torch.ones(2, 3, 8))
    rows, attention = 2 * 3, 2 * 2 * 3 * 3 * 8
    assert [row.operation for row in audit.products] == ["fused encoder layer"]
    assert audit.multiply_adds == rows * (24 * 8 + 8 * 8 + 2 * 8 * 16) + attention
    assert audit.fractions["carrier precision"] == 1
    assert audit.products[0].how == "lowprec.convert can simulate it"
    assert "Forward only: no output needs a gradient." in str(audit)


@pytest.mark.parametrize("arithmetic", [None, "e4m3fn"])
def test_products_of_multihead_attention(arithmetic) -> None:
    """All can be simulated, by convert, and then are, in eval and without gradients, too."""
    x, layer = torch.ones(2, 3, 8), nn.MultiheadAttention(8, 2, batch_first=True)
    forward = 6 * 8 * 32 + 2 * 2 * 3 * 3 * 8
    for options in ({}, {"need_weights": False}):
        audit = lowprec.audit(layer, x, x, x, **options)
        assert audit.fractions["carrier precision"] == 1
        assert all(row.how == "lowprec.convert can simulate it" for row in audit.products)
        assert sum(row.multiply_adds for row in audit.products if row.phase == "forward") == forward
    lowprec.convert(layer, lowprec.Scheme(input="e4m3fn", weight="e4m3fn", arithmetic=arithmetic))
    audit = lowprec.audit(layer.eval().requires_grad_(False), x, x, x)
    assert audit.fractions["simulated"] == 1
    assert audit.multiply_adds == forward
    attention = [row.how for row in audit.products if row.layer == "(model)"]
    assert any(how.startswith("key e4m3fn, query e4m3fn; sum e4m3fn") for how in attention) == bool(
        arithmetic
    )
    audit = lowprec.audit(layer.requires_grad_(), x, x, x)
    assert audit.fractions["simulated"] == 1
    assert audit.multiply_adds == 3 * forward - 6 * 8 * 24
    names = {row.operation for row in audit.products if row.layer == "(model)"}
    if arithmetic:
        assert {"matrix product, gradient of key", "matrix product, gradient of value"} < names
    else:
        assert "batched matrix product, gradient of right" in names


def test_attention_of_a_function_is_out_of_reach_of_convert() -> None:
    model = Called(lambda x, w: F.scaled_dot_product_attention(x * w, x, x), 1)
    audit = lowprec.audit(model, torch.ones(2, 3, 7, 4))
    assert audit.fractions["out of reach"] == 1
    assert "lowprec.simulate can" in audit.products[0].how


def test_an_operator_of_ones_own_is_not_passed_over() -> None:
    with torch.library._scoped_library("audited", "DEF") as library:
        library.define("own(Tensor x, Tensor w) -> Tensor")
        library.impl("own", lambda x, w: x @ w, "CPU")
        model = Called(torch.ops.audited.own, 7, 3).requires_grad_(False)
        audit = lowprec.audit(model, torch.ones(2, 7))
    assert [(row.operation, row.layer) for row in audit.unknown] == [("audited::own", "(model)")]
    assert "Operators whose multiply-adds are not known: audited::own in (model)." in audit.summary()


def test_elementwise_work_is_counted_by_elements() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.GELU(), nn.LayerNorm(6), nn.Softmax(-1))
    rows = lowprec.audit(model, torch.ones(3, 4)).rows
    found = {(r.layer, r.operation, r.phase): (r.kind, r.elements) for r in rows if r.kind != "product"}
    assert found == {
        ("0", "sum", "backward"): ("reduction", 18),
        ("1", "gelu", "forward"): ("elementwise", 18),
        ("1", "gelu", "backward"): ("elementwise", 18),
        ("2", "layer_norm", "forward"): ("normalization", 18),
        ("2", "layer_norm", "backward"): ("normalization", 18),
        ("3", "softmax", "forward"): ("softmax", 18),
        ("3", "softmax", "backward"): ("softmax", 18),
    }


def test_a_loss_of_ones_own_is_listed_apart() -> None:
    target = torch.tensor([0, 1])
    audit = lowprec.audit(mlp(), torch.ones(2, 7), loss=lambda y: F.cross_entropy(y, target))
    assert "loss" in {row.kind for row in audit.rows if row.layer == "(loss)"}
    assert "(loss)" not in {row.layer for row in lowprec.audit(mlp(), torch.ones(2, 7)).rows}


@dataclasses.dataclass
class Output:
    scores: torch.Tensor
    others: dict[str, tuple[torch.Tensor, ...]]


def test_outputs_of_any_shape_are_summed() -> None:
    class Several(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList([nn.Linear(7, 2) for _ in range(3)])

        def forward(self, x: torch.Tensor) -> Output:
            first, second, third = (layer(x) for layer in self.layers)
            return Output(first, {"a": (second, third.argmax(-1)), "b": (third.double(),)})

    audit = lowprec.audit(Several(), torch.ones(2, 7))
    backward = [row.layer for row in audit.products if row.phase == "backward"]
    assert sorted(backward) == ["layers.0", "layers.1", "layers.2"]


def test_keyword_arguments_reach_the_forward() -> None:
    class Scaled(nn.Linear):
        def forward(self, x: torch.Tensor, *, factor: torch.Tensor) -> torch.Tensor:
            return super().forward(x) * factor

    audit = lowprec.audit(Scaled(7, 3), torch.ones(2, 7), factor=torch.ones(3))
    assert {row.layer for row in audit.products} == {"(model)"}


def test_a_model_without_shapes_in_memory_is_audited() -> None:
    audit = lowprec.audit(nn.Linear(3, 4, device="meta"), torch.ones(2, 3, device="meta"))
    assert audit.multiply_adds == 2 * 24


def test_tables_hold_every_row() -> None:
    audit = lowprec.audit(lowprec.convert(mlp(), E4M3, exclude=("2",)), torch.ones(2, 7))
    table = audit.table()
    assert len(table) == len(audit.rows)
    assert sum(table["multiply-adds"]) == audit.multiply_adds
    assert sum(share or 0 for share in table["share"]) == pytest.approx(1)
    assert audit.to_csv().startswith("layer,operation,phase,kind,status,how,dtype,calls,multiply-adds,")
    text, html = str(audit), audit._repr_html_()
    assert text.startswith("230 multiply-adds: 60.9 % simulated, 39.1 % carrier precision, 0 % out of reach.")
    assert "input e4m3fn, weight e4m3fn; sum float32" in text
    assert html.count("<table") == 2
    assert "39.1 % carrier precision" in html
    with pytest.raises(dataclasses.FrozenInstanceError):
        audit.rows = ()


def test_a_summary_calls_nothing_all_that_is_not() -> None:
    model = lowprec.convert(nn.Sequential(nn.Linear(200, 200), nn.Linear(200, 1)), E4M3, exclude=("1",))
    model[1].requires_grad_(False)
    first = lowprec.audit(model, torch.ones(50, 200)).summary().splitlines()[0]
    assert first == "4,020,000 multiply-adds: 99.5 % simulated, 0.498 % carrier precision, 0 % out of reach."
    wide = lowprec.convert(nn.Sequential(nn.Linear(900, 1800), nn.Linear(1800, 1)), E4M3, exclude=("1",))
    summary = lowprec.audit(wide.eval().requires_grad_(False), torch.ones(1, 900)).summary()
    assert "99.9 % simulated, 0.111 % carrier" in summary


def test_a_model_without_products_says_so() -> None:
    audit = lowprec.audit(nn.ReLU(), torch.ones(2))
    assert audit.summary() == "No products.\nForward only: no output needs a gradient."
    assert set(audit.fractions.values()) == {0.0}
