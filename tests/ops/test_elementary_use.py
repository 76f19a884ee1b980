"""Single operations, sums and products as users call them."""

from itertools import chain

import numpy as np
import pytest
import torch
from elementary_cases import OPERATIONS
from oracle import SEED, as_array, assert_same, spread, words_for
from torch import Tensor
from torch.library import opcheck

import lowprec
from lowprec import reference

RARE = pytest.param(torch.float16, marks=pytest.mark.exhaustive)  # a loop more to compile, like the others


def expected(operation: str, operands: list[Tensor], format: str, rounding: str = "nearest_even") -> Tensor:
    """What the definition says, stochastic with SEED."""
    dtype = operands[0].dtype
    words = words_for(tuple(operands[0].shape)) if rounding == "stochastic" else None
    result = reference.elementary(
        operation, [as_array(x) for x in operands], format, rounding=rounding, words=words,
        carrier=str(dtype).removeprefix("torch."),
    )  # fmt: skip
    return torch.from_numpy(result).to(dtype)


class TestResult:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, RARE])
    @pytest.mark.parametrize("operation", OPERATIONS)
    def test_is_the_exact_one_rounded_once(self, operation: str, dtype: torch.dtype) -> None:
        operands = [spread(20, 15, dtype=dtype, seed=k) for k in range(OPERATIONS[operation])]
        got = getattr(lowprec, operation)(*operands, "e4m3fn")
        assert_same(got, expected(operation, operands, "e4m3fn"))

    def test_is_not_rounded_twice(self) -> None:
        one, least = torch.tensor([1.0]), torch.tensor([2.0**-8 + 2.0**-30])
        assert lowprec.quantize(one + least, "bfloat16").item() == 1.0
        assert lowprec.add(one, least, "bfloat16").item() == 1.0078125
        least = 2.0**-8 + torch.tensor([2.0**-60], dtype=torch.float64)
        assert lowprec.quantize(one.double() + least, "bfloat16").item() == 1.0
        assert lowprec.fma(one.double(), one.double(), 2.0**-8, "bfloat16").item() == 1.0
        far = torch.tensor([2.0**-1000], dtype=torch.float64)
        assert lowprec.fma(far, far, one.double() + 2.0**-8, "bfloat16").item() == 1.0078125

    @pytest.mark.parametrize("rounding", ["nearest_even", "stochastic"])
    def test_does_not_depend_on_strides_or_threads(self, rounding: str) -> None:
        x, y = spread(300, 400, seed=1), spread(400, seed=2)
        options = {"rounding": rounding, "seed": SEED if rounding == "stochastic" else None}
        whole = lowprec.add(x, y, "e4m3fn", **options)
        assert_same(whole[:20, :50], lowprec.add(x.T.contiguous().T, y, "e4m3fn", **options)[:20, :50])
        before = torch.get_num_threads()
        try:
            for threads in (1, 3):
                torch.set_num_threads(threads)
                assert_same(lowprec.add(x, y.expand(300, 400), "e4m3fn", **options), whole)
        finally:
            torch.set_num_threads(before)
        want = expected("add", [x[:4].contiguous(), y.expand(4, 400)], "e4m3fn", rounding)
        assert_same(whole[:4], want)

    def test_has_the_words_that_quantize_has(self) -> None:
        x, options = spread(50, 40), {"rounding": "stochastic", "seed": SEED}
        assert_same(lowprec.mul(x, 1, "e4m3fn", **options), lowprec.quantize(x, "e4m3fn", **options))
        torch.manual_seed(3)
        drawn = lowprec.mul(x, 1, "e4m3fn", rounding="stochastic")
        generator = torch.Generator().manual_seed(3)
        assert_same(drawn, lowprec.mul(x, 1, "e4m3fn", rounding="stochastic", generator=generator))

    @pytest.mark.parametrize("shapes", [((), ()), ((0, 3), (3,)), ((2, 1, 3), (4, 1)), ((5,), ())])
    def test_has_the_shape_that_torch_gives_it(self, shapes) -> None:
        x, y = (spread(*shape) if shape else torch.tensor(1.5) for shape in shapes)
        got = lowprec.mul(x, y, "e5m2")
        assert got.shape == (x * y).shape
        assert got.is_contiguous()

    @pytest.mark.parametrize(
        ("x", "y"),
        [
            (torch.float16, torch.bfloat16), (torch.bfloat16, torch.float64), (torch.float32, torch.float16),
            (torch.float16, torch.float16),
        ],
    )  # fmt: skip
    def test_has_the_dtype_that_torch_gives_it(self, x: torch.dtype, y: torch.dtype) -> None:
        a, b = torch.ones(2, dtype=x), torch.ones(2, dtype=y)
        for pair in ((a, b), (a[0], b), (a, b[0]), (a[0], b[0]), (a, 3), (2.5, b)):
            assert lowprec.add(*pair, "e4m3fn").dtype == torch.add(*pair).dtype

    def test_of_a_number_is_that_of_the_number_in_the_dtype(self) -> None:
        x = torch.tensor([3.0])
        third = torch.tensor([0.1], dtype=torch.float32)
        assert_same(lowprec.mul(x, 0.1, "binary32"), lowprec.mul(x, third, "binary32"))

    def test_of_zeros_infinities_and_nan_is_that_of_ieee_754(self) -> None:
        inf, zero, one = (torch.tensor([v]) for v in (float("inf"), 0.0, 1.0))
        assert lowprec.div(-one, zero, "e5m2").item() == -float("inf")
        assert lowprec.div(one, zero, "e4m3fn").item() == 448
        for nothing in (
            lowprec.div(zero, zero, "e4m3fn"), lowprec.mul(inf, zero, "e5m2"), lowprec.sub(inf, inf, "e5m2"),
            lowprec.sqrt(-one, "e5m2"), lowprec.fma(inf, zero, one, "e5m2"),
        ):  # fmt: skip
            assert nothing.isnan().all()
        signs = {
            "nearest": lowprec.sub(one, one, "e4m3fn"),
            "down": lowprec.sub(one, one, "e4m3fn", rounding="down"),
            "fused": lowprec.fma(one, one, -one, "e4m3fn", rounding="down"),
            "zeros": lowprec.add(zero, zero, "e4m3fn", rounding="down"),
            "root": lowprec.sqrt(-zero, "e5m2"),
            "product": lowprec.mul(-zero, one, "e5m2"),
        }
        assert [name for name, x in signs.items() if x.signbit()] == ["down", "fused", "root", "product"]

    def test_does_not_depend_on_what_processors_flush(self) -> None:
        small = torch.tensor([1e-40, -3e-42, 2.0**-149]), torch.tensor([1e-310, -5e-324, 1e-308]).double()
        before = [
            [f(x, x, name) for f in (lowprec.add, lowprec.div) for name in ("binary32", "e5m2")]
            for x in small
        ]
        torch.set_flush_denormal(True)
        try:
            after = [
                [f(x, x, name) for f in (lowprec.add, lowprec.div) for name in ("binary32", "e5m2")]
                for x in small
            ]
        finally:
            torch.set_flush_denormal(False)
        for was, now in zip(chain(*before), chain(*after), strict=True):
            assert_same(now, was)
        assert before[0][0][2] == 2.0**-148

    @pytest.mark.exhaustive  # a loop more to compile for each
    @pytest.mark.parametrize("name", ["posit8", "codebook<-1,0.5,4>", "binary8p3se"])
    def test_of_other_elements_is_that_of_the_sum_where_it_is_exact(self, name: str) -> None:
        x, y = spread(200, seed=3).double(), spread(200, seed=4).double()
        coarse = [lowprec.quantize(v, "fixed24f12") for v in (x, y)]  # whose sums float64 holds
        coarse = [v.nan_to_num(0.5) for v in coarse]
        assert_same(lowprec.add(*coarse, name), lowprec.quantize(coarse[0] + coarse[1], name))


class TestOut:
    def test_may_be_an_operand(self) -> None:
        x, y = spread(6, 5, seed=1), spread(5, seed=2)
        want = lowprec.sub(x, y, "e4m3fn")
        assert lowprec.sub(x, y, "e4m3fn", out=x) is x
        assert_same(x, want)

    def test_must_fit(self) -> None:
        x = torch.ones(3)
        with pytest.raises(ValueError, match=r"`out` must be a torch.float32 tensor of shape \(3,\) on cpu"):
            lowprec.add(x, x, "e4m3fn", out=torch.ones(2))
        with pytest.raises(ValueError, match="`out` must be None where gradients are recorded"):
            lowprec.add(x.clone().requires_grad_(), x, "e4m3fn", out=torch.ones(3))


def test_arrays_give_arrays() -> None:
    x = np.float32([1, 2, 3])
    got = lowprec.div(x[::-1], 3, "bfloat16")
    assert isinstance(got, np.ndarray)
    assert_same(torch.from_numpy(got), lowprec.div(torch.tensor([3.0, 2.0, 1.0]), 3, "bfloat16"))
    with pytest.raises(ValueError, match="`out` must be None for arrays, got"):
        lowprec.add(x, x, "e4m3fn", out=x)
    with pytest.raises(TypeError, match="`y` must be an array where another operand is one"):
        lowprec.add(x, torch.ones(3), "e4m3fn")
    with pytest.raises(TypeError, match="`x` must be a plain float16, float32 or float64 array, got dtype"):
        lowprec.add(np.arange(3), x, "e4m3fn")


class TestGradient:
    @pytest.mark.parametrize("operation", OPERATIONS)
    def test_is_that_of_the_operation_in_the_carrier(self, operation: str) -> None:
        generator = torch.Generator().manual_seed(1)
        rows = [(4, 5), (5,), ()][: OPERATIONS[operation]]
        exact = {"sub": torch.sub, "mul": torch.mul, "div": torch.div, "sqrt": torch.sqrt, "add": torch.add}
        function = exact.get(operation, lambda x, y, z: x * y + z)
        ours = [(torch.rand(row, generator=generator) + 0.5).requires_grad_() for row in rows]
        theirs = [x.detach().clone().requires_grad_() for x in ours]
        error = torch.rand(4, 5, generator=generator)
        getattr(lowprec, operation)(*ours, "e4m3fn").backward(error)
        function(*theirs).backward(error)
        for x, y in zip(ours, theirs, strict=True):
            torch.testing.assert_close(x.grad, y.grad, rtol=3e-7, atol=0)  # a few roundings of float32

    def test_has_a_gradient(self) -> None:
        x = torch.tensor([2.0, 3.0], dtype=torch.float64, requires_grad=True)
        (gradient,) = torch.autograd.grad(lowprec.mul(x, x * x, "bfloat16").sum(), x, create_graph=True)
        (second,) = torch.autograd.grad(gradient.sum(), x)
        assert second.tolist() == [12.0, 18.0]

    def test_of_arithmetic(self) -> None:
        x = torch.ones(3, 4, requires_grad=True)
        error = torch.tensor([1.0, 1.0625, 2.0])
        lowprec.sum(x, "e4m3fn", dim=1).backward(error)
        assert torch.equal(x.grad, error[:, None].expand(3, 4))
        x.grad = None
        lowprec.mean(x, "e4m3fn", dim=1).backward(error)
        assert torch.equal(x.grad, (error[:, None] / 4).expand(3, 4))
        x.grad = None
        y = torch.full((4, 1), 1.0625)  # not on the grid of sums, to which the backward products are rounded
        lowprec.matmul(x, y, "e4m3fn").backward(torch.ones(3, 1))
        assert torch.equal(x.grad, torch.ones(3, 4))


class TestTorch:
    @pytest.mark.parametrize("operation", ["sqrt", "fma"])
    def test_opcheck(self, operation: str) -> None:
        operands = [torch.rand(3, 4) + 0.5 for _ in range(OPERATIONS[operation])]
        for rounding, seed in (("nearest_even", None), ("stochastic", torch.tensor([3]))):
            leaves = [x.clone().requires_grad_() for x in operands]
            opcheck(
                torch.ops.lowprec.elementary.default, (operation, leaves, seed, "e4m3fn", rounding, 32, 0)
            )

    @pytest.mark.filterwarnings(r"ignore:::torch\.", "ignore:.*should not be instantiated:DeprecationWarning")
    def test_compiles(self) -> None:
        arithmetic = lowprec.Arithmetic("e4m3fn")

        def step(x: Tensor, y: Tensor) -> Tensor:
            product = lowprec.mul(x, y, "e4m3fn", rounding="stochastic", seed=3)
            total = lowprec.sum(lowprec.add(product, 0.5, "e4m3fn"), arithmetic, dim=1, keepdim=True)
            return lowprec.matmul(x, y, "e4m3fn") + total + lowprec.mean(x, arithmetic)

        x, y = torch.rand(4, 4, requires_grad=True), torch.rand(4, 4)
        compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
        assert torch.equal(compiled(x, y), step(x, y))
        (got,) = torch.autograd.grad(compiled(x, y).sum(), x)
        (want,) = torch.autograd.grad(step(x, y).sum(), x)
        assert torch.equal(got, want)

    def test_vmap(self) -> None:
        x, y = torch.rand(3, 2), torch.rand(2)
        got = torch.func.vmap(lambda a, b: lowprec.mul(a, b, "e4m3fn"), in_dims=(0, None))(x, y)
        assert_same(got, lowprec.mul(x, y, "e4m3fn"))
        with pytest.raises(
            ValueError, match=r"deterministic under torch\.vmap: noise of examples is not defined"
        ):
            torch.func.vmap(lambda a: lowprec.mul(a, a, "e4m3fn", rounding="stochastic", seed=1))(x)


class TestRefusals:
    @pytest.mark.parametrize(
        ("format", "options", "message"),
        [
            (
                "mxfp8_e4m3",
                {},
                "`format` must be one that rounds each element alone, got 'mxfp8_e4m3'. Let torch",
            ),
            ("bfp8", {}, "must be one that rounds each element alone"),
            ("fixedf4", {}, "`format` must be bounded where results are rounded to it, got"),
            (
                "log4f3",
                {},
                "`format` must have boundaries that 52 significant bits tell apart under nearest_even",
            ),
            (
                "binary64",
                {"rounding": "stochastic"},
                "leave 34 of 62 significant bits .* random_bits to at most 7",
            ),
            ("e4m3fn", {"seed": 3}, "`seed` must be None where rounding is 'nearest_even'"),
            ("e4m3fn", {"random_bits": 3}, "`random_bits` must be"),
            ("e4m3fn", {"rounding": "nearby"}, "`rounding` must be a known name"),
        ],
    )
    def test_of_formats_and_options(self, format: str, options: dict, message: str) -> None:
        x = torch.ones(4, dtype=torch.float64)
        with pytest.raises(ValueError, match=message):
            lowprec.add(
                x,
                x,
                lowprec.FixedPoint(None, 4, overflow="unbounded") if format == "fixedf4" else format,
                **options,
            )

    def test_of_a_format_that_leaves_no_room(self) -> None:
        x = torch.ones(4, dtype=torch.float64)
        with pytest.raises(ValueError, match="`format` must be exact in the carrier float16"):
            lowprec.add(x.half(), x.half(), "bfloat16")

    def test_of_operands(self) -> None:
        x = torch.ones(3)
        with pytest.raises(TypeError, match="`y` must be a tensor, an array or a number, got"):
            lowprec.add(x, "1", "e4m3fn")
        with pytest.raises(TypeError, match="`y` must be a tensor, an array or a number, got"):
            lowprec.add(x, True, "e4m3fn")
        with pytest.raises(TypeError, match="`x` must be a tensor where no other operand is, got 'numbers'"):
            lowprec.add(1, 2, "e4m3fn")
        with pytest.raises(TypeError, match="`x` must be float32, bfloat16, float16 or float64"):
            lowprec.add(torch.ones(3, dtype=torch.int64), x, "e4m3fn")
        with pytest.raises(RuntimeError, match="size of tensor a"):
            lowprec.add(x, torch.ones(2), "e4m3fn")

    def test_of_wrapped_results_that_are_not_known(self) -> None:
        x = torch.tensor([2.0**62], dtype=torch.float64)
        with pytest.raises(ValueError, match="wrap only numbers whose integer part takes fewer than 60 bits"):
            lowprec.add(x, 0.75, "fixed8f2<wrap>")
        assert lowprec.add(x, 2.0**20, "fixed8f2<wrap>").item() == 0


class TestArithmetic:
    @pytest.mark.parametrize("dim", [None, 0, -1, (0, 2), (2, 1), ()])
    @pytest.mark.parametrize("keepdim", [False, True])
    def test_sums_and_means_of_dimensions(self, dim, keepdim: bool) -> None:
        x = spread(3, 4, 5).nan_to_num(1.0, 2.0, 3.0)
        given = (dim,) if isinstance(dim, int) else dim or (0, 1, 2)
        dims = sorted(d % 3 for d in given)
        rest = [d for d in range(3) if d not in dims]
        rows = x.permute(*rest, *dims).reshape(1, -1, int(np.prod([x.shape[d] for d in dims], dtype=int)))
        ones = np.ones((1, rows.shape[2], 1), np.float32)
        want = torch.from_numpy(reference.product(rows.numpy(), ones, lowprec.Arithmetic("e4m3fn")))
        got = lowprec.sum(x, "e4m3fn", dim, keepdim)
        assert got.shape == torch.sum(x, dim, keepdim).shape
        assert_same(got.reshape(want.shape), want)
        count = torch.full_like(want, rows.shape[2])
        mean = lowprec.mean(x, "e4m3fn", dim, keepdim)
        assert_same(mean.reshape(want.shape), expected("div", [want, count], "e4m3fn"))

    def test_noise_is_that_of_the_product_with_ones(self) -> None:
        arithmetic = lowprec.Arithmetic("e4m3fn", rounding="stochastic")
        x = spread(6, 7).nan_to_num(1.0, 2.0, 3.0)
        want = reference.product(x[None].numpy(), np.ones((1, 7, 1), np.float32), arithmetic, seed=5)
        got = lowprec.sum(x, arithmetic, dim=1, seed=5)
        assert_same(got, torch.from_numpy(want)[0, :, 0])
        words = reference.random_words(5, 4, (6,))
        mean = reference.elementary(
            "div", [want[0, :, 0], np.full(6, 7, np.float32)], "e4m3fn", rounding="stochastic", words=words
        )
        assert_same(lowprec.mean(x, arithmetic, dim=1, seed=5), torch.from_numpy(mean))

    def test_dot_and_matmul_are_those_of_functional(self) -> None:
        a, b = spread(2, 1, 3, 8).nan_to_num(1.0, 2.0, 3.0), spread(4, 8, 5, seed=2).nan_to_num(1.0, 2.0, 3.0)
        scheme = lowprec.Scheme(arithmetic="e4m3fn")
        for x, y in ((a, b), (a[0, 0, 0], b), (a, b[0, :, 0])):
            assert_same(lowprec.matmul(x, y, "e4m3fn"), lowprec.functional.matmul(x, y, scheme=scheme))
        x, y = a[0, 0, 0], b[0, :, 0]
        assert_same(lowprec.dot(x, y, "e4m3fn"), lowprec.matmul(x, y, "e4m3fn"))
        assert lowprec.dot(x, y, "e4m3fn").dim() == 0

    def test_of_nothing(self) -> None:
        assert lowprec.sum(torch.ones(3, 0), "e4m3fn", dim=1).tolist() == [0, 0, 0]
        assert lowprec.mean(torch.ones(3, 0), "e4m3fn", dim=1).isnan().all()
        assert lowprec.sum(torch.tensor(3.0), "e4m3fn", dim=0).item() == 3

    @pytest.mark.exhaustive  # a loop more to compile
    def test_the_count_of_a_mean_need_not_fit_the_carrier(self) -> None:
        x = torch.zeros(70000, dtype=torch.float16)
        x[0] = 448
        assert lowprec.mean(x, "e4m3fn").item() == 0.005859375

    def test_refuses(self) -> None:
        x = torch.ones(3, 4)
        rounded = lowprec.Arithmetic("e4m3fn", multiply="e4m3fn")
        with pytest.raises(ValueError, match="`arithmetic` must be one that rounds no products, got 'e4m3fn"):
            lowprec.sum(x, rounded)
        with pytest.raises(ValueError, match="`dim` must be one of the 2 dimensions, or some of them, got 2"):
            lowprec.sum(x, "e4m3fn", 2)
        with pytest.raises(ValueError, match=r"`dim` must name each dimension once, got \(0, -2\)"):
            lowprec.mean(x, "e4m3fn", (0, -2))
        with pytest.raises(
            ValueError, match="`seed` must be None where nothing in the arithmetic is stochastic"
        ):
            lowprec.sum(x, "e4m3fn", seed=3)
        with pytest.raises(TypeError, match="`x` must be a tensor to be summed, got"):
            lowprec.sum([1.0, 2.0], "e4m3fn")
        with pytest.raises(TypeError, match="`b` must be a tensor to be multiplied, got"):
            lowprec.matmul(x, [1.0], "e4m3fn")
        with pytest.raises(TypeError, match="`b` must have the dtype of the first operand, torch"):
            lowprec.matmul(x, x.double().T, "e4m3fn")
        with pytest.raises(ValueError, match=r"`x` must have one dimension, got \(3, 4\). Use matmul"):
            lowprec.dot(x, x, "e4m3fn")
        with pytest.raises(ValueError, match="`format` must be exact in the carrier float16"):
            lowprec.sum(x.half(), "bfloat16")
