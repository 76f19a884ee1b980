"""Other packages beside ours, on the same data in the same run; what is not installed is said to be so.

A peer is given the nearest thing that it has to the format: qtorch's e4m3 has no NaN and breaks ties
away from zero, pychop's ends at 240, torchao's has no NaN, and its nvfp4 divides in float32.
"""

import contextlib
import importlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lowprec.app.bench import handwritten, kernels
from lowprec.app.bench.figure import Probe, Unavailable
from lowprec.app.bench.measure import Effort, in_turns, seconds
from lowprec.modes import Rounding

PEERS, PEERS_SCALED = "peers", "peers, scaled formats"
OURS, OURS_INTO = "lowprec", "lowprec, out="
BY_HAND, BY_HAND_INTO = "by hand", "by hand, out="
"""By hand: what a good programmer writes in PyTorch, under torch.compile."""

FLOAT, FLOAT_SR = "e4m3fn nearest_even", "e4m3fn stochastic"
FIXED, FIXED_SR = "fixed8f6 nearest_even", "fixed8f6 stochastic"
BLOCK, BLOCK_SR = "bfp8<channel0> nearest_even", "bfp8<channel0> stochastic"
MXFP8, MXFP4, MXFP4_SR = "mxfp8_e4m3 nearest_even", "mxfp4 nearest_even", "mxfp4 stochastic"
NVFP4, INT8 = "nvfp4 nearest_even", "int8 nearest_even"
SECTIONS = {
    PEERS: (FLOAT, FLOAT_SR, FIXED, FIXED_SR, BLOCK, BLOCK_SR),
    PEERS_SCALED: (MXFP8, MXFP4, MXFP4_SR, NVFP4, INT8),
}
"""The columns of each table."""
OPERATIONS = tuple(operation for columns in SECTIONS.values() for operation in columns)

_NOT_INSTALLED = "not installed"
_SLOW, _PARTS, _SLOW_REPEATS = 0.5, (256, 16, 1), 3
"""A package whose call would take longer than so many seconds is timed on a part, and so often."""


@dataclass(frozen=True)
class Peer:
    """A package, and how to ask it for the operations that it has.

    Args:
        package: Its name on PyPI.
        modules: What to import, in the order of the arguments of the calls.
        calls: For an operation, a call that takes the input and the modules.
    """

    package: str
    modules: tuple[str, ...]
    calls: dict[str, Callable[..., Any]]

    def imported(self) -> tuple[ModuleType, ...]:
        """Its modules.

        Raises:
            Unavailable: If the package is not installed or cannot be imported.
        """
        return imported(self.package, self.modules)


INSTALLED = (
    Peer(
        "qtorch",
        ("qtorch.quant",),
        {
            FLOAT: lambda x, q: q.float_quantize(x, 4, 3, "nearest"),
            FLOAT_SR: lambda x, q: q.float_quantize(x, 4, 3, "stochastic"),
            FIXED: lambda x, q: q.fixed_point_quantize(x, 8, 6, rounding="nearest"),
            FIXED_SR: lambda x, q: q.fixed_point_quantize(x, 8, 6, rounding="stochastic"),
            BLOCK: lambda x, q: q.block_quantize(x, 8, 0, "nearest"),
            BLOCK_SR: lambda x, q: q.block_quantize(x, 8, 0, "stochastic"),
        },
    ),
    Peer(
        "ml_dtypes",
        ("ml_dtypes",),
        {FLOAT: lambda x, m: x.numpy().astype(m.float8_e4m3fn).astype("float32")},
    ),
    Peer(
        "gfloat",
        ("gfloat", "gfloat.formats"),
        {
            FLOAT: lambda x, g, f: g.round_ndarray(f.format_info_ocp_e4m3, x, g.RoundMode.TiesToEven, True),
            FLOAT_SR: lambda x, g, f: g.round_ndarray(
                f.format_info_ocp_e4m3,
                x,
                g.RoundMode.Stochastic,
                True,
                torch.randint(2**16, x.shape),
                16,
            ),
            MXFP8: lambda x, g, f: _block_by_block(x, g, f.format_info_mxfp8_e4m3),
            MXFP4: lambda x, g, f: _block_by_block(x, g, f.format_info_mxfp4_e2m1),
        },
    ),
    Peer(
        "torchao",
        (
            "torchao.prototype.custom_fp_utils",
            "torchao.prototype.mx_formats.mx_tensor",
            "torchao.prototype.mx_formats.nvfp4_tensor",
        ),
        {
            FLOAT: lambda x, c, _, __: c._floatx_unpacked_to_f32(c._f32_to_floatx_unpacked(x, 4, 3), 4, 3),
            MXFP8: lambda x, _, m, __: m.MXTensor.to_mx(x, torch.float8_e4m3fn, 32).dequantize(),
            MXFP4: lambda x, _, m, __: m.MXTensor.to_mx(x, torch.float4_e2m1fn_x2, 32).dequantize(),
            NVFP4: lambda x, _, __, n: n.NVFP4Tensor.to_nvfp4(
                x, per_tensor_scale=n.per_tensor_amax_to_scale(x.abs().amax())
            ).dequantize(),
        },
    ),
    Peer(
        "pychop",
        ("pychop",),
        {
            FLOAT: lambda x, p: p.Chop(4, 3, rmode=1)(x),
            FLOAT_SR: lambda x, p: p.Chop(4, 3, rmode=5)(x),
            FIXED: lambda x, p: p.Chopf(2, 6, rmode=1)(x),
            FIXED_SR: lambda x, p: p.Chopf(2, 6, rmode=5)(x),
            BLOCK: lambda x, p: p.bfp_quantize(x, (8, x.shape[1])),
            MXFP8: lambda x, p: p.mx_quantize(x, "mxfp8_e4m3"),
            MXFP4: lambda x, p: p.mx_quantize(x, "mxfp4_e2m1"),
        },
    ),
)
"""The packages of the extra ``bench``."""

PYTORCH = {
    FLOAT: lambda x: x.to(torch.float8_e4m3fn).to(torch.float32),
    FIXED: lambda x: torch.fake_quantize_per_tensor_affine(x, 2.0**-6, 0, -128, 127),
    INT8: lambda x: torch.fake_quantize_per_tensor_affine(x, float(x.abs().amax()) / 127, 0, -127, 127),
}
"""What PyTorch itself has."""

WRITTEN = {
    FLOAT: handwritten.float_nearest,
    FLOAT_SR: handwritten.float_stochastic,
    FIXED: handwritten.fixed_nearest,
    FIXED_SR: handwritten.fixed_stochastic,
    BLOCK: handwritten.block_nearest,
    BLOCK_SR: handwritten.block_stochastic,
    MXFP8: handwritten.mxfp8_nearest,
    MXFP4: handwritten.mxfp4_nearest,
    MXFP4_SR: handwritten.mxfp4_stochastic,
    NVFP4: handwritten.nvfp4_nearest,
    INT8: handwritten.int8_nearest,
}

NOTE = (
    "All but the rows with out= make a new output, which costs page faults. By hand: a fused formula of the "
    "same values under torch.compile. A package is given the nearest thing that it has to the format, and a "
    "sixteenth of the elements, or a 256th, where a call would take over half a second. Quoted from a "
    "measurement elsewhere, not measured in this run: cpfloat 0.15 (e4m3fn nearest_even) and 0.11 "
    "(stochastic); microxcaling 0.006 (MXFP8, groups of 32); mptorch, products with a rounded e4m3fn "
    "accumulator, 0.041 G multiply-adds/s (0.019 stochastic)."
)
"""What must be known to read the table."""


def probes(effort: Effort) -> Iterator[Probe]:
    """All probes of the table of packages, ours first.

    Args:
        effort: How much to measure.

    Returns:
        The probes, package by package.

    Example:
        >>> from lowprec.app.bench.measure import FULL
        >>> len({probe.row for probe in probes(FULL)})
        10
    """
    for section, operations in SECTIONS.items():
        for row, operation, bind in _cells():
            tried = operation in (FLOAT, MXFP8) and row not in (BY_HAND, BY_HAND_INTO)
            if operation in operations and (effort.complete or tried):
                yield Probe(section, row, operation, "of copy_", partial(_measure, bind, effort, row))


Bind = Callable[[Tensor, Tensor], Callable[[], Any]]
"""From an input and an output to the call that is timed."""


def _cells() -> Iterator[tuple[str, str, Bind]]:
    """Row, column, and what is timed there."""
    for row, into in ((OURS_INTO, True), (OURS, False)):
        yield from ((row, operation, partial(_ours, operation, into)) for operation in OPERATIONS)
    for row, into in ((BY_HAND_INTO, True), (BY_HAND, False)):
        yield from ((row, operation, partial(_by_hand, w, into)) for operation, w in WRITTEN.items())
    yield from (("PyTorch", operation, partial(_torch, call)) for operation, call in PYTORCH.items())
    for peer in INSTALLED:
        yield from ((peer.package, operation, partial(_peer, peer, operation)) for operation in peer.calls)


def _measure(bind: Bind, effort: Effort, row: str) -> float:
    """One cell. What goes wrong in another package, or with its compiler, is no failure of ours."""
    x, out = kernels.operands("float32", effort.side)
    try:
        if row not in (OURS, OURS_INTO, BY_HAND, BY_HAND_INTO):  # those are fast
            for part, larger in pairwise(_PARTS):
                call = bind(x[: -(-len(x) // part)], out)
                call()
                if seconds(call) * part / larger > _SLOW:
                    return in_turns(lambda: out.copy_(x), call, min(effort.repeats, _SLOW_REPEATS)) / part
        return in_turns(lambda: out.copy_(x), bind(x, out), effort.repeats)
    except Unavailable:
        raise
    except Exception as error:
        if row in (OURS, OURS_INTO):
            raise
        raise Unavailable(_one_line(error)) from error


def _ours(operation: str, into: bool, x: Tensor, out: Tensor) -> Callable[[], Any]:
    """This package."""
    format, mode = operation.split()
    return kernels.quantizing(x, format, Rounding(mode), out if into else None)


def _by_hand(function: handwritten.Quantization, into: bool, x: Tensor, out: Tensor) -> Callable[[], Any]:
    """A compiled function of our own."""
    call = handwritten.compiled(function, new_output=not into)
    return partial(call, x, out) if into else partial(call, x)


def _torch(call: Callable[[Tensor], Tensor], x: Tensor, _: Tensor) -> Callable[[], Any]:
    """PyTorch."""
    return partial(call, x)


def _block_by_block(x: Tensor, gfloat: ModuleType, block: Any) -> npt.NDArray[np.float64]:
    """What gfloat makes of groups of 32, which it takes one at a time."""
    groups = x.numpy().reshape(-1, 32)
    quantized = [gfloat.quantize_block(block, group, gfloat.compute_scale_amax) for group in groups]
    return np.stack(quantized).reshape(x.shape)


def _peer(peer: Peer, operation: str, x: Tensor, _: Tensor) -> Callable[[], Any]:
    """An installed package."""
    return partial(peer.calls[operation], x, *peer.imported())


def versions() -> dict[str, str]:
    """The version of each peer.

    Returns:
        What is installed; "not installed" for the others.

    Example:
        >>> sorted(versions())
        ['gfloat', 'ml_dtypes', 'pychop', 'qtorch', 'torchao']
    """
    return {peer.package: _version(peer.package) for peer in INSTALLED}


def _version(package: str) -> str:
    """The installed version, or that there is none."""
    try:
        return version(package)
    except PackageNotFoundError:
        return _NOT_INSTALLED


def imported(package: str, modules: tuple[str, ...]) -> tuple[ModuleType, ...]:
    """The modules of a package.

    Args:
        package: Its name in the package index.
        modules: Theirs.

    Returns:
        Them.

    Raises:
        Unavailable: If the package is not installed or cannot be imported.

    Example:
        >>> [module.__name__ for module in imported("torch", ("torch.nn",))]
        ['torch.nn']
    """
    found = _imported(package, modules)
    if isinstance(found, str):
        raise Unavailable(found)
    return found


@cache
def _imported(package: str, modules: tuple[str, ...]) -> tuple[ModuleType, ...] | str:
    """The modules, or why there are none; tried once, for qtorch compiles C++ when it is imported."""
    if _version(package) == _NOT_INSTALLED:
        return _NOT_INSTALLED
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)  # what a peer has to say at import is not our user's affair
    try:
        with warnings.catch_warnings(action="ignore"), contextlib.redirect_stderr(io.StringIO()):
            return tuple(importlib.import_module(module) for module in modules)
    except Exception as error:
        return _one_line(error)
    finally:
        logging.disable(before)


def _one_line(error: Exception) -> str:
    """The kind of an error and the first line of its message."""
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"
