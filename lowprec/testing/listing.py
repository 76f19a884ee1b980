"""What a format says of itself: its values, ends and names, against its definition and published numbers."""

import math
import pickle
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from typing import Any

from lowprec.formats import Format, TabledFormat, parse
from lowprec.formats.carriers import CARRIERS
from lowprec.testing.definition import Definition
from lowprec.testing.failure import Check
from lowprec.testing.listed import Logarithms

PUBLISHED = {
    "binary16": (65504.0, 2.0**-24, 2.0**-10),
    "bfloat16": (float.fromhex("0x1.fep127"), 2.0**-133, 2.0**-7),
    "binary32": (float.fromhex("0x1.fffffep127"), 2.0**-149, 2.0**-23),
    "tf32": (float.fromhex("0x1.ffcp127"), 2.0**-136, 2.0**-10),
    "e5m2": (57344.0, 2.0**-16, 2.0**-2),
    "e4m3fn": (448.0, 2.0**-9, 2.0**-3),
    "e5m2fnuz": (57344.0, 2.0**-17, 2.0**-2),
    "e4m3fnuz": (240.0, 2.0**-10, 2.0**-3),
    "e4m3ieee": (240.0, 2.0**-9, 2.0**-3),
    "e3m4": (15.5, 2.0**-6, 2.0**-4),
    "e3m2": (28.0, 2.0**-4, 2.0**-2),
    "e2m3": (7.5, 2.0**-3, 2.0**-3),
    "e2m1": (6.0, 2.0**-1, 2.0**-1),
    "fixed8f4": (7.9375, 2.0**-4, 2.0**-4),
    "mxfp8_e5m2": (57344.0, 2.0**-16, 2.0**-2),
    "mxfp8_e4m3": (448.0, 2.0**-9, 2.0**-3),
    "mxfp6_e3m2": (28.0, 2.0**-4, 2.0**-2),
    "mxfp6_e2m3": (7.5, 2.0**-3, 2.0**-3),
    "mxfp4": (6.0, 2.0**-1, 2.0**-1),
    "mxint8": (1.984375, 2.0**-6, 2.0**-6),
    "nvfp4": (6.0, 2.0**-1, 2.0**-1),
    "bfp8": (1.984375, 2.0**-6, 2.0**-6),
    "int8": (127.0, 1.0, 1.0),
    "int4": (7.0, 1.0, 1.0),
    "uint8": (255.0, 1.0, 1.0),
    "posit8": (2.0**24, 2.0**-24, 2.0**-3),
    "posit16": (2.0**56, 2.0**-56, 2.0**-11),
    "posit32": (2.0**120, 2.0**-120, 2.0**-27),
}
"""The largest value, the smallest positive one, and the distance from 1 to the next, as standards have them.

IEEE 754-2019; OFP8 1.0 and MX 1.0 of OCP; Graphcore and AMD's fnuz; the Standard for Posit Arithmetic (2022).
"""

_WIDE = 200
"""How many values of a format are asked for one by one, if it has more."""


def check_listing(check: Check, format: Any, definition: Definition) -> None:
    """All that a format says of itself."""
    name = str(format)
    if name in PUBLISHED:
        for what, want in zip(("max", "smallest_subnormal", "eps"), PUBLISHED[name], strict=True):
            check.equal("published numbers", float(getattr(format, what)), want, input=f"{name}.{what}")
    if definition.ends is None:
        return
    check.equal("bits", format.bits, definition.bits, input=f"{name}.bits")
    low, high = definition.ends
    for what, end in (("min", low), ("max", high)):
        check.equal("ends", float(getattr(format, what)), float(end), input=f"{name}.{what}")
    check.equal("signed zero", format.has_signed_zero, definition.signed_zero, input="has_signed_zero")
    if format.bits <= 16:
        _check_values(check, format, definition)
        _check_carriers(check, format, definition)


def check_names(check: Check, format: Format) -> None:
    """The name is read back, a pickle is loaded, and both are equal to the format."""
    name = str(format)
    trips: dict[str, Callable[[], Any]] = {
        "parse(str(format))": lambda: parse(name),
        "pickle": lambda: pickle.loads(pickle.dumps(format)),
    }
    for trip, take in trips.items():
        with check.running("names and pickles", input=trip):
            back = take()
        check.equal("names and pickles", back, format, input=trip)
        check.equal("names and pickles", hash(back), hash(format), input=f"hash of {trip}")


def _check_values(check: Check, format: Any, definition: Definition) -> None:
    """Sorted, unique, and those of the definition; ``contains`` knows them and nothing between."""
    values = format.values().tolist()
    for first, second in pairwise(values):
        check.report.count("values ascend")
        if not first < second:
            check.fail("values ascend", input=first, got=second, want="a larger value next")
    listed = [float(value) for value in definition.listed]
    name = "values are those of the definition"
    check.report.count(name, len(listed))
    for value in sorted(set(values) ^ set(listed), key=abs)[:1]:
        sides = ("a value", "none") if value in values else ("no value", "a value")
        check.fail(name, input=value, got=sides[0], want=sides[1])
    if isinstance(format, TabledFormat):
        _check_ties(check, format, listed)
    positive = [value for value in listed if value > 0]
    smallest = float(format.smallest_subnormal)
    check.equal("smallest value", smallest, positive[0], input=f"{format}.smallest_subnormal")
    stride = max(1, len(listed) // _WIDE)
    for value in listed[::stride]:
        check.equal("contains", format.contains(value), True, input=value)
    for low, high in list(pairwise(listed))[::stride]:
        middle = (Fraction(low) + Fraction(high)) / 2
        if middle:
            check.equal("contains", format.contains(middle), False, input=float(middle))
    for value in (math.inf, -math.inf, math.nan, 2 * listed[-1], 1.5 * listed[-1]):
        check.equal("contains", format.contains(value), False, input=value)
    check.equal("contains", format.contains(-0.0), definition.signed_zero, input=-0.0)


def _check_ties(check: Check, format: TabledFormat, listed: list[float]) -> None:
    """Of two neighbors one is even, and a boundary lies between them: it may be one of them only at zero."""
    bounds = list(format.boundaries())
    check.equal("a boundary between neighbors", len(bounds), len(listed) - 1, input=f"{format}.boundaries()")
    for at, (low, high) in enumerate(pairwise(listed)):
        check.report.count("one neighbor is even")
        if format.is_even(at) == format.is_even(at + 1):
            both = "both" if format.is_even(at) else "neither"
            check.fail("one neighbor is even", input=f"{low!r} and {high!r}", got=both, want="one")
        inside = low < bounds[at] < high or (bounds[at] == 0 and 0 in (low, high))
        if not inside:
            want = f"between {low!r} and {high!r}"
            check.fail("a boundary between neighbors", input=at, got=float(bounds[at]), want=want)


def _check_carriers(check: Check, format: Any, definition: Definition) -> None:
    """A carrier that is said to hold the format has every value."""
    if isinstance(definition, Logarithms):
        return  # whose values are the carrier's own
    for name, carrier in CARRIERS.items():
        if format.missing_in(carrier) is not None:
            continue
        for value in definition.listed:
            check.report.count("carriers hold the values")
            odd = abs(value.numerator)
            exact = odd == 0 or (odd // (odd & -odd)).bit_length() <= carrier.precision
            if not exact or (value and not carrier.lowest_exponent <= math.log2(abs(value))):
                lines = {"got": f"said to fit into {name}", "want": "said not to fit"}
                check.fail("carriers hold the values", input=float(value), **lines)
