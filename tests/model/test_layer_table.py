"""One table of the layers of lowprec.nn, and what each must do: a layer without a row is not exported.

A row says how a layer is made and called. Its input holds a batch along the first dimension. What a layer
must do is the same for all, so that a new one needs a row here and nothing else.
"""

import copy
import inspect
import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

import lowprec
from lowprec import Arithmetic, Scheme
from lowprec.nn.attention import OutProjection
from lowprec.nn.layers import TWINS, Simulated


@dataclass(frozen=True)
class Row:
    """A layer: how it is made, what it is called on, and the shape of what it gives."""

    arguments: tuple[Any, ...]
    shape: tuple[int, ...]
    """Of an input with a batch."""
    result: tuple[int, ...]
    options: dict[str, Any] = field(default_factory=dict)
    call: Callable[[torch.nn.Module, Tensor], Tensor] = lambda layer, x: layer(x)
    """The result of a layer for an input, where that is not simply ``layer(x)``."""
    takes_unbatched: bool = True
    takes_empty_batch: bool = True
    """Whether torch's own layer does."""

    def make(self, kind: type, **options: Any) -> torch.nn.Module:
        """A layer of a class, with parameters that are always the same."""
        torch.manual_seed(0)
        return kind(*self.arguments, **self.options, **options)

    def input(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """Ordinary numbers."""
        return torch.randn(self.shape, generator=torch.Generator().manual_seed(1)).to(dtype)


STRIDED = {"stride": 2, "padding": 1, "groups": 2}
ROWS = {
    "Linear": Row((6, 4), (3, 6), (3, 4)),
    "Conv1d": Row((4, 6, 3), (2, 4, 7), (2, 6, 4), STRIDED),
    "Conv2d": Row((4, 6, 3), (2, 4, 5, 4), (2, 6, 3, 2), STRIDED),
    "Conv3d": Row((4, 6, 3), (2, 4, 3, 4, 3), (2, 6, 2, 2, 2), STRIDED),
    "ConvTranspose1d": Row((4, 6, 3), (2, 4, 4), (2, 6, 7), STRIDED),
    "ConvTranspose2d": Row((4, 6, 3), (2, 4, 3, 2), (2, 6, 5, 3), STRIDED),
    "ConvTranspose3d": Row((4, 6, 3), (2, 4, 2, 2, 2), (2, 6, 3, 3, 3), STRIDED),
    "MultiheadAttention": Row(
        (8, 2), (3, 5, 8), (3, 5, 8), {"batch_first": True}, lambda layer, x: layer(x, x, x)[0]
    ),
}
CARRIERS = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
CAST = Scheme(input="e4m3fn", weight="e4m3fn", error="e5m2")
SUMMED = Scheme(
    arithmetic=Arithmetic("e4m3fn"), **{role: getattr(CAST, role) for role in ("input", "weight", "error")}
)
SCHEMES = {"nothing": Scheme(), "casts": CAST, "sums": SUMMED}
GRID = [
    pytest.param(
        kind, dtype, marks=() if kind == "nothing" or dtype == torch.float32 else pytest.mark.exhaustive
    )
    for kind in SCHEMES
    for dtype in CARRIERS
]
"""Each carrier takes loops of its own, which take seconds to compile."""
every_layer = pytest.mark.parametrize("name", ROWS)


def exported() -> dict[str, type]:
    """The layers that lowprec.nn exports."""
    found = inspect.getmembers(lowprec.nn, inspect.isclass)
    return {name: kind for name, kind in found if issubclass(kind, Simulated)}


def pair(name: str, scheme: Scheme, dtype: torch.dtype = torch.float32, **options: Any) -> tuple[Any, Any]:
    """A layer and torch's, with equal parameters."""
    kind = getattr(lowprec.nn, name)
    mine = ROWS[name].make(kind, scheme=scheme, dtype=dtype, **options)
    return mine, ROWS[name].make(getattr(torch.nn, name), dtype=dtype, **options)


def step(name: str, layer: Any, x: Tensor, run: Callable[[Tensor], Tensor] | None = None) -> list[Tensor]:
    """The result, the gradient of the input and those of the parameters."""
    x = x.clone().requires_grad_()
    y = ROWS[name].call(layer if run is None else run, x)
    error = torch.randn(y.shape, generator=torch.Generator().manual_seed(2)).to(y.dtype)
    return [y.detach(), *torch.autograd.grad(y, [x, *layer.parameters()], error)]


def assert_equal(got: list[Tensor], want: list[Tensor]) -> None:
    """Equal dtypes, shapes and bits; NaN is NaN."""
    for a, b in zip(got, want, strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        same = (a == b) & (a.signbit() == b.signbit()) | a.isnan() & b.isnan()
        assert same.all()


def test_every_exported_layer_has_a_row() -> None:
    """And is the twin of the torch layer of its name."""
    assert set(exported()) == set(ROWS)
    twins = {original.__name__: twin for original, twin in TWINS.items() if twin is not OutProjection}
    assert twins == exported()
    for name, kind in exported().items():
        assert issubclass(kind, getattr(torch.nn, name))
        assert TWINS[getattr(torch.nn, name)] is kind


@every_layer
@pytest.mark.parametrize(("kind", "dtype"), GRID, ids=str)
def test_shapes_dtypes_and_gradients(name: str, kind: str, dtype: torch.dtype) -> None:
    """Those of torch's layer; without a cast its bits, too."""
    x = ROWS[name].input(dtype)
    mine, plain = pair(name, SCHEMES[kind], dtype)
    got, want = step(name, mine, x), step(name, plain, x)
    assert got[0].shape == ROWS[name].result
    assert [(t.dtype, t.shape) for t in got] == [(t.dtype, t.shape) for t in want]
    assert all(t.isfinite().all() and t.any() for t in got)
    if kind == "nothing":
        assert_equal(got, want)
    else:
        assert not any(torch.equal(a, b) for a, b in zip(got[:2], want[:2], strict=True))


@every_layer
def test_without_a_bias_and_in_eval(name: str) -> None:
    """A scheme that does nothing, again with torch's bits."""
    mine, plain = (layer.eval() for layer in pair(name, Scheme(), bias=False))
    assert_equal(step(name, mine, ROWS[name].input()), step(name, plain, ROWS[name].input()))


@every_layer
def test_state_dicts_go_both_ways(name: str) -> None:
    """The keys are torch's, in its order."""
    mine, plain = pair(name, SUMMED)
    assert list(mine.state_dict()) == list(plain.state_dict())
    other = ROWS[name].make(getattr(torch.nn, name))
    with torch.no_grad():
        for p in other.parameters():
            p.add_(1)
    mine.load_state_dict(other.state_dict())
    assert_equal(list(mine.parameters()), list(other.parameters()))
    assert not torch.equal(next(iter(mine.parameters())), next(iter(plain.parameters())))
    plain.load_state_dict(mine.state_dict())
    assert_equal(list(plain.parameters()), list(other.parameters()))


@pytest.mark.filterwarnings(r"ignore:::torch\.", "ignore:.*should not be instantiated:DeprecationWarning")
@every_layer
def test_compiled_it_gives_the_same_bits(name: str) -> None:
    """As one graph, forward and backward."""
    torch.compiler.reset()
    layer, x = pair(name, SUMMED)[0], ROWS[name].input()
    run = torch.compile(lambda *inputs: layer(*inputs), fullgraph=True, backend="eager")
    compiled = step(name, layer, x, run)
    assert_equal(compiled, step(name, layer, x))


@every_layer
@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["copy", "pickle"]
)
def test_copies_are_layers_of_their_own(name: str, copied: Callable[[Any], Any]) -> None:
    """Of the same class, with equal bits, and parameters that are not shared."""
    layer, x = pair(name, SUMMED)[0], ROWS[name].input()
    twin = copied(layer)
    assert type(twin) is type(layer)
    assert twin.scheme == layer.scheme
    assert_equal(step(name, twin, x), step(name, layer, x))
    assert not {id(p) for p in twin.parameters()} & {id(p) for p in layer.parameters()}


@every_layer
def test_convert_makes_it_and_revert_unmakes_it(name: str) -> None:
    """In place, as if it had been made so."""
    mine, plain = pair(name, SUMMED)
    parameters, attributes, x = list(plain.parameters()), set(vars(plain)), ROWS[name].input()
    want = step(name, plain, x)
    model = torch.nn.Sequential(plain)
    assert lowprec.convert(model, SUMMED)[0] is plain
    assert type(plain) is getattr(lowprec.nn, name)
    assert str(lowprec.describe(model)).split()[:4] == ["0", name, "input", "e4m3fn"]
    assert_equal(step(name, plain, x), step(name, mine, x))
    lowprec.revert(model)
    assert type(plain) is getattr(torch.nn, name)
    assert set(vars(plain)) == attributes
    assert all(a is b for a, b in zip(plain.parameters(), parameters, strict=True))
    assert_equal(step(name, plain, x), want)


@every_layer
@pytest.mark.parametrize("kind", SCHEMES)
def test_an_input_without_a_batch(name: str, kind: str) -> None:
    """A batch of one, without its dimension."""
    if not ROWS[name].takes_unbatched:
        pytest.skip("torch's layer takes none")
    layer, plain = pair(name, SCHEMES[kind])
    x = ROWS[name].input()[0]
    alone, whole = step(name, layer, x), step(name, layer, x[None])
    assert alone[0].shape == step(name, plain, x)[0].shape
    assert_equal(alone, [whole[0][0], whole[1][0], *whole[2:]])


@every_layer
@pytest.mark.parametrize("kind", SCHEMES)
def test_an_empty_batch(name: str, kind: str) -> None:
    """Nothing comes out, and gradients of parameters are 0."""
    if not ROWS[name].takes_empty_batch:
        pytest.skip("torch's layer takes none")
    layer, plain = pair(name, SCHEMES[kind])
    x = ROWS[name].input()[:0]
    got = step(name, layer, x)
    assert_equal(got, step(name, plain, x))
    assert all(t.shape == p.shape and not t.any() for t, p in zip(got[2:], layer.parameters(), strict=True))


@every_layer
def test_from_torch_shares_and_changes_nothing(name: str) -> None:
    """Parameters, buffers and hooks; dtype, device and mode are those of the layer."""
    mine, plain = pair(name, SUMMED)
    kind, x, seen = getattr(lowprec.nn, name), ROWS[name].input(), []
    want = step(name, plain, x)
    plain.eval().register_buffer("seen", torch.ones(2))
    next(iter(plain.parameters())).requires_grad_(mode := False)
    hook = plain.register_forward_hook(lambda module, *_: seen.append(type(module)))
    before = {k: v.copy() if isinstance(v, dict) else v for k, v in vars(plain).items()}
    made = kind.from_torch(plain, SUMMED)
    assert type(made) is kind
    assert made.scheme == SUMMED
    assert made.training is mode
    assert made.seen is plain.seen
    assert all(a is b for a, b in zip(made.parameters(), plain.parameters(), strict=True))
    assert vars(plain) == before
    ROWS[name].call(made, x), ROWS[name].call(plain, x)
    assert seen == [kind, getattr(torch.nn, name)]
    hook.remove()
    made.register_buffer("other", torch.ones(1))
    made.register_forward_pre_hook(lambda *_: None)
    assert not hasattr(plain, "other")
    assert not plain._forward_pre_hooks
    next(iter(plain.parameters())).requires_grad_()
    assert_equal(step(name, plain, x), want)
    made._forward_hooks.clear()
    assert_equal(step(name, made, x), step(name, mine, x))
    assert type(lowprec.revert(made)) is getattr(torch.nn, name)
    options = {"device": "meta", "dtype": torch.bfloat16}
    far = kind.from_torch(ROWS[name].make(getattr(torch.nn, name), **options), "bfp8")
    assert {(p.device.type, p.dtype) for p in far.parameters()} == {("meta", torch.bfloat16)}


@every_layer
def test_from_torch_takes_one_class_only(name: str) -> None:
    """Not a subclass, which may compute something else, nor what is simulated already."""
    kind, plain = getattr(lowprec.nn, name), getattr(torch.nn, name)
    own = type("Own", (plain,), {})
    for wrong in (torch.nn.ReLU(), ROWS[name].make(own), ROWS[name].make(kind, scheme="bfp8"), kind, None):
        with pytest.raises(
            TypeError, match=rf"`layer` must be a torch.nn.{name} itself, got .*lowprec.convert"
        ):
            kind.from_torch(wrong, "bfp8")
    with pytest.raises(ValueError, match="`scheme` must be one of"):
        kind.from_torch(ROWS[name].make(plain), "fp4")
