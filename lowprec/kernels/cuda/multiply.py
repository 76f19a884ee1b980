"""Calls of the kernels over matrix products."""

from functools import lru_cache

from lowprec.arithmetic import Arithmetic, digits, format_of
from lowprec.errors import value_error
from lowprec.formats import FixedPoint, FloatingPoint, resolve
from lowprec.kernels.cuda import products
from lowprec.kernels.cuda.products import COLUMNS, ROWS
from lowprec.kernels.cuda.twin import Queue
from lowprec.kernels.layout import Integers
from lowprec.kernels.multiply import kind_of, numbers_of_last
from lowprec.kernels.operands import Measure, Operand
from lowprec.kernels.paths import Path, check_bias, in_float64, path_of, span_of
from lowprec.modes import Overflow

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


@lru_cache(maxsize=256)
def _path(arithmetic: Arithmetic, a: Measure, b: Measure, depth: int) -> Path:
    """The quickest way that is exact for all such numbers."""
    if not in_float64(a, b):
        raise value_error(
            "input", "have exact products in float64 whatever its numbers on a CUDA device",
            f"factors of up to {a.digits} and {b.digits} significant bits", _REMEDY,
        )  # fmt: skip
    try:
        return path_of(arithmetic, a, b, depth)
    except ValueError as error:
        raise value_error(
            "accumulate", "hold the sums of all products, or not wrap, on a CUDA device",
            str(arithmetic.sum_format), _REMEDY,
        ) from error  # fmt: skip


def _check(arithmetic: Arithmetic) -> None:
    """Refuse what has no kernel."""
    if arithmetic.is_exact:
        raise value_error("accumulate", "be a format on a CUDA device", "exact", "Use x.cpu().")
    if arithmetic.in_blocks:
        raise value_error("chunk", "be a number on a CUDA device", arithmetic.chunk, "Use x.cpu().")


def multiply(
    queue: Queue, a: Operand, b: Operand, out: int, carrier: str, arithmetic: Arithmetic, *,
    bias: Operand | None = None, bias_step: int = 1, noise: Integers = (0, 0),
    formats: tuple[str, ...] = (),
) -> None:  # fmt: skip
    """Write the products of two batches of matrices, row-major, in the carrier.

    The arguments are those of the CPU's function. ``noise`` is the address of the seed, and the stream;
    each operand is known to hold values of one of ``formats``, if there are any.
    """
    _check(arithmetic)
    batches, m, depth = a.shape
    n = b.shape[2]
    if batches * m * n == 0:
        return
    left, right = measure_of(a.carrier, formats), measure_of(b.carrier, formats)
    kind, numbers = kind_of(arithmetic, _path(arithmetic, left, right, depth), carrier)
    step, product, *_ = (tuple(memory) for memory in numbers)
    last, added = numbers_of_last(arithmetic), (0, 1, 1, 0)
    if bias is not None:
        check_bias(arithmetic, measure_of(bias.carrier))
        added = bias.address, bias_step, bias.shape[2], bias.strides[2]
    twin = products.multiplying(
        kind, None if bias is None else last.family, a.carrier, b.carrier,
        None if bias is None else bias.carrier,
    )  # fmt: skip
    chunk = arithmetic.chunk if isinstance(arithmetic.chunk, int) else max(depth, 1)
    blocks = batches * -(-m // ROWS) * -(-n // COLUMNS)
    twin.launch(
        queue, blocks, (COLUMNS, ROWS), (a.address, *a.strides), (b.address, *b.strides), out, added,
        (batches, m, n, depth, chunk), step, product, tuple(last.memory), *noise,
    )  # fmt: skip
