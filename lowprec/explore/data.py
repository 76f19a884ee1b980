"""What people explore: a tensor, an array, or named tensors."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lowprec.errors import type_error, value_error
from lowprec.formats import Format, GroupedFormat, Scaled
from lowprec.formats.properties import shortened
from lowprec.ops.quantize import check_tensor
from lowprec.ops.scaling import grid_of, grids_of

Data = Tensor | np.ndarray[Any, Any] | Mapping[str, Any]
"""Real values: a tensor or array, or a mapping from names to such, as a state dict is."""

_ARRAYS = (np.dtype(np.float32), np.dtype(np.float16), np.dtype(np.float64))


def tensors_of(data: Data) -> dict[str, Tensor]:
    """The tensors of what is explored by name, the empty one for a single tensor, without gradients.

    Of a mapping those of other dtypes (counters, masks) are left out; so are those without elements.

    Raises:
        TypeError: If there is no tensor or array of a carrier's dtype.
        ValueError: If there is no element, or no finite value.
    """
    if isinstance(data, Mapping):
        kept = {name: x for name, x in data.items() if not _is_integer(x)}
        named = {str(name): _tensor(x, _called(name)) for name, x in kept.items()}
        found = {name: x for name, x in named.items() if x.numel()}
        if not found:
            must = "hold a tensor of floating-point values that has elements"
            raise value_error("data", must, list(data)[:3])
    else:
        found = {"": _tensor(data, "data")}
        if not found[""].numel():
            raise value_error("data", "have at least one element", tuple(found[""].shape))
    if not any(bool(x.isfinite().any()) for x in found.values()):
        sizes = [tuple(x.shape) for x in found.values()]
        raise value_error("data", "hold a finite value", sizes[0] if len(sizes) == 1 else sizes)
    return found


def left_out(data: Data, tensors: Mapping[str, Tensor]) -> str:
    """How many tensors of a mapping were left out, for a caption; nothing if all are there."""
    number = len(data) - len(tensors) if isinstance(data, Mapping) else 0
    if not number:
        return ""
    return f"{number:,} integer or empty tensor{'s are' if number > 1 else ' is'} left out"


def check_groups(tensors: Mapping[str, Tensor], format: Format) -> None:
    """Refuse tensors that lack a dimension along which a format has groups.

    Raises:
        ValueError: If one does, naming it.
    """
    for name, x in tensors.items():
        if missing := missing_dimension(x, format):
            must = f"have a dimension for each that {shortened(str(format))} has groups along"
            raise value_error(_called(name), must, tuple(x.shape), missing)


def missing_dimension(x: Tensor, format: Format) -> str:
    """Why a tensor has no groups of a format; nothing if it has."""
    try:
        if isinstance(format, Scaled):
            grids_of(format, x.shape)
        elif isinstance(format, GroupedFormat):
            grid_of(format, x.shape)
    except ValueError as error:
        return str(error)
    return ""


def finite_of(tensors: Mapping[str, Tensor]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """All finite values in a row, in float64."""
    rows = [x.double().numpy().ravel() for x in tensors.values()]
    row = np.concatenate(rows)
    return row[np.isfinite(row)]


def _called(name: object) -> str:
    """What a tensor is called in errors."""
    return "data" if name == "" else f"data[{name!r}]"


def _is_integer(x: object) -> bool:
    """Whether something holds integers or truth values."""
    if isinstance(x, Tensor):
        return not (x.is_floating_point() or x.is_complex())
    return isinstance(x, np.ndarray) and x.dtype.kind in "biu"


def _tensor(x: object, name: str) -> Tensor:
    """A tensor on its own, or on a copy of an array."""
    if isinstance(x, Tensor):
        check_tensor(x, name)
        return x.detach()
    if not isinstance(x, np.ndarray):
        raise type_error(name, "be a tensor or an array", type(x), "Wrap it with torch.tensor.")
    if isinstance(x, np.ma.MaskedArray):
        raise type_error(name, "be a plain array", type(x), "Fill what is masked: x.filled(0).")
    if x.dtype.kind == "f" and x.dtype.newbyteorder("=") in _ARRAYS:
        return torch.from_numpy(np.array(x, x.dtype.newbyteorder("="), order="C"))
    listed = ", ".join(map(str, _ARRAYS))
    raise type_error(name, f"be one of {listed}", x.dtype, "Convert it, as with x.astype(np.float32).")
