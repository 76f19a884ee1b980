"""Which parts a verification has, and working on them one after another."""

import time
from collections.abc import Callable, Sequence

from lowprec.app.interrupt import Interrupt, Interrupted
from lowprec.app.verify.claim import CLAIMS, Part
from lowprec.app.verify.grids import grid_parts
from lowprec.app.verify.inputs import holders
from lowprec.app.verify.peers import peer_parts
from lowprec.app.verify.progress import Display
from lowprec.app.verify.scaled_peers import scaled_peer_parts
from lowprec.app.verify.state import Finding, State
from lowprec.app.verify.sweeps import SWEPT, check_provable, sweep_parts
from lowprec.errors import value_error
from lowprec.formats import NAMED, Scaled, parse

DAILY = tuple(name for name in NAMED if not isinstance(parse(name), Scaled))
"""What is verified if nothing is named: scaled formats have many kernels, which take long to compile."""


def plan(names: Sequence[str] = (), *, exhaustive: bool = False) -> list[Part]:
    """The parts of a verification, in the order of their claims.

    Args:
        names: Formats; none for every one that has a name, but scaled ones for --exhaustive only, which
            goes through all numbers for five of them.
        exhaustive: Whether to go through all float32 numbers too.

    Returns:
        At least one part for each format.

    Raises:
        ValueError: If a name is unknown, given twice, or a format that cannot be verified.

    Example:
        >>> [part.claim.name for part in plan(["fixed8f6"])]
        ['reference', 'patterns', 'seeds', 'flush', 'threads']
    """
    formats = [parse(name) for name in names or (NAMED if exhaustive else DAILY)]
    swept = [parse(name) for name in names or SWEPT] if exhaustive else []
    for format in formats:
        if formats.count(format) > 1:
            raise value_error("format", "be named once", str(format), "Leave out the second.")
        if not holders(format):
            raise value_error("format", "be exact in some carrier", str(format), "No carrier holds it.")
    for format in swept:
        check_provable(format)
    sources = (grid_parts, peer_parts, scaled_peer_parts)
    parts = [part for format in formats for source in sources for part in source(format)]
    parts += [part for format in swept for part in sweep_parts(format)]
    order = list(CLAIMS)
    return sorted(parts, key=lambda part: order.index(part.claim.name))


def work(parts: Sequence[Part], state: State, display: Display) -> list[Finding]:
    """Do every part that the state does not have, and record it.

    Args:
        parts: The plan.
        state: What is finished before; right parts are added to it.
        display: Shows where the work is.

    Returns:
        A finding for each part, also where results were wrong.

    Raises:
        Interrupted: If the user pressed Ctrl-C; the finished parts are in the state.
        OSError: If the state cannot be written.
    """
    findings = []
    with Interrupt() as interrupt, display:

        def tick(part: Part) -> Callable[[float], None]:
            """Shows how much of a part is done, unless the user wants to stop."""

            def shown(share: float) -> None:
                """Show it."""
                display.at(part.seconds * share)
                if interrupt.requested:
                    raise Interrupted

            return shown

        for part in parts:
            display.begin(part)
            finding = state.finding(part)
            if finding is None:
                tick(part)(0.0)
                start = time.perf_counter()
                outcome = part.work(tick(part))
                finding = Finding(part, outcome, time.perf_counter() - start)
                if not outcome.wrong and not outcome.missing:
                    state.record(finding)
            findings.append(finding)
            display.end(finding)
    return findings
