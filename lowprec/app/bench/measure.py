"""How things are timed, so that a noisy machine changes the figures little.

What is compared is timed in turns, so that noise hits both; medians are compared. A figure that
misses its limit is taken again later, and the best round counts: the package was that fast once, on
the same machine, and what came in between was not its doing.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lowprec.app.bench.figure import Figure, Probe
from lowprec.app.progress import display


@dataclass(frozen=True)
class Effort:
    """How much to measure.

    Args:
        side: Kernels work on side × side elements.
        repeats: Timings behind each median.
        calls: Calls behind each timing of a small tensor.
        batch: Images in a training step.
        rounds: How often a figure that misses its limit is taken, the first time included.
        complete: Every row, or one of each kind.

    Example:
        >>> FULL.side**2 == 2**24
        True
    """

    side: int
    repeats: int
    calls: int
    batch: int
    rounds: int
    complete: bool


FULL = Effort(side=4096, repeats=9, calls=1000, batch=128, rounds=3, complete=True)
QUICK = Effort(side=64, repeats=1, calls=10, batch=2, rounds=1, complete=False)


_CALM, _ATTEMPTS = 1.2, 3
"""How far a median may lie above its minimum, and how often a disturbed measurement is taken."""


def seconds(call: Callable[[], object]) -> float:
    """The time of one call.

    Args:
        call: What to time.

    Returns:
        Seconds.

    Example:
        >>> seconds(list) >= 0
        True
    """
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def in_turns(
    one: Callable[[], object],
    other: Callable[[], object],
    repeats: int,
    clock: Callable[[Callable[[], object]], float] | None = None,
) -> float:
    """How many times as long as ``other`` the call ``one`` takes, by their medians.

    Turns in which the times of ``one`` scatter were disturbed: they are taken again, and the calmest
    count, whatever their result.

    Args:
        one: The reference, timed first in each turn.
        other: Timed second.
        repeats: How many turns; one more comes first, untimed.
        clock: What tells the time of a call; None for ``seconds``.

    Returns:
        The ratio.

    Example:
        >>> in_turns(list, list, 3) > 0
        True
    """
    clock = clock or seconds
    one(), other()
    attempts: list[tuple[float, float]] = []
    while len(attempts) < _ATTEMPTS and (not attempts or min(attempts)[0] > _CALM):
        first, second = zip(*((clock(one), clock(other)) for _ in range(repeats)), strict=True)
        scatter = statistics.median(first) / min(first)
        attempts.append((scatter, statistics.median(first) / statistics.median(second)))
    return min(attempts)[1]


def microseconds_per_call(call: Callable[[], object], calls: int, repeats: int) -> float:
    """The median over repeats of the mean time of many calls.

    Args:
        call: What to time.
        calls: How many calls one timing spans.
        repeats: How many timings; one more comes first, untimed.

    Returns:
        Microseconds.

    Example:
        >>> microseconds_per_call(list, 10, 3) > 0
        True
    """

    def many() -> None:
        for _ in range(calls):
            call()

    many()
    return statistics.median(seconds(many) for _ in range(repeats)) / calls * 1e6


def take(probes: Sequence[Probe], rounds: int) -> list[Figure]:
    """Take every probe, and those that miss their limit again; progress goes to standard error.

    Args:
        probes: In the order in which to take them, the probes of a section together.
        rounds: How often at most; 1 for no second try.

    Returns:
        A figure for each probe. What failed with an error is not taken again.

    Example:
        >>> [figure.value for figure in take([Probe("import", "lowprec", "", "s", lambda: 0.25)], 1)]
        [0.25]
    """
    figures = _round(probes, {probe: probe.section for probe in probes})
    for number in range(2, rounds + 1):
        again = [p for p, f in zip(probes, figures, strict=True) if f.missed and not f.failure]
        if not again:
            break
        titles = dict.fromkeys(again, f"missed, round {number} of {rounds}")
        found = dict(zip(again, _round(again, titles), strict=True))
        figures = [
            figure.improved(found[probe]) if probe in found else figure
            for probe, figure in zip(probes, figures, strict=True)
        ]
    return figures


def _round(probes: Sequence[Probe], titles: dict[Probe, str]) -> list[Figure]:
    """Every probe once, with a line of progress for each title."""
    figures: list[Figure] = []
    groups = {title: [p for p in probes if titles[p] == title] for title in titles.values()}
    with display(1, 0, len(probes)) as shown:
        for title, group in groups.items():
            shown.begin(title, 0, len(group))
            for probe in group:
                figures.append(probe.take())
                shown.step()
            shown.reached("measured")
            shown.end()
    return figures
