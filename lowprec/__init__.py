"""Simulate low-precision arithmetic for deep learning: exact, reproducible, at memory speed."""

from typing import TYPE_CHECKING, Any

from lowprec import formats as formats
from lowprec import functional as functional
from lowprec import nn as nn
from lowprec import observers as observers
from lowprec import optim as optim
from lowprec.arithmetic import Arithmetic as Arithmetic
from lowprec.cast import Cast as Cast
from lowprec.cast import Operands as Operands
from lowprec.convert import convert as convert
from lowprec.convert import describe as describe
from lowprec.convert import prepare as prepare
from lowprec.convert import revert as revert
from lowprec.elementary import add as add
from lowprec.elementary import div as div
from lowprec.elementary import fma as fma
from lowprec.elementary import mul as mul
from lowprec.elementary import sqrt as sqrt
from lowprec.elementary import sub as sub
from lowprec.formats import BlockFloatingPoint as BlockFloatingPoint
from lowprec.formats import FixedPoint as FixedPoint
from lowprec.formats import FloatingPoint as FloatingPoint
from lowprec.formats import PerBlock as PerBlock
from lowprec.formats import PerChannel as PerChannel
from lowprec.formats import PerGroup as PerGroup
from lowprec.formats import PerTensor as PerTensor
from lowprec.formats import Scaled as Scaled
from lowprec.formats import finfo as finfo
from lowprec.inner_products import dot as dot
from lowprec.inner_products import matmul as matmul
from lowprec.inner_products import mean as mean
from lowprec.inner_products import sum as sum
from lowprec.modes import Overflow as Overflow
from lowprec.modes import Rounding as Rounding
from lowprec.modes import Specials as Specials
from lowprec.ops import decode as decode
from lowprec.ops import encode as encode
from lowprec.ops import pack as pack
from lowprec.ops import quantize as quantize
from lowprec.ops import scales as scales
from lowprec.ops import unpack as unpack
from lowprec.quantizer import Quantizer as Quantizer
from lowprec.record import Counters as Counters
from lowprec.record import record as record
from lowprec.scheme import SCHEMES as SCHEMES
from lowprec.scheme import Rule as Rule
from lowprec.scheme import Scheme as Scheme
from lowprec.simulating import simulate as simulate
from lowprec.storage import load_packed as load_packed
from lowprec.storage import save_packed as save_packed

if TYPE_CHECKING:
    from lowprec import explore as explore
    from lowprec.auditing import audit as audit
    from lowprec.single_layer import sensitivity as sensitivity

__version__ = "0.1.0"

_LATER = {
    "audit": "lowprec.auditing",
    "explore": "lowprec",
    "sensitivity": "lowprec.single_layer",
}
"""Names that training does without, and the modules that have them: imported when first asked for."""

__all__ = [
    "SCHEMES", "Arithmetic", "BlockFloatingPoint", "Cast", "Counters", "FixedPoint", "FloatingPoint",
    "Operands", "Overflow", "PerBlock", "PerChannel", "PerGroup", "PerTensor", "Quantizer", "Rounding",
    "Rule", "Scaled", "Scheme", "Specials", "add", "audit", "convert", "decode", "describe", "div", "dot",
    "encode", "explore", "finfo", "fma", "formats", "functional", "load_packed", "matmul", "mean", "mul",
    "nn", "observers", "optim", "pack", "prepare", "quantize", "record", "revert", "save_packed", "scales",
    "sensitivity", "simulate", "sqrt", "sub", "sum", "unpack",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """A name that is imported when it is first asked for."""
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    if _LATER[name] == __name__:
        return import_module(f"{__name__}.{name}")
    globals()[name] = value = getattr(import_module(_LATER[name]), name)
    return value


def __dir__() -> list[str]:
    """All names, also those that are not imported yet."""
    return sorted({*globals(), *_LATER})
