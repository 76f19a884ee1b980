"""Quantizer: forward, every part of its backward on every element, noise, and life as a module."""

import copy
import io
import pickle

import pytest
import torch
from oracle import ROUNDINGS, STOCHASTIC, assert_same, expected, expected_overflow, spread
from torch import Tensor

import lowprec
from lowprec import Quantizer

DTYPES = [torch.float32, torch.bfloat16]
FORMATS = ["e4m3fn", "e4m3fn<infinity>", "e5m2", "e5m2<saturate_all>", "fixed8f4", "bfp4<group8>"]
MANUAL = 21


def drawn_seed() -> int:
    """The seed that the next call draws after torch.manual_seed(MANUAL)."""
    torch.manual_seed(MANUAL)
    seed = torch.ops.lowprec.draw_seed(torch.empty(0)).item()
    torch.manual_seed(MANUAL)
    return seed


def run(layer: torch.nn.Module, x: Tensor, error: Tensor) -> tuple[Tensor, Tensor]:
    """Output and gradient under MANUAL."""
    torch.manual_seed(MANUAL)
    x = x.detach().clone().requires_grad_()
    y = layer(x)
    y.backward(error)
    assert x.grad is not None
    return y.detach(), x.grad


def doubled(gradient: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """A rule that a module can be pickled with; it shows that x and y are what they should be."""
    return gradient * 2 + (x - y).nan_to_num(0.0, 0.0, 0.0)


class TestForwardAndBackward:
    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("rounding", ROUNDINGS)
    @pytest.mark.parametrize("format", FORMATS)
    def test_forward_and_straight_through(self, format, rounding, dtype) -> None:
        x, error = spread(30, 40, dtype=dtype), spread(30, 40, dtype=dtype, seed=2)
        seed = drawn_seed()
        y, gradient = run(Quantizer(format, rounding=rounding), x, error)
        assert_same(y, expected(x, format, rounding, seed=seed))
        assert_same(gradient, error)

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("rounding", ROUNDINGS)
    @pytest.mark.parametrize("format", FORMATS)
    def test_clip_gradient_is_zero_where_overflow_fired_in_that_forward(
        self, format, rounding, dtype
    ) -> None:
        x, error = spread(30, 40, dtype=dtype), spread(30, 40, dtype=dtype, seed=2)
        seed = drawn_seed()
        layer = Quantizer(format, rounding=rounding, clip_gradient=True)
        y, gradient = run(layer, x, error)
        fired = expected_overflow(x, format, rounding, seed=seed)
        assert fired.any() or format == "e5m2"
        assert not fired.all()
        assert_same(y, expected(x, format, rounding, seed=seed))
        assert_same(gradient, torch.where(fired, torch.zeros_like(error), error))

    def test_clip_gradient_follows_the_noise_of_the_forward(self) -> None:
        x = torch.full((2000,), 464.0)  # overflows with probability one half
        y, gradient = run(Quantizer("e4m3fn<infinity>", rounding=STOCHASTIC, clip_gradient=True),
                          x, torch.ones(2000))  # fmt: skip
        assert 800 < y.isnan().sum() < 1200
        assert_same(gradient, (~y.isnan()).float())

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("rounding", ROUNDINGS)
    @pytest.mark.parametrize("error_format", ["e5m2", "fixed8f7", "bfp4<group8>"])
    def test_the_error_is_rounded_with_words_of_its_own(self, error_format, rounding, dtype) -> None:
        x, error = spread(30, 40, dtype=dtype), spread(30, 40, dtype=dtype, seed=2)
        seed = drawn_seed()
        y, gradient = run(Quantizer("e4m3fn", error_format, rounding=rounding), x, error)
        assert_same(y, expected(x, "e4m3fn", rounding, seed=seed, stream=0))
        assert_same(gradient, expected(error, error_format, rounding, seed=seed, stream=1))

    def test_forward_and_backward_of_one_value_differ(self) -> None:
        x = torch.full((1000,), 1.06)
        y, gradient = run(Quantizer("e4m3fn", "e4m3fn", rounding=STOCHASTIC), x, x)
        assert 300 < (y != gradient).sum() < 700

    @pytest.mark.parametrize("error_rounding", ROUNDINGS)
    @pytest.mark.parametrize("rounding", ROUNDINGS)
    def test_a_mode_for_the_error_alone(self, rounding, error_rounding) -> None:
        x, error = spread(30, 40), spread(30, 40, seed=2)
        seed = drawn_seed()
        layer = Quantizer("e4m3fn", "e5m2", rounding=rounding, error_rounding=error_rounding)
        y, gradient = run(layer, x, error)
        assert_same(y, expected(x, "e4m3fn", rounding, seed=seed))
        assert_same(gradient, expected(error, "e5m2", error_rounding, seed=seed, stream=1))

    def test_random_bits_serve_both(self) -> None:
        x, error = spread(30, 40), spread(30, 40, seed=2)
        seed = drawn_seed()
        layer = Quantizer("e4m3fn", "e5m2", rounding=STOCHASTIC, random_bits=3)
        y, gradient = run(layer, x, error)
        assert_same(y, expected(x, "e4m3fn", STOCHASTIC, 3, seed))
        assert_same(gradient, expected(error, "e5m2", STOCHASTIC, 3, seed, stream=1))

    def test_random_bits_serve_the_modes_that_take_them(self) -> None:
        x, error = spread(30, 40), spread(30, 40, seed=2)
        seed = drawn_seed()
        options = {"rounding": "stochastic_equal", "error_rounding": "stochastic_nearest", "random_bits": 3}
        y, gradient = run(Quantizer("e4m3fn", "e5m2", **options), x, error)
        assert_same(y, expected(x, "e4m3fn", "stochastic_equal", seed=seed))
        assert_same(gradient, expected(error, "e5m2", "stochastic_nearest", 3, seed, stream=1))

    def test_the_error_alone(self) -> None:
        x, error = spread(30, 40), spread(30, 40, seed=2)
        y, gradient = run(Quantizer(error="e5m2"), x, error)
        assert_same(y, x)
        assert_same(gradient, expected(error, "e5m2"))

    def test_neither(self) -> None:
        x, error = spread(30, 40), spread(30, 40, seed=2)
        y, gradient = run(Quantizer(), x, error)
        assert_same(y, x)
        assert_same(gradient, error)

    def test_a_rule_then_the_clip_then_the_error_format(self) -> None:
        x, error = spread(30, 40), spread(30, 40, seed=2)
        y = expected(x, "e4m3fn")
        ruled = doubled(error, x, y)
        fired = expected_overflow(x, "e4m3fn")
        clipped = torch.where(fired, torch.zeros(()), ruled)
        for options, want in (
            ({}, ruled),
            ({"clip_gradient": True}, clipped),
            ({"error": "e5m2"}, expected(ruled, "e5m2")),
            ({"clip_gradient": True, "error": "e5m2"}, expected(clipped, "e5m2")),
        ):
            got = run(Quantizer("e4m3fn", gradient=doubled, **options), x, error)
            assert_same(got[0], y)
            assert_same(got[1], want)

    def test_a_rule_without_a_format_sees_x_twice(self) -> None:
        seen = []
        rule = lambda gradient, x, y: seen.append((x, y)) or gradient  # noqa: E731
        x = spread(8)
        run(Quantizer(gradient=rule), x, torch.ones(8))
        for tensor in seen[0]:
            assert_same(tensor, x)

    def test_strides_do_not_matter(self) -> None:
        x, error = spread(30, 40), spread(30, 40, seed=2)
        layer = Quantizer("e4m3fn", "e5m2", rounding=STOCHASTIC, clip_gradient=True)
        want = run(layer, x.T.contiguous(), error.T.contiguous())
        for got, wanted in zip(run(layer, x.T, error.T), want, strict=True):
            assert_same(got, wanted)

    def test_each_forward_has_noise_of_its_own(self) -> None:
        layer, x = Quantizer("e4m3fn", rounding=STOCHASTIC), torch.full((1000,), 1.06)
        assert not torch.equal(layer(x), layer(x))

    @pytest.mark.parametrize(
        ("options", "kept"), [({}, [1, 1, 1]), ({"error": "binary32", "clip_gradient": True}, [1, 1, 0])]
    )
    def test_the_slope_of_the_slope(self, options, kept) -> None:
        x = torch.tensor([0.3, 2.2, 500.0], requires_grad=True)
        y = Quantizer("e4m3fn", **options)(x)
        (first,) = torch.autograd.grad((y**3).sum(), x, create_graph=True)
        assert_same(first, 3 * y**2 * torch.tensor(kept))
        (second,) = torch.autograd.grad(first.sum(), x)
        assert_same(second, 6 * y * torch.tensor(kept))

    def test_vmap_works_or_is_refused(self) -> None:
        x = spread(5, 8)
        assert_same(torch.vmap(Quantizer("bfp4"))(x), lowprec.quantize(x, "bfp4<channel0>"))
        with pytest.raises(RuntimeError, match="functorch transforms"):
            torch.vmap(Quantizer("e4m3fn", clip_gradient=True))(x)


LAYERS = {
    "plain": lambda: Quantizer("e4m3fn"),
    "stochastic": lambda: Quantizer("fixed8f4", rounding=STOCHASTIC, random_bits=5),
    "everything": lambda: Quantizer(
        "bfp8<group8>", "e5m2", rounding=STOCHASTIC, clip_gradient=True, gradient=doubled
    ),
    "errors only": lambda: Quantizer(error="e5m2", error_rounding=STOCHASTIC),
}


@pytest.mark.parametrize("name", LAYERS)
class TestModule:
    def test_copies_compute_the_same(self, name: str) -> None:
        layer = LAYERS[name]()
        x, error = spread(5, 16), spread(5, 16, seed=2)
        want = run(layer, x, error)
        file = io.BytesIO()
        torch.save(layer, file)
        file.seek(0)
        copies = [
            copy.deepcopy(layer),
            pickle.loads(pickle.dumps(layer)),
            torch.load(file, weights_only=False),
        ]
        for twin in copies:
            assert repr(twin) == repr(layer)
            for got, wanted in zip(run(twin, x, error), want, strict=True):
                assert_same(got, wanted)

    def test_state_dict_holds_nothing_and_loads(self, name: str) -> None:
        model = torch.nn.Sequential(torch.nn.Linear(3, 4), LAYERS[name]())
        assert list(model.state_dict()) == ["0.weight", "0.bias"]
        file = io.BytesIO()
        torch.save(model.state_dict(), file)
        file.seek(0)
        other = torch.nn.Sequential(torch.nn.Linear(3, 4), LAYERS[name]())
        other.load_state_dict(torch.load(file, weights_only=True))
        assert torch.equal(other[0].weight, model[0].weight)
        assert list(LAYERS[name]().parameters()) == []

    def test_evaluation_computes_the_same(self, name: str) -> None:
        layer, x = LAYERS[name](), spread(5, 16)
        want = run(layer, x, torch.ones(5, 16))
        for got, wanted in zip(run(layer.eval(), x, torch.ones(5, 16)), want, strict=True):
            assert_same(got, wanted)


def test_repr_shows_formats_and_modes() -> None:
    layer = Quantizer("e4m3fn", torch.float8_e5m2, error_rounding=STOCHASTIC, clip_gradient=True)
    want = "forward=e4m3fn nearest_even, error=e5m2 stochastic 32 random bits, clip_gradient"
    assert repr(layer) == f"Quantizer({want})"
    assert repr(Quantizer(error="bfp8")) == "Quantizer(error=bfp8 nearest_even)"
    assert repr(Quantizer()) == "Quantizer()"


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"format": "e4m3"}, ValueError, "`format` must say which e4m3"),
        ({"error": "e9"}, ValueError, "`format` must be a known name, got 'e9'"),
        ({"format": 3}, TypeError, "`format` must be a format, a name or a torch dtype"),
        ({"rounding": "upward"}, ValueError, "`rounding` must be a known name, got 'upward'"),
        (
            {"error": "e5m2", "error_rounding": "upward"},
            ValueError,
            "`error_rounding` must be a known name, got 'upward'",
        ),
        (
            {"format": "e5m2", "error_rounding": STOCHASTIC},
            ValueError,
            "`error_rounding` must be None without an error format, got 'stochastic'",
        ),
        ({"clip_gradient": True}, ValueError, "`clip_gradient` must be False without a format"),
        ({"gradient": 3}, TypeError, r"`gradient` must be a function \(grad, x, y\) -> grad, got 3"),
        ({"format": "e5m2", "random_bits": 4}, ValueError, "`random_bits` must be None where"),
        ({"random_bits": 4}, ValueError, "`random_bits` must be None where rounding"),
        (
            {"format": "e5m2", "rounding": "stochastic_equal", "random_bits": 4},
            ValueError,
            "`random_bits` must be None where rounding is 'stochastic_equal'",
        ),
        ({"rounding": STOCHASTIC}, ValueError, "`rounding` must be left out without a format"),
        (
            {"format": "e5m2", "rounding": STOCHASTIC, "random_bits": 0},
            ValueError,
            "`random_bits` must lie between 1 and 32, got 0",
        ),
        (
            {"rounding": STOCHASTIC, "error": "e5m2", "error_rounding": "nearest", "random_bits": 4},
            ValueError,
            "`random_bits` must be None where rounding is 'nearest_even'",
        ),
    ],
)
def test_errors(options, error, message) -> None:
    with pytest.raises(error, match=message):
        Quantizer(**options)


@pytest.mark.parametrize(
    ("layer", "x", "error", "message"),
    [
        (Quantizer("e5m2"), torch.tensor([1]), TypeError, "`x` must be float32, bfloat16"),
        (Quantizer("e5m2"), spread(3).cfloat(), TypeError, "`x` must be .* got torch.complex64"),
        (Quantizer(), spread(3).to_sparse(), TypeError, "`x` must be a strided tensor"),
        (Quantizer("binary16"), spread(3).bfloat16(), ValueError, "the carrier bfloat16"),
        (Quantizer(error="binary16"), spread(3).bfloat16(), ValueError, "the carrier bfloat16"),
        (Quantizer("bfp8<channel1>"), spread(3), ValueError, "`axis` must lie within the 1 dim"),
    ],
)
def test_errors_of_the_forward(layer, x, error, message) -> None:
    with pytest.raises(error, match=message):
        layer(x)


def test_a_coin_takes_no_random_bits() -> None:
    assert repr(Quantizer("ternary", rounding="stochastic_equal")).endswith("ternary stochastic_equal)")
