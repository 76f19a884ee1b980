"""The public quantize: seeds, out=, NumPy, and every error it raises."""

import numpy as np
import pytest
import torch
from oracle import STOCHASTIC, assert_same, expected, spread
from torch import Tensor

import lowprec
from lowprec import reference
from lowprec.modes import Rounding
from lowprec.ops.quantize import check_tensor

X = torch.full((4096,), 1.06)


def noisy(x: Tensor = X, **options: object) -> Tensor:
    """Stochastic rounding to e4m3fn."""
    return lowprec.quantize(x, "e4m3fn", rounding=STOCHASTIC, **options)


class TestSeeds:
    def test_manual_seed_repeats_and_each_call_draws_anew(self) -> None:
        torch.manual_seed(3)
        first, second = noisy(), noisy()
        assert not torch.equal(first, second)
        torch.manual_seed(3)
        assert_same(noisy(), first)
        assert_same(noisy(), second)

    def test_a_generator_is_drawn_from_and_the_default_one_left_alone(self) -> None:
        torch.manual_seed(3)
        state = torch.get_rng_state()
        first = noisy(generator=torch.Generator().manual_seed(5))
        assert torch.equal(torch.get_rng_state(), state)
        generator = torch.Generator().manual_seed(5)
        assert_same(noisy(generator=generator), first)
        assert not torch.equal(noisy(generator=generator), first)

    def test_nothing_is_drawn_with_a_seed_or_without_noise(self) -> None:
        state = torch.get_rng_state()
        noisy(seed=5)
        lowprec.quantize(X, "e4m3fn")
        assert torch.equal(torch.get_rng_state(), state)

    @pytest.mark.parametrize("seed", [0, 1, -1, 2**32, 2**63 - 1, 2**63, 2**64 - 1, -(2**63)])
    def test_every_seed_of_64_bits(self, seed: int) -> None:
        x = X[:600]
        want = expected(x, "e4m3fn", STOCHASTIC, seed=seed)
        assert_same(noisy(x, seed=seed), want)
        signed = (seed + 2**63) % 2**64 - 2**63
        for shape in ((), (1,), (1, 1)):
            assert_same(noisy(x, seed=torch.tensor(signed).reshape(shape)), want)

    def test_equal_bits_of_negative_and_unsigned_seeds(self) -> None:
        assert_same(noisy(seed=-5), noisy(seed=2**64 - 5))
        assert not torch.equal(noisy(seed=-5), noisy(seed=5))

    @pytest.mark.parametrize("rounding", [mode for mode in Rounding if mode.is_stochastic])
    def test_every_stochastic_mode_draws(self, rounding: str) -> None:
        torch.manual_seed(3)
        first, second = (lowprec.quantize(X, "e4m3fn", rounding=rounding) for _ in range(2))
        assert not torch.equal(first, second)
        torch.manual_seed(3)
        assert_same(lowprec.quantize(X, "e4m3fn", rounding=rounding), first)
        want = expected(X[:600], "e4m3fn", rounding, seed=9)
        assert_same(lowprec.quantize(X[:600], "e4m3fn", rounding=rounding, seed=9), want)

    @pytest.mark.parametrize("random_bits", [1, 8, 32])
    def test_random_bits(self, random_bits: int) -> None:
        x = spread(700)
        want = expected(x, "fixed8f4", STOCHASTIC, random_bits, seed=8)
        got = lowprec.quantize(x, "fixed8f4", rounding=STOCHASTIC, random_bits=random_bits, seed=8)
        assert_same(got, want)


class TestNames:
    def test_formats_by_value_name_and_dtype(self) -> None:
        x = spread(500)
        want = lowprec.quantize(x, "e4m3fn")
        assert_same(lowprec.quantize(x, torch.float8_e4m3fn), want)
        assert_same(lowprec.quantize(x, lowprec.FloatingPoint(4, 3, specials="fn")), want)
        assert_same(lowprec.quantize(x, torch.bfloat16), x.to(torch.bfloat16).float())

    def test_roundings_by_member_and_everyday_name(self) -> None:
        x = spread(500)
        for name in ("nearest", lowprec.Rounding.NEAREST_EVEN):
            assert_same(lowprec.quantize(x, "e5m2", rounding=name), lowprec.quantize(x, "e5m2"))

    def test_a_parameter_gives_a_plain_tensor(self) -> None:
        got = lowprec.quantize(torch.nn.Parameter(torch.ones(3)), "e4m3fn")
        assert type(got) is Tensor


class TestOut:
    def test_the_version_counter_sees_the_change(self) -> None:
        x, out = spread(9), torch.zeros(9)
        before = out._version
        assert lowprec.quantize(x, "e4m3fn", out=out) is out
        assert out._version > before

    def test_autograd_notices_a_value_that_it_needed(self) -> None:
        weight, saved = torch.ones(3, requires_grad=True), torch.ones(3)
        product = weight * saved
        lowprec.quantize(spread(3), "e4m3fn", out=saved)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            product.sum().backward()

    def test_without_gradients_it_may_be_a_parameter(self) -> None:
        weight = torch.nn.Parameter(spread(30))
        want = lowprec.quantize(weight.detach().clone(), "e4m3fn")
        with torch.no_grad():
            assert lowprec.quantize(weight, "e4m3fn", out=weight) is weight
        assert_same(weight, want)

    def test_disjoint_parts_of_one_tensor(self) -> None:
        whole = spread(8, 10)
        want = lowprec.quantize(whole[:4], "e4m3fn")
        lowprec.quantize(whole[:4], "e4m3fn", out=whole[4:])
        assert_same(whole[4:], want)

    @pytest.mark.parametrize(
        "views",
        [
            lambda memory: (memory[:50], memory[1:51]),
            lambda memory: (memory[1:51], memory[:50]),
            lambda memory: (memory[:49].view(7, 7), memory[:49].view(7, 7).T),
            lambda memory: (memory[::2][:20], memory[:20]),
        ],
        ids=["shifted", "shifted back", "transposed", "other steps"],
    )
    def test_memory_shared_with_x_is_refused(self, views) -> None:
        x, out = views(spread(100))
        with pytest.raises(ValueError, match="`out` must be x itself or apart from it"):
            lowprec.quantize(x, "e4m3fn", out=out)

    @pytest.mark.parametrize(
        "view",
        [
            lambda memory: memory[:1].expand(12),
            lambda memory: memory.as_strided((4, 3), (2, 1)),
            lambda memory: memory[:4, None].expand(4, 3),
        ],
        ids=["expanded", "sliding", "expanded inside"],
    )
    def test_memory_shared_among_its_elements_is_refused(self, view) -> None:
        out = view(spread(100))
        for x in (torch.zeros(out.shape), out):
            with pytest.raises(ValueError, match="`out` must have memory of its own for every"):
                lowprec.quantize(x, "e4m3fn", out=out)

    @pytest.mark.parametrize(
        ("out", "error", "message"),
        [
            (torch.empty(3), ValueError, r"`out` must be a torch.float32 tensor of shape \(4,\)"),
            (torch.empty(4, dtype=torch.bfloat16), ValueError, "`out` must be a torch.float32"),
            (torch.empty(4, device="meta"), ValueError, r"`out` must be .* on cpu.*'meta'"),
            (np.empty(4, np.float32), TypeError, "`out` must be a tensor, got"),
            (torch.empty(4, requires_grad=True), ValueError, "`out` must be None where gradients"),
        ],
    )
    def test_what_does_not_fit_is_refused(self, out, error, message) -> None:
        with pytest.raises(error, match=message):
            lowprec.quantize(torch.zeros(4), "e4m3fn", out=out)

    def test_an_input_that_records_gradients_is_refused(self) -> None:
        with pytest.raises(ValueError, match="`out` must be None where gradients are recorded"):
            lowprec.quantize(torch.zeros(4, requires_grad=True), "e4m3fn", out=torch.empty(4))


class TestArrays:
    @pytest.mark.parametrize(
        "view",
        [
            lambda x: x,
            lambda x: x.T,
            lambda x: x[::2, 1::3],
            lambda x: x[::-1],
            lambda x: x[:, ::-2],
            lambda x: x[3, 4, ...],
            lambda x: np.broadcast_to(x[:1], x.shape),
            lambda x: x[:0],
        ],
        ids=["plain", "transposed", "steps", "reversed", "back in steps", "no dimension",
             "read-only broadcast", "empty"],
    )  # fmt: skip
    def test_any_array(self, view) -> None:
        x = view(spread(12, 15).numpy())
        before = x.copy()
        for format in ("e4m3fn", "bfp8"):
            got = lowprec.quantize(x, format)
            assert isinstance(got, np.ndarray)
            want = reference.quantize(np.ascontiguousarray(x).reshape(x.shape), format)
            assert_same(torch.from_numpy(got), torch.from_numpy(want))
        np.testing.assert_array_equal(x, before)
        words = reference.random_words(4, 0, x.shape)
        want = reference.quantize(x.copy(), "e5m2", rounding=STOCHASTIC, words=words)
        got = lowprec.quantize(x, "e5m2", rounding=STOCHASTIC, seed=4)
        assert_same(torch.from_numpy(got), torch.from_numpy(want))

    def test_read_only(self) -> None:
        x = spread(12).numpy()
        x.flags.writeable = False
        assert_same(torch.from_numpy(lowprec.quantize(x, "e4m3fn")), expected(spread(12), "e4m3fn"))

    def test_out(self) -> None:
        x = spread(12, 15).numpy()
        want = lowprec.quantize(x, "e4m3fn")
        out = np.zeros((15, 12), np.float32).T
        assert lowprec.quantize(x, "e4m3fn", out=out) is out
        np.testing.assert_array_equal(out, want)
        assert lowprec.quantize(x, "e4m3fn", out=x) is x
        np.testing.assert_array_equal(x, want)

    def test_generator(self) -> None:
        x = X.numpy()
        got = noisy(x, generator=torch.Generator().manual_seed(5))
        assert_same(torch.from_numpy(got), noisy(generator=torch.Generator().manual_seed(5)))

    @pytest.mark.parametrize(
        ("x", "out", "error", "message"),
        [
            (np.zeros(3, int), None, TypeError, "`x` must be one of float32, float16, float64, got dtype"),
            (np.zeros(3, ">f4"), None, TypeError, "`x` must be one of float32.*Convert it, as with x.astype"),
            (np.zeros(3, "f4"), torch.zeros(3), TypeError, "`out` must be an array, as x is"),
            (np.zeros(3, "f4"), np.zeros(4, "f4"), ValueError, "`out` must be a writable float32"),
            (np.zeros(3, "f4"), np.zeros(3), ValueError, "`out` must be a writable float32 array"),
            (np.zeros(3, "f4"), np.zeros(3, "f4")[::-1], ValueError, "`out` must have no negative"),
            (
                np.zeros(3, "f4"),
                np.broadcast_to(np.float32(0), (3,)),
                ValueError,
                "`out` must be a writable float32 array",
            ),
        ],
    )
    def test_errors(self, x, out, error, message) -> None:
        with pytest.raises(error, match=message):
            lowprec.quantize(x, "e4m3fn", out=out)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"x": [0.3]}, TypeError, "`x` must be a tensor or an array, got <class 'list'>"),
        ({"x": 0.3}, TypeError, "`x` must be a tensor or an array"),
        ({"x": torch.tensor([1])}, TypeError, "`x` must be float32, bfloat16, .* got torch.int64"),
        ({"x": X.cdouble()}, TypeError, "`x` must be .* float16 or float64, got torch.complex128"),
        ({"x": X.to(torch.float8_e5m2)}, TypeError, "`x` must be .* got torch.float8_e5m2. Convert it"),
        ({"x": X.to_sparse()}, TypeError, "`x` must be a strided tensor, got torch.sparse_coo"),
        ({"format": "e4m3"}, ValueError, "`format` must say which e4m3"),
        ({"format": "e4m3fnn"}, ValueError, "`format` must be a known name.*Did you mean e4m3fn"),
        ({"format": 8}, TypeError, "`format` must be a format, a name or a torch dtype, got 8"),
        ({"format": torch.int8}, ValueError, "`format` must be one of torch.float8_e4m3fn"),
        (
            {"x": X.bfloat16(), "format": "binary16"},
            ValueError,
            "`format` must be exact in the carrier bfloat16 .*Pass a float16 or float32",
        ),
        ({"format": "e11m52ieee"}, ValueError, "`format` must be exact in the carrier float32"),
        ({"format": "bfp8<group4@1>"}, ValueError, "`axis` must lie within the 1 dimensions"),
        ({"format": "bfp8<group@contraction>"}, ValueError, "`axis` must be an integer outside"),
        ({"format": "bfp8<block2x2>"}, ValueError, "`shape` must have no more sizes than the 1 dim"),
        ({"rounding": "upward"}, ValueError, "`rounding` must be a known name, got 'upward'. Choose one of"),
        ({"rounding": 1}, TypeError, "`rounding` must be a string, got 1"),
        ({"rounding": "nearest", "random_bits": 4}, ValueError, "`random_bits` must be None where"),
        ({"rounding": "stochastic_equal", "random_bits": 4}, ValueError, "`random_bits` must be None where"),
        ({"random_bits": 0}, ValueError, "`random_bits` must lie between 1 and 32, got 0"),
        ({"random_bits": 33}, ValueError, "`random_bits` must lie between 1 and 32, got 33"),
        ({"random_bits": True}, TypeError, "`random_bits` must be an integer or None, got True"),
        ({"random_bits": 4.0}, TypeError, "`random_bits` must be an integer or None, got 4.0"),
        ({"rounding": "nearest", "seed": 1}, ValueError, "`seed` must be None where rounding is"),
        ({"rounding": "to_odd", "seed": 1}, ValueError, "`seed` must be None where rounding is 'to_odd'"),
        (
            {"rounding": "nearest", "generator": torch.Generator()},
            ValueError,
            "`generator` must be None where rounding is 'nearest_even'",
        ),
        (
            {"seed": 1, "generator": torch.Generator()},
            ValueError,
            "`seed` must be None where a generator is given, got 1",
        ),
        ({"seed": 2**64}, ValueError, "`seed` must fit into 64 bits, got 18446744073709551616"),
        ({"seed": -(2**63) - 1}, ValueError, "`seed` must fit into 64 bits"),
        ({"seed": 1.0}, TypeError, "`seed` must be an integer or an int64 tensor, got 1.0"),
        ({"seed": True}, TypeError, "`seed` must be an integer or an int64 tensor, got True"),
        ({"seed": torch.tensor([1.0])}, TypeError, "`seed` must be an int64 tensor, got torch.float"),
        ({"seed": torch.tensor([1, 2])}, ValueError, "`seed` must be a tensor of one element on cpu"),
        (
            {"seed": torch.empty(1, dtype=torch.int64, device="meta")},
            ValueError,
            "`seed` must be a tensor of one element on cpu",
        ),
        ({"generator": 5}, TypeError, "`generator` must be a torch.Generator, got 5"),
    ],
)
def test_errors(arguments, error, message) -> None:
    defaults = {"x": X, "format": "e4m3fn", "rounding": STOCHASTIC}
    with pytest.raises(error, match=message):
        lowprec.quantize(**{**defaults, **arguments})


def test_another_device_is_an_error_not_a_copy() -> None:
    class Elsewhere:
        dtype, layout, device = torch.float32, torch.strided, torch.device("mps:0")
        is_cpu = is_cuda = is_meta = False

    message = "`x` must be on the CPU or a CUDA device, got 'mps:0'. There are kernels for these two: use x"
    with pytest.raises(ValueError, match=message):
        check_tensor(Elsewhere())
