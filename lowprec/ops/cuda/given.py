"""Scales that are given, as numbers on the device; what is no scale of the format is refused as on the CPU.

An error needs to know what the device holds, so these checks wait for it: nothing else here does. While a
CUDA graph is captured nothing can be waited for, and the device itself stops at a wrong scale in a replay.
"""

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor

from lowprec.formats import BlockFloatingPoint, Scaled
from lowprec.formats.carriers import CARRIERS as RANGES
from lowprec.ops import coding, scaling
from lowprec.ops.carriers import CARRIERS

_NAN_CODE, _INFINITY, _LEAST_NORMAL, _MANTISSA = 0xFF, 0x7F800000, 1 << 23, (1 << 23) - 1
"""NaN in e8m0; patterns of binary32."""


def refuse_where(wrong: Tensor, refuse: Callable[[Tensor], NoReturn]) -> None:
    """Have ``refuse`` raise the error of what is wrong, if anything is."""
    if wrong.is_cuda and torch.cuda.is_current_stream_capturing():
        torch._assert_async(~wrong.any())
    elif wrong.any():
        refuse(wrong)


def checked_levels(
    name: str, levels: Sequence[Tensor | None], format: Scaled, shape: Sequence[int], *, nan: bool
) -> list[Any]:
    """Scales of each level in binary64, those of e8m0 as codes, and zero points; one for each group."""
    scaling.check_levels(name, levels, format, shape, partial=not nan)
    found: list[Tensor | None] = []
    for i, (level, dtype) in enumerate(zip(levels, scaling.dtypes_of(format), strict=True)):
        flat = None if level is None else level.detach().reshape(-1).contiguous()
        if flat is None:
            found.append(None)
        elif dtype == torch.int32:
            found.append(_zero_points(name, flat, format))
        elif dtype == torch.float8_e8m0fnu:
            found.append(_codes(name, flat, nan=nan))
        else:
            found.append(_numbers(name, flat, dtype, format.levels[i], nan=nan))
    return found


def _zero_points(name: str, zeros: Tensor, format: Scaled) -> Tensor:
    """Zero points within the integers of the format."""
    outside = (zeros < 0) | (zeros > int(format.element.max))
    refuse_where(outside, lambda wrong: scaling.refuse_zero_point(name, _first(zeros, wrong), format))
    return zeros


def _codes(name: str, level: Tensor, *, nan: bool) -> Tensor:
    """The codes of e8m0."""
    if level.dtype == torch.float32:
        bits = level.view(torch.int32)
        codes = (bits >> 23).where(bits != scaling.LEAST, 0).where(~level.isnan(), _NAN_CODE)
        power = (bits & _MANTISSA == 0) & (bits >= _LEAST_NORMAL) & (bits < _INFINITY)
        refused = ~(power | (bits == scaling.LEAST))
    else:
        codes = level.view(torch.uint8)
        refused = codes == _NAN_CODE
    refused = refused & (codes != _NAN_CODE) if nan else refused
    refuse_where(refused, lambda wrong: scaling.refuse_scale(name, _first(level, wrong), nan=nan))
    return codes.to(torch.uint8)


def _numbers(name: str, level: Tensor, dtype: torch.dtype, format: Any, *, nan: bool) -> Tensor:
    """Positive finite numbers of the scale's format, in binary64."""
    if level.dtype != dtype:
        rounded = torch.ops.lowprec.quantize_plain(level, None, str(format), "nearest_even", 32)
        other = (rounded != level) & ~level.isnan()
        refuse_where(other, lambda wrong: scaling.refuse_other(name, _first(level, wrong), format))
    numbers = level.double()
    refused = ~((numbers > 0) & (numbers <= format.max))
    if nan:
        refused &= ~(numbers.isnan() & ~numbers.signbit())
    refuse_where(refused, lambda wrong: scaling.refuse_scale(name, _first(numbers, wrong), nan=nan))
    return numbers


def _first(values: Tensor, wrong: Tensor) -> Any:
    """The first of those that are wrong."""
    place = int(wrong.int().argmax())
    value = values[place : place + 1]
    return value.item() if value.dtype == torch.int32 else value.float().item()


def checked_powers(scales: Tensor | None, format: BlockFloatingPoint, shape: Sequence[int]) -> Tensor:
    """The powers of two of the groups of block floating point, as patterns of their own dtype."""
    flat = coding.check_grid(scales, format, shape).detach().reshape(-1).contiguous()
    exponents = coding.exponents_of(format, RANGES[CARRIERS[flat.dtype]])
    digits, exponent = torch.frexp(flat.double())
    fits = (digits == 0.5) & (exponent > exponents[0]) & (exponent <= exponents[-1] + 1)
    refuse_where(~fits, lambda wrong: coding.refuse_power(_first_number(flat, wrong), format, exponents))
    return flat


def _first_number(values: Tensor, wrong: Tensor) -> float:
    """The same as it is written in an error about a tensor of the carrier."""
    return float(values[int(wrong.int().argmax())].item())
