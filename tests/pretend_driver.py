"""A driver of CUDA without a device: Numba compiles, links, loads and launches as ever, and nothing runs.

It takes the place of libcuda.so.1 in a process of its own, so that everything above is what runs on a device.
It keeps the calls and, of a launch, what a device would have got. It knows no more functions than Numba and
lowprec call, and refuses all others.
"""

import ctypes
import os
import shutil
import struct
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from ctypes import c_char_p, c_int, c_uint, c_ulong, c_void_p
from pathlib import Path
from typing import Any, NamedTuple

CAPABILITIES = [(9, 0), (8, 0)]
"""Of the devices."""
CONTEXT, _LIBRARY, _KERNEL = 0x1000, 0x2000, 0x3000
"""What handles count from."""
_INVALID_VALUE, _INVALID_CONTEXT, _NO_BINARY, _NOT_SUPPORTED, _UNKNOWN = 1, 201, 209, 801, 999
_MAJOR, _MINOR = 75, 76
"""Attributes of a device."""
_FUNCTIONS: dict[str, tuple[tuple[Any, ...], Callable[..., int | None]]] = {}


class Launch(NamedTuple):
    """What a device gets."""

    kernel: str
    architecture: int
    device: int
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    shared: int
    stream: int
    parameters: list[bytes]


calls: list[str] = []
launches: list[Launch] = []
contexts: list[int] = []
"""The stack of them."""
_images: list[bytes] = []
_kernels: list[tuple[int, str]] = []


def compiler() -> str | None:
    """Where the compiler of C is, if it is anywhere."""
    return shutil.which("cc")


def build(folder: Path) -> None:
    """Make the library under both names by which it is asked for."""
    source, library = Path(__file__).with_suffix(".c"), folder / "libcuda.so.1"
    subprocess.run([compiler(), "-shared", "-fPIC", "-o", library, source], check=True)
    (folder / "libcuda.so").symlink_to(library.name)


def install() -> None:
    """Have the library, on LD_LIBRARY_PATH when this process began, ask here."""
    ctypes.CDLL("libcuda.so.1").pretend(_find)


def leave() -> None:
    """End this process at once: the library would ask for what is gone with Python."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


_kept: list[Any] = []


@ctypes.CFUNCTYPE(c_void_p, c_char_p)
def _find(name: bytes) -> int | None:
    """The address of a function."""
    known = name.decode()
    types, function = _FUNCTIONS.get(known, ((), lambda: _NOT_SUPPORTED))

    def call(*arguments: Any) -> int:
        calls.append(known)
        try:
            return function(*arguments) or 0
        except Exception:
            traceback.print_exc()
            return _UNKNOWN

    _kept.append(ctypes.CFUNCTYPE(c_int, *types)(call))
    return ctypes.cast(_kept[-1], c_void_p).value


def _driver(*types: Any) -> Callable[..., Any]:
    """Make a function one of the driver's, with arguments of some types."""

    def known(function: Callable[..., Any]) -> Callable[..., Any]:
        _FUNCTIONS[function.__name__] = types, function
        return function

    return known


def _put(address: int, kind: Any, value: int) -> None:
    kind.from_address(address).value = value


@_driver(c_uint)
def cuInit(flags: int) -> None: ...


@_driver(c_void_p)
def cuDriverGetVersion(out: int) -> None:
    _put(out, c_int, 13000)


@_driver(c_void_p)
def cuDeviceGetCount(out: int) -> None:
    _put(out, c_int, len(CAPABILITIES))


@_driver(c_void_p, c_int)
def cuDeviceGet(out: int, number: int) -> None:
    _put(out, c_int, number)


@_driver(c_void_p, c_int, c_int)
def cuDeviceGetAttribute(out: int, attribute: int, device: int) -> int | None:
    if attribute not in (_MAJOR, _MINOR):
        return _NOT_SUPPORTED
    return _put(out, c_int, CAPABILITIES[device][attribute - _MAJOR])


@_driver(c_void_p, c_int, c_int)
def cuDeviceGetName(out: int, room: int, device: int) -> None:
    ctypes.memmove(out, b"pretended\0", 10)


@_driver(c_void_p, c_int)
def cuDeviceGetUuid(out: int, device: int) -> None:
    ctypes.memset(out, device, 16)


@_driver(c_void_p, c_void_p)
def cuMemGetInfo(free: int, total: int) -> None:
    _put(free, c_ulong, 1 << 34)
    _put(total, c_ulong, 1 << 34)


@_driver(c_void_p, c_int)
def cuDevicePrimaryCtxRetain(out: int, device: int) -> None:
    _put(out, c_ulong, CONTEXT + device)


@_driver(c_void_p)
def cuCtxGetCurrent(out: int) -> None:
    _put(out, c_ulong, contexts[-1] if contexts else 0)


@_driver(c_void_p)
def cuCtxGetDevice(out: int) -> int | None:
    return _put(out, c_int, contexts[-1] - CONTEXT) if contexts else _INVALID_CONTEXT


@_driver(c_ulong)
def cuCtxSetCurrent(context: int) -> None:
    contexts[-1:] = [context] if context else []


@_driver(c_ulong)
def cuCtxPushCurrent(context: int) -> None:
    contexts.append(context)


@_driver(c_void_p)
def cuCtxPopCurrent(out: int) -> int | None:
    return _put(out, c_ulong, contexts.pop()) if contexts else _INVALID_CONTEXT


@_driver(c_void_p, c_void_p, c_void_p, c_void_p, c_uint, c_void_p, c_void_p, c_uint)
def cuLibraryLoadData(out: int, code: int, *_: Any) -> None:
    table, size, count = _table(ctypes.string_at(code, 64))
    _images.append(ctypes.string_at(code, table + size * count))
    _put(out, c_ulong, _LIBRARY + len(_images) - 1)


@_driver(c_void_p, c_ulong, c_char_p)
def cuLibraryGetKernel(out: int, library: int, name: bytes) -> None:
    _kernels.append((library - _LIBRARY, name.decode()))
    _put(out, c_ulong, _KERNEL + len(_kernels) - 1)


@_driver(c_void_p, c_int, c_ulong, c_int)
def cuKernelGetAttribute(out: int, attribute: int, kernel: int, device: int) -> None:
    _put(out, c_int, 0)


@_driver(c_ulong, *[c_uint] * 7, c_ulong, c_void_p, c_void_p)
def cuLaunchKernel(kernel: int, *rest: Any) -> int | None:
    *sizes, shared, stream, parameters, extra = rest
    threads = sizes[3] * sizes[4] * sizes[5]
    if not contexts or 0 in sizes or threads > 1024 or extra or not parameters:
        return _INVALID_VALUE if contexts else _INVALID_CONTEXT
    number, name = _kernels[kernel - _KERNEL]
    device, built = contexts[-1] - CONTEXT, architecture(_images[number])
    if built != 10 * CAPABILITIES[device][0] + CAPABILITIES[device][1]:
        return _NO_BINARY
    room = sizes_of_parameters(_images[number], name)
    places = (c_void_p * len(room)).from_address(parameters)
    given = [ctypes.string_at(place, size) for place, size in zip(places, room, strict=True)]
    launches.append(Launch(name, built, device, tuple(sizes[:3]), tuple(sizes[3:]), shared, stream, given))
    return None


def _table(image: bytes) -> tuple[int, int, int]:
    """Where the table of sections of an ELF file lies, the size of an entry, and how many there are."""
    assert image[:4] == b"\x7fELF", "what is loaded is no cubin"
    (begin,) = struct.unpack_from("<Q", image, 40)
    return begin, *struct.unpack_from("<HH", image, 58)


def architecture(image: bytes) -> int:
    """What a cubin was made for, as in sm_90."""
    (flags,) = struct.unpack_from("<I", image, 48)
    return (flags >> 8 if image[8] >= 8 else flags) & 0xFF


def _sections(image: bytes) -> Iterator[tuple[str, bytes]]:
    """Each section of a cubin, by name."""
    begin, size, count = _table(image)
    (own,) = struct.unpack_from("<H", image, 62)
    (names,) = struct.unpack_from("<Q", image, begin + own * size + 24)
    for at in range(begin, begin + count * size, size):
        name, _, _, _, place, length = struct.unpack_from("<IIQQQQ", image, at)
        end = image.index(b"\0", names + name)
        yield image[names + name : end].decode(), image[place : place + length]


def sizes_of_parameters(image: bytes, kernel: str) -> list[int]:
    """The bytes of each parameter of a kernel, as its cubin has them."""
    (notes,) = (data for name, data in _sections(image) if name == f".nv.info.{kernel}")
    found, at = {}, 0
    while at < len(notes):
        form, attribute, size = struct.unpack_from("<BBH", notes, at)
        if (form, attribute) == (4, 0x17):  # EIFMT_SVAL, EIATTR_KPARAM_INFO
            _, number, _, rest = struct.unpack_from("<IHHI", notes, at + 4)
            found[number] = rest >> 18
        at += 4 + (size if form == 4 else 0)
    return [found[number] for number in range(len(found))]
