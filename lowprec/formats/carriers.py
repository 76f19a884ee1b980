"""Carriers: the torch dtypes whose tensors hold quantized values."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Carrier:
    """The range of a binary floating-point type, in exponents of two."""

    name: str
    precision: int
    """Significant bits, the hidden one included."""
    lowest_exponent: int
    """The smallest positive value is 2 to this."""
    highest_exponent: int
    """The largest finite value lies below 2 to this plus one."""


CARRIERS = {
    carrier.name: carrier
    for carrier in (
        Carrier("bfloat16", 8, -133, 127),
        Carrier("float16", 11, -24, 15),
        Carrier("float32", 24, -149, 127),
        Carrier("float64", 53, -1074, 1023),
    )
}
