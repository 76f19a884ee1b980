"""Posits by the words of their standard, on strings of bits: no other definition is used here."""

from fractions import Fraction
from itertools import takewhile

_LONG = 120
"""Digits of a number that are written down; what follows counts as one more digit that is not zero."""


def value(code: int, bits: int, es: int) -> Fraction | None:
    """The value of a code, of any width, by the formula of the standard; None for NaR.

    The formula is for two's complement as it stands: nothing is negated.
    """
    string = f"{code:0{bits}b}"
    if "1" not in string:
        return Fraction(0)
    if "1" not in string[1:]:
        return None
    sign, first = int(string[0]), string[1]
    run = len(list(takewhile(lambda bit: bit == first, string[1:])))
    regime = -run if first == "0" else run - 1
    rest = string[2 + run :] + "0" * (es + 1)  # the bit that ends the regime, and what there is no room for
    exponent = int("0" + rest[:es], 2)
    fraction = Fraction(int(rest[es:], 2), 2 ** len(rest[es:]))
    return (1 - 3 * sign + fraction) * Fraction(2) ** ((1 - 2 * sign) * (2**es * regime + exponent + sign))


def digits(x: Fraction, es: int) -> str:
    """The bits of a positive number behind the sign, as if there were room for all."""
    scale = x.numerator.bit_length() - x.denominator.bit_length()
    scale -= x < Fraction(2) ** scale
    regime, exponent = divmod(scale, 2**es)
    string = "1" * (regime + 1) + "0" if regime >= 0 else "0" * -regime + "1"
    string += f"{exponent:0{es}b}" if es else ""
    fraction, rest = divmod((x / Fraction(2) ** scale - 1) * 2**_LONG, 1)
    return string + f"{fraction:0{_LONG}b}" + ("1" if rest else "0")


def rounded(x: Fraction, bits: int, es: int, tie: str = "even") -> int:
    """The code of a number rounded to nearest, by its digits; of a number past the last value that one's."""
    if x == 0:
        return 0
    string = digits(abs(x), es)
    code, rest = int("0" + string[: bits - 1], 2), string[bits - 1 :]
    up = rest[0] == "1"
    if up and "1" not in rest[1:]:
        up = {"even": code % 2 == 1, "odd": code % 2 == 0, "away": True, "zero": False, "up": x > 0,
              "down": x < 0}[tie]  # fmt: skip
    code = max(1, min(code + up, 2 ** (bits - 1) - 1))
    return code if x > 0 else 2**bits - code
