"""Layers whose products are simulated; each is a subclass of its torch.nn twin."""

from lowprec.nn.attention import MultiheadAttention as MultiheadAttention
from lowprec.nn.layers import Conv1d as Conv1d
from lowprec.nn.layers import Conv2d as Conv2d
from lowprec.nn.layers import Conv3d as Conv3d
from lowprec.nn.layers import ConvTranspose1d as ConvTranspose1d
from lowprec.nn.layers import ConvTranspose2d as ConvTranspose2d
from lowprec.nn.layers import ConvTranspose3d as ConvTranspose3d
from lowprec.nn.layers import Linear as Linear
from lowprec.quantizer import Quantizer as Quantizer
