"""The public quantize, and what every caller of the operators shares: specs and seeds."""

import itertools
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar, overload

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lowprec.errors import type_error, value_error
from lowprec.formats import FormatLike, TabledFormat, register, resolve
from lowprec.formats.names import registered
from lowprec.modes import Rounding, check_random_bits
from lowprec.ops import library as library  # registers the operators
from lowprec.ops import scaling
from lowprec.ops import static as static  # registers further ones
from lowprec.ops.carriers import CARRIERS
from lowprec.ops.constant import constant

CARRIER_DTYPES = tuple(CARRIERS)
_LISTED = "float32, bfloat16, float16 or float64"
_ARRAYS = (np.dtype(np.float32), np.dtype(np.float16), np.dtype(np.float64))
Array = TypeVar("Array", bound=npt.NDArray[Any])


_STOCHASTIC = frozenset(str(mode) for mode in Rounding if mode.is_stochastic)


class Spec(NamedTuple):
    """A checked format and rounding, spelled as the operators take them."""

    format: str
    rounding: str
    random_bits: int

    @property
    def is_stochastic(self) -> bool:
        """Whether a seed is needed."""
        return self.rounding in _STOCHASTIC

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled with a format of one's own, which another process does not know by its name."""
        return _restored, (registered(self.format), *self)


def _restored(own: TabledFormat | None, *fields: Any) -> Spec:
    """A spec out of a pickle."""
    if own is not None:
        register(own)
    return Spec(*fields)


def make_spec(format: FormatLike, rounding: Rounding | str, random_bits: int | None) -> Spec:
    """Check a format, a mode and its random bits.

    Raises:
        TypeError: If one has the wrong type.
        ValueError: If a name is unknown, random_bits lies outside 1 to 32, or is given for a mode
            that uses none.
    """
    mode = Rounding.parse(rounding, "rounding")
    check_random_bits(random_bits, mode)
    return Spec(str(resolve(format)), str(mode), 32 if random_bits is None else random_bits)


@constant
def constant_spec(
    format: FormatLike, rounding: Rounding | str, random_bits: int | None, dtype: torch.dtype
) -> Spec:
    """make_spec and the carrier's check, run once while compiling."""
    try:
        return _remembered_spec(format, rounding, random_bits, dtype)
    except TypeError:  # not hashable, or refused: the check itself says why
        return _checked_spec(format, rounding, random_bits, dtype)


def _checked_spec(
    format: FormatLike, rounding: Rounding | str, random_bits: int | None, dtype: torch.dtype
) -> Spec:
    """make_spec and the carrier's check."""
    spec = make_spec(format, rounding, random_bits)
    check_carrier(spec, dtype)
    return spec


_remembered_spec = lru_cache(maxsize=1024, typed=True)(_checked_spec)  # typed: True is no 1


@constant
def check_carrier(spec: Spec, dtype: torch.dtype) -> None:
    """Refuse a carrier that cannot hold every finite value of the format exactly, or follow a mode."""
    _check_carrier(spec.format, str(dtype).removeprefix("torch."), spec.rounding)


@lru_cache(maxsize=1024)
def _check_carrier(format: str, carrier: str, rounding: str) -> None:
    """The check itself, remembered where it passes."""
    parsed = resolve(format)
    parsed.check_carrier(carrier)
    parsed.check_rounding(Rounding(rounding), carrier)


def check_tensor(x: Tensor, name: str = "x") -> None:
    """Refuse a tensor that no kernel takes, by the name that its user knows."""
    if x.dtype not in CARRIER_DTYPES:
        raise type_error(name, f"be {_LISTED}", x.dtype, f"Convert it, as with {name}.float().")
    if x.layout != torch.strided:
        raise type_error(name, "be a strided tensor", x.layout, f"Convert it with {name}.to_dense().")
    check_place(x, name)


def check_place(x: Tensor, name: str) -> None:
    """Refuse a tensor on a device without kernels."""
    if not (x.is_cpu or x.is_cuda or x.is_meta):
        remedy = f"There are kernels for these two: use {name}.cpu()."
        raise value_error(name, "be on the CPU or a CUDA device", str(x.device), remedy)


def check_sources(spec: Spec, seed: int | Tensor | None, generator: torch.Generator | None) -> None:
    """Refuse a seed and a generator together, or either where no noise is used."""
    if seed is None and generator is None:
        return
    for name, value in (("seed", seed), ("generator", generator)):
        if value is not None and not spec.is_stochastic:
            raise value_error(
                name,
                f"be None where rounding is {spec.rounding!r}",
                value,
                "Only stochastic rounding draws noise.",
            )
    if seed is not None and generator is not None:
        raise value_error("seed", "be None where a generator is given", seed, "Pass one of the two.")


_calls = itertools.count(1)


@constant
def _next_call() -> int:
    """A number that no other call in a compiled graph has; drawn while compiling."""
    return next(_calls)


def seed_tensor(
    like: Tensor, seed: int | Tensor | None = None, generator: torch.Generator | None = None
) -> Tensor:
    """The seed of one call as a one-element int64 tensor on the device of ``like``.

    Raises:
        TypeError: If ``seed`` is neither an integer nor an int64 tensor, or ``generator`` no generator.
        ValueError: If ``seed`` needs more than 64 bits, has more than one element, or lies elsewhere.
    """
    if generator is not None:
        if not isinstance(generator, torch.Generator):
            raise type_error("generator", "be a torch.Generator", generator)
        return torch.empty(1, dtype=torch.int64, device=like.device).random_(generator=generator)
    if seed is None and torch.compiler.is_compiling():
        drawn: Tensor = torch.ops.lowprec.draw_seed(like, _next_call())
        return drawn
    if seed is None:
        return torch.empty(1, dtype=torch.int64, device=like.device).random_()
    if isinstance(seed, Tensor):
        if seed.dtype != torch.int64:
            raise type_error("seed", "be an int64 tensor", seed.dtype)
        if seed.numel() != 1 or seed.device != like.device:
            raise value_error("seed", f"be a tensor of one element on {like.device}", seed)
        return seed.reshape(1)
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise type_error("seed", "be an integer or an int64 tensor", seed)
    if not -(2**63) <= seed < 2**64:
        raise value_error("seed", "fit into 64 bits", seed)
    signed = seed - 2**64 if seed >= 2**63 else seed
    return torch.full((1,), signed, dtype=torch.int64, device=like.device)  # copies nothing from the host


@overload
def quantize(
    x: Tensor,
    format: FormatLike,
    *,
    rounding: Rounding | str = ...,
    random_bits: int | None = ...,
    generator: torch.Generator | None = ...,
    seed: int | Tensor | None = ...,
    scale: scaling.Scales | None = ...,
    out: Tensor | None = ...,
) -> Tensor: ...
@overload
def quantize(
    x: Array,
    format: FormatLike,
    *,
    rounding: Rounding | str = ...,
    random_bits: int | None = ...,
    generator: torch.Generator | None = ...,
    seed: int | Tensor | None = ...,
    scale: scaling.Scales | None = ...,
    out: Array | None = ...,
) -> Array: ...
def quantize(
    x: Any,
    format: FormatLike,
    *,
    rounding: Rounding | str = "nearest_even",
    random_bits: int | None = None,
    generator: torch.Generator | None = None,
    seed: int | Tensor | None = None,
    scale: scaling.Scales | None = None,
    out: Any = None,
) -> Any:
    """Round every element of ``x`` to a value of ``format``, keeping the dtype of ``x``.

    NaN stays NaN in every format. Infinities and finite values past the largest one follow the
    format's overflow rule, decided after rounding. -0, and a negative value that rounds to zero, give
    -0 where the format has a signed zero and +0 elsewhere. A value of the format is returned unchanged.

    Args:
        x: Real values: a float32, bfloat16, float16 or float64 tensor of any shape and strides, or a
            float32, float16 or float64 array.
        format: The target format, its name, or a torch dtype that stands for one.
        rounding: One of the fifteen modes of Rounding.
        random_bits: How many bits of noise a stochastic mode uses, 1 to 32; None for 32. Under
            ``"stochastic"`` the probability of rounding away from zero is the exact one truncated to
            so many bits. ``"stochastic_equal"`` takes none: it looks at one bit.
        generator: Where the seed is drawn from; None for the default generator of the device of x,
            which ``torch.manual_seed`` sets. Not supported inside ``torch.compile``: pass a seed.
        seed: A 64-bit integer or a one-element int64 tensor. Equal seeds give equal bits, whatever
            the threads and strides.
        scale: The scales of a scaled format, in place of those that follow from x: a tensor with an entry
            for each group, of the scale's dtype or its values in float32; what ``scales`` gives. A pair
            where scales have scales, of which the first may be None, or zero points.
        out: Where the result goes; the shape, dtype and device of x. It may be x itself.

    Returns:
        Values of the format in the shape, dtype, device and (if dense) strides of x; an array for an
        array. ``out``, if given.

    Raises:
        TypeError: If x is no tensor or array of one of these types, or an option has the wrong type.
        ValueError: If a name is unknown, the carrier cannot hold the format, seed and generator are
            both given, noise options are given to a mode without noise, or out does not fit.

    Gradient:
        Straight-through: the identity, also where x saturates. See Quantizer for other rules.

    Example:
        >>> quantize(torch.tensor([0.3, -1.1]), "e4m3fn")
        tensor([ 0.3125, -1.1250])
        >>> quantize(np.array([0.3], np.float32), "fixed8f4", rounding="toward_zero")
        array([0.25], dtype=float32)

    Reference:
        IEEE 754-2019, 4.3; OCP 8-bit Floating Point Specification (OFP8) 1.0.
    """
    if isinstance(x, np.ndarray):
        return _quantize_array(x, format, rounding, random_bits, generator, seed, scale, out)
    if not isinstance(x, Tensor):
        raise type_error("x", "be a tensor or an array", type(x), "Wrap it with torch.tensor.")
    check_tensor(x)
    spec = constant_spec(format, rounding, random_bits, x.dtype)
    check_sources(spec, seed, generator)
    seeds = seed_tensor(x, seed, generator) if spec.is_stochastic else None
    if scale is not None:
        return _quantize_with(x, scaling.given_scales(scale, spec.format, x.device), seeds, spec, out)
    if out is None:
        return library.quantized(x, seeds, spec)
    check_out(x, out)
    quantize_into(x, seeds, spec, out)
    return out


def _quantize_with(
    x: Tensor, scales: list[Tensor | None], seeds: Tensor | None, spec: Spec, out: Tensor | None
) -> Tensor:
    """Quantize with scales that are given."""
    if out is not None:
        check_out(x, out)
    y: Tensor = torch.ops.lowprec.quantize_with(x, scales, seeds, *spec)
    return y if out is None else out.copy_(y)


def quantize_into(x: Tensor, seed: Tensor | None, spec: Spec, out: Tensor, stream: int = 0) -> None:
    """Run quantize_out and tell autograd that ``out`` has changed."""
    torch.ops.lowprec.quantize_out(x, seed, *spec, stream, out=out)
    if not torch.compiler.is_compiling():
        torch.autograd.graph.increment_version(out)


def check_out(x: Tensor, out: Any) -> None:
    """Refuse an ``out`` that the result does not fit or that autograd would have to follow."""
    if not isinstance(out, Tensor):
        raise type_error("out", "be a tensor", type(out))
    if (out.shape, out.dtype, out.device) != (x.shape, x.dtype, x.device):
        raise value_error(
            "out",
            f"be a {x.dtype} tensor of shape {tuple(x.shape)} on {x.device}",
            (out.dtype, tuple(out.shape), str(out.device)),
        )
    if torch.is_grad_enabled() and (x.requires_grad or out.requires_grad):
        raise value_error("out", "be None where gradients are recorded", "a tensor", "Use torch.no_grad().")
    if _overlaps_itself(out):
        raise value_error("out", "have memory of its own for every element", out.stride())
    if torch.compiler.is_compiling():  # a graph has no addresses, and reads x before it writes
        return
    if out.is_neg():
        raise value_error("out", "not be a view of negated memory", "out.is_neg()", "Pass out.resolve_neg().")
    same = x.data_ptr() == out.data_ptr() and x.stride() == out.stride()
    if not same and _overlaps(x, out):
        raise value_error("out", "be x itself or apart from it", "overlapping memory", "Leave it out.")


def _extent(x: Tensor) -> int:
    """How many elements of memory a tensor spans."""
    return 1 + sum((size - 1) * step for size, step in zip(x.shape, x.stride(), strict=True))


def _overlaps(x: Tensor, y: Tensor) -> bool:
    """Whether the memory spans of two tensors meet."""
    if x.numel() == 0 or x.device.type == "meta":
        return False
    ends = [(t.data_ptr(), t.data_ptr() + _extent(t) * t.element_size()) for t in (x, y)]
    return ends[0][0] < ends[1][1] and ends[1][0] < ends[0][1]


def _overlaps_itself(x: Tensor) -> bool:
    """Whether two elements may share memory, as in an expanded tensor."""
    reach = 0
    for step, size in sorted(zip(x.stride(), x.shape, strict=True)):
        if x.numel() > 0 and size > 1:
            if step <= reach:
                return True
            reach += (size - 1) * step
    return False


def _quantize_array(
    x: npt.NDArray[Any],
    format: FormatLike,
    rounding: Rounding | str,
    random_bits: int | None,
    generator: torch.Generator | None,
    seed: int | Tensor | None,
    scale: scaling.Scales | None,
    out: Any,
) -> npt.NDArray[Any]:
    """Quantize for NumPy arrays, through tensors on the same memory."""
    if isinstance(x, np.ma.MaskedArray):
        raise type_error("x", "be a plain array", type(x), "Fill what is masked: x.filled(0).")
    if x.dtype not in _ARRAYS:
        listed = ", ".join(map(str, _ARRAYS))
        raise type_error("x", f"be one of {listed}", x.dtype, "Convert it, as with x.astype(np.float32).")
    target = None
    if out is not None:
        if not isinstance(out, np.ndarray):
            raise type_error("out", "be an array, as x is", type(out))
        if out.dtype != x.dtype or out.shape != x.shape or not out.flags.writeable:
            raise value_error("out", f"be a writable {x.dtype} array of shape {x.shape}", out.dtype)
        if any(step < 0 for step in out.strides):
            raise value_error("out", "have no negative strides", out.strides, "Leave it out.")
        target = torch.from_numpy(out)
    readable = x.flags.writeable and all(step >= 0 for step in x.strides)
    source = torch.from_numpy(x if readable else x.copy())
    result = quantize(
        source,
        format,
        rounding=rounding,
        random_bits=random_bits,
        generator=generator,
        seed=seed,
        scale=scale,
        out=target,
    )
    return result.numpy() if out is None else out
