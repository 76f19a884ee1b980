"""simulate: torch's own functions, as lowprec.functional has them, and nothing that slips past."""

import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._dynamo.exc import Unsupported
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

import lowprec
from lowprec import Cast, Operands, Rule, Scheme, functional, simulate
from lowprec.simulating.functions import IN_PLACE, SIMULATED, UNREACHED, name_of

SCHEME = Scheme(input="e4m3fn", weight="e3m2", error="e5m2", output="bfloat16", arithmetic="e4m3fn")
CASTS = Scheme(input="e4m3fn", weight="e4m3fn", error="e5m2")


def draw(*shape: int, seed: int = 0) -> Tensor:
    """Ordinary numbers."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def results(function: Callable[..., Tensor], *tensors: Tensor) -> list[Tensor]:
    """The result and the gradients."""
    leaves = [x.detach().clone().requires_grad_() for x in tensors]
    y = function(*leaves)
    return [y.detach(), *torch.autograd.grad(y, leaves, draw(*y.shape, seed=9))]


X, W, B, V = draw(4, 6), draw(5, 6, seed=1), draw(5, seed=2), draw(6, seed=3)
P, Q, R = draw(2, 4, 6, seed=4), draw(2, 6, 3, seed=5), draw(2, 4, 3, seed=6)
IMAGE, KERNEL = draw(2, 3, 8, seed=7), draw(4, 3, 3, seed=8)
S = {"scheme": SCHEME}
CALLS: dict[str, tuple[Callable[..., Tensor], Callable[..., Tensor], tuple[Tensor, ...]]] = {
    "linear": (F.linear, lambda x, w, b: functional.linear(x, w, b, **S), (X, W, B)),
    "conv1d": (lambda x, w: F.conv1d(x, w, stride=2, padding="valid"),
               lambda x, w: functional.conv1d(x, w, None, 2, **S), (IMAGE, KERNEL)),
    "conv2d": (lambda x, w: F.conv2d(x[:, None], w[:, None], None, 1, 1),
               lambda x, w: functional.conv2d(x[:, None], w[:, None], None, 1, 1, **S), (IMAGE, KERNEL)),
    "conv3d": (lambda x, w: torch.conv3d(x[:, None, None], w[:, None, None]),
               lambda x, w: functional.conv3d(x[:, None, None], w[:, None, None], **S), (IMAGE, KERNEL)),
    "conv_transpose1d": (
        lambda x, w: F.conv_transpose1d(x, w.mT, stride=2, output_padding=1),
        lambda x, w: functional.conv_transpose1d(x, w.mT, stride=2, output_padding=1, **S),
        (IMAGE, draw(3, 3, 4, seed=8))),
    "matmul": (torch.matmul, lambda x, w: functional.matmul(x, w, **S), (P, Q)),
    "keywords": (lambda x, w: torch.matmul(input=x, other=w),
                 lambda x, w: functional.matmul(x, w, **S), (P, Q)),
    "@": (lambda x, w: x @ w, lambda x, w: functional.matmul(x, w, **S), (P, Q)),
    "reversed @": (lambda x, w: w.__rmatmul__(x), lambda x, w: functional.matmul(x, w, **S), (P, Q)),
    "method": (lambda x, w: x.matmul(w), lambda x, w: functional.matmul(x, w, **S), (P, Q)),
    "linalg": (torch.linalg.matmul, lambda x, w: functional.matmul(x, w, **S), (P, Q)),
    "operator": (torch.ops.aten.mm.default, lambda x, w: functional.matmul(x, w, **S), (X, Q[0])),
    "mm": (torch.mm, lambda x, w: functional.matmul(x, w, **S), (X, Q[0])),
    "bmm": (lambda x, w: x.bmm(w), lambda x, w: functional.bmm(x, w, **S), (P, Q)),
    "mv": (torch.mv, lambda x, v: functional.matmul(x, v, **S), (X, V)),
    "dot": (torch.dot, lambda x, v: functional.matmul(x, v, **S), (X[0], V)),
    "addmm with a bias": (lambda b, x, w: torch.addmm(b, x, w.t()),
                          lambda b, x, w: functional.linear(x, w, b, **S), (B, X, W)),
    "addmm": (lambda a, x, w: a.addmm(x, w, beta=0.5, alpha=2),
              lambda a, x, w: 0.5 * a + 2 * functional.matmul(x, w, **S), (R[0], X, Q[0])),
    "addmm without": (lambda x, w: torch.addmm(torch.full((4, 3), torch.nan), x, w, beta=0),
                      lambda x, w: functional.matmul(x, w, **S), (X, Q[0])),
    "addmv": (torch.addmv, lambda a, x, v: a + functional.matmul(x, v, **S), (V[:4], X, V)),
    "baddbmm": (torch.baddbmm, lambda a, x, w: a + functional.bmm(x, w, **S), (R, P, Q)),
    "addbmm": (torch.addbmm, lambda a, x, w: a + functional.matmul(
        torch.cat([*x], 1), torch.cat([*w]), **S), (R[0], P, Q)),
    "attention": (lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True),
                  lambda q, k, v: functional.scaled_dot_product_attention(q, k, v, is_causal=True, **S),
                  (P, P + 1, R)),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_each_function_is_the_one_of_lowprec(name: str) -> None:
    """Forward and backward, which runs outside of the block."""
    torchs, ours, operands = CALLS[name]

    def inside(*leaves: Tensor) -> Tensor:
        with simulate(SCHEME):
            return torchs(*leaves)

    got, want, plain = results(inside, *operands), results(ours, *operands), results(torchs, *operands)
    for a, b, c in zip(got, want, plain, strict=True):
        assert torch.equal(a, b)
        assert a.shape == c.shape
    assert not torch.equal(got[0], plain[0])
    torch.testing.assert_close(got[0], plain[0], atol=4, rtol=1)  # it is the same product


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("ij,jk->ik", [(4, 6), (6, 3)]),
        ("ij,kj", [(4, 6), (3, 6)]),
        ("bhqd,bhkd->bhqk", [(2, 3, 4, 6), (2, 3, 5, 6)]),
        ("bqhd,bkhd->bhqk", [(2, 4, 3, 6), (2, 5, 3, 6)]),
        ("...ij,...jk->...ik", [(2, 1, 4, 6), (3, 6, 2)]),
        ("i...,i...->...", [(4, 2), (4, 2)]),
        ("...i, ij -> ...j", [(2, 3, 4), (4, 5)]),
        ("ijl,jk->k", [(2, 3, 4), (3, 5)]),
        ("i,j->ji", [(3,), (4,)]),
        ("ij,ij->", [(3, 4), (3, 4)]),
        ("bi,bj->bij", [(1, 3), (2, 4)]),
        ("ij,jk->ki", [(4, 1), (6, 3)]),
    ],
)
def test_einsum_of_two_is_one_product(equation: str, shapes: list[tuple[int, ...]]) -> None:
    """Of whole numbers, which bfloat16 holds, and whose sums, too, are exact: torch's result."""
    a, b = (torch.randint(-8, 9, shape).float() for shape in shapes)
    want = torch.einsum(equation, a, b)
    with simulate("bf16"):
        assert torch.equal(torch.einsum(equation, a, b), want)
        assert torch.equal(torch.einsum(equation, [a, b]), want)


def test_einsum_rounds_its_operands_and_sums() -> None:
    a, b = draw(2, 4, 6), draw(2, 5, 6, seed=1)
    with simulate(SCHEME):
        got = torch.einsum("bij,bkj->bki", a, b)
        assert torch.equal(torch.einsum("bij->j", a), a.sum((0, 1)))
        assert torch.equal(torch.einsum(a, [0, 1, 2], b, [0, 3, 2], [0, 3, 1]), got)
    assert torch.equal(got, functional.matmul(a, b.mT, **S).mT)


@pytest.mark.parametrize(
    ("equation", "message"),
    [
        ("ij,jk,kl->il", "`equation` must have terms for two operands"),
        ("ijk,jk->ik", "`equation` must have 2 labels in the term 'ijk'"),
        ("ii,ik->ik", "`equation` must have no label twice in a term.*Take the diagonal before"),
        ("ij,jk->im", "`equation` must have a result of labels of its operands, each once"),
    ],
)
def test_einsum_that_is_no_product_of_two(equation: str, message: str) -> None:
    with pytest.raises(ValueError, match=message), simulate(SCHEME):
        torch.einsum(equation, torch.ones(3, 3), torch.ones(3, 3))


X3 = torch.ones(3, 3)
CUBE = torch.ones(3, 3, 3)
CALLS_UNREACHED: dict[str, tuple[str, Callable[[], Any]]] = {
    "lstm": ("lstm.*Write its steps", lambda: nn.LSTM(3, 3)(X3)),
    "gru_cell": ("gru_cell", lambda: nn.GRUCell(3, 3)(X3)),
    "rnn": ("rnn_tanh", lambda: nn.RNN(3, 3)(X3)),
    "bilinear": ("bilinear.*Multiply two at a time", lambda: F.bilinear(X3, X3, CUBE)),
    "cdist": ("cdist", lambda: torch.cdist(X3, X3)),
    "tensordot": ("tensordot", lambda: torch.tensordot(X3, X3, 1)),
    "multi_dot": ("linalg_multi_dot", lambda: torch.linalg.multi_dot([X3, X3, X3])),
    "chain": ("chain_matmul", lambda: torch.chain_matmul(X3, X3)),
    "einsum of three": ("einsum.*two operands at a time", lambda: torch.einsum("ij,jk,kl", X3, X3, X3)),
    "matrix_power": ("matrix_power", lambda: torch.matrix_power(X3, 3)),
    "in place": ("addmm_.*Use addmm and assign", lambda: X3.clone().addmm_(X3, X3)),
    "out": ("mm.*Leave out= and assign", lambda: torch.mm(X3, X3, out=torch.empty(3, 3))),
    "sparse": ("matmul.*to_dense", lambda: X3.to_sparse() @ X3),
    "affine_grid": ("affine_grid", lambda: F.affine_grid(
        torch.ones(1, 2, 3), [1, 1, 2, 2], align_corners=False)),
    "vdot": ("vdot.*Use torch.dot", lambda: torch.vdot(X3[0], X3[0])),
    "cov": ("cov", lambda: X3.cov()),
    "operator": ("convolution", lambda: torch.ops.aten.convolution(
        CUBE, CUBE, None, [1], [0], [1], False, [0], 1)),
    "fused attention": ("_native_multi_head_attention.*scaled_dot_product_attention", lambda: (
        torch._native_multi_head_attention(
            CUBE, CUBE, CUBE, 3, 1, torch.ones(9, 3), torch.ones(9), X3, X3[0]))),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:torch.chain_matmul is deprecated")
@pytest.mark.parametrize("name", CALLS_UNREACHED)
def test_what_is_not_reached_is_an_error_or_torchs(name: str) -> None:
    """The error names the function and says what to do."""
    message, call = CALLS_UNREACHED[name]
    pattern = f"`{message.partition('.*')[0]}` must be left out where products are simulated, got 'a call'"
    torch.manual_seed(0)
    want = call()
    with simulate(SCHEME), pytest.raises(ValueError, match=pattern) as raised:
        call()
    assert re.search(message, str(raised.value))
    assert str(raised.value).endswith("Pass unreached='carrier' to let torch compute it as it is.")
    torch.manual_seed(0)
    with simulate(SCHEME, unreached="carrier"):
        got = call()
    for a, b in zip(*((y if isinstance(y, tuple) else (y,)) for y in (got, want)), strict=True):
        assert isinstance(a, tuple) or torch.equal(a, b)


SUSPECT = re.compile(
    r"(?<!r)mm|matmul|conv|linear|rnn|lstm|gru|attention|einsum|dot|cdist|inner$|\bmv|addmv|multi_head|chain"
    r"|affine_grid|transformer|matrix_(power|exp)|cov|corrcoef|pinv"
)


def test_no_function_of_torch_with_a_name_like_a_products_is_passed_over() -> None:
    """Of all that a mode can see; what is new in another version of torch appears here."""
    every = {
        name_of(f) for functions in torch.overrides.get_overridable_functions().values() for f in functions
    }
    known = {*SIMULATED, *UNREACHED, *IN_PLACE}
    assert len(every & known) > 40
    suspects = {name for name in every if SUSPECT.search(name)}
    assert sorted(suspects - known - NO_PRODUCTS) == []


NO_PRODUCTS = {
    "cummax", "cummin", "fbgemm_linear_quantize_weight", "fbgemm_pack_gemm_matrix_fp16",
    "fbgemm_pack_quantized_matrix",
    *(f"{name}{ending}" for name in ("digamma", "igamma", "igammac", "lgamma", "mvlgamma", "polygamma")
      for ending in ("", "_")),
    *(f"special_{name}" for name in (
        "digamma", "gammainc", "gammaincc", "gammaln", "multigammaln", "polygamma")),
}  # fmt: skip


def encoder() -> nn.TransformerEncoder:
    """Two layers of torch's own."""
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(32, 2, 16, batch_first=True, dropout=0.25)
    return nn.TransformerEncoder(layer, 2)


def products_of(call: Callable[[], Tensor]) -> tuple[Tensor, list[Any]]:
    """The result, and the roles of each product in an arithmetic."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Products(TorchDispatchMode):
        """Lists them."""

        def __init__(self) -> None:
            super().__init__()
            self.roles: list[Any] = []

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func.name() == "lowprec::product":
                self.roles.append((args[-1], tuple(args[0].shape)))
            return func(*args, **(kwargs or {}))

    with Products() as seen:
        y = call()
    return y, seen.roles


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", ["casts", "sums"])
def test_a_transformer_is_the_converted_one(training: bool, name: str) -> None:
    """The same products with the same bits, forward and backward, in training and in eval."""
    sums = Scheme(input="e4m3fn", weight="e4m3fn", error="e5m2", arithmetic="e4m3fn")
    scheme = {"casts": CASTS, "sums": sums}[name]
    x, padding = draw(3, 5, 32), torch.zeros(3, 5, dtype=torch.bool)
    padding[1, 3:] = True

    def run(model: nn.Module) -> Tensor:
        torch.manual_seed(1)
        return model(x, src_key_padding_mask=padding)

    def inside(model: nn.Module) -> Tensor:
        with simulate(scheme, training=training):
            return run(model)

    plain, model = encoder().train(training), lowprec.convert(encoder().train(training), scheme)
    if not training:
        for m in (plain, model):
            m.requires_grad_(False)  # where torch would fuse
    got, products = products_of(lambda: inside(plain))
    want, others = products_of(lambda: run(model))
    assert torch.equal(got, want)
    assert products == others
    assert len(products) == (12 if name == "sums" else 0)
    assert not torch.equal(got, run(plain))
    if training:
        gradients, products = products_of(lambda: torch.autograd.grad(got.sum(), list(plain.parameters())))
        expected, others = products_of(lambda: torch.autograd.grad(want.sum(), list(model.parameters())))
        assert all(torch.equal(a, b) for a, b in zip(gradients, expected, strict=True))
        assert products == others


def test_an_empty_scheme_gives_torchs_bits() -> None:
    """Which attention of the math backend has."""
    model, x = encoder(), draw(3, 5, 32)
    torch.manual_seed(1)
    with sdpa_kernel(SDPBackend.MATH):
        want = model(x)
    torch.manual_seed(1)
    with simulate(Scheme()):
        assert torch.equal(model(x), want)


def test_what_is_lowprecs_keeps_its_own_scheme() -> None:
    """Converted layers, functions, and both their backward passes, run inside the block."""
    layer = lowprec.nn.Linear(6, 5, scheme="bf16")
    attention = lowprec.nn.MultiheadAttention(6, 2, scheme=CASTS)
    split = Scheme(input="e4m3fn", error="e5m2", grad_input=Operands(weight="e2m1", arithmetic="e4m3fn"))
    calls = [
        lambda x: layer(x),
        lambda x: attention(x, x, x)[0],
        lambda x: functional.linear(x, W, scheme=split),
        lambda x: functional.matmul(x, W.T, scheme="fp8-hybrid"),
    ]
    for call in calls:
        want = results(call, X)
        with simulate(Scheme(input="e2m1", weight="e2m1", error="e2m1")):
            got = results(call, X)
        assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))


def test_noise_comes_from_torch_and_evaluation_has_its_own_rounding() -> None:
    noisy = Scheme(input=Cast("e4m3fn", "stochastic", eval_rounding="nearest_even"))
    with simulate(noisy):
        torch.manual_seed(0)
        first, second = F.linear(X, W), F.linear(X, W)
        torch.manual_seed(0)
        assert torch.equal(F.linear(X, W), first)
    assert not torch.equal(first, second)
    with simulate(noisy, training=False):
        assert torch.equal(F.linear(X, W), functional.linear(X, W, scheme=Scheme(input="e4m3fn")))
    torch.manual_seed(0)
    with simulate(noisy):
        y, _ = nn.MultiheadAttention(6, 2)(X, X, X)
        torch.manual_seed(0)
        assert torch.equal(nn.MultiheadAttention(6, 2)(X, X, X)[0], y)


def test_integers_are_left_alone() -> None:
    whole = torch.arange(9).reshape(3, 3)
    with simulate("bf16"):
        assert torch.equal(whole @ whole, torch.mm(whole, whole))
        assert (whole @ whole).dtype == torch.int64


def test_blocks_nest_end_and_leave_other_threads_alone() -> None:
    """The inner wins, an exception ends a block, and one can be opened again."""
    narrow, plain = functional.matmul(X, W.T, scheme=Scheme(input="e2m1")), X @ W.T
    wide = functional.matmul(X, W.T, scheme="bf16")
    outer, inner = simulate("bf16", unreached="carrier"), simulate(Scheme(input="e2m1"))
    with outer:
        with inner:
            assert torch.equal(X @ W.T, narrow)
            with pytest.raises(ValueError, match="`cdist` must be left out"):
                torch.cdist(X, X)
            with outer:
                assert torch.equal(X @ W.T, wide)
                torch.cdist(X, X)
        assert torch.equal(X @ W.T, wide)
        torch.cdist(X, X)
        seen: list[Tensor] = []
        thread = threading.Thread(target=lambda: seen.append(X @ W.T))
        thread.start()
        thread.join()
        assert torch.equal(seen[0], plain)
    with pytest.raises(KeyError), inner:
        raise KeyError
    assert torch.equal(X @ W.T, plain)


def test_as_a_decorator() -> None:
    @simulate("bf16")
    def product(x: Tensor, w: Tensor) -> Tensor:
        """Its words."""
        return x @ w.T

    assert torch.equal(product(X, W), functional.matmul(X, W.T, scheme="bf16"))
    assert product.__doc__ == "Its words."

    def numbers() -> Iterator[int]:
        yield 1

    async def later() -> None:
        """Nothing."""

    for function in (numbers, later):
        with pytest.raises(
            TypeError, match=r"`function` must be no generator and no coroutine.*Open the block"
        ):
            simulate("bf16")(function)


def test_a_generator_closes_its_own_block() -> None:
    """Not one that was opened after it."""
    narrow, wide = simulate(Scheme(input="e2m1")), simulate("bf16")

    def steps() -> Iterator[Tensor]:
        with narrow:
            yield X @ W.T

    run = steps()
    assert torch.equal(next(run), functional.matmul(X, W.T, scheme=Scheme(input="e2m1")))
    with wide:
        assert next(run, None) is None
        assert torch.equal(X @ W.T, functional.matmul(X, W.T, scheme="bf16"))
    assert torch.equal(X @ W.T, torch.matmul(X, W.T))


@pytest.mark.parametrize("reentrant", [True, False])
def test_what_backward_would_compute_again_is_refused(reentrant: bool) -> None:
    """It would be computed in the carrier, and nobody would know; without gradients nothing is."""
    region = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))
    x = X.clone().requires_grad_()
    with simulate(CASTS, unreached="carrier"):
        want = region(x)
        with pytest.raises(RuntimeError, match=r"`simulate` must not be around what torch.utils.checkpoint"):
            checkpoint(region, x, use_reentrant=reentrant)
        if not reentrant:
            with torch.no_grad():
                assert torch.equal(checkpoint(region, x, use_reentrant=False), want)


@pytest.mark.filterwarnings(r"ignore:::torch\.", "ignore:Dynamo")
def test_a_compiled_function_does_not_slip_past() -> None:
    """One that was compiled before is simulated too, or, as a single graph, refused."""
    torch.compiler.reset()
    whole = torch.compile(lambda x, w: x @ w.T, backend="eager", fullgraph=True)
    parts = torch.compile(lambda x, w: x @ w.T, backend="eager")
    plain = X @ W.T
    assert torch.equal(whole(X, W), plain)
    assert torch.equal(parts(X, W), plain)
    with simulate("bf16"):
        assert torch.equal(parts(X, W), functional.matmul(X, W.T, scheme="bf16"))
        with pytest.raises(Unsupported, match=r"`simulate` must not be around a function that torch.compile"):
            whole(X, W)
    assert torch.equal(whole(X, W), plain)
    assert torch.equal(parts(X, W), plain)


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="`scheme` must have no rules, which functions cannot follow"):
        simulate(Scheme(input="e4m3fn", rules=[Rule("Linear", None)]))
    with pytest.raises(ValueError, match="`unreached` must be one of error, carrier"):
        simulate("bf16", unreached="warn")
    with pytest.raises(ValueError, match="`scheme` must be one of"):
        simulate("fp4")
    with simulate("bf16"):
        with pytest.raises(ValueError, match="`input` must have an operand of 2 dimensions"):
            torch.mm(P, Q)
        with pytest.raises(ValueError, match="`static_k` must be None, and static_v likewise"):
            F.multi_head_attention_forward(
                X, X, X, 6, 2, W, None, None, None, False, 0.0, W, None, static_k=X)  # fmt: skip
        with pytest.raises(ValueError, match="`query` must have 7 features"):
            F.multi_head_attention_forward(X, X, X, 7, 2, W, None, None, None, False, 0.0, W, None)
