"""Torch operators and the functions directly on top of them."""

from lowprec.ops.quantize import quantize as quantize
