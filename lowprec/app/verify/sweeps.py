"""All 2^32 float32 numbers: by a full oracle, or by a complete proof that needs one pass.

The proof. Take the numbers of one sign in the order of their magnitudes, that is, of their patterns, and
let D be the definition in one mode (and for one random word), K the kernel, both giving patterns.

1. D is monotone: the patterns of its results never fall as magnitudes grow. Each mode chooses between two
   adjacent values of the format by a comparison that only turns from the lower to the upper as a magnitude
   grows, and overflow comes after all values.
2. K is monotone on numbers, and gives NaN for every NaN: checked, on all of them, by one pass.
3. On a list of points that holds both ends, K = D: checked against ``lowprec.reference``.
4. Two successive points are adjacent numbers, or D gives the same for both: checked. (So nothing depends
   on how the points were found: a threshold left out would show here.)

A number that is no point lies between two successive points p < q with D(p) = D(q). Monotone as they are,
D gives that result on all that lies between, and so does K, because K(p) = D(p) = D(q) = K(q). Hence
K = D everywhere. A format that wraps, or that turns what overflows into NaN, is not monotone and is left
out, and so are formats with more values than there is time for.
"""

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from lowprec.app.verify import kernel
from lowprec.app.verify.claim import CLAIMS, Part, Tick
from lowprec.app.verify.comparison import KEPT, Asked, Outcome
from lowprec.app.verify.grids import by_reference
from lowprec.app.verify.inputs import both_sides, holders, thresholds
from lowprec.app.verify.peers import TORCH, clamped
from lowprec.app.verify.setting import Setting, settings
from lowprec.errors import value_error
from lowprec.formats import FixedPoint, FloatingPoint, Format
from lowprec.modes import Overflow, Rounding

Bits = npt.NDArray[np.uint32]
Look = Callable[[int, Bits, Bits], None]
"""Given the number of a chunk, its patterns and their results; called on several threads."""

CHUNK = 1 << 20
ALL_CHUNKS = range((1 << 32) // CHUNK)

SWEPT = ("e4m3fn", "e5m2", "binary16", "bfloat16", "fixed8f6")
"""The formats that are verified on all numbers unless others are asked for."""

LARGEST_PROVEN = 1 << 16
"""Formats of more magnitudes than this are refused."""

_INFINITY, _SIGN = 0x7F800000, 0x80000000
_NEAREST_EVEN = Setting(Rounding.NEAREST_EVEN)


def sweep_parts(format: Format) -> Iterator[Part]:
    """One pass over all numbers for every mode of a format.

    Args:
        format: A format of which ``check_provable`` approves.

    Yields:
        A part for each pass.

    Example:
        >>> from lowprec.formats import parse
        >>> parts = list(sweep_parts(parse("fixed8f6")))
        >>> parts[0].claim.name, parts[1].key
        ('all', 'proof fixed8f6 nearest_away')
    """
    for setting in settings():
        if setting == _NEAREST_EVEN and str(format) in {*TORCH, "fixed8f6"}:
            yield Part(CLAIMS["all"], str(format), 1, 15.0, partial(sweep_by_oracle, format))
        else:
            work = partial(sweep_by_proof, format, setting)
            yield Part(CLAIMS["proof"], str(format), 1, 3.0, work, str(setting))


def check_provable(format: Format) -> None:
    """Refuse a format whose results are not monotone, or too many.

    Args:
        format: Any format.

    Raises:
        ValueError: If the proof does not hold for it, or takes too long.

    Example:
        >>> from lowprec.formats import parse
        >>> check_provable(parse("e2m1"))
    """
    remedy = "Leave it out, or verify without --exhaustive."
    if not isinstance(format, FloatingPoint | FixedPoint) or torch.float32 not in holders(format):
        raise value_error("format", "round single float32 numbers for --exhaustive", str(format), remedy)
    if format.overflow in (Overflow.WRAP, Overflow.UNBOUNDED) or (
        format.overflow is Overflow.INFINITY and not format.has_infinity
    ):
        raise value_error("format", "keep the order of numbers for --exhaustive", str(format), remedy)
    if 2 ** (format.bits - 1) > LARGEST_PROVEN:
        raise value_error("format", "have at most 17 bits for --exhaustive", str(format), remedy)


def sweep_by_oracle(format: Format, tick: Tick, chunks: Sequence[int] = ALL_CHUNKS) -> Outcome:
    """Hold nearest_even on all numbers against a cast of torch, or numpy's rint.

    Args:
        format: One that torch casts to, or fixed8f6.
        tick: Told how much is done.
        chunks: Which parts of the domain, ascending.

    Returns:
        What was found.

    Example:
        >>> from lowprec.formats import parse
        >>> outcome = sweep_by_oracle(parse("bfloat16"), lambda part: None, chunks=[0])
        >>> outcome.results == CHUNK, outcome.wrong
        (True, 0)
    """
    oracle = _by_rint if isinstance(format, FixedPoint) else partial(_by_torch, format)
    asked, outcome, lock = Asked(format, _NEAREST_EVEN), Outcome(), threading.Lock()

    def look(number: int, x: Bits, out: Bits) -> None:
        """Compare a chunk, bit by bit but for NaN."""
        wanted = oracle(x)
        at = np.flatnonzero(out != wanted)
        at = at[~(_is_nan(out[at]) & _is_nan(wanted[at]))]
        if at.size:
            with lock:
                outcome.results -= at.size
                _add(outcome, x[at], out[at], wanted[at].view(np.float32).astype(np.float64), asked)

    _sweep(format, _NEAREST_EVEN, look, tick, chunks)
    outcome.inputs = len(chunks) * CHUNK
    outcome.results += len(chunks) * CHUNK
    return outcome


def _by_torch(format: Format, x: Bits) -> Bits:
    """The patterns that a cast and back gives."""
    numbers = torch.from_numpy(x.view(np.float32))
    return clamped(numbers, format).to(TORCH[str(format)]).float().numpy().view(np.uint32)


def _by_rint(x: Bits) -> Bits:
    """The patterns of fixed8f6, rounded in float64."""
    with np.errstate(invalid="ignore"):  # signaling NaN
        steps = np.rint(x.view(np.float32).astype(np.float64) * 64)
        return ((np.clip(steps, -128, 127) + 0.0) / 64).astype(np.float32).view(np.uint32)


class _Points(NamedTuple):
    """Where kernel and reference are compared in a pass, and what the reference says."""

    patterns: Bits
    """Ascending; NaN left out."""
    cuts: npt.NDArray[np.int64]
    """Where the points of each chunk begin."""
    wanted: npt.NDArray[np.float64]


def sweep_by_proof(
    format: Format, setting: Setting, tick: Tick, chunks: Sequence[int] = ALL_CHUNKS
) -> Outcome:
    """Prove one mode on all numbers; the proof is this module's.

    Args:
        format: One of which ``check_provable`` approves.
        setting: The mode; if stochastic, with the word of every element.
        tick: Told how much is done.
        chunks: Which parts of the domain, ascending.

    Returns:
        What was found.

    Raises:
        ValueError: If ``check_provable`` does not approve of the format.
        RuntimeError: If the points do not divide the domain as the proof needs.

    Example:
        >>> from lowprec.formats import parse
        >>> ends_of_range = [0, len(ALL_CHUNKS) - 1]
        >>> sweep_by_proof(parse("e2m1"), Setting(Rounding.UP), lambda part: None, ends_of_range).wrong
        0
    """
    check_provable(format)
    points, asked = _points(format, setting), Asked(format, setting)
    outcome, lock = Outcome(), threading.Lock()
    ends: dict[int, Bits] = {}  # the first and the last result of each chunk
    suspects: list[tuple[Bits, Bits]] = []  # pairs of inputs and results in the wrong order

    def look(number: int, x: Bits, out: Bits) -> None:
        """Check the order of a chunk's results, its NaN, and its points."""
        start = number * CHUNK
        count = min(max(_INFINITY + 1 - start % _SIGN, 0), CHUNK)  # numbers; NaN follow
        results, not_nan = out[:count], count + np.flatnonzero(~_is_nan(out[count:]))
        falls = np.flatnonzero(results[1:] < results[:-1])
        low, high = points.cuts[number : number + 2]
        here = points.patterns[low:high] - np.uint32(start)
        with lock:
            if count:
                ends[number] = out[[0, count - 1]]
            suspects.extend((x[at : at + 2].copy(), out[at : at + 2].copy()) for at in falls[:KEPT])
            _add(outcome, x[here], out[here], points.wanted[low:high], asked)
            _add(outcome, x[not_nan], out[not_nan], np.full(not_nan.size, np.nan), asked)

    _sweep(format, setting, look, tick, chunks)
    for number in ends:
        start = np.uint32(number * CHUNK)
        if number - 1 in ends and start % _SIGN and ends[number][0] < ends[number - 1][1]:
            pair = np.array([start - 1, start], np.uint32)
            suspects.append((pair, np.array([ends[number - 1][1], ends[number][0]], np.uint32)))
    if suspects:  # of two results in the wrong order the reference tells which one is wrong
        x, out = (np.concatenate(parts) for parts in zip(*suspects, strict=True))
        wanted = by_reference(torch.from_numpy(x.view(np.float32)), format, setting)
        _add(outcome, x, out, wanted, asked)
    outcome.inputs = len(chunks) * CHUNK
    return outcome


def _points(format: Format, setting: Setting) -> _Points:
    """Both sides of every threshold; that nothing changes between them is checked."""
    x = both_sides(thresholds(format, setting), torch.float32)
    x = x[~x.isnan()]
    patterns = x.view(torch.int32).numpy().view(np.uint32)
    wanted = by_reference(x, format, setting)
    results = wanted.astype(np.float32).view(np.uint32)
    apart = np.diff(patterns.astype(np.int64)) > 1
    apart &= (patterns[1:] ^ patterns[:-1]) < _SIGN  # the two signs are two domains
    if (apart & (results[1:] != results[:-1])).any():
        message = f"`thresholds` must list all of {format}, {setting}. Report it: lowprec is wrong."
        raise RuntimeError(message)
    cuts = np.searchsorted(patterns.astype(np.int64), np.arange(len(ALL_CHUNKS) + 1) * CHUNK)
    return _Points(patterns, cuts, wanted)


def _add(outcome: Outcome, x: Bits, out: Bits, wanted: npt.NDArray[np.float64], asked: Asked) -> None:
    """Compare results that are patterns."""
    numbers, results = (torch.from_numpy(bits.view(np.float32)) for bits in (x, out))
    outcome.add(numbers, results, wanted, of=asked)


def _is_nan(patterns: Bits) -> npt.NDArray[np.bool_]:
    """Which patterns are NaN."""
    return (patterns & np.uint32(~_SIGN & 0xFFFFFFFF)) > _INFINITY


def _sweep(format: Format, setting: Setting, look: Look, tick: Tick, chunks: Sequence[int]) -> None:
    """Quantize chunks of the domain on as many threads as torch has, each chunk by one."""
    order, stopped = itertools.count(), threading.Event()
    finished: list[int] = []

    def work() -> None:
        """Take the next chunk until none is left."""
        steps = np.arange(CHUNK, dtype=np.uint32)
        x, out = np.empty_like(steps), np.empty_like(steps)
        while not stopped.is_set() and (at := next(order)) < len(chunks):
            np.add(steps, np.uint32(chunks[at] * CHUNK), out=x)
            kernel.quantize_bits(x, out, format, setting)
            look(chunks[at], x, out)
            finished.append(at)

    workers = torch.get_num_threads()
    with kernel.threads(1), ThreadPoolExecutor(workers) as pool:
        futures = [pool.submit(work) for _ in range(workers)]
        try:
            pending = {*futures}
            while pending and not any(future.exception() for future in {*futures} - pending):
                tick(len(finished) / len(chunks))
                pending = wait(futures, timeout=0.2, return_when=FIRST_EXCEPTION).not_done
        finally:
            stopped.set()
    for future in futures:
        future.result()
