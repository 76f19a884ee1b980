"""A format of every family, and one of a user's own."""

from collections.abc import Sequence
from dataclasses import dataclass

from lowprec.formats import Codebook, TabledFormat


@dataclass(frozen=True)
class Quarters(TabledFormat):
    """Quarters, -0.0, infinities and NaN."""

    count: int

    def code_values(self) -> Sequence[float]:
        inf = float("inf")
        return [*(k / 4 for k in range(-self.count, self.count + 1)), -0.0, inf, -inf, float("nan")]


OWN = Quarters(3)
FAMILIES = (
    "e4m3fn", "e2m1<nosubnormals>", "e5m2fnuz", "binary16", "fixed4f2", "ufixed4f2", "fixed6f3<symmetric>",
    "fixed6f3<wrap>", "bfp5", "mxfp4", "nvfp4", "uint8", "nf4", "posit8", "log3f2", "ternary", "binary",
    "binary6p3se", "binary6p3uf", Codebook([-1.5, 0.25, 4.0]), OWN,
)  # fmt: skip
