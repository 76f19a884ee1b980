"""Calls of the kernels over matrix products."""

from functools import lru_cache
from typing import NamedTuple

from lowprec.arithmetic import Arithmetic, digits, format_of
from lowprec.errors import value_error
from lowprec.formats import FixedPoint, FloatingPoint, resolve
from lowprec.kernels import exact_sums
from lowprec.kernels.cuda import products, quire
from lowprec.kernels.cuda.products import COLUMNS, ROWS
from lowprec.kernels.cuda.twin import THREADS, Queue
from lowprec.kernels.cuda.wrapping import NEVER, Fold, fold_of, small_factors
from lowprec.kernels.layout import Integers
from lowprec.kernels.multiply import kind_of, numbers_of_last
from lowprec.kernels.operands import Measure, Operand
from lowprec.kernels.paths import Path, check_bias, in_float64, path_of, products_of, span_of
from lowprec.modes import Overflow

_LIMBS = 8
"""Of as many, or a multiple, kernels are compiled for."""
_REMEDY = "Use x.cpu(): the CPU looks at the numbers themselves."


@lru_cache(maxsize=256)
def measure_of(carrier: str, formats: tuple[str, ...] = ()) -> Measure:
    """What the numbers of a carrier have in common, all known to be values of one of some formats.

    NaN and infinities may be among them. What lists its values, or has groups, may be all of the carrier.
    """
    own = [resolve(format) for format in formats]
    known = [format for format in own if isinstance(format, FloatingPoint | FixedPoint)]
    if len(known) < len(own) or not known or any(f.overflow is Overflow.UNBOUNDED for f in known):
        known = [format_of(carrier)]
    spans = [span_of(format) for format in known]
    low, end = min(low for low, _ in spans), max(end for _, end in spans)
    return Measure(end - 1, low, max(map(digits, known)), is_finite=False, has_nan=True)


def multiplies_exactly(left: str, right: str, formats: tuple[str, ...] = ()) -> bool:
    """Whether binary64 holds all products of two carriers' numbers."""
    return in_float64(measure_of(left, formats), measure_of(right, formats))


def _check(a: Measure, b: Measure) -> None:
    """Refuse operands whose products binary64 may not hold."""
    if not in_float64(a, b):
        raise value_error(
            "input", "have exact products in float64 whatever its numbers on a CUDA device",
            f"factors of up to {a.digits} and {b.digits} significant bits", _REMEDY,
        )  # fmt: skip


@lru_cache(maxsize=256)
def _path(arithmetic: Arithmetic, a: Measure, b: Measure, depth: int) -> tuple[Path, Fold]:
    """The quickest way that is exact for all such numbers, and what becomes of terms of wrapped sums."""
    _check(a, b)
    try:
        return path_of(arithmetic, a, b, depth), NEVER
    except ValueError as error:  # sums that wrap, of terms that are too large
        if arithmetic.order != "pairwise":
            left, right, fold = small_factors(arithmetic, a, b)
            return path_of(arithmetic, left, right, depth), fold
        raise value_error(
            "order", "be 'sequential' where sums of any operands wrap on a CUDA device", "pairwise", _REMEDY
        ) from error


def _fold_of_bias(arithmetic: Arithmetic, bias: Operand | None, formats: tuple[str, ...]) -> Fold:
    """What becomes of a bias; refused where its sums have too many bits."""
    if bias is None:
        return NEVER
    measure = measure_of(bias.carrier, formats)
    fold = fold_of(arithmetic.final, measure.digits)
    check_bias(arithmetic, measure._replace(top=min(measure.top, fold.first - 1)))
    return fold


class Scales(NamedTuple):
    """What multiplies sums of blocks: addresses of scales in binary64, laid out as the CPU's."""

    size: int
    left: int
    right: int
    tensor_of_left: int
    tensor_of_right: int


def multiply(
    queue: Queue, a: Operand, b: Operand, out: int, carrier: str, arithmetic: Arithmetic, *,
    bias: Operand | None = None, bias_step: int = 1, noise: Integers = (0, 0),
    formats: tuple[str, ...] = (), summands: tuple[str, ...] = (), scales: Scales | None = None,
) -> None:  # fmt: skip
    """Write the products of two batches of matrices, row-major, in the carrier.

    The arguments are those of the CPU's function. ``noise`` is the address of the seed, and the stream;
    each operand is known to hold values of one of ``formats``, if there are any, and a bias of one of
    ``summands``. Where chunks are blocks, operands are elements over ``scales``.
    """
    batches, m, depth = a.shape
    n = b.shape[2]
    if batches * m * n == 0:
        return
    left, right = measure_of(a.carrier, formats), measure_of(b.carrier, formats)
    if arithmetic.is_exact:
        summand = None if bias is None else (bias, measure_of(bias.carrier, summands))
        _exactly(queue, (a, left), (b, right), out, carrier, arithmetic, summand, bias_step, noise)
        return
    path, fold = _path(arithmetic, left, right, depth)
    kind, numbers = kind_of(arithmetic, path, carrier)
    step, product, *_ = (tuple(memory) for memory in numbers)
    last, added, of_bias = (
        numbers_of_last(arithmetic),
        (0, 1, 1, 0),
        _fold_of_bias(arithmetic, bias, summands),
    )
    if bias is not None:
        added = bias.address, bias_step, bias.shape[2], bias.strides[2]
    twin = products.multiplying(
        kind, last.family, a.carrier, b.carrier, None if bias is None else bias.carrier,
        folds_terms=fold is not NEVER, folds_bias=of_bias is not NEVER,
    )  # fmt: skip
    chunk = arithmetic.chunk if isinstance(arithmetic.chunk, int) else max(depth, 1)
    chunk, *of_blocks = (chunk, 0, 0, 0, 0) if scales is None else scales
    blocks = batches * -(-m // ROWS) * -(-n // COLUMNS)
    twin.launch(
        queue, blocks, (COLUMNS, ROWS), (a.address, *a.strides), (b.address, *b.strides), out, added,
        tuple(of_blocks), (batches, m, n, depth, chunk), (*fold, *of_bias), step, product,
        tuple(last.memory), *noise,
    )  # fmt: skip


def _exactly(
    queue: Queue, a: tuple[Operand, Measure], b: tuple[Operand, Measure], out: int, carrier: str,
    arithmetic: Arithmetic, bias: tuple[Operand, Measure] | None, bias_step: int, noise: Integers,
) -> None:  # fmt: skip
    """The same where sums are exact."""
    (left, of_left), (right, of_right) = a, b
    _check(of_left, of_right)
    batches, m, depth = left.shape
    n, chunked = right.shape[2], arithmetic.chunk is not None
    kind, *numbers = exact_sums.kind_of(arithmetic, carrier)
    last = numbers_of_last(arithmetic) if chunked else None
    spans = [span_of(f) for f in (arithmetic.multiply, arithmetic.chunk_accumulate) if f is not None]
    if arithmetic.multiply is None:
        terms = products_of(of_left, of_right)
        spans.append((terms.low, terms.top + 1))
    added = 0, 1, 1, 0
    if bias is not None:
        summand, measure = bias
        added = summand.address, bias_step, summand.shape[2], summand.strides[2]
        if chunked:
            check_bias(arithmetic, measure)
        else:
            spans.append((measure.low, measure.top + 1))
    base = min(low for low, _ in spans)
    limbs = (max(end for _, end in spans) + depth.bit_length() - base) // 32 + 4
    twin = quire.summing(
        kind, kind.step if last is None else last.family, left.carrier, right.carrier,
        None if bias is None else bias[0].carrier, -(-limbs // _LIMBS) * _LIMBS,
    )  # fmt: skip
    chunk = arithmetic.chunk if isinstance(arithmetic.chunk, int) else max(depth, 1)
    of_last = numbers[0] if last is None else last.memory
    twin.launch(
        queue, -(-batches * m * n // THREADS), (THREADS, 1), (left.address, *left.strides),
        (right.address, *right.strides), out, added, base, (batches, m, n, depth, chunk),
        *(tuple(memory) for memory in (*numbers, of_last)), *noise,
    )  # fmt: skip
