"""What is verified of a format: every rounding mode, the stochastic ones with chosen random words."""

from typing import NamedTuple

from lowprec.formats import Format
from lowprec.formats.carriers import CARRIERS
from lowprec.modes import Rounding

WORDS = (0x00000000, 0x00000001, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x9E3779B9)
"""The ends of the range, both sides of its middle, and one word that is like no other."""

FEW_BITS = 8
"""Of ``random_bits``, besides all 32."""


class Setting(NamedTuple):
    """A rounding mode; a stochastic one with the random word that every element is given."""

    rounding: Rounding
    random_bits: int | None = None
    """How many bits of the word the mode looks at; None where it does not take a number."""
    word: int | None = None
    """The word; None for a deterministic mode."""

    def __str__(self) -> str:
        """The mode, and what was chosen for it."""
        bits = "" if self.random_bits is None else f", {self.random_bits} bits"
        word = "" if self.word is None else f", word {self.word:#010x}"
        return f"{self.rounding}{bits}{word}"


def settings(format: Format | None = None) -> tuple[Setting, ...]:
    """Every mode: the deterministic ones once, the stochastic ones with several words.

    Words that a mode cannot tell apart are given once.

    Args:
        format: Leaves out modes that it refuses in some carrier, as a codebook over scales does noise.

    Returns:
        In the order of the modes.

    Example:
        >>> [str(s) for s in settings() if s.rounding == "stochastic_equal"]
        ['stochastic_equal, word 0x00000000', 'stochastic_equal, word 0x80000000']
    """
    chosen = []
    for rounding in Rounding:
        if format is not None and _is_refused(rounding, format):
            continue
        if not rounding.is_stochastic:
            chosen.append(Setting(rounding))
            continue
        for random_bits in (32, FEW_BITS) if rounding.takes_random_bits else (None,):
            distinct = {word >> (32 - (random_bits or 1)): word for word in reversed(WORDS)}
            chosen.extend(Setting(rounding, random_bits, distinct[top]) for top in sorted(distinct))
    return tuple(chosen)


def _is_refused(rounding: Rounding, format: Format) -> bool:
    """Whether a carrier that holds the format does not take the mode."""
    try:
        for carrier in CARRIERS.values():
            if format.missing_in(carrier) is None:
                format.check_rounding(rounding, carrier.name)
    except ValueError:
        return True
    return False


def seeded_settings(format: Format | None = None) -> tuple[Setting, ...]:
    """The stochastic modes, for words that follow from a seed.

    Args:
        format: As for ``settings``.

    Returns:
        Each with all the numbers of random bits that ``settings`` has.

    Example:
        >>> len(seeded_settings())
        7
    """
    return tuple(dict.fromkeys(s._replace(word=0) for s in settings(format) if s.rounding.is_stochastic))
