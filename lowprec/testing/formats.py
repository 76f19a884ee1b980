"""check_format: one call that verifies any format."""

from collections.abc import Iterable

from lowprec.formats import FormatLike, GroupedFormat, resolve
from lowprec.modes import Rounding
from lowprec.testing.failure import Check, Report
from lowprec.testing.hard import hard_values, holders
from lowprec.testing.listed import definition_of
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
    if isinstance(parsed, GroupedFormat):
        return report
    for carrier in chosen:
        definition = definition_of(parsed, carrier)
        x = hard_values(parsed, carrier)
        subject = reference_of(parsed, carrier)
        check_rounding(check, subject, definition, x, list(Rounding))
        check_relations(check, subject, definition, x)
        subject = kernels_of(parsed, carrier)
        check_rounding(check, subject, definition, x, list(Rounding) if exhaustive else _COMPILED)
        check_relations(check, subject, definition, x)
    return report
