"""Arithmetic: what the multiplier and the adder inside a product do."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, cast

from lowprec.errors import type_error, value_error
from lowprec.formats import FixedPoint, FloatingPoint, FormatLike, resolve
from lowprec.formats.carriers import CARRIERS
from lowprec.formats.format import check_integer
from lowprec.modes import Overflow, Rounding, check_random_bits

Accumulator = FloatingPoint | FixedPoint
"""The formats that sums may be rounded to."""


@dataclass(frozen=True)
class Exact:
    """In place of a format of sums: none is rounded but the whole, to the dtype of the result.

    Example:
        >>> Arithmetic("exact").accumulate == Exact(), str(Exact())
        (True, 'exact')
    """

    def check_carrier(self, name: str) -> None:
        """Every carrier holds what is rounded to it."""

    def shifted(self, exponent: int) -> "Exact":
        """The same: a carrier's range does not move."""
        return self

    def __str__(self) -> str:
        """What Arithmetic reads it from."""
        return "exact"


CARRIER = "carrier"
"""In place of an arithmetic: the product that torch itself computes in the carrier."""

ORDERS = ("sequential", "pairwise")
"""In which products may be summed."""

BLOCK = "block"
"""A chunk that is one group of both operands, whose scales multiply its sum."""

_HELD = 53
"""Significant bits of binary64, in which sums are rounded to odd before they are rounded to a format."""
_HIGHEST = 2.0**900
"""Largest values lie below: no exact sum overflows binary64."""
_LOWEST = 2.0**-900
"""Smallest values lie above: none is subnormal there."""
_SCALABLE = 400
"""Where scales of groups multiply sums, their formats end at two to this power, and begin at its inverse:
times two scales between 2^-149 and 2^128 each bit of a sum is one of binary64's."""


@dataclass(frozen=True)
class Arithmetic:
    """How the products and sums inside a matrix product are rounded.

    Sequential sums start from +0 and add the products k = 0, 1, … one by one, each sum rounded to
    ``accumulate``. Pairwise sums add neighbors level by level, an odd last one carried up, and if that is a
    product, as exact as it is until it is added; a product that is alone is rounded by itself. With
    ``chunk`` every so many consecutive products are summed that way, and the sums of the chunks
    sequentially, from +0, in ``chunk_accumulate``. A bias is added last, in the format of the last sum.
    Every rounding is of the exact result of one operation. An exact sum of zero is +0, under ``"down"`` -0,
    unless both terms are zeros of one sign, which it keeps; nothing at all sums to +0. NaN and infinities
    follow IEEE 754, then the format.

    Under ``compensation="kahan"`` each sequential step is y = product - c, t = sum + y,
    c = (t - sum) - y, sum = t, with c = +0 at first and all four rounded to ``accumulate``, each with noise
    of its own; sums of chunks are added plainly.

    Under ``accumulate="exact"`` (a quire) nothing is rounded but the whole: products and bias are summed as
    if every format were unbounded, and that sum is rounded once to the dtype of the result, which
    overflows, or not, as IEEE 754 says of the mode, and whose range a loss scale does not move. With
    ``chunk`` each chunk's sum is exact, and what it and the sum of those before it make is rounded once to
    ``chunk_accumulate``, which must be given; the bias is added to that, as always. An exact zero has the
    sign that one sum after the other would give it: +0, but -0 under ``"down"`` unless every term is +0.

    With ``chunk="block"`` a chunk is one group of a scaled format (MX, NVFP4), as the OCP specification
    defines their dot product. Both operands must have groups of one size along the contraction, the last
    of which may be shorter; or one scale along all of it. What is multiplied are elements: values over
    the scale of their group. They are summed like any chunk; a chunk's sum times both scales is added to
    the sum of chunks in ``chunk_accumulate``, and this exact x + y s t rounded once. Where scales have one
    for the tensor themselves (NVFP4), the scales of the groups are applied inside, those of the tensors at
    the end: the last sum times both is rounded once more to ``chunk_accumulate``, before a bias is added.

    Args:
        accumulate: The format of sums: floating point, or fixed point that saturates or wraps; or its
            name; or ``"exact"``.
        multiply: The format of products; None keeps them exact, as a fused multiply-add does.
        rounding: How sums are rounded.
        multiply_rounding: How products are; None as sums are.
        random_bits: Bits of noise of the stochastic modes among the two, 1 to 32; None for 32.
        order: ``"sequential"`` or ``"pairwise"``.
        chunk: How many consecutive products are summed before their sum is added to the others'; or
            ``"block"``, for one group of the operands.
        chunk_accumulate: The format of the sums of chunks; None for ``accumulate``, unless that is exact.
        compensation: None or ``"kahan"``.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If a name is unknown, a format is none that sums can be rounded to, or options
            contradict each other.

    Example:
        >>> Arithmetic("e6m9ieee", chunk=64).describe()
        'e6m9ieee nearest_even, fused, sequential in chunks of 64'
    """

    accumulate: Accumulator | Exact
    multiply: Accumulator | None
    rounding: Rounding
    multiply_rounding: Rounding | None
    random_bits: int | None
    order: str
    chunk: int | str | None
    chunk_accumulate: Accumulator | None
    compensation: str | None

    def __init__(
        self,
        accumulate: FormatLike | Exact,
        *,
        multiply: FormatLike | None = None,
        rounding: Rounding | str = "nearest_even",
        multiply_rounding: Rounding | str | None = None,
        random_bits: int | None = None,
        order: str = "sequential",
        chunk: int | str | None = None,
        chunk_accumulate: FormatLike | None = None,
        compensation: str | None = None,
    ) -> None:
        mode = Rounding.parse(rounding, "rounding")
        if multiply is None and multiply_rounding is not None:
            raise value_error(
                "multiply_rounding", "be None where products are exact", multiply_rounding, "Name `multiply`."
            )
        if chunk is None and chunk_accumulate is not None:
            raise value_error("chunk_accumulate", "be None without chunks", chunk_accumulate, "Set `chunk`.")
        modes = [mode]
        if multiply is not None:
            modes.append(
                mode if multiply_rounding is None else Rounding.parse(multiply_rounding, "multiply_rounding")
            )
        check_random_bits(random_bits, *modes)
        for name, value, allowed in (
            ("order", order, ORDERS),
            ("compensation", compensation, (None, "kahan")),
        ):
            if value not in allowed:
                raise value_error(name, f"be one of {', '.join(map(repr, allowed))}", value)
        if isinstance(chunk, str) and chunk != BLOCK:
            raise value_error("chunk", "be a number or 'block'", chunk)
        if chunk is not None and chunk != BLOCK:
            check_integer("chunk", chunk, 1, 2**31 - 1)
        own, of_chunks = _sums(accumulate, chunk, chunk_accumulate)
        for name, held in (
            ("accumulate", own),
            ("multiply", None if multiply is None else _element("multiply", multiply)),
            ("rounding", mode),
            ("multiply_rounding", None if multiply is None else modes[1]),
            ("random_bits", random_bits),
            ("order", order),
            ("chunk", chunk),
            ("chunk_accumulate", of_chunks),
            ("compensation", compensation),
        ):
            object.__setattr__(self, name, held)
        self._check_exact()
        self._check_compensation()
        if self.in_blocks:
            self._check_blocks()
        else:
            self._check_wrapping()

    def _check_exact(self) -> None:
        """Refuse what changes no exact sum."""
        if self.is_exact and self.order != "sequential":
            raise value_error("order", "be 'sequential', the default, where sums are exact", self.order)
        if self.is_exact and self.compensation is not None:
            raise value_error("compensation", "be None where sums are exact", self.compensation)

    def _check_wrapping(self) -> None:
        """Refuse chunks whose sums are too large for wrapped ones to be exact."""
        total = self.chunk_accumulate
        if not isinstance(total, FixedPoint) or total.overflow is not Overflow.WRAP or self.is_exact:
            return
        own = self.sum_format
        largest = max(own.max, -own.min, total.max, -total.min)
        most = _HELD - 2 - guard_bits(self.rounding, self.random_bits)
        if largest >= 2.0**most * float(total.step):
            must = f"saturate, or be given sums of chunks below 2^{most} of its steps"
            remedy = "Let `accumulate` be narrower, or drop chunk_accumulate."
            raise value_error("chunk_accumulate", must, str(total), remedy)

    def _check_blocks(self) -> None:
        """Refuse formats whose values times scales are no exact numbers of binary64, or lose what wraps."""
        if self.is_exact:
            remedy = "Name a format of sums that holds those of a group, 'e8m40' for one."
            raise value_error("chunk", f"be a number where sums are exact, not {BLOCK!r}", self.chunk, remedy)
        total = self.chunk_accumulate or self.sum_format
        if isinstance(total, FixedPoint) and total.overflow is Overflow.WRAP:
            remedy = "Name a floating-point format, 'binary32' for one."
            raise value_error("chunk_accumulate", "not wrap where scales multiply sums", str(total), remedy)
        for name, format in (("accumulate", self.sum_format), ("chunk_accumulate", total)):
            ends = max(format.max, -format.min), format.smallest_subnormal
            if ends[0] > 2.0**_SCALABLE or ends[1] < 2.0**-_SCALABLE:
                must = f"have values between 2**-{_SCALABLE} and 2**{_SCALABLE} where chunk is {BLOCK!r}"
                raise value_error(name, must, str(format))
        guard = guard_bits(self.rounding, self.random_bits)
        if digits(total) + guard > _HELD:
            most = _HELD - digits(total) - 2
            remedy = f"Set random_bits to at most {most}." if guard > 2 and most >= 1 else ""
            must = f"have at most {_HELD - guard} significant bits under {self.rounding} rounding of blocks"
            raise value_error("chunk_accumulate", must, str(total), remedy)

    def _check_compensation(self) -> None:
        """Refuse an order that sums are not compensated in."""
        if self.compensation is not None and self.order != "sequential":
            raise value_error("compensation", "be None in pairwise sums", self.compensation)

    @property
    def is_exact(self) -> bool:
        """Whether no sum is rounded but the whole, or that of chunks."""
        return isinstance(self.accumulate, Exact)

    @property
    def sum_format(self) -> Accumulator:
        """The format that each sum is rounded to, where any is."""
        return cast(Accumulator, self.accumulate)

    @property
    def final(self) -> Accumulator | Exact:
        """The format of the last sum, and so of the result."""
        return self.accumulate if self.chunk_accumulate is None else self.chunk_accumulate

    @property
    def is_stochastic(self) -> bool:
        """Whether any rounding needs noise."""
        product = self.multiply_rounding
        return self.rounding.is_stochastic or (product is not None and product.is_stochastic)

    @property
    def in_blocks(self) -> bool:
        """Whether a chunk is one group of the operands."""
        return self.chunk == BLOCK

    def shifted(self, exponent: int) -> "Arithmetic":
        """The arithmetic that computes x as this one computes x times 2**exponent.

        In blocks the scales take the power of two, so no sum inside a block notices it.
        """

        def moved(format: Accumulator | Exact | None) -> Any:
            """One of the formats."""
            return None if format is None else format.shifted(exponent)

        if self.in_blocks:
            return replace(self, chunk_accumulate=moved(self.chunk_accumulate))
        return replace(
            self,
            accumulate=moved(self.accumulate),
            multiply=moved(self.multiply),
            chunk_accumulate=moved(self.chunk_accumulate),
        )

    def describe(self) -> str:
        """One line for a person."""
        bits = "" if self.random_bits is None else f" {self.random_bits} random bits"
        product = "fused" if self.multiply is None else f"products {self.multiply} {self.multiply_rounding}"
        order = self.order if self.compensation is None else "Kahan"
        order = "at once" if self.is_exact else order
        if self.chunk is not None:
            order += " in blocks" if self.in_blocks else f" in chunks of {self.chunk}"
            if self.chunk_accumulate != self.accumulate:
                order += f" summed in {self.chunk_accumulate}"
        return f"{self.accumulate} {self.rounding}{bits}, {product}, {order}"

    def to_value(self) -> str | dict[str, Any]:
        """A string if only the accumulator is given, else a dict; from_value reads both."""
        value: dict[str, Any] = {"accumulate": str(self.accumulate)}
        plain = Arithmetic(self.accumulate)
        for field in fields(self):
            own = getattr(self, field.name)
            if field.name != "accumulate" and own != getattr(plain, field.name):
                value[field.name] = own if isinstance(own, int) else str(own)
        if value.get("multiply_rounding") == str(self.rounding):
            del value["multiply_rounding"]
        if self.chunk_accumulate == self.accumulate:
            del value["chunk_accumulate"]
        return value["accumulate"] if len(value) == 1 else value

    @classmethod
    def from_value(cls, value: Any, name: str = "arithmetic") -> "Arithmetic":
        """An arithmetic from what to_value gave; ``name`` is blamed for a wrong one."""
        if isinstance(value, Arithmetic):
            return value
        if not isinstance(value, Mapping):
            return cls(value)
        known = {f.name for f in fields(cls)}
        if unknown := sorted(set(value) - known):
            raise value_error(name, f"have no keys but {', '.join(sorted(known))}", unknown)
        if "accumulate" not in value:
            raise value_error(name, "name the format `accumulate`", dict(value))
        return cls(**value)


@dataclass(frozen=True)
class CarrierArithmetic:
    """The product that torch itself computes in the carrier, where the forward's would else be repeated.

    Example:
        >>> CarrierArithmetic().describe()
        "the carrier's own"
    """

    def describe(self) -> str:
        """One line for a person."""
        return "the carrier's own"

    def to_value(self) -> str:
        """A string that arithmetic_of reads."""
        return CARRIER


def arithmetic_of(value: Any, name: str) -> Arithmetic | CarrierArithmetic:
    """What a scheme says of a product: an arithmetic, anything that is read as one, or ``"carrier"``."""
    if isinstance(value, CarrierArithmetic) or value == CARRIER:
        return CarrierArithmetic()
    return Arithmetic.from_value(value, name)


def format_of(carrier: str) -> FloatingPoint:
    """The format whose values are a carrier's."""
    space = CARRIERS[carrier]
    return FloatingPoint((space.highest_exponent + 1).bit_length(), space.precision - 1)


def digits(format: Accumulator) -> int:
    """How many significant bits a sum may have above the place it is rounded at."""
    if isinstance(format, FloatingPoint):
        return format.mantissa_bits + 1
    return format.bits


def guard_bits(rounding: Rounding, random_bits: int | None) -> int:
    """How many bits below that place, the last of them sticky, tell how a sum is rounded."""
    if not rounding.takes_random_bits:
        return 2
    return (32 if random_bits is None else random_bits) + 2


def _sums(
    accumulate: FormatLike | Exact, chunk: int | str | None, chunk_accumulate: FormatLike | None
) -> tuple[Accumulator | Exact, Accumulator | None]:
    """The formats of sums, and of those of chunks."""
    exact = isinstance(accumulate, Exact) or (isinstance(accumulate, str) and accumulate == "exact")
    own = Exact() if exact else _element("accumulate", accumulate)
    if chunk is None:
        return own, None
    wanted = own if chunk_accumulate is None else chunk_accumulate
    if isinstance(wanted, Exact) or (isinstance(wanted, str) and wanted == "exact"):
        must = "be the format that exact sums of chunks are added in"
        raise value_error("chunk_accumulate", must, chunk_accumulate, "Name one, or drop `chunk`.")
    return own, _element("chunk_accumulate", wanted)


def _element(name: str, format: FormatLike) -> Accumulator:
    """A floating-point or fixed-point format in the middle of binary64's range."""
    try:
        held = resolve(format)
    except (TypeError, ValueError) as error:
        raise type(error)(f"an Arithmetic has as its `{name}`: {error}") from None
    if not isinstance(held, FloatingPoint | FixedPoint):
        raise type_error(name, "be floating or fixed point", str(held), "No other arithmetic is built.")
    held.check_carrier("float64")
    if held.overflow is Overflow.UNBOUNDED:
        raise value_error(name, "be bounded", str(held), "Give it a width.")
    if max(held.max, -held.min) > _HIGHEST or held.smallest_subnormal < _LOWEST:
        raise value_error(name, "have values between 2**-900 and 2**900", str(held))
    return held
