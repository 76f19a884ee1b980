"""Simulate low-precision arithmetic for deep learning: exact, reproducible, at memory speed."""

from lowprec import explore as explore
from lowprec import formats as formats
from lowprec import functional as functional
from lowprec import nn as nn
from lowprec import observers as observers
from lowprec import optim as optim
from lowprec.arithmetic import Arithmetic as Arithmetic
from lowprec.auditing import audit as audit
from lowprec.cast import Cast as Cast
from lowprec.cast import Operands as Operands
from lowprec.convert import convert as convert
from lowprec.convert import describe as describe
from lowprec.convert import prepare as prepare
from lowprec.convert import revert as revert
from lowprec.formats import BlockFloatingPoint as BlockFloatingPoint
from lowprec.formats import FixedPoint as FixedPoint
from lowprec.formats import FloatingPoint as FloatingPoint
from lowprec.formats import PerBlock as PerBlock
from lowprec.formats import PerChannel as PerChannel
from lowprec.formats import PerGroup as PerGroup
from lowprec.formats import PerTensor as PerTensor
from lowprec.formats import Scaled as Scaled
from lowprec.formats import finfo as finfo
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
from lowprec.sensitivity import sensitivity as sensitivity
from lowprec.simulating import simulate as simulate
from lowprec.storage import load_packed as load_packed
from lowprec.storage import save_packed as save_packed

__version__ = "0.1.0"

__all__ = [
    "SCHEMES", "Arithmetic", "BlockFloatingPoint", "Cast", "Counters", "FixedPoint", "FloatingPoint",
    "Operands", "Overflow", "PerBlock", "PerChannel", "PerGroup", "PerTensor", "Quantizer", "Rounding",
    "Rule", "Scaled", "Scheme", "Specials", "audit", "convert", "decode", "describe", "encode", "explore",
    "finfo", "formats", "functional", "load_packed", "nn", "observers", "optim", "pack", "prepare",
    "quantize", "record", "revert", "save_packed", "scales", "sensitivity", "simulate",
    "unpack",
]  # fmt: skip
