"""Packed state dicts in safetensors files.

A file holds, for each tensor that has a format, ``NAME:codes`` (bytes as ``lowprec.pack`` makes them;
codes of more than 16 bits as they are) and ``NAME:scales0``, … of a format with groups; every other
tensor is there under its own name. The entry ``lowprec`` of the metadata is JSON: the version of this
layout, and for each tensor, in order, its dtype, shape and format, dtypes and shapes of the scales, and
the SHA-256 of the bytes; ``sha256`` is that of this JSON. Dtypes that safetensors does not know are
stored as bytes.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lowprec import files
from lowprec.cast import Cast
from lowprec.errors import sentence, type_error, value_error
from lowprec.formats import parse
from lowprec.ops import decode, encode, pack, unpack
from lowprec.ops.packing import WIDEST
from lowprec.storage.policy import Policy, choose

VERSION = 1
"""Of the layout; a file of another one is refused."""

_DTYPES = {str(d).removeprefix("torch."): d for d in vars(torch).values() if isinstance(d, torch.dtype)}
_NATIVE = {
    "float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "bool",
    "int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8",
}  # fmt: skip
"""What is stored by its own dtype and shape."""
_METADATA = "__metadata__"
_AGAIN = "Copy or save it again."


class Stored(NamedTuple):
    """A tensor of a state dict as the file has it."""

    name: str
    entry: dict[str, Any]
    """What the metadata says."""
    arrays: dict[str, Tensor]
    """The file's own tensors, by their keys."""


def save_packed(state_dict: Mapping[str, Tensor], path: str | Path, policy: Policy) -> None:
    """Store floating-point tensors in the bits of a format; load_packed gives their quantized values.

    Values are rounded to nearest even unless a cast says otherwise; what is on the grid already comes
    back unchanged, unless the scales of the format are no powers of two. -0, infinities and overflow are
    as in quantize, and so is NaN where the format has a code for it. Tensors of other dtypes are stored
    as they are, tied ones once. The file appears whole or not at all.

    A tensor takes ``ceil(numel * bits / 8)`` bytes (codes of more than 16 bits take 4 or 8 each), and
    its scales what they take in memory; ``lowprec.storage.nbytes`` tells the sum. A header precedes them.

    Args:
        state_dict: Names and tensors, as ``model.state_dict()`` gives them.
        path: The file; one that is there already is replaced.
        policy: A format, its name or a Cast, for all floating-point tensors; or a mapping from patterns
            of names (``"*.weight"``) to these or to None, of which the first that matches counts, and
            a tensor without one is stored unchanged; or a Scheme without rules, whose stored_weight,
            else weight, is for the tensors of two or more dimensions. An axis ``"contraction"`` is the
            second one, as in the weights of linear layers and convolutions.

    Raises:
        TypeError: If an argument has the wrong type, or a tensor a dtype that no format is for.
        ValueError: If a tensor holds a NaN that its format has no code for, or does not fit it
            otherwise, or lies on another device; if tied tensors have two formats; or if a pattern
            stands for no tensor.
        OSError: If the file cannot be written; one that was there is untouched.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "model.safetensors"
        >>> save_packed({"weight": torch.tensor([[0.3, -1.4]])}, path, "e2m1")
        >>> load_packed(path)
        {'weight': tensor([[ 0.5000, -1.5000]])}
    """
    import safetensors.torch

    arrays: dict[str, Tensor] = {}
    entries: dict[str, dict[str, Any]] = {}
    for name, entry, parts in _stored(state_dict, policy):
        for key, array in parts.items():
            if key in arrays or key == _METADATA:
                must = "have no name that the file gives to something else"
                raise value_error("state_dict", must, key, "Rename the tensor.")
            arrays[key] = array
        entries[name] = {**entry, "sha256": _digest(parts)} if parts else entry
    text = json.dumps({"version": VERSION, "tensors": entries})
    metadata = {"format": "pt", "lowprec": text, "sha256": hashlib.sha256(text.encode()).hexdigest()}
    files.write(Path(path), safetensors.torch.save(arrays, metadata))


def nbytes(state_dict: Mapping[str, Tensor], policy: Policy) -> int:
    """The bytes that save_packed would need for tensors, the file's header apart.

    Args:
        state_dict: As for save_packed; on any device, the meta device too.
        policy: As for save_packed.

    Returns:
        A number of bytes, found without looking at values.

    Raises:
        TypeError, ValueError: As save_packed, but for what only values show.

    Example:
        >>> nbytes({"weight": torch.ones(64, 32)}, "mxfp4")  # 4 bits each, and 64 scales
        1088
    """
    stored = _stored(state_dict, policy, sizes_only=True)
    return sum(array.nbytes for _, _, arrays in stored for array in arrays.values())


def load_packed(path: str | Path) -> dict[str, Tensor]:
    """The state dict that save_packed stored: quantized values in the dtypes that the tensors had.

    Nothing in the file is executed. Every bit that could change a value is checked.

    Args:
        path: The file.

    Returns:
        Names and tensors, in the order and with the ties of what was saved.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it is damaged, of another version, not by save_packed, or in a format that is not known
            here: one of your own must be registered first.

    Example:
        >>> load_packed("nowhere.safetensors")
        Traceback (most recent call last):
        FileNotFoundError: `path` must name a file that exists, got 'nowhere.safetensors'.
    """
    entries, arrays = _read(Path(path))
    state: dict[str, Tensor] = {}
    for name, entry in entries.items():
        try:
            state[name] = _restored(name, entry, arrays, state)
        except (LookupError, TypeError, ValueError, RuntimeError, OverflowError) as error:
            must = f"hold the tensor {name!r} undamaged ({error})"
            raise value_error("path", must, str(path), _remedy(entry)) from error
    if arrays:
        raise value_error("path", f"hold no tensors but those it lists ({min(arrays)})", str(path), _AGAIN)
    return state


def _remedy(entry: Any) -> str:
    """What to do about a tensor that cannot be restored."""
    format = entry.get("format") if isinstance(entry, dict) else None
    try:
        if isinstance(format, str):
            parse(format)
    except ValueError:
        return f"If {format!r} is a format of your own, register it first: lowprec.formats.register(…)."
    return _AGAIN


def _stored(
    state_dict: Mapping[str, Tensor], policy: Policy, *, sizes_only: bool = False
) -> Iterator[Stored]:
    """Each tensor as the file will have it; ``sizes_only`` for tensors without values."""
    casts = choose(state_dict, policy)
    owners: dict[Any, tuple[str, Tensor]] = {}  # the tensors too, so that no address is used again
    memory = set[int]()
    for name, given in state_dict.items():
        x = given.detach()
        if x.layout != torch.strided:
            must = f"hold strided tensors only, {name!r} too"
            raise value_error("state_dict", must, str(x.layout), "Convert it with to_dense().")
        x = x.resolve_conj().resolve_neg()
        owner = owners.setdefault(_place(x), (name, x))[0] if x.numel() else name
        if owner != name:
            if casts[owner] != casts[name]:
                must = f"give {owner!r} and {name!r}, which share their memory, one format"
                found = [cast and cast.describe() for cast in (casts[owner], casts[name])]
                raise value_error("policy", must, found)
            yield Stored(name, {"same_as": owner}, {})
            continue
        if sizes_only:
            x = x.to("meta")
        elif not x.is_cpu:
            must = f"be on the CPU, {name!r} too"
            raise value_error("state_dict", must, str(x.device), "Files are written from there: use .cpu().")
        cast = casts[name]
        stored = Stored(name, _described(x), {name: _storable(x)}) if cast is None else _packed(name, x, cast)
        for key, array in stored.arrays.items():
            if array.numel() and not array.is_meta:
                start = array.untyped_storage().data_ptr()
                stored.arrays[key] = array.clone() if start in memory else array
                memory.add(start)
        yield stored


def _place(x: Tensor) -> Any:
    """What two tensors have in common if and only if they are one."""
    memory = x.untyped_storage()._cdata  # an address would be 0 on the meta device
    return memory, x.storage_offset(), x.dtype, x.shape, x.stride()


def _packed(name: str, x: Tensor, cast: Cast) -> Stored:
    """Codes and scales of a tensor."""
    try:
        encoded = encode(x, cast.format, rounding=cast.mode(training=False))
    except (TypeError, ValueError) as error:
        message = f"Tensor {name!r} of `state_dict`: {error}"
        raise type(error)(message) from error
    codes, scales = encoded if isinstance(encoded, tuple) else (encoded, ())
    scales = (scales,) if isinstance(scales, Tensor) else scales
    bits = cast.format.bits
    arrays = {f"{name}:codes": pack(codes, bits) if bits <= WIDEST else codes.contiguous()}
    arrays |= {f"{name}:scales{i}": _storable(s) for i, s in enumerate(scales)}
    entry = {**_described(x), "format": str(cast.format), "scales": [_described(s) for s in scales]}
    return Stored(name, entry, arrays)


def _described(x: Tensor) -> dict[str, Any]:
    """Dtype and shape for the metadata."""
    return {"dtype": str(x.dtype).removeprefix("torch."), "shape": list(x.shape)}


def _storable(x: Tensor) -> Tensor:
    """A contiguous tensor of a dtype that safetensors knows."""
    x = x.contiguous()
    return x if _described(x)["dtype"] in _NATIVE else _bytes(x)


def _bytes(x: Tensor) -> Tensor:
    """The memory of a contiguous tensor."""
    return x.view(-1).view(torch.uint8)


def _digest(arrays: Mapping[str, Tensor]) -> str:
    """The SHA-256 of the bytes of all of them."""
    digest = hashlib.sha256()
    for array in arrays.values():
        digest.update(_bytes(array).numpy().data)
    return digest.hexdigest()


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What a file says of each tensor, and its own tensors."""
    import safetensors.torch

    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(sentence("path", "name a file that exists", str(path))) from None
    try:
        arrays = safetensors.torch.load(content)
        length = int.from_bytes(content[:8], "little")
        metadata = json.loads(content[8 : 8 + length]).get(_METADATA) or {}
    except (safetensors.SafetensorError, LookupError, TypeError, ValueError, RuntimeError) as error:
        must = f"be a whole safetensors file ({error})"
        raise value_error("path", must, str(path), _AGAIN) from error
    if "lowprec" not in metadata or "sha256" not in metadata:
        remedy = "Read others with safetensors.torch.load_file."
        raise value_error("path", "be a file of lowprec.save_packed", str(path), remedy)
    text = metadata["lowprec"]
    if hashlib.sha256(text.encode()).hexdigest() != metadata["sha256"]:
        raise value_error("path", "have undamaged metadata (its SHA-256 differs)", str(path), _AGAIN)
    return _entries(path, text), arrays


def _entries(path: Path, text: str) -> dict[str, Any]:
    """What the metadata says of each tensor."""
    try:
        described = json.loads(text)
        version, entries = described["version"], dict(described["tensors"])
    except (LookupError, TypeError, ValueError, RecursionError) as error:
        must = f"have metadata of lowprec.save_packed ({error})"
        raise value_error("path", must, str(path), _AGAIN) from error
    if version != VERSION:
        remedy = "Read it with the version of lowprec that wrote it."
        raise value_error("path", f"have layout {VERSION} ({version!r} is another)", str(path), remedy)
    return entries


def _restored(name: str, entry: Any, arrays: dict[str, Tensor], state: Mapping[str, Tensor]) -> Tensor:
    """One tensor; takes what it consists of out of ``arrays``."""
    if not isinstance(entry, dict):
        raise type_error("entry", "be an object", entry)
    if "same_as" in entry:
        return state[entry["same_as"]]
    scales = entry.get("scales", ())
    keys = [name] if "format" not in entry else [f"{name}:codes", *_scale_keys(name, len(scales))]
    if missing := [key for key in keys if key not in arrays]:
        raise value_error("tensors", f"include {missing[0]!r}", sorted(arrays)[:3])
    parts = {key: arrays.pop(key) for key in keys}
    if _digest(parts) != entry["sha256"]:
        raise value_error("sha256", f"be {entry['sha256']}", _digest(parts))
    first, *rest = parts.values()
    if "format" not in entry:
        return _undone(first, entry)
    format, dtype, shape = parse(entry["format"]), _dtype(entry), entry["shape"]
    if format.bits <= WIDEST:
        codes = unpack(first, format.bits, shape)
    else:
        codes = _undone(first, {"dtype": _described(first)["dtype"], "shape": shape})
        largest = int(codes.numpy().max(initial=0))
        if largest >> format.bits:
            raise value_error("codes", f"lie below 2^{format.bits}", largest)
    found = [_undone(array, scale) for array, scale in zip(rest, scales, strict=True)]
    known = None if not found else found[0] if len(found) == 1 else tuple(found)
    return decode(codes, format, scales=known, dtype=dtype)


def _scale_keys(name: str, count: int) -> list[str]:
    """Where the scales of a tensor are."""
    return [f"{name}:scales{i}" for i in range(count)]


def _undone(array: Tensor, described: Mapping[str, Any]) -> Tensor:
    """A tensor of the dtype and shape that are described, from the file's."""
    dtype, shape = _dtype(described), tuple(described["shape"])
    if described["dtype"] not in _NATIVE and array.dtype == torch.uint8:
        array = array.view(dtype).view(shape)
    if (array.dtype, tuple(array.shape)) != (dtype, shape):
        found = _described(array)
        raise value_error("shape", f"be {shape} of {dtype}", (found["shape"], found["dtype"]))
    return array


def _dtype(described: Mapping[str, Any]) -> torch.dtype:
    """The dtype of a name."""
    name = described["dtype"]
    if name not in _DTYPES:
        raise value_error("dtype", "be the name of a torch dtype", name)
    return _DTYPES[name]
