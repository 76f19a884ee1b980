"""The public encode and decode: values as the bit patterns that hardware would keep."""

from typing import Any

import torch
from torch import Tensor

from lowprec.errors import type_error, value_error
from lowprec.formats import (
    FixedPoint,
    FloatingPoint,
    FormatLike,
    GroupedFormat,
    Posit,
    TabledFormat,
    resolve,
)
from lowprec.modes import Rounding
from lowprec.ops import scaling
from lowprec.ops.carriers import CARRIERS
from lowprec.ops.coding import code_dtype
from lowprec.ops.constant import constant
from lowprec.ops.quantize import (
    Spec,
    check_carrier,
    check_place,
    check_sources,
    check_tensor,
    make_spec,
    seed_tensor,
)


def encode(
    x: Tensor,
    format: FormatLike,
    *,
    rounding: Rounding | str = "nearest_even",
    random_bits: int | None = None,
    generator: torch.Generator | None = None,
    seed: int | Tensor | None = None,
    scale: scaling.Scales | None = None,
) -> Any:
    """Quantize, and give the codes of the values: ``decode(encode(x)) == quantize(x)`` for equal seeds.

    Floating-point codes are sign, exponent, mantissa; fixed-point codes and the mantissas of block
    floating point are two's complement. A NaN gets the quiet NaN code where the format has one. -0
    has a code of its own where the format has a signed zero. Overflow is quantize's.

    Args:
        x: Real values, as for quantize.
        format: A format, its name, or a torch dtype that stands for one.
        rounding: As for quantize.
        random_bits: As for quantize.
        generator: As for quantize.
        seed: As for quantize.
        scale: As for quantize.

    Returns:
        Codes in the shape of x, uint8, uint16, uint32 or uint64 as the width asks; for a block format
        a pair (codes, scales), the scales powers of two in the dtype of x, one for each group, in a
        tensor with as many dimensions as x. The scales of a scaled format have the dtype that stands for
        theirs (torch.float8_e8m0fnu, torch.float8_e4m3fn, torch.float32, …); where scales have scales
        or zero points (int32), they are a pair.

    Raises:
        TypeError: As quantize.
        ValueError: As quantize; if the format has no codes (unbounded fixed point); or if a NaN has
            none in the format (an infinity that wraps becomes one).

    Example:
        >>> encode(torch.tensor([1.0, -448.0, 0.3]), "e4m3fn")
        tensor([ 56, 254,  42], dtype=torch.uint8)
        >>> encode(torch.tensor([1.0, -0.5]), "bfp4")
        (tensor([ 4, 14], dtype=torch.uint8), tensor([1.]))

    Reference:
        IEEE 754-2019, 3.4; OCP 8-bit Floating Point Specification (OFP8) 1.0.
    """
    if not isinstance(x, Tensor):
        raise type_error("x", "be a tensor", type(x), "Wrap it with torch.tensor.")
    check_tensor(x)
    spec, _, in_groups = _checked(format, rounding, random_bits, x.dtype)
    check_sources(spec, seed, generator)
    seeds = seed_tensor(x, seed, generator) if spec.is_stochastic else None
    given = scaling.given_scales(scale, spec.format, x.device)
    if not in_groups:
        return torch.ops.lowprec.encode(x.detach(), seeds, *spec)
    codes, *levels = torch.ops.lowprec.encode_groups(x.detach(), given, seeds, *spec)
    return codes, scaling.as_scales(levels)


def decode(
    codes: Tensor,
    format: FormatLike,
    *,
    dtype: torch.dtype | None = None,
    scales: scaling.Scales | None = None,
) -> Tensor:
    """The values of codes; every code has one, those of NaN and infinity too.

    The one code that a symmetric format leaves out gives what two's complement says.

    Args:
        codes: Integers of the dtype that encode gives for the format. Bits above the width of a
            fixed-point or block code do not count; above that of a floating-point code they are an error.
        format: A format, its name, or a torch dtype that stands for one.
        dtype: The carrier of the values; None for float32, or for the dtype of a block format's scales.
        scales: What encode gave beside the codes: for each group of a block format a power of two that
            the format and the carrier have as its exponent; for each group of a scaled format a positive
            value of its scale, or NaN, which makes the whole group NaN.

    Returns:
        Values in the shape of codes.

    Raises:
        TypeError: If codes or scales have another dtype, or ``dtype`` is no carrier.
        ValueError: If the format has no codes, the carrier cannot hold it, a code is wider than the
            format, or scales are missing, superfluous, of the wrong shape, or other numbers.

    Example:
        >>> decode(torch.tensor([56, 254, 127], dtype=torch.uint8), "e4m3fn")
        tensor([   1., -448.,   nan])
    """
    target = dtype or torch.float32
    _check_place("codes", codes)
    count, name = scaling.level_count(format)
    levels: list[Any] = []
    if count:
        levels = [None] if scales is None else list(scaling.as_list("scales", scales, count, name))
        if any(level is None for level in levels):
            raise value_error("scales", f"be given for {name}", None, "Pass those of encode.")
    elif scales is not None:
        levels = [scales]
    for level in levels:
        _check_place("scales", level)
    if levels and not count:
        if dtype not in (None, levels[0].dtype):
            raise value_error("dtype", "be None or the dtype of scales", dtype)
        target = levels[0].dtype
    if target not in CARRIERS:
        blamed = "dtype" if scales is None or count else "scales"
        raise type_error(blamed, f"be one of {', '.join(map(str, CARRIERS))}", target)
    spec, wanted, in_groups = _checked(format, Rounding.NEAREST_EVEN, None, target)
    if codes.dtype != wanted:
        raise type_error("codes", f"be {wanted} for {spec.format}", codes.dtype)
    if levels and not in_groups:
        must = f"be None for {spec.format}"
        raise value_error("scales", must, tuple(levels[0].shape), "Only formats with groups have them.")
    detached = [level.detach() for level in levels]
    values: Tensor = torch.ops.lowprec.decode(codes, detached, spec.format, target)
    return values


@constant
def _checked(
    format: FormatLike, rounding: Rounding | str, random_bits: int | None, carrier: torch.dtype
) -> tuple[Spec, torch.dtype, bool]:
    """The spec, the dtype of the codes, and whether there are groups; the format must have codes."""
    parsed = resolve(format)
    if not isinstance(parsed, FloatingPoint | FixedPoint | GroupedFormat | TabledFormat | Posit):
        remedy = "Derive it from TabledFormat."
        raise type_error("format", "be of a family of lowprec.formats", parsed, remedy)
    if isinstance(parsed, FixedPoint) and not parsed.is_bounded:
        raise value_error("format", "have codes of a certain width", str(parsed), "Give word_bits.")
    spec = make_spec(parsed, rounding, random_bits)
    check_carrier(spec, carrier)
    return spec, code_dtype(parsed), isinstance(parsed, GroupedFormat)


def _check_place(name: str, given: Any) -> None:
    """Refuse what is no tensor that a kernel takes."""
    if not isinstance(given, Tensor):
        raise type_error(name, "be a tensor", type(given))
    check_place(given, name)
