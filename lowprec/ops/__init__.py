"""Torch operators and the functions directly on top of them."""

from lowprec.ops.codes import decode as decode
from lowprec.ops.codes import encode as encode
from lowprec.ops.packing import pack as pack
from lowprec.ops.packing import unpack as unpack
from lowprec.ops.quantize import quantize as quantize
from lowprec.ops.scales import scales as scales
