"""States of optimizers as the bits of their formats: codes without gaps, beside the scales of groups."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lowprec.errors import value_error
from lowprec.formats import GroupedFormat, resolve
from lowprec.ops import pack, unpack
from lowprec.ops.packing import WIDEST, packed_size
from lowprec.ops.quantize import Spec


class Packed(NamedTuple):
    """One state in its bits."""

    codes: Tensor
    scales: list[Tensor]
    """Of each level, those of the groups first; none for a format without groups."""

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return sum(t.nbytes for t in (self.codes, *self.scales))


def packed(value: Tensor, spec: Spec, seed: Tensor | None, stream: int) -> Packed:
    """A state rounded and in its bits."""
    if isinstance(resolve(spec.format), GroupedFormat):
        codes, *scales = torch.ops.lowprec.encode_groups(value, [], seed, *spec, stream)
    else:
        codes, scales = torch.ops.lowprec.encode(value, seed, *spec, stream), []
    return Packed(pack(codes, resolve(spec.format).bits), scales)


def unpacked(state: Packed, spec: Spec, like: Tensor) -> Tensor:
    """The values of a state, in the shape and dtype of its parameter."""
    codes = unpack(state.codes, resolve(spec.format).bits, like.shape)
    value: Tensor = torch.ops.lowprec.decode(codes, state.scales, spec.format, like.dtype)
    return value


def check_packable(name: str, spec: Spec) -> None:
    """Refuse a format whose values have no codes, or wide ones."""
    format = resolve(spec.format)
    bits = getattr(format, "bits", None)
    if bits is None or bits > WIDEST or str(getattr(format, "overflow", "")) == "unbounded":
        raise value_error(name, f"have codes of at most {WIDEST} bits where store is 'packed'", spec.format)


def loses_nan(spec: Spec) -> bool:
    """Whether a format has no code for NaN."""
    return not resolve(spec.format).has_nan


def saved(states: Mapping[int, Mapping[str, Packed]]) -> dict[int, dict[str, list[Tensor]]]:
    """All packed states as plain lists."""
    return {n: {name: [s.codes, *s.scales] for name, s in own.items()} for n, own in states.items()}


def loaded(plain: Any, parameters: Mapping[int, Tensor], spec_of: Any) -> dict[int, dict[str, Packed]]:
    """What ``saved`` gave, checked.

    Raises:
        ValueError: If a state has no cast here, or not the bytes that its format asks for.
    """
    states: dict[int, dict[str, Packed]] = {}
    for number, own in plain.items():
        states[number] = {}
        for name, (codes, *scales) in own.items():
            p = parameters.get(number)
            spec = None if p is None else spec_of(number, name)
            if p is None or spec is None:
                raise value_error("state_dict", "hold packed states of this optimizer", f"{name} of {number}")
            wanted = packed_size(p.numel(), resolve(spec.format).bits)
            if codes.numel() != wanted:
                must = f"have {wanted} bytes of {name} for parameter {number}"
                raise value_error("state_dict", must, codes.numel())
            states[number][name] = Packed(codes.clone(), [s.clone() for s in scales])
            unpacked(states[number][name], spec, p)  # or it is an error
    return states
