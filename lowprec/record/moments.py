"""Moments: what was counted step by step, in memory that does not grow with the run."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from lowprec.errors import value_error
from lowprec.record.counters import NUMBERS, Counters, counters_of

Key = tuple[str, str]
"""Layer or parameter, and role."""
Numbers = npt.NDArray[np.float64]
"""The single numbers of Counters; counts are exact up to 2^53."""

MOST = 256
"""The most moments that are kept."""


@dataclass
class Moment:
    """A step that was recorded, or several in a row."""

    first_step: int
    last_step: int
    steps: int = 1
    """How many were recorded."""
    numbers: dict[Key, Numbers] = field(default_factory=dict)

    def counters(self) -> dict[Key, Counters]:
        """Counters for each (layer, role), without histograms, in the order in which each first came."""
        return {key: counters_of(numbers.tolist()) for key, numbers in self.numbers.items()}

    def add(self, key: Key, numbers: Numbers) -> None:
        """Add to what was counted of a layer and role."""
        if key in self.numbers:
            self.numbers[key] += numbers
        else:
            self.numbers[key] = numbers

    def absorb(self, later: "Moment") -> None:
        """Take in the moment that follows."""
        self.last_step, self.steps = later.last_step, self.steps + later.steps
        for key, numbers in later.numbers.items():
            self.add(key, numbers)


class Moments:
    """At most 256 moments in a row; when these are full, each two neighbors become one.

    From then on a moment takes in twice as many recorded steps as before.
    """

    def __init__(self) -> None:
        self._kept: list[Moment] = []
        self._span = 1

    def __len__(self) -> int:
        """How many there are."""
        return len(self._kept)

    def __iter__(self) -> Iterator[Moment]:
        """Each, from the first on."""
        return iter(self._kept)

    def begin(self, step: int) -> None:
        """A step is recorded from now on."""
        last = self._kept[-1] if self._kept else None
        if last is not None and last.steps < self._span:
            last.last_step, last.steps = step, last.steps + 1
            return
        if len(self._kept) == MOST:
            for left, right in zip(self._kept[::2], self._kept[1::2], strict=True):
                left.absorb(right)
            self._kept, self._span = self._kept[::2], 2 * self._span
        self._kept.append(Moment(step, step))

    def add(self, key: Key, numbers: Numbers) -> None:
        """Count for the step that has begun."""
        self._kept[-1].add(key, numbers)

    def take(self, step: int, others: "Moments") -> None:
        """Count all that others hold for one step, if they hold anything."""
        for number, moment in enumerate(others):
            if number == 0:
                self.begin(step)
            for key, numbers in moment.numbers.items():
                self.add(key, numbers)

    def to_plain(self) -> list[dict[str, object]]:
        """Numbers, strings and lists of them."""
        return [
            {
                "first_step": m.first_step,
                "last_step": m.last_step,
                "steps": m.steps,
                "rows": [[*key, *numbers.tolist()] for key, numbers in m.numbers.items()],
            }
            for m in self._kept
        ]

    @classmethod
    def from_plain(cls, plain: list[Mapping[str, object]]) -> "Moments":
        """Moments out of what ``to_plain`` gave.

        Raises:
            KeyError, TypeError, ValueError: If it is something else.
        """
        found = cls()
        for values in plain:
            rows: list[list[object]] = values["rows"]  # type: ignore[assignment]
            numbers = {(str(r[0]), str(r[1])): np.array(r[2:], np.float64) for r in rows}
            for row in numbers.values():
                if row.shape != (len(NUMBERS),):
                    must = f"have {len(NUMBERS)} numbers for each layer and role"
                    raise value_error("rows", must, row.tolist())
            first, last, steps = (int(values[n]) for n in ("first_step", "last_step", "steps"))  # type: ignore[call-overload]
            found._kept.append(Moment(first, last, steps, numbers))
        found._span = max((m.steps for m in found._kept), default=1)
        return found
