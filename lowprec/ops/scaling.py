"""Scales as tensors: of the dtype that stands for their format, one for each group, level by level.

Operators take and give them as lists, that of the groups first.
"""

import math
from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lowprec.errors import type_error, value_error
from lowprec.formats import Format, FormatLike, GroupedFormat, Scaled, resolve
from lowprec.kernels import dispatch
from lowprec.ops.constant import constant

Scales = Tensor | tuple[Tensor | None, ...]
"""One tensor; or a pair, where scales have scales or zero points."""

_DTYPES = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "e5m2": torch.float8_e5m2,
    "e4m3fn": torch.float8_e4m3fn,
    "e8m0": torch.float8_e8m0fnu,
}
_PATTERNS = {1: torch.uint8, 2: torch.uint16, 4: torch.uint32, 8: torch.uint64}
_NAN = 0xFF
LEAST = 0x00400000
"""The pattern of 2^-127 in float32."""


def dtypes_of(format: Scaled) -> tuple[torch.dtype, ...]:
    """The dtype of the scales of each level, and of zero points."""
    if isinstance(format.scale, Scaled):
        return _DTYPES[str_of(format.scale.element)], *dtypes_of(format.scale)
    return (_DTYPES[format.scale], *([torch.int32] if format.zero_point else []))


def str_of(format: Format) -> str:
    """The name by which a floating-point format stands in a scale's place."""
    return {"binary32": "float32", "binary16": "float16"}.get(str(format), str(format))


def grid_of(format: GroupedFormat, shape: Sequence[int]) -> tuple[int, ...]:
    """How many groups there are along each dimension."""
    tiles = format.granularity.tiles(tuple(shape))
    return tuple(-(-size // tile) if size else 0 for size, tile in zip(shape, tiles, strict=True))


def grids_of(format: Scaled, shape: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """The same for each level, and for zero points."""
    grid = grid_of(format, shape)
    if isinstance(format.scale, Scaled):
        return grid, *grids_of(format.scale, grid)
    return (grid, grid) if format.zero_point else (grid,)


def room_for(x: Tensor, format: Scaled) -> list[Tensor]:
    """Tensors without values for the scales of a tensor."""
    shapes = grids_of(format, x.shape)
    return [x.new_empty(grid, dtype=dtype) for grid, dtype in zip(shapes, dtypes_of(format), strict=True)]


@constant
def level_count(format: FormatLike) -> tuple[int, str]:
    """How many tensors the scales of a format are, 0 if it has none; the format's name."""
    parsed = resolve(format)
    return len(dtypes_of(parsed)) if isinstance(parsed, Scaled) else 0, str(parsed)


def as_list(name: str, scales: Any, count: int, format: str) -> list[Tensor | None]:
    """What a user gives for scales, one entry for each level; dtypes and shapes are not looked at yet."""
    if count == 1 and isinstance(scales, Tensor):
        return [scales]
    pair = isinstance(scales, tuple | list) and len(scales) == count > 1
    if not pair or not all(level is None or isinstance(level, Tensor) for level in scales):
        must = "be a tensor" if count == 1 else "be a pair of tensors"
        kind = [type(level) for level in scales] if isinstance(scales, tuple | list) else type(scales)
        raise type_error(name, f"{must} for {format}", kind)
    return list(scales)


def as_scales(levels: Sequence[Tensor]) -> Any:
    """What a user is given for a list."""
    return levels[0] if len(levels) == 1 else tuple(levels)


def given_scales(scale: Any, format: str, device: torch.device) -> list[Tensor | None]:
    """The scales that a user gives, level by level; an empty list for none."""
    if scale is None:
        return []
    count, _ = level_count(format)
    if not count:
        raise value_error("scale", f"be None for {format}", type(scale), "Only scaled formats have scales.")
    levels = as_list("scale", scale, count, format)
    for level in levels:
        if level is not None and level.device != device:
            raise value_error("scale", f"be on {device}", str(level.device))
        if level is not None and level.requires_grad and torch.is_grad_enabled():
            raise value_error("scale", "not require a gradient", level, "Pass scale.detach().")
    return levels


def check_levels(
    name: str, levels: Sequence[Tensor | None], format: Scaled, shape: Sequence[int], *, partial: bool
) -> None:
    """Refuse scales of other dtypes or shapes, and missing ones but for the innermost where ``partial``."""
    if format.zero_point:
        partial = False
    for i, (level, grid, dtype) in enumerate(
        zip(levels, grids_of(format, shape), dtypes_of(format), strict=True)
    ):
        if level is None:
            if i > 0 or not partial:
                raise value_error(name, f"be given for {format}", None, "Pass that of encode or of scales.")
            continue
        if level.dtype not in (dtype, torch.float32 if dtype.is_floating_point else dtype):
            raise type_error(name, f"be {dtype} or float32 for {format}", level.dtype)
        if tuple(level.shape) != grid and not (level.numel() == math.prod(grid) == 1):
            raise value_error(name, f"have shape {grid}, one for each group", tuple(level.shape))


def codes_of(
    name: str, levels: Sequence[Tensor | None], format: Scaled, shape: Sequence[int], *, nan: bool
) -> tuple[npt.NDArray[Any] | None, ...]:
    """The codes of scales; what is no positive value of its format is refused, NaN too unless ``nan``."""
    check_levels(name, levels, format, shape, partial=not nan)
    found: list[npt.NDArray[Any] | None] = []
    for i, (level, dtype) in enumerate(zip(levels, dtypes_of(format), strict=True)):
        if level is None:
            found.append(None)
        elif dtype == torch.int32:
            found.append(_zero_points(name, level, format))
        else:
            plain = format.levels[i] if format.levels else None
            found.append(_codes(name, level.detach().contiguous(), dtype, plain, nan=nan))
    return tuple(found)


def _zero_points(name: str, zeros: Tensor, format: Scaled) -> npt.NDArray[Any]:
    """Zero points within the integers of the format."""
    array = zeros.detach().contiguous().numpy()
    largest = int(format.element.max)
    if array.size and (array.min() < 0 or array.max() > largest):
        refuse_zero_point(name, int(array[(array < 0) | (array > largest)].flat[0]), format)
    return array


def refuse_zero_point(name: str, value: int, format: Scaled) -> NoReturn:
    """Say which zero points there are."""
    must = f"have zero points from 0 to {int(format.element.max)} for {format}"
    raise value_error(name, must, value)


def refuse_scale(name: str, value: float, *, nan: bool) -> NoReturn:
    """Say which numbers are scales."""
    allowed = "positive and finite" + (", or NaN" if nan else "")
    raise value_error(name, f"be {allowed} values of the scale", value)


def refuse_other(name: str, value: float, format: Any) -> NoReturn:
    """Say which format a scale in float32 must be of."""
    raise value_error(name, f"be values of {str_of(format)}", value)


def _codes(name: str, level: Tensor, dtype: torch.dtype, format: Any, *, nan: bool) -> npt.NDArray[Any]:
    """The codes of one level."""
    codes = level.view(_PATTERNS[level.element_size()]).numpy()
    if dtype == torch.float8_e8m0fnu:
        codes, wrong = _exponents(codes) if level.dtype == torch.float32 else (codes, codes == _NAN)
        undefined = codes == _NAN
    else:
        if level.dtype != dtype:
            codes = _converted(name, codes, format)
        largest = format.largest_code
        undefined = codes > largest + int(format.has_infinity)
        undefined &= (codes >> (format.bits - 1)) == 0
        wrong = (codes == 0) | (codes > largest)
    if nan:
        wrong = wrong & ~undefined
    if wrong.any():
        refuse_scale(name, level.float().flatten()[int(wrong.ravel().argmax())].item(), nan=nan)
    return codes


def _exponents(bits: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
    """The e8m0 codes of float32 patterns, and which of them are no powers of two that e8m0 has."""
    codes = np.where(bits == LEAST, 0, bits >> 23).astype(np.uint8)
    nan = bits > 0x7F800000
    power = ((bits & 0x7FFFFF) == 0) & (bits >= 1 << 23) & (bits < 0x7F800000)
    return np.where(nan, _NAN, codes).astype(np.uint8), ~(power | (bits == LEAST))


def _converted(name: str, bits: npt.NDArray[Any], format: Any) -> npt.NDArray[Any]:
    """The codes of float32 patterns that are values of a narrower format."""
    flat = np.ascontiguousarray(bits.ravel())
    codes = np.empty(flat.size, f"uint{8 if format.bits <= 8 else 16}")
    back, plain = np.empty_like(flat), str(format)
    width = str(codes.dtype)
    rounded = np.empty_like(flat)
    shape = (flat.size,)
    dispatch.quantize(
        flat.ctypes.data, rounded.ctypes.data, "float32", shape, (1,), (1,), plain, "nearest_even"
    )
    dispatch.encode(rounded.ctypes.data, codes.ctypes.data, "float32", width, flat.size, plain)
    dispatch.encode(codes.ctypes.data, back.ctypes.data, "float32", width, flat.size, plain, decode=True)
    wrong = (back != flat) & ((flat & 0x7FFFFFFF) <= 0x7F800000)
    if wrong.any():
        refuse_other(name, flat[wrong][:1].view(np.float32).item(), format)
    return codes.reshape(bits.shape)


def fill(levels: Sequence[Tensor], codes: Sequence[npt.NDArray[Any]]) -> None:
    """Write codes into tensors of the dtypes that they are codes of."""
    for level, array in zip(levels, codes, strict=True):
        pattern = level if level.dtype == torch.int32 else level.view(_PATTERNS[level.element_size()])
        pattern.copy_(torch.from_numpy(array).reshape(level.shape))


def undefined(levels: Sequence[Tensor], format: Scaled, shape: Sequence[int]) -> Tensor:
    """Which groups have a NaN among their scales."""
    first, *rest = grids_of(format, shape)
    which = levels[0].float().isnan().reshape(first)
    if isinstance(format.scale, Scaled):
        which = which | spread(levels[1].float().isnan().reshape(rest[0]), format.scale, first)
    return which


def spread(of_groups: Tensor, format: Any, shape: Sequence[int]) -> Tensor:
    """What is known of groups, for each of their elements."""
    tiles = format.granularity.tiles(tuple(shape))
    for axis, (tile, size) in enumerate(zip(tiles, shape, strict=True)):
        of_groups = of_groups.repeat_interleave(tile, axis).narrow(axis, 0, size)
    return of_groups
