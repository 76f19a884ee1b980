"""What is verified, in words, and one part of that work."""

from collections.abc import Callable
from dataclasses import dataclass

from lowprec.app.verify.comparison import Outcome


@dataclass(frozen=True)
class Claim:
    """Equal to an oracle on a set of inputs."""

    name: str
    inputs: str
    """The set of inputs; with the formats and modes, what is proven."""
    oracle: str
    """What the results are held against."""


CLAIMS = {
    claim.name: claim
    for claim in (
        Claim(
            "reference",
            "codes, midpoints, thresholds, their neighbors, range ends, specials",
            "`lowprec.reference`: rational arithmetic",
        ),
        Claim("codes", "the same around every code of wide formats", "sorted table, float64"),
        Claim("patterns", "all 65,536 bfloat16 and all 65,536 float16 numbers", "sorted table, float64"),
        Claim("seeds", "the random words of seeds, on all bfloat16 numbers", "Philox in Python integers"),
        Claim("flush", "all bfloat16 numbers, subnormals flushed to zero", "the same without"),
        Claim("threads", "all bfloat16 numbers on 1, 2 and 3 threads", "one thread"),
        Claim("torch", "all bfloat16 and float16 numbers", "casts of torch"),
        Claim("ml_dtypes", "all bfloat16 and float16 numbers", "casts of ml_dtypes"),
        Claim("gfloat", "codes, midpoints, thresholds, their neighbors", "gfloat"),
        Claim("gfloat blocks", "groups with maxima around powers of two", "gfloat, block by block"),
        Claim(
            "torchao",
            "groups with maxima around powers of two; all bfloat16 numbers",
            "`MXTensor` of torchao",
        ),
        Claim("all", "all 2^32 float32 numbers", "casts of torch; `numpy.rint` in float64"),
        Claim(
            "proof",
            "all 2^32 float32 numbers: monotone, and right on both sides of every threshold",
            "one pass, and `lowprec.reference`",
        ),
    )
}
"""In the order in which they are worked on and shown."""

Tick = Callable[[float], None]
"""Told how much of a part is done, 0 to 1; raises Interrupted if the user wants to stop."""


@dataclass(frozen=True)
class Part:
    """A piece of verification that is either finished or not."""

    claim: Claim
    format: str
    settings: int
    """How many modes, words and numbers of random bits it covers."""
    seconds: float
    """About how long it takes, for the progress bar."""
    work: Callable[[Tick], Outcome]
    detail: str = ""
    """What tells it from other parts about the claim and the format."""

    @property
    def key(self) -> str:
        """A name that no other part has, and that the same part has in every run."""
        return " ".join(filter(None, (self.claim.name, self.format, self.detail)))
