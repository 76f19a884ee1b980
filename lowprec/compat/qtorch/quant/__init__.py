"""QPyTorch's rounding functions, and rounding as a layer."""

from lowprec.compat.qtorch.quant.functions import block_quantize as block_quantize
from lowprec.compat.qtorch.quant.functions import fixed_point_quantize as fixed_point_quantize
from lowprec.compat.qtorch.quant.functions import float_quantize as float_quantize
from lowprec.compat.qtorch.quant.layers import Quantizer as Quantizer
from lowprec.compat.qtorch.quant.layers import quantizer as quantizer

__all__ = ["Quantizer", "block_quantize", "fixed_point_quantize", "float_quantize", "quantizer"]
