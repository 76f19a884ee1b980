"""check_format: one call that verifies any format."""

from collections.abc import Iterable

from lowprec.formats import BlockFloatingPoint, Codebook, FormatLike, Scaled, resolve
from lowprec.modes import Rounding
from lowprec.testing.codes import check_codes
from lowprec.testing.failure import Check, Report
from lowprec.testing.groups import check_groups
from lowprec.testing.hard import hard_values, holders
from lowprec.testing.listed import definition_of
from lowprec.testing.listing import check_listing
from lowprec.testing.memory import check_noise, check_strides, check_threads
from lowprec.testing.rounding import check_relations, check_rounding
from lowprec.testing.subjects import kernels_of, reference_of

_COMPILED = (Rounding.NEAREST_EVEN, Rounding.STOCHASTIC)
"""The modes of kernels that are checked if not all are: each takes a second or two to compile."""


def check_format(
    format: FormatLike, *, carriers: Iterable[str] | None = None, exhaustive: bool = False
) -> Report:
    """Verify a format.

    Args:
        format: A format.
        carriers: Names.
        exhaustive: All modes.

    Returns:
        A report.
    """
    parsed = resolve(format)
    report = Report(str(parsed))
    check = Check(report, str(parsed))
    chosen = [*carriers] if carriers is not None else holders(parsed)[: None if exhaustive else 1]
    if isinstance(parsed, BlockFloatingPoint | Scaled):
        _check_grouped(check, parsed.along(-1), chosen, exhaustive=exhaustive)
        return report
    check_listing(check, parsed, definition_of(parsed))
    for carrier in chosen:
        definition = definition_of(parsed, carrier)
        x = hard_values(parsed, carrier)
        for subject in (reference_of(parsed, carrier), kernels_of(parsed, carrier)):
            few = subject.name == "kernels" and not exhaustive
            check_rounding(check, subject, definition, x, _COMPILED if few else list(Rounding))
            check_relations(check, subject, definition, x)
            if definition.ends is not None:
                check_codes(check, subject, parsed, definition, x)
        check_noise(check, subject, parsed, x)
        check_strides(check, subject, parsed, x)
        check_threads(check, subject, parsed, x)
    return report


def _check_grouped(
    check: Check, format: BlockFloatingPoint | Scaled, carriers: list[str], *, exhaustive: bool
) -> None:
    """The same for a format with groups."""
    check_listing(check, format, definition_of(format))
    codebook = isinstance(format, Scaled) and isinstance(format.element, Codebook)
    modes = [mode for mode in Rounding if not (codebook and mode.is_stochastic)]
    for carrier in carriers:
        for subject in (reference_of(format, carrier), kernels_of(format, carrier)):
            few = subject.name == "kernels" and not exhaustive
            check_groups(check, subject, format, [mode for mode in modes if not few or mode in _COMPILED])
