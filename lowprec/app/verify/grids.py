"""Parts that take seconds: hard inputs and 16-bit patterns in every mode and carrier."""

from collections.abc import Callable, Iterator
from functools import lru_cache, partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lowprec import reference
from lowprec.app.verify import kernel, oracle
from lowprec.app.verify.claim import CLAIMS, Part, Tick
from lowprec.app.verify.comparison import Asked, Outcome
from lowprec.app.verify.inputs import FEW_CODES, hard_inputs, holders, patterns, shuffled
from lowprec.app.verify.lists import LARGEST_POSIT
from lowprec.app.verify.setting import Setting, seeded_settings, settings
from lowprec.formats import (
    FixedPoint,
    FloatingPoint,
    Format,
    GroupedFormat,
    Logarithmic,
    Posit,
    Scaled,
    TabledFormat,
)
from lowprec.formats.carriers import CARRIERS
from lowprec.modes import Overflow, ScaleRule

SEEDS = (0, 0x9E3779B97F4A7C15)

_NARROW = (torch.bfloat16, torch.float16)
_BLOCK = (128, 8, 64)  # the shape of 65,536 numbers in groups

Work = Callable[[Format, Tick], Outcome]


def grid_parts(format: Format) -> Iterator[Part]:
    """The quick parts of a format.

    Args:
        format: Any format with a carrier.

    Yields:
        Parts in the order of their claims.

    Example:
        >>> from lowprec.formats import parse
        >>> [part.claim.name for part in grid_parts(parse("e2m1"))]
        ['reference', 'patterns', 'seeds', 'flush', 'threads']
    """
    every, seeded = settings(format), len(SEEDS) * len(seeded_settings(format))
    yield _part("reference", format, len(every), 2.0, against_reference)
    if is_wide(format) and torch.float32 in holders(format):
        yield _part("codes", format, len(every), 5.0, around_every_code)
    if any(sources(format)):
        yield _part("patterns", format, len(every), 0.5, on_patterns)
        if seeded:
            yield _part("seeds", format, seeded, 0.1, with_seeds)
    yield _part("flush", format, len(every), 0.1, without_subnormals)
    yield _part("threads", format, len(every), 0.2, on_threads)


def _part(claim: str, format: Format, count: int, seconds: float, work: Work) -> Part:
    """A part that covers one format."""
    return Part(CLAIMS[claim], str(format), count, seconds, partial(_on_one_thread, work, format))


def _on_one_thread(work: Work, format: Format, tick: Tick) -> Outcome:
    """Do a part without other threads, which small arrays only wait for."""
    with kernel.threads(1):
        return work(format, tick)


def is_wide(format: Format) -> bool:
    """Whether the reference covers only some of its codes, and a table can cover all."""
    if isinstance(format, FloatingPoint):
        return FEW_CODES <= format.largest_code < oracle.LARGEST_TABLE
    if isinstance(format, TabledFormat | Posit):
        return FEW_CODES < 2 ** (format.bits - 1) < 2**LARGEST_POSIT
    return isinstance(format, FixedPoint) and FEW_CODES < 2 ** (format.word_bits or 0) <= oracle.LARGEST_TABLE


def sources(format: Format) -> list[torch.dtype]:
    """The 16-bit types whose numbers an oracle can round to the format."""
    if isinstance(format, Scaled) and format.scale_rule is ScaleRule.MSE:
        return []  # float64 rounds the sums of squares that decide
    if isinstance(format, Posit):
        return list(_NARROW) if format.bits <= LARGEST_POSIT else []
    if not isinstance(format, FloatingPoint) or format.largest_code < oracle.LARGEST_TABLE:
        return list(_NARROW)
    return [source for source in _NARROW if _includes(format, source)]


def _includes(format: FloatingPoint, source: torch.dtype) -> bool:
    """Whether every number of a 16-bit type, infinities too, is a value of the format."""
    narrow = CARRIERS[_name(source)]
    return (
        format.has_infinity
        and format.overflow is not Overflow.SATURATE_ALL
        and format.mantissa_bits + 1 >= narrow.precision
        and format.smallest_subnormal <= 2.0**narrow.lowest_exponent
        and format.max >= torch.finfo(source).max
    )


def _name(carrier: torch.dtype) -> str:
    """The name of a dtype without the package."""
    return str(carrier).removeprefix("torch.")


def by_reference(x: Tensor, format: Format, setting: Setting) -> npt.NDArray[np.float64]:
    """What the reference makes of a tensor.

    Args:
        x: Of any carrier.
        format: The target format.
        setting: The mode; if stochastic, with the word of every element.

    Returns:
        Exact, as float64.

    Example:
        >>> from lowprec.modes import Rounding
        >>> by_reference(torch.tensor([0.3]), FixedPoint(4, 2), Setting(Rounding.UP))
        array([0.5])
    """
    array = (x.float() if x.dtype == torch.bfloat16 else x).numpy()
    words = None if setting.word is None else np.full(array.shape, setting.word, np.uint32)
    wanted = reference.quantize(
        array,
        format,
        rounding=setting.rounding,
        random_bits=setting.random_bits,
        words=words,
        carrier=_name(x.dtype),
    )
    return wanted.astype(np.float64)


def by_table(
    x: Tensor, format: Format, setting: Setting, carrier: torch.dtype,
    words: npt.NDArray[np.uint32] | None = None,
) -> npt.NDArray[np.float64]:  # fmt: skip
    """What the table oracle makes of a tensor in a carrier; a format that includes x leaves it alone."""
    numbers = x.double().numpy()
    if isinstance(format, FloatingPoint) and format.largest_code >= oracle.LARGEST_TABLE:
        return numbers
    return oracle.quantize(
        numbers,
        format,
        setting.rounding,
        random_bits=setting.random_bits or 32,
        words=(setting.word or 0) if words is None else words,
        carrier=_name(carrier),
    )


def against_reference(format: Format, tick: Tick) -> Outcome:
    """Hard inputs in every carrier and mode."""
    return _on_hard_inputs(format, holders(format), tick, by_reference, every_code=False)


def around_every_code(format: Format, tick: Tick) -> Outcome:
    """Hard inputs around every code of a wide format, in the carriers whose numbers the table takes."""
    carriers = [carrier for carrier in holders(format) if carrier != torch.float64]
    return _on_hard_inputs(
        format, carriers, tick, lambda x, f, setting: by_table(x, f, setting, x.dtype), every_code=True
    )


def _on_hard_inputs(
    format: Format, carriers: list[torch.dtype], tick: Tick,
    wanted: Callable[[Tensor, Format, Setting], npt.NDArray[np.float64]], *, every_code: bool,
) -> Outcome:  # fmt: skip
    """Every mode on its own hard inputs."""
    outcome, every = Outcome(), settings(format)
    for number, carrier in enumerate(carriers):
        seen = []
        for done, setting in enumerate(every):
            x = hard_inputs(format, setting, carrier, every_code=every_code)
            got, asked = kernel.quantize(x, format, setting), Asked(format, setting)
            outcome.add(x, got, wanted(x, format, setting), of=asked)
            seen.append(x.reshape(-1))
            tick((number + (done + 1) / len(every)) / len(carriers))
        bits = torch.cat(seen).view(torch.uint8).view(-1, carrier.itemsize)
        outcome.inputs += len(torch.unique(bits.view(_BITS[carrier.itemsize])))
    return outcome


_BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


def on_patterns(format: Format, tick: Tick) -> Outcome:
    """Every number of both 16-bit types, in each carrier that holds it and the format."""
    outcome, every = Outcome(), settings(format)
    arranged = [x for source in sources(format) for x in _arranged(patterns(source), format)]
    for number, x in enumerate(arranged):
        carriers = [c for c in holders(format) if c == x.dtype or c.itemsize > 2]
        outcome.inputs += x.numel() * len(carriers)
        widened = [x.to(carrier) for carrier in carriers]
        for done, setting in enumerate(every):
            wanted = None
            for held in widened:
                # The least step of a block format is the carrier's, and so are logarithmic numbers.
                if wanted is None or isinstance(format, GroupedFormat | Logarithmic):
                    wanted = by_table(x, format, setting, held.dtype)
                outcome.add(held, kernel.quantize(held, format, setting), wanted, of=Asked(format, setting))
            tick((number + (done + 1) / len(every)) / len(arranged))
    return outcome


def _arranged(x: Tensor, format: Format) -> list[Tensor]:
    """The numbers as they are; for a block format in groups of near and of distant exponents."""
    if isinstance(format, GroupedFormat):
        return [x.view(_BLOCK), shuffled(x)]
    return [x]


@lru_cache(maxsize=len(SEEDS))
def _words(seed: int) -> npt.NDArray[np.uint32]:
    """The words of 65,536 elements, by the definition."""
    return reference.random_words(seed, 0, (1 << 16,))


def with_seeds(format: Format, tick: Tick) -> Outcome:
    """The words that follow from seeds, in each stochastic mode."""
    outcome = Outcome()
    carrier = holders(format)[0]
    source = carrier if carrier in sources(format) else sources(format)[0]
    x = _arranged(patterns(source), format)[0].to(carrier)
    outcome.inputs = x.numel() * len(SEEDS)
    for number, seed in enumerate(SEEDS):
        words = _words(seed).reshape(x.shape)
        for setting in seeded_settings(format):
            wanted = by_table(x, format, setting, carrier, words)
            got = kernel.quantize(x, format, setting, seed=seed)
            outcome.add(x, got, wanted, of=Asked(format, setting, words))
        tick((number + 1) / len(SEEDS))
    return outcome


def without_subnormals(format: Format, tick: Tick) -> Outcome:
    """One thread under flush-to-zero against the same thread without."""
    outcome = Outcome()

    def run(x: Tensor, setting: Setting) -> Tensor | None:
        """Under flush-to-zero, or None where the processor cannot."""
        with kernel.flushed() as possible:
            return kernel.quantize(x, format, setting) if possible else None

    _compare_runs(format, [run], outcome, tick)
    return outcome


def on_threads(format: Format, tick: Tick) -> Outcome:
    """Two and three threads against one."""

    def runner(count: int) -> Callable[[Tensor, Setting], Tensor]:
        """A run on so many threads."""

        def run(x: Tensor, setting: Setting) -> Tensor:
            """The kernel on that many threads."""
            with kernel.threads(count):
                return kernel.quantize(x, format, setting)

        return run

    outcome = Outcome()
    _compare_runs(format, [runner(2), runner(3)], outcome, tick)
    return outcome


def _compare_runs(
    format: Format, runs: list[Callable[[Tensor, Setting], Tensor | None]], outcome: Outcome, tick: Tick
) -> None:
    """Compare runs of the kernel on bfloat16 numbers, in every carrier, with a plain one."""
    every = settings(format)
    for number, carrier in enumerate(holders(format)):
        x = patterns(torch.bfloat16).to(carrier).view(_BLOCK)
        outcome.inputs += x.numel()
        for done, setting in enumerate(every):
            plain = kernel.quantize(x, format, setting)
            for run in runs:
                got = run(x, setting)
                if got is None:
                    outcome.missing = "not supported by this processor"
                    return
                outcome.add_run(x, got, plain, of=Asked(format, setting))
            tick((number + (done + 1) / len(every)) / len(holders(format)))
