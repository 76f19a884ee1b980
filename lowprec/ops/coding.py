"""The torch operators of codes, in the namespace ``torch.ops.lowprec``; see library.py for the others.

``encode(x, seed, format, rounding, random_bits, stream)``
    codes of the values that quantize gives for the same arguments.
``encode_groups(x, scales, seed, …)``
    the same for formats with groups: codes, then the scales of each level. ``scales`` is empty where
    they follow from x.
``decode(codes, scales, format, dtype)``
    values; ``scales`` is empty for formats without groups.

What only the data or shapes can show is checked here, so that a compiled graph checks it too; other
arguments are checked where users call.
"""

from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor

from lowprec.errors import value_error
from lowprec.formats import (
    BlockFloatingPoint,
    Format,
    GroupedFormat,
    Scaled,
    TabledFormat,
    UniformFormat,
    resolve,
)
from lowprec.formats.carriers import CARRIERS as RANGES
from lowprec.formats.carriers import Carrier
from lowprec.kernels import dispatch
from lowprec.ops import scaling
from lowprec.ops.carriers import CARRIERS
from lowprec.ops.search import found_by_trying

_library = torch.library.Library("lowprec", "FRAGMENT")
_library.define(
    "encode(Tensor x, Tensor? seed, str format, str rounding, int random_bits, int stream=0) -> Tensor"
)
_library.define(
    "encode_groups(Tensor x, Tensor?[] scales, Tensor? seed, str format, str rounding, int random_bits,"
    " int stream=0) -> Tensor[]"
)
_library.define("decode(Tensor codes, Tensor[] scales, str format, ScalarType dtype) -> Tensor")

_CODES = {8: torch.uint8, 16: torch.uint16, 32: torch.uint32, 64: torch.uint64}
_PATTERNS = {2: torch.uint16, 4: torch.uint32, 8: torch.uint64}


def code_dtype(format: Format) -> torch.dtype:
    """The narrowest unsigned dtype that holds a code."""
    return next(dtype for width, dtype in _CODES.items() if format.bits <= width)


def _encode(
    x: Tensor, seed: Tensor | None, format: str, rounding: str, random_bits: int, stream: int = 0
) -> Tensor:
    """The kernel of encode."""
    x, parsed = x.contiguous(), resolve(format)
    values = torch.ops.lowprec.quantize_plain(x, seed, format, rounding, random_bits, stream)
    if not parsed.has_nan:
        _refuse_nan(values, format)
    codes = x.new_empty(x.shape, dtype=code_dtype(parsed))
    _elements(values, codes, CARRIERS[x.dtype], _name(codes), format)
    return codes


def _elements(
    source: Tensor, target: Tensor, carrier: str, code: str, format: str, *, decode: bool = False
) -> None:
    """Call the kernel of the tensors' device for a format without groups."""
    arguments = source.data_ptr(), target.data_ptr(), carrier, code, source.numel(), format
    if source.is_cuda:
        from lowprec.ops.cuda.values import encode

        encode(source, *arguments, decode=decode)
    else:
        dispatch.encode(*arguments, decode=decode)


def _encode_groups(
    x: Tensor, scales: list[Tensor | None], seed: Tensor | None, format: str, rounding: str, random_bits: int,
    stream: int = 0,
) -> list[Tensor]:  # fmt: skip
    """The kernel of encode_groups."""
    x, parsed = x.contiguous(), resolve(format)
    if not parsed.has_nan:
        _refuse_nan(x, format)
    codes, *found = _parts(x, format)
    if x.is_cuda:
        from lowprec.ops.cuda.groups import encode

        encode(x, codes, found, scales, seed, format, rounding, random_bits, stream)
        return [codes, *found]
    given: Any = None
    if scales and isinstance(parsed, Scaled):
        given = scaling.codes_of("scale", scales, parsed, x.shape, nan=False)
    if x.numel() == 0:
        return [codes, *found]
    if given is None:
        given = found_by_trying(x, CARRIERS[x.dtype], format)
    arrays: Any = dispatch.encode_groups(
        x.data_ptr(), codes.data_ptr(), CARRIERS[x.dtype], _name(codes), tuple(x.shape), parsed, rounding,  # type: ignore[arg-type]
        random_bits=random_bits,
        seed=0 if seed is None else seed.item(),  # type: ignore[arg-type]  # int64
        stream=stream,
        threads=torch.get_num_threads(),
        scales=given,
    )  # fmt: skip
    scaling.fill(found, arrays)
    return [codes, *found]


def _decode(codes: Tensor, scales: list[Tensor], format: str, dtype: torch.dtype) -> Tensor:
    """The kernel of decode."""
    codes, parsed = codes.contiguous(), resolve(format)
    out = codes.new_empty(codes.shape, dtype=dtype)
    source, target, carrier, name = codes.data_ptr(), out.data_ptr(), CARRIERS[dtype], _name(codes)
    element = parsed.element if isinstance(parsed, Scaled) else parsed
    if not isinstance(element, UniformFormat) and codes.numel():
        listed = element.table.codes_listed if isinstance(element, TabledFormat) else 0
        largest = _largest(codes, listed or 1 << parsed.bits)
        if largest >= (listed or 1 << parsed.bits):
            raise value_error("codes", f"lie below {listed or f'2^{parsed.bits}'} for {format}", largest)
    if not isinstance(parsed, GroupedFormat):
        _elements(codes, out, carrier, name, format, decode=True)
        return out
    if codes.is_cuda:
        from lowprec.ops.cuda.groups import decode

        decode(codes, out, scales, parsed)
        return out
    known: Any
    if isinstance(parsed, Scaled):
        known = scaling.codes_of("scales", scales, parsed, codes.shape, nan=True)
    else:
        known = (_checked_scales(scales[0] if scales else None, parsed, codes.shape),)  # type: ignore[arg-type]
    if codes.numel():
        dispatch.decode_groups(source, target, known, carrier, name, tuple(codes.shape), parsed)
    if isinstance(parsed, Scaled):
        which = scaling.undefined(scales, parsed, codes.shape)
        if which.any():
            out[scaling.spread(which, parsed, codes.shape)] = torch.nan
    return out


def _largest(codes: Tensor, bound: int) -> int:
    """The largest code; on other devices 0 where their dtype says that none reaches the bound.

    Elsewhere an error needs to know it, so this waits for the device.
    """
    if codes.is_cpu:
        return int(codes.numpy().max())
    return 0 if bound > torch.iinfo(codes.dtype).max else int(codes.to(torch.int64).max())


for _device in ("CPU", "CUDA"):
    _library.impl("encode", _encode, _device)
    _library.impl("encode_groups", _encode_groups, _device)
    _library.impl("decode", _decode, _device)


@torch.library.register_fake("lowprec::encode", lib=_library)
def _(x: Tensor, seed: Tensor | None, format: str, *_: Any) -> Tensor:
    return x.new_empty(x.shape, dtype=code_dtype(resolve(format)))


@torch.library.register_fake("lowprec::encode_groups", lib=_library)
def _(x: Tensor, scales: list[Tensor], seed: Tensor | None, format: str, *_: Any) -> list[Tensor]:
    return list(_parts(x, format))


@torch.library.register_fake("lowprec::decode", lib=_library)
def _(codes: Tensor, scales: list[Tensor], format: str, dtype: torch.dtype) -> Tensor:
    parsed = resolve(format)
    if isinstance(parsed, Scaled):
        scaling.check_levels("scales", scales, parsed, codes.shape, partial=False)
    elif isinstance(parsed, GroupedFormat):
        check_grid(scales[0] if scales else None, parsed, codes.shape)
    return codes.new_empty(codes.shape, dtype=dtype)


def _refuse_nan(x: Tensor, format: str) -> None:
    """Refuse NaN where it would be lost; an error needs to know, so this waits for the device."""
    if x.isnan().any():
        must = f"hold nothing that becomes NaN: {format} has no code for it"
        raise value_error("x", must, float("nan"), "Replace it first.")


def _name(codes: Tensor) -> str:
    """The dtype of codes as NumPy writes it."""
    return str(codes.dtype).removeprefix("torch.")


def _parts(x: Tensor, format: str) -> tuple[Tensor, ...]:
    """Room for the codes and the scales of a format with groups."""
    parsed: Any = resolve(format)
    codes = x.new_empty(x.shape, dtype=code_dtype(parsed))
    if isinstance(parsed, Scaled):
        return codes, *scaling.room_for(x, parsed)
    return codes, x.new_empty(scaling.grid_of(parsed, x.shape))


def check_grid(scales: Tensor | None, format: GroupedFormat, shape: Sequence[int]) -> Tensor:
    """Refuse scales that are not one for each group."""
    if scales is None:
        raise value_error("scales", f"be given for {format}", scales, "Pass those of encode.")
    grid = scaling.grid_of(format, shape)
    if tuple(scales.shape) != grid:
        raise value_error("scales", f"have shape {grid}, one for each group", tuple(scales.shape))
    return scales


def _checked_scales(scales: Tensor | None, format: BlockFloatingPoint, shape: torch.Size) -> Any:
    """The patterns of scales that fit the codes and that the format has."""
    flat = check_grid(scales, format, shape).detach().contiguous().view(-1)
    carrier = RANGES[CARRIERS[flat.dtype]]
    exponents = exponents_of(format, carrier)
    array = flat.view(_PATTERNS[flat.element_size()]).numpy()
    powers = np.array([_power(exponent, carrier) for exponent in exponents], array.dtype)
    wrong = powers[np.searchsorted(powers, array).clip(max=powers.size - 1)] != array
    if wrong.any():
        refuse_power(flat[int(wrong.argmax())].item(), format, exponents)
    return array


def refuse_power(value: float, format: BlockFloatingPoint, exponents: range) -> NoReturn:
    """Say which powers of two a group can have."""
    must = f"be powers of two from 2^{exponents[0]} to 2^{exponents[-1]} for {format}"
    raise value_error("scales", must, value)


def exponents_of(format: BlockFloatingPoint, carrier: Carrier) -> range:
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
