"""The CUDA twins of simulated matrix products, run by Numba's simulator: the CPU's bits."""

import numpy as np
import pytest
import torch
from product_cases import hard, raw
from simulator import queue, same_bits, simulated
from waiting import NeverWaits

from lowprec import Arithmetic, Operands, Rounding, Scheme, functional
from lowprec.arithmetic import format_of
from lowprec.formats.carriers import CARRIERS as SPACES
from lowprec.functional import bilinear
from lowprec.ops.carriers import CARRIERS
from lowprec.ops.products import arithmetic_of, make_sums, operand_of
from lowprec.reference import product as defined

pytestmark = simulated

GRID = 3, (5, 2)
"""Tiles of two rows and five columns, that three blocks share."""
SUMS = [
    # Sums that binary32 or binary64 rounds well enough, that need to be rounded to odd, or are pairs.
    Arithmetic("e4m3fn"),
    Arithmetic("e2m1"),
    Arithmetic("bfloat16", chunk=5),
    Arithmetic("e6m9ieee", multiply="e5m2", chunk=4, chunk_accumulate="binary32"),
    Arithmetic("binary32"),
    Arithmetic("binary16", order="pairwise"),
    Arithmetic("bfloat16", compensation="kahan"),
    Arithmetic("fixed8f4"),
    Arithmetic("e5m2", rounding="stochastic", multiply="e4m3fn"),
    Arithmetic("binary32", rounding="stochastic", compensation="kahan"),
]


def numbers(*shape: int, dtype=torch.float32, seed: int = 0) -> torch.Tensor:
    """Of full significands over some binades."""
    return torch.from_numpy(raw(np.random.default_rng(seed), *shape)).to(dtype)


def grid_of(format: str, *shape: int, dtype=torch.float32, seed: int = 0) -> torch.Tensor:
    """Values of a format."""
    return torch.ops.lowprec.quantize(
        numbers(*shape, dtype=dtype, seed=seed), None, format, "nearest_even", 32
    )


def twin(
    a, b, arithmetic: Arithmetic, *, bias=None, bias_step=1, seed=7, stream=0, grid=GRID, formats=()
) -> torch.Tensor:
    """What the CUDA twin makes of a product."""
    from lowprec.kernels.cuda.multiply import multiply

    out = torch.full((a.shape[0], a.shape[1], b.shape[2]), torch.nan, dtype=a.dtype)
    noise = torch.tensor([seed])
    row = None if bias is None else operand_of(bias.expand(1, 1, -1))
    multiply(
        queue(grid), operand_of(a), operand_of(b), out.data_ptr(), CARRIERS[a.dtype], arithmetic,
        bias=row, bias_step=bias_step, noise=(noise.data_ptr(), stream), formats=formats,
    )  # fmt: skip
    return out


def of_cpu(a, b, arithmetic: Arithmetic, *, bias=None, bias_step=1, seed=7, stream=0) -> torch.Tensor:
    """What the CPU kernel makes of it."""
    words = torch.tensor([seed])
    return torch.ops.lowprec.product(a, b, bias, words, make_sums(arithmetic).key, stream, bias_step)


def check(a, b, arithmetic: Arithmetic, *, grid=GRID, formats=(), **options) -> None:
    """Both agree."""
    got = twin(a, b, arithmetic, grid=grid, formats=formats, **options)
    assert same_bits(got, of_cpu(a, b, arithmetic, **options)), arithmetic.describe()


def check_defined(a, b, arithmetic: Arithmetic, *, bias=None, **options) -> None:
    """The twin gives what the definition says, for which no kernel of the CPU is compiled."""
    row = None if bias is None else bias.double().numpy()
    seed = 7 if arithmetic.is_stochastic else None
    want = defined(a.double().numpy(), b.double().numpy(), arithmetic, bias=row, seed=seed)
    got = twin(a, b, arithmetic, bias=bias, **options).double().numpy()
    same = (got == want) & (np.signbit(got) == np.signbit(want)) | np.isnan(got) & np.isnan(want)
    assert same.all(), f"{arithmetic.describe()}: {got[~same][:3]} {want[~same][:3]}"


@pytest.mark.parametrize("arithmetic", SUMS, ids=lambda a: a.describe())
def test_every_order_and_path_gives_the_bits_of_the_cpu(arithmetic: Arithmetic) -> None:
    """Ties made by sums, full significands, cancellation, subnormals, overflow; batches and a bias."""
    a, b = map(torch.from_numpy, hard(np.random.default_rng(7), str(arithmetic.accumulate), depth=18))
    check(a, b, arithmetic, bias=numbers(5))
    check(numbers(2, 3, 9), numbers(2, 9, 5, seed=1), arithmetic)


FUSED = [Arithmetic("e5m2", rounding=mode, multiply="e4m3fn", chunk=4) for mode in Rounding]
BITS = [
    Arithmetic("e4m3fn", rounding=mode, random_bits=bits)
    for mode in ("stochastic", "stochastic_midpoint", "stochastic_nearest")
    for bits in (1, 9, 31)
]
MORE = [
    Arithmetic("binary32", rounding="down"),
    Arithmetic("binary32", rounding="stochastic_nearest", order="pairwise", chunk=5),
    Arithmetic("e8m23ieee", rounding="stochastic_midpoint", random_bits=31, order="pairwise"),
    Arithmetic("e5m20ieee", rounding="stochastic", compensation="kahan", chunk=7),
    Arithmetic("e4m3fn<nosubnormals>"),
    Arithmetic("e5m2<saturate_all>", rounding="away"),
    Arithmetic("binary8p3se", rounding="nearest_away"),
    Arithmetic("e3m0ieee"),
    Arithmetic(
        "e6m9ieee", multiply="fixed12f4<wrap>", multiply_rounding="stochastic_midpoint", random_bits=9
    ),
    Arithmetic("fixed24f12", rounding="stochastic"),
    Arithmetic("tf32", order="pairwise", multiply="binary32", chunk=7, chunk_accumulate="fixed24f10"),
    Arithmetic("bfloat16", rounding="stochastic", compensation="kahan"),
]


@pytest.mark.parametrize("arithmetic", FUSED + BITS + MORE, ids=lambda a: a.describe())
def test_every_mode_is_as_defined(arithmetic: Arithmetic) -> None:
    a, b = map(torch.from_numpy, hard(np.random.default_rng(3), str(arithmetic.accumulate), 4, 3, 14))
    check_defined(a, b, arithmetic, bias=numbers(3))


@pytest.mark.parametrize(
    "sizes",
    [(1, 1, 1), (2, 3, 0), (0, 3, 4), (3, 0, 4), (1, 4, 31), (2, 5, 32), (3, 6, 33), (1, 11, 65)],
)
@pytest.mark.parametrize("arithmetic", [SUMS[0], SUMS[5], SUMS[8]], ids=lambda a: a.describe())
def test_ragged_sizes(arithmetic: Arithmetic, sizes: tuple[int, int, int]) -> None:
    """One more and one less than a tile, and than what of k lies in shared memory; nothing at all."""
    m, n, depth = sizes
    check(numbers(2, m, depth), numbers(2, depth, n, seed=1), arithmetic, bias=numbers(n) if n else None)


@pytest.mark.parametrize(("m", "n"), [(7, 31), (8, 32), (9, 33), (17, 9)])
def test_tiles_that_suit_the_work(m: int, n: int) -> None:
    check(numbers(1, m, 2), numbers(1, 2, n, seed=1), SUMS[8], grid=None)


@pytest.mark.parametrize("grid", [(1, (1, 1)), (2, (32, 1)), (7, (1, 8)), (5, (3, 3))])
@pytest.mark.parametrize("arithmetic", [SUMS[2], SUMS[8]], ids=lambda a: a.describe())
def test_no_result_depends_on_the_grid(arithmetic: Arithmetic, grid) -> None:
    check(numbers(2, 5, 40), numbers(2, 40, 7, seed=1), arithmetic, grid=grid)


STRIDED = {
    "transposed": lambda x: x.mT.contiguous().mT,
    "every other": lambda x: x.repeat_interleave(2, 2)[:, :, ::2],
    "one matrix": lambda x: x[:1].expand(2, -1, -1),
    "one row": lambda x: x[:, :1].expand(-1, x.shape[1], -1),
    "batch inside": lambda x: x.permute(1, 2, 0).contiguous().permute(2, 0, 1),
}


@pytest.mark.parametrize("name", STRIDED)
def test_strides(name: str) -> None:
    a, b = STRIDED[name](numbers(2, 4, 11)), STRIDED[name](numbers(2, 11, 6, seed=1))
    check(a, b, SUMS[8], bias=numbers(12)[::2])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_other_carriers(dtype: torch.dtype) -> None:
    """Subnormals, infinities and NaN among the numbers."""
    a, b = numbers(2, 4, 11, dtype=dtype), numbers(2, 11, 3, dtype=dtype, seed=1)
    smallest = torch.finfo(dtype).smallest_normal / 4
    a[0, 0, :4] = torch.tensor([smallest, -smallest, torch.inf, -0.0])
    a[1, 1, 3] = torch.nan
    check(a, b, SUMS[0], bias=b[0, 0])


def test_what_is_no_number() -> None:
    inf, nan = torch.inf, torch.nan
    a = torch.tensor([[[inf, 1, -inf], [inf, 1, 1], [0, 2, nan], [0, 1, 1], [-inf, -1, 0], [-0.0, 0, -0.0]]])
    b = torch.tensor([[[1, inf, -1], [2, 3, 0], [1, 1, 1.0]]])
    for name in ("bfloat16", "e4m3fn", "e5m2<saturate_all>"):
        for options in ({}, {"compensation": "kahan"}, {"order": "pairwise"}, {"chunk": 2}):
            check_defined(a, b, Arithmetic(name, **options), bias=torch.tensor([-0.0, inf, 1]))
    check_defined(a, b, Arithmetic("binary32", rounding="down"))


@pytest.mark.parametrize("step", [1, 4, 5, 100])
def test_a_bias_counts_on_from_the_beginning(step: int) -> None:
    check(numbers(2, 3, 4), numbers(2, 4, 5, seed=1), SUMS[8], bias=numbers(3), bias_step=step)


@pytest.mark.parametrize(("seed", "stream"), [(-1, 3), (2**63 - 1, -8), (-(2**63), 2**40)])
def test_seeds_and_streams_count_in_full(seed: int, stream: int) -> None:
    check(numbers(2, 3, 9), numbers(2, 9, 5, seed=1), SUMS[8], seed=seed, stream=stream, bias=numbers(5))


KNOWN = [
    Arithmetic("e4m3fn"),
    Arithmetic("e6m9ieee"),
    Arithmetic("binary16", order="pairwise"),
    Arithmetic("e5m2", rounding="stochastic", random_bits=8),
    Arithmetic("bfloat16", compensation="kahan"),
    Arithmetic("fixed12f6<wrap>", rounding="toward_zero"),
    Arithmetic("fixed32f20<wrap>", rounding="stochastic"),
]


@pytest.mark.parametrize(
    ("arithmetic", "dtype"),
    [
        (arithmetic, dtype)
        for arithmetic in KNOWN
        for dtype in (torch.float32, torch.bfloat16, torch.float64)
        if not arithmetic.final.missing_in(SPACES[CARRIERS[dtype]])
    ],
    ids=lambda x: x.describe() if isinstance(x, Arithmetic) else str(x),
)
def test_known_formats_choose_the_type_and_change_no_bit(arithmetic: Arithmetic, dtype: torch.dtype) -> None:
    formats = "e4m3fn", "e5m2"
    a = grid_of(formats[0], 1, 3, 14, dtype=dtype)
    b = grid_of(formats[1], 1, 14, 4, dtype=dtype, seed=1)
    a[0, 0, 3] = torch.nan
    check_defined(a, b, arithmetic, formats=formats)


def test_the_type_follows_from_what_is_known() -> None:
    from lowprec.kernels.cuda.multiply import measure_of
    from lowprec.kernels.paths import path_of

    def carrier(accumulate: str, own: str, *formats: str) -> str:
        measure = measure_of(own, formats)
        return path_of(Arithmetic(accumulate), measure, measure).carrier

    assert carrier("e6m9ieee", "float32") == carrier("e6m9ieee", "bfloat16") == "float64"
    assert carrier("e6m9ieee", "float32", "e4m3fn") == carrier("e6m9ieee", "float64", "e4m3fn") == "float32"
    assert carrier("e6m9ieee", "float32", "e4m3fn", "binary32") == "float64"
    assert carrier("binary16", "float16") == "float32"
    for format in ("posit8", "fixedf4<unbounded>", "mxfp4"):
        assert measure_of("float16", ("e4m3fn", format)) == measure_of("float16")
    assert measure_of("float64", (str(format_of("bfloat16")),)) == measure_of("bfloat16")


@pytest.mark.parametrize(
    ("arithmetic", "dtype", "match"),
    [
        (Arithmetic("e4m3fn"), torch.float64, "`input` must have exact products in float64 whatever"),
        (
            Arithmetic("fixed12f6<wrap>", order="pairwise"),
            torch.float32,
            "`order` must be 'sequential' where",
        ),
        (Arithmetic("exact"), torch.float64, "`input` must have exact products in float64 whatever"),
    ],
    ids=str,
)
def test_what_has_no_kernel_is_refused(arithmetic: Arithmetic, dtype: torch.dtype, match: str) -> None:
    x = torch.ones(1, 2, 2, dtype=dtype)
    with pytest.raises(ValueError, match=match):
        twin(x, x, arithmetic)


EXACT = [
    Arithmetic("exact"),
    Arithmetic("exact", rounding="down"),
    Arithmetic("exact", rounding="stochastic", multiply="e5m2"),
    Arithmetic("exact", chunk=4, chunk_accumulate="e6m9ieee", rounding="stochastic_nearest", random_bits=9),
    Arithmetic("exact", chunk=3, chunk_accumulate="fixed16f4"),
]


@pytest.mark.parametrize("arithmetic", EXACT, ids=lambda a: a.describe())
def test_exact_sums(arithmetic: Arithmetic) -> None:
    """Terms that cancel and others far below, what is no number, zeros, nothing; and a bias."""
    a, b = map(torch.from_numpy, hard(np.random.default_rng(7), "binary32", 4, 3, 14))
    for bias in (None, numbers(3)):
        check_exact(a, b, arithmetic, bias=bias)
        check_exact(
            numbers(2, 3, 9), numbers(2, 9, 5, seed=1).mT.contiguous().mT, arithmetic, bias=bias, bias_step=2
        )
    a[0, 0, 0], a[0, 1, 1], a[0, 2] = torch.inf, torch.nan, 0
    a[0, 3] *= -0.0
    check_exact(a, b, arithmetic)
    check_exact(torch.zeros(1, 2, 0), torch.zeros(1, 0, 3), arithmetic, bias=numbers(3), grid=None)
    check_exact(numbers(1, 3, 5).half(), numbers(1, 5, 2).half() * 1e-4, EXACT[0])


def check_exact(a, b, arithmetic: Arithmetic, **options) -> None:
    """Blocks of fifteen threads."""
    check(a, b, arithmetic, **{"grid": (2, (15, 1)), **options})


WRAPPED = [
    Arithmetic("fixed12f6<wrap>", rounding="toward_zero"),
    Arithmetic("fixed12f6<wrap>", rounding="nearest_away", compensation="kahan"),
    Arithmetic("ufixed8f2<wrap>", rounding="up", chunk=3),
    Arithmetic("fixed24f30<wrap>", rounding="to_odd", multiply="bfloat16"),
    Arithmetic("fixed20f-3<wrap>", rounding="stochastic"),
    Arithmetic("fixed8f4<wrap>", multiply="fixed16f2<wrap>", multiply_rounding="down"),
]


@pytest.mark.parametrize("arithmetic", WRAPPED, ids=lambda a: a.describe())
def test_wrapped_sums_of_any_operands(arithmetic: Arithmetic) -> None:
    """Terms a few bits from the step, and far above and below; and a bias of any size."""
    powers = torch.randint(-40, 40, (2, 10), generator=torch.Generator().manual_seed(3)).float().exp2()
    a, b = numbers(1, 4, 10) * powers[0], numbers(1, 10, 4, seed=1) * powers[1, :, None]
    large = torch.tensor([2.0**100 + 2.0**77, -(2.0**17) - 1, 0.3, 2.0**-99])
    check_defined(a, b, arithmetic, bias=None if arithmetic.is_stochastic else large)
    check_defined(numbers(1, 4, 10), numbers(1, 10, 4, seed=1), arithmetic)
    # Products of 48 bits whose last one is a step or a little more: of those all that counts is what is left.
    last = 2.0 ** (49 - arithmetic.sum_format.fraction_bits)
    check_defined(numbers(1, 3, 6) * last, numbers(1, 6, 3, seed=1), arithmetic)
    check_defined(torch.full((1, 1, 1), torch.inf), b[:, :1], arithmetic)
    if arithmetic.final.bits <= 12:
        check_defined((numbers(1, 4, 10) * 100).half(), (b[:, :, :2] * 2).half(), arithmetic)


def test_a_bias_with_more_bits_than_are_looked_at_is_refused() -> None:
    x = torch.ones(1, 2, 2)
    with pytest.raises(ValueError, match="`bias` must have sums in fixed12f6<wrap>"):
        twin(x, x, Arithmetic("fixed12f6<wrap>", rounding="stochastic"), bias=x[0, 0])


def test_the_operator() -> None:
    """What it does on a CUDA tensor, here with what lies on the CPU."""
    from lowprec.ops.cuda.products import product

    a, b, bias, seed = numbers(2, 3, 9), numbers(2, 9, 5, seed=1), numbers(5), torch.tensor([11])
    arithmetic = SUMS[8]
    with NeverWaits():
        got = product(a, b, bias, seed, arithmetic, 3, 2, None)
    assert same_bits(got, of_cpu(a, b, arithmetic, bias=bias, bias_step=2, seed=11, stream=3))
    a, b = grid_of("e4m3fn", 1, 3, 9), grid_of("e4m3fn", 1, 9, 5)
    assert same_bits(product(a, b, None, None, SUMS[0], 0, 1, ["e4m3fn"]), of_cpu(a, b, SUMS[0]))


def test_layers_tell_kernels_what_their_operands_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Formats of casts reach all three products, errors' as a loss scale moves them; and no bit differs."""
    from lowprec.ops.cuda.products import product

    known = []

    def on_device(a, b, bias, seed, sums, stream, bias_step=1, roles="", blocks=None):
        known.append((roles, *sums.formats))
        words = seed if sums.is_stochastic else None
        return product(a, b, bias, words, arithmetic_of(sums.key), stream, bias_step, list(sums.formats))

    scheme = Scheme(
        input="e4m3fn", weight="e5m2", error="e4m3fn", loss_scale=8.0, arithmetic=SUMS[0],
        grad_weight=Operands(input="fixed8f4"),
    )  # fmt: skip
    x, weight, bias = numbers(4, 7), numbers(3, 7, seed=1), numbers(3)
    image, kernel = numbers(1, 2, 4, 4), numbers(2, 2, 3, 3, seed=1)
    found = []
    for patched in (False, True):
        if patched:
            monkeypatch.setattr(bilinear, "product", on_device)
        for call, operands in (
            (functional.linear, (x, weight, bias)),
            (functional.conv2d, (image, kernel, bias[:2])),
        ):
            leaves = [operand.clone().requires_grad_() for operand in operands]
            y = call(*leaves, scheme=scheme)
            y.sum().backward()
            found.append([y, *(leaf.grad for leaf in leaves)])
    for own, want in zip(found[2:], found[:2], strict=True):
        assert all(same_bits(a.detach(), b.detach()) for a, b in zip(own, want, strict=True))
    moved = "e4m3fn<bias10>"
    assert known[:3] == [
        ("input weight", "e4m3fn", "e5m2"),
        ("error weight", moved, "e5m2"),
        ("error input", moved, "fixed8f4"),
    ]
    assert [formats for _, *formats in known[3:]] == [formats for _, *formats in known[:3]]


TWINS = {
    "multiplying": lambda _: check(numbers(1, 3, 9), numbers(1, 9, 5, seed=1), SUMS[0]),
    "quire.summing": lambda _: check_exact(numbers(1, 3, 9), numbers(1, 9, 5, seed=1), EXACT[0]),
}
"""A case of each function of products.py and quire.py that makes kernels."""
