"""check_format: one call that verifies any format."""

from collections.abc import Iterable, Sequence

from lowprec.errors import type_error, value_error
from lowprec.formats import BlockFloatingPoint, Codebook, Format, FormatLike, Scaled, resolve
from lowprec.formats.carriers import CARRIERS
from lowprec.modes import Rounding
from lowprec.testing.codes import check_codes, check_group_codes
from lowprec.testing.failure import Check, Report
from lowprec.testing.groups import check_groups, group_tensors
from lowprec.testing.hard import Floats, hard_values, holders
from lowprec.testing.listed import definition_of
from lowprec.testing.listing import check_listing, check_names
from lowprec.testing.memory import check_noise, check_strides, check_threads
from lowprec.testing.rounding import check_relations, check_rounding
from lowprec.testing.subjects import Subject, kernels_of, reference_of

_COMPILED = (Rounding.NEAREST_EVEN, Rounding.STOCHASTIC)
"""The modes of kernels that are checked if not all are: each takes a second or two to compile."""


def check_format(
    format: FormatLike, *, carriers: Iterable[str] | None = None, exhaustive: bool = False
) -> Report:
    """Verify a format: what it says of itself, every mode, its codes, kernels and groups.

    What a format must do is worked out again, in exact fractions, from what it declares: the fields of a
    FloatingPoint, the values of the codes of a format of your own (and the boundaries and the parity that
    it has of its own, which are taken for what it means). Against that are held

    - its values (ascending, each once), ends, names and pickles; named formats against published numbers;
    - in every mode the reference, on hard inputs: values and boundaries, the numbers next to each, what
      lies past the ends, ±0, infinities and NaN. Nearest, ties, directed modes, overflow, and of the
      stochastic ones every word of one to four random bits; results ascend, mirror each other and stay;
    - every code, both ways;
    - the kernels, on the same inputs, under nearest_even and stochastic rounding; the noise of a seed,
      other strides, other numbers of threads;
    - of a format with groups the scale of each by its rule, and that a group changes no other.

    It takes a few seconds, most of which compile kernels that are kept on disk. Of a format of more than 16
    bits, or a carrier's numbers, it looks at a part.

    Args:
        format: A format, its name, or a torch dtype; a format of your own is a TabledFormat.
        carriers: Names of the carriers to check in: ``"float32"``, ``"float64"``, ``"bfloat16"``,
            ``"float16"``. None for float32, or the first that holds the format.
        exhaustive: Check kernels in all modes, and, where ``carriers`` is None, in all carriers that hold
            the format: minutes.

    Returns:
        What was checked; its ``str`` is a line for each property.

    Raises:
        FormatError: An AssertionError that names the first property that does not hold, with a
            counterexample: the input, what came out, what should have, and the neighbors.
        TypeError: If the format is of no family that is known here.
        ValueError: If the name is unknown, or a carrier is, or does not hold the format.

    Example:
        >>> print(check_format("e2m1"))  # doctest: +ELLIPSIS
        e2m1: ... cases of ... properties
        ...
    """
    parsed = resolve(format)
    chosen = _carriers(parsed, carriers, exhaustive=exhaustive)
    report = Report(str(parsed))
    check = Check(report, str(parsed))
    check_names(check, parsed)
    if isinstance(parsed, BlockFloatingPoint | Scaled):
        parsed = parsed.along(-1)
    check_listing(check, parsed, definition_of(parsed))
    for carrier in chosen:
        if isinstance(parsed, BlockFloatingPoint | Scaled):
            x = _check_grouped(check, parsed, carrier, exhaustive=exhaustive)
        else:
            x = _check_elements(check, parsed, carrier, exhaustive=exhaustive)
        subject = kernels_of(parsed, carrier)
        if _is_drawn(parsed):
            check_noise(check, subject, parsed, x)
        check_strides(check, subject, parsed, x, noise=_is_drawn(parsed))
        check_threads(check, subject, parsed, x, noise=_is_drawn(parsed))
    return report


def _carriers(format: Format, carriers: Iterable[str] | None, *, exhaustive: bool) -> list[str]:
    """The carriers to check in."""
    holding = holders(format)
    if carriers is None:
        if not holding:
            raise value_error("format", "be exact in a carrier", str(format), "No carrier holds it.")
        return holding if exhaustive else holding[:1]
    if isinstance(carriers, str):
        raise type_error("carriers", "be a sequence of names", carriers, "Put it into a tuple.")
    chosen = list(carriers)
    for carrier in chosen:
        if carrier not in CARRIERS:
            raise value_error("carriers", f"name some of {', '.join(CARRIERS)}", carrier)
        format.check_carrier(carrier)
    return chosen


def _check_elements(check: Check, format: Format, carrier: str, *, exhaustive: bool) -> Floats:
    """A format that rounds one element at a time; some inputs in the shape of a matrix."""
    definition = definition_of(format, carrier)
    x = hard_values(format, carrier)
    for subject in (reference_of(format, carrier), kernels_of(format, carrier)):
        check_rounding(check, subject, definition, x, _modes(format, subject, exhaustive=exhaustive))
        check_relations(check, subject, definition, x)
        if definition.ends is not None:
            check_codes(check, subject, format, definition, x)
    return x[: x.size // 8 * 8].reshape(-1, 8)


def _check_grouped(
    check: Check, format: BlockFloatingPoint | Scaled, carrier: str, *, exhaustive: bool
) -> Floats:
    """A format with groups; some inputs that have some."""
    for subject in (reference_of(format, carrier), kernels_of(format, carrier)):
        check_groups(check, subject, format, _modes(format, subject, exhaustive=exhaustive))
        for x in group_tensors(format, carrier):
            check_group_codes(check, subject, format, x)
    return x


def _modes(format: Format, subject: Subject, *, exhaustive: bool) -> Sequence[Rounding]:
    """The modes that a format has, or those of them to be compiled."""
    few = subject.name == "kernels" and not exhaustive
    modes = _COMPILED if few else tuple(Rounding)
    return [mode for mode in modes if _is_drawn(format) or not mode.is_stochastic]


def _is_drawn(format: Format) -> bool:
    """Whether stochastic rounding is for the format: not for codebooks over scales."""
    return not (isinstance(format, Scaled) and isinstance(format.element, Codebook))
