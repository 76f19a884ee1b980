"""What a check says: a counterexample as a person wants to read it, or what was checked."""

import math
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from lowprec.formats import Format


class FormatError(AssertionError):
    """A property that does not hold, with the first counterexample.

    The message names the property, what was checked and where, then the input, what came out and what should
    have, one to a line; numbers stand there in decimal and in hexadecimal notation.

    Attributes:
        broken: The property.

    Example:
        >>> print(FormatError("ties", "e4m3fn", {"input": 1.0625, "got": 1.125, "want": 1.0}))
        ties: e4m3fn
          input  1.0625 (0x1.1000000000000p+0)
          got    1.125 (0x1.2000000000000p+0)
          want   1.0 (0x1.0000000000000p+0)
    """

    def __init__(self, broken: str, where: str, lines: dict[str, object]) -> None:
        self.broken = broken
        width = max(map(len, lines), default=0)
        rows = [f"  {name:<{width}}  {shown(value)}" for name, value in lines.items()]
        super().__init__("\n".join([f"{broken}: {where}", *rows]))


@dataclass
class Report:
    """What was checked: how many cases of each property.

    Attributes:
        subject: What was checked.
        cases: The number of cases by property.

    Example:
        >>> report = Report("e4m3fn")
        >>> report.count("ties", 12)
        >>> print(report)
        e4m3fn: 12 cases of 1 properties
            12  ties
    """

    subject: str
    cases: Counter[str] = field(default_factory=Counter)

    def count(self, name: str, cases: int = 1) -> None:
        """Add cases of a property."""
        self.cases[name] += cases

    def __str__(self) -> str:
        """A line for each property."""
        width = max((len(f"{count:,}") for count in self.cases.values()), default=1)
        rows = [f"{count:>{width + 4},}  {name}" for name, count in self.cases.items()]
        head = f"{self.subject}: {self.cases.total():,} cases of {len(self.cases)} properties"
        return "\n".join([head, *rows])


@dataclass(frozen=True)
class Check:
    """Where a property is checked: it counts the cases that hold and raises at the first that does not."""

    report: Report
    where: str

    def at(self, where: str) -> "Check":
        """The same report, another place."""
        return Check(self.report, f"{self.report.subject}, {where}")

    def equal(self, name: str, got: object, want: object, **lines: object) -> None:
        """One case: two values that must be the same; floats bit for bit, NaN equal to NaN."""
        self.report.count(name)
        if not same(got, want):
            self.fail(name, **lines, got=got, want=want)

    def fail(self, name: str, **lines: object) -> None:
        """Raise the error."""
        order = ("input", "got", "want")
        first = {line: lines.pop(line) for line in order if line in lines}
        raise FormatError(name, self.where, {**first, **lines}) from None

    @contextmanager
    def running(self, name: str, **lines: object) -> Iterator[None]:
        """Turn what is raised within into a counterexample: the property's case is that nothing is."""
        self.report.count(name)
        try:
            yield
        except FormatError:
            raise
        except Exception as error:
            raise FormatError(
                name, self.where, {**lines, "got": f"{type(error).__name__}: {error}", "want": "no error"}
            ) from error

    def raises(self, name: str, call: Callable[[], object], **lines: object) -> None:
        """One case: a call that must raise a ValueError."""
        self.report.count(name)
        try:
            got = call()
        except ValueError:
            return
        self.fail(name, **lines, got=got, want="a ValueError")


def same(got: object, want: object) -> bool:
    """Equal; floats bit for bit, NaN equal to NaN."""
    if isinstance(got, float) and isinstance(want, float):
        if math.isnan(got) or math.isnan(want):
            return math.isnan(got) and math.isnan(want)
        return got == want and math.copysign(1.0, got) == math.copysign(1.0, want)
    return got == want


def shown(value: object) -> str:
    """A number in decimal and in hexadecimal, a format with its fields; anything else by str."""
    if isinstance(value, Format):
        return repr(value)
    if isinstance(value, float) and math.isfinite(value):
        return f"{value!r} ({value.hex()})"
    return str(value)
