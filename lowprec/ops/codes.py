"""The public encode and decode: values as the bit patterns that hardware would keep."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from lowprec.errors import type_error, value_error
from lowprec.formats import BlockFloatingPoint, FixedPoint, FloatingPoint, Format, FormatLike, resolve
from lowprec.formats.carriers import CARRIERS as RANGES
from lowprec.formats.carriers import Carrier
from lowprec.kernels import dispatch
from lowprec.modes import Rounding
from lowprec.ops.library import CARRIERS
from lowprec.ops.quantize import (
    Spec,
    check_carrier,
    check_sources,
    check_tensor,
    make_spec,
    quantize_into,
    seed_tensor,
)

_CODES = {8: torch.uint8, 16: torch.uint16, 32: torch.uint32, 64: torch.uint64}
_PATTERNS = {2: torch.uint16, 4: torch.uint32, 8: torch.uint64}


def encode(
    x: Tensor,
    format: FormatLike,
    *,
    rounding: Rounding | str = "nearest_even",
    random_bits: int | None = None,
    generator: torch.Generator | None = None,
    seed: int | Tensor | None = None,
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

    Returns:
        Codes in the shape of x, uint8, uint16, uint32 or uint64 as the width asks; for a block format
        a pair (codes, scales), the scales powers of two in the dtype of x, one for each group, in a
        tensor with as many dimensions as x.

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
    parsed = _with_codes(format)
    spec = make_spec(parsed, rounding, random_bits)
    check_carrier(spec.format, x.dtype)
    check_sources(spec, seed, generator)
    seeds = seed_tensor(x, seed, generator) if spec.is_stochastic else None
    x = x.detach().contiguous()
    codes = torch.empty(x.shape, dtype=_code_dtype(parsed), device=x.device)
    if isinstance(parsed, BlockFloatingPoint):
        return _encode_block(x, seeds, spec, parsed, codes)
    if x.is_meta:
        return codes
    values = torch.empty_like(x)
    quantize_into(x, seeds, spec, values)
    if not parsed.has_nan:
        _refuse_nan(values, spec.format)
    dispatch.encode(
        values.data_ptr(), codes.data_ptr(), CARRIERS[x.dtype], _numpy_name(codes), x.numel(), spec.format
    )
    return codes


def _encode_block(
    x: Tensor, seed: Tensor | None, spec: Spec, format: BlockFloatingPoint, codes: Tensor
) -> tuple[Tensor, Tensor]:
    """The codes and scales of a block format."""
    scales = torch.empty(_grid(format, x.shape), dtype=x.dtype, device=x.device)
    if x.is_meta:
        return codes, scales
    _refuse_nan(x, spec.format)
    dispatch.encode_block(
        x.data_ptr(), codes.data_ptr(), scales.data_ptr(), CARRIERS[x.dtype], _numpy_name(codes), x.shape,
        spec.format, spec.rounding, random_bits=spec.random_bits,
        seed=0 if seed is None else seed.item(),  # type: ignore[arg-type]  # int64
        threads=torch.get_num_threads(),
    )  # fmt: skip
    return codes, scales


def decode(
    codes: Tensor,
    format: FormatLike,
    *,
    dtype: torch.dtype | None = None,
    scales: Tensor | None = None,
) -> Tensor:
    """The values of codes; every code has one, those of NaN and infinity too.

    Args:
        codes: Integers of the dtype that encode gives for the format. Bits above the width of a
            fixed-point or block code do not count; above that of a floating-point code they are an error.
        format: A format, its name, or a torch dtype that stands for one.
        dtype: The carrier of the values; None for float32, or for the dtype of ``scales``.
        scales: What encode gave beside the codes of a block format: for each group a power of two that
            the format and the carrier have as its exponent.

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
    parsed = _with_codes(format)
    _check_on_cpu("codes", codes)
    if scales is not None:
        _check_on_cpu("scales", scales)
    if codes.dtype != _code_dtype(parsed):
        raise type_error("codes", f"be {_code_dtype(parsed)} for {parsed}", codes.dtype)
    if scales is not None and dtype is not None and dtype != scales.dtype:
        raise value_error("dtype", "be None or the dtype of scales", dtype)
    target = scales.dtype if scales is not None else dtype or torch.float32
    if target not in CARRIERS:
        name = "dtype" if scales is None else "scales"
        raise type_error(name, f"be one of {', '.join(map(str, CARRIERS))}", target)
    parsed.check_carrier(CARRIERS[target])
    codes = codes.contiguous()
    out = torch.empty(codes.shape, dtype=target)
    if isinstance(parsed, BlockFloatingPoint):
        patterns = _checked_scales(scales, parsed, codes)
        dispatch.decode_block(
            codes.data_ptr(),
            out.data_ptr(),
            patterns,
            CARRIERS[target],
            _numpy_name(codes),
            codes.shape,
            str(parsed),
        )
        return out
    if scales is not None:
        raise value_error(
            "scales", f"be None for {parsed}", tuple(scales.shape), "Only block formats have them."
        )
    if isinstance(parsed, FloatingPoint) and codes.numel() and _largest(codes) >> parsed.bits:
        raise value_error("codes", f"lie below 2^{parsed.bits} for {parsed}", _largest(codes))
    dispatch.encode(
        codes.data_ptr(),
        out.data_ptr(),
        CARRIERS[target],
        _numpy_name(codes),
        codes.numel(),
        str(parsed),
        decode=True,
    )
    return out


def _with_codes(format: FormatLike) -> FloatingPoint | FixedPoint | BlockFloatingPoint:
    """The format, which must have codes."""
    parsed = resolve(format)
    if not isinstance(parsed, FloatingPoint | FixedPoint | BlockFloatingPoint):
        raise type_error("format", "be floating, fixed or block floating point", parsed)
    if isinstance(parsed, FixedPoint) and not parsed.is_bounded:
        raise value_error("format", "have codes of a certain width", str(parsed), "Give word_bits.")
    return parsed


def _refuse_nan(x: Tensor, format: str) -> None:
    """Refuse NaN in a tensor that is about to lose it."""
    if x.isnan().any():
        must = f"hold nothing that becomes NaN: {format} has no code for it"
        raise value_error("x", must, float("nan"), "Replace it first.")


def _check_on_cpu(name: str, given: Any) -> None:
    """Refuse what is no tensor on the CPU."""
    if not isinstance(given, Tensor):
        raise type_error(name, "be a tensor", type(given))
    if not given.is_cpu:
        remedy = f"Only CPU kernels exist: use {name}.cpu()."
        raise value_error(name, "be on the CPU", str(given.device), remedy)


def _code_dtype(format: Format) -> torch.dtype:
    """The narrowest unsigned dtype that holds a code."""
    return next(dtype for width, dtype in _CODES.items() if format.bits <= width)


def _numpy_name(codes: Tensor) -> str:
    """The dtype of codes as NumPy writes it."""
    return str(codes.dtype).removeprefix("torch.")


def _largest(codes: Tensor) -> int:
    """The largest code."""
    return int(codes.numpy().max())


def _grid(format: BlockFloatingPoint, shape: torch.Size) -> tuple[int, ...]:
    """How many groups there are along each dimension."""
    tiles = format.granularity.tiles(tuple(shape))
    return tuple(-(-size // tile) if size else 0 for size, tile in zip(shape, tiles, strict=True))


def _checked_scales(scales: Tensor | None, format: BlockFloatingPoint, codes: Tensor) -> Any:
    """The patterns of scales that fit the codes and that the format has."""
    if scales is None:
        raise value_error("scales", f"be given for {format}", scales)
    grid = _grid(format, codes.shape)
    if tuple(scales.shape) != grid:
        raise value_error("scales", f"have shape {grid}, one for each group", tuple(scales.shape))
    carrier = RANGES[CARRIERS[scales.dtype]]
    exponents = _exponents(format, carrier)
    flat = scales.detach().contiguous().view(-1)
    array = flat.view(_PATTERNS[scales.element_size()]).numpy()
    powers = np.array([_power(exponent, carrier) for exponent in exponents], array.dtype)
    nearest = powers[np.searchsorted(powers, array).clip(max=powers.size - 1)]
    if (nearest != array).any():
        must = f"be powers of two from 2^{exponents[0]} to 2^{exponents[-1]} for {format}"
        raise value_error("scales", must, flat[int((nearest != array).argmax())].item())
    return array


def _exponents(format: BlockFloatingPoint, carrier: Carrier) -> range:
    """The exponents that a group can have."""
    lowest, highest = format.lowest_block_exponent, format.highest_block_exponent
    least = carrier.lowest_exponent + format.word_bits - 2
    return range(
        least if lowest is None else max(lowest, least),
        1 + (carrier.highest_exponent if highest is None else min(highest, carrier.highest_exponent)),
    )


def _power(exponent: int, carrier: Carrier) -> int:
    """The pattern of a power of two, without arithmetic that could flush a small one to zero."""
    field = exponent + carrier.highest_exponent
    return field << (carrier.precision - 1) if field > 0 else 1 << (exponent - carrier.lowest_exponent)
