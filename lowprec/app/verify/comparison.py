"""Results against what an oracle wants, bit by bit; and what is kept of a difference."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lowprec.app.verify.setting import Setting
from lowprec.formats import Format

KEPT = 3
"""Mismatches that one comparison keeps; the others are counted."""

_INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


class Mismatch(NamedTuple):
    """One wrong result, as text."""

    format: str
    setting: str
    carrier: str
    input: str
    """Its bits and its value."""
    word: str
    """The random word of this element; empty where none is used."""
    expected: str
    got: str

    def __str__(self) -> str:
        """All of it in one line."""
        word = f", word {self.word}" if self.word else ""
        return (
            f"{self.format} in {self.carrier}, {self.setting}: {self.input}{word} "
            f"must give {self.expected}, got {self.got}"
        )


@dataclass
class Outcome:
    """What a part of the verification found."""

    inputs: int = 0
    """Different inputs, whatever the mode."""
    results: int = 0
    """Results compared."""
    wrong: int = 0
    """How many of them differ."""
    mismatches: list[Mismatch] = field(default_factory=list)
    """The first of those."""
    missing: str = ""
    """Why nothing could be compared, if so."""

    def add(self, x: Tensor, got: Tensor, want: npt.NDArray[np.float64], *, of: "Asked") -> None:
        """Compare results with what an oracle wants.

        All NaN are one; -0 and +0 differ.

        Args:
            x: The inputs.
            got: The kernel's results, in the same shape and dtype.
            want: The oracle's, in the same shape, exact.
            of: What the kernel was asked for.

        Example:
            >>> from lowprec.formats import parse
            >>> from lowprec.modes import Rounding
            >>> outcome, zero = Outcome(), torch.zeros(1)
            >>> asked = Asked(parse("e5m2"), Setting(Rounding.UP))
            >>> outcome.add(zero, zero, np.array([-0.0]), of=asked)
            >>> print(*outcome.mismatches)
            e5m2 in float32, up: 0x00000000 = 0.0 must give -0.0, got 0.0
        """
        values = got.double().numpy()
        same = (values == want) & (np.signbit(values) == np.signbit(want))
        same |= np.isnan(values) & np.isnan(want)
        self.results += same.size
        if same.all():
            return
        different = np.flatnonzero(~same)
        self.wrong += different.size
        bits = x.contiguous().view(_INTEGERS[x.dtype.itemsize]).reshape(-1)
        numbers, mask = x.double().reshape(-1), (1 << 8 * x.dtype.itemsize) - 1
        for at in different[:KEPT].tolist():
            word = ""
            if of.words is not None:
                word = f"{int(of.words.reshape(-1)[at]):#010x}"
            self.mismatches.append(
                Mismatch(
                    str(of.format),
                    str(of.setting),
                    str(x.dtype).removeprefix("torch."),
                    f"{int(bits[at]) & mask:#0{2 + 2 * x.dtype.itemsize}x} = {float(numbers[at])!r}",
                    word,
                    repr(float(want.reshape(-1)[at])),
                    repr(float(values.reshape(-1)[at])),
                )
            )

    def add_run(self, x: Tensor, got: Tensor, plain: Tensor, *, of: "Asked") -> None:
        """Compare two runs of a kernel, which is quick where all bits are equal.

        Args:
            x: The inputs.
            got: One run's results.
            plain: The other's.
            of: What the kernel was asked for.

        Example:
            >>> outcome, zero = Outcome(), torch.zeros(1)
            >>> outcome.add_run(zero, zero, zero, of=None)
            >>> outcome.results, outcome.wrong
            (1, 0)
        """
        integers = _INTEGERS[x.dtype.itemsize]
        if torch.equal(got.view(integers), plain.view(integers)):
            self.results += x.numel()
        else:
            self.add(x, got, plain.double().numpy(), of=of)

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> "Outcome":
        """Back from JSON."""
        return cls(**{**stored, "mismatches": [Mismatch(*m) for m in stored["mismatches"]]})


class Asked(NamedTuple):
    """What a kernel was asked for."""

    format: Format
    setting: Setting
    words: npt.NDArray[np.uint32] | None = None
    """One word for each element, where they differ."""


def total(outcomes: Iterable[Outcome]) -> Outcome:
    """Several outcomes as one.

    Args:
        outcomes: Of parts about different inputs.

    Returns:
        The sums, and the mismatches one after another.

    Example:
        >>> total([Outcome(2, 4), Outcome(3, 6)]).results
        10
    """
    whole = Outcome()
    for outcome in outcomes:
        whole.inputs += outcome.inputs
        whole.results += outcome.results
        whole.wrong += outcome.wrong
        whole.mismatches += outcome.mismatches
        whole.missing = whole.missing or outcome.missing
    return whole
