"""Other packages as oracles of scaled formats over powers of two: torchao, gfloat.

They are given what they define as we do: finite numbers, in groups whose scale is more than the least
one where torchao is asked (it divides by twice that), and as float64 where gfloat is (it takes logarithms,
which in float32 are wrong below powers of two).
"""

import importlib
import logging
import warnings
from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
from torch import Tensor

from lowprec.app.verify import kernel
from lowprec.app.verify.claim import CLAIMS, Part, Tick
from lowprec.app.verify.comparison import Asked, Outcome
from lowprec.app.verify.inputs import patterns, shuffled
from lowprec.app.verify.peers import GFLOAT, GFLOAT_MODES, imported
from lowprec.app.verify.setting import Setting
from lowprec.formats import FloatingPoint, Format, PerGroup, Scaled
from lowprec.formats.scaled import E8M0
from lowprec.modes import Rounding, ScaleRule

TORCHAO = {
    "e5m2": torch.float8_e5m2,
    "e4m3fn": torch.float8_e4m3fn,
    "e3m2": "fp6_e3m2",
    "e2m3": "fp6_e2m3",
    "e2m1": torch.float4_e2m1fn_x2,
}
"""Elements of torchao's MXTensor."""

_SIZE = 32
_TORCHAO_RULES = (ScaleRule.FLOOR, ScaleRule.CEIL, ScaleRule.EVEN)  # its rceil takes logarithms in float32
_MODES = [Setting(mode) for mode in GFLOAT_MODES if not mode.is_stochastic]
_NEAREST_EVEN = Setting(Rounding.NEAREST_EVEN)
_PARTS = (1.0, -0.96875, 0.8125, -0.7, 0.5, -0.34375, 0.1, -0.03, 0.007, -0.001, 0.0, -0.0)


def scaled_peer_parts(format: Format) -> Iterator[Part]:
    """The parts of a scaled format that other packages know by this very definition.

    Args:
        format: Any format.

    Yields:
        At most one part for each package, also if it is not installed.

    Example:
        >>> from lowprec.formats import parse
        >>> [part.claim.name for part in scaled_peer_parts(parse("mxfp4"))]
        ['torchao', 'gfloat blocks']
    """
    if not isinstance(format, Scaled) or format.scale != E8M0 or format.granularity != PerGroup(_SIZE):
        return
    if format.scale_rule in _TORCHAO_RULES and _element(format) in TORCHAO:
        yield Part(CLAIMS["torchao"], str(format), 1, 0.1, partial(_by_torchao, format))
    if format.scale_rule is ScaleRule.FLOOR and _element(format) in GFLOAT:
        yield Part(CLAIMS["gfloat blocks"], str(format), len(_MODES), 4.0, partial(_by_gfloat, format))


def maxima() -> Tensor:
    """Groups whose largest magnitudes are the powers of two of float32, and the numbers next to them.

    Returns:
        float32, 32 elements to a group.

    Example:
        >>> maxima().shape
        torch.Size([827, 32])
    """
    powers = torch.tensor([2.0**exponent for exponent in range(-149, 128)])
    tops = torch.cat([torch.nextafter(powers, torch.zeros(())), powers, torch.nextafter(powers, powers * 2)])
    tops = torch.unique(tops[tops > 0])
    return tops[:, None] * torch.tensor([*_PARTS, *[0.0] * (_SIZE - len(_PARTS))])


def _element(format: Scaled) -> str:
    """The name of a floating-point element that saturates, without its overflow."""
    element = format.element
    if not isinstance(element, FloatingPoint) or element.overflow != "saturate":
        return ""
    return str(element).removesuffix("<saturate>")


def _by_torchao(format: Scaled, tick: Tick) -> Outcome:
    """Its MXTensor, on maxima around powers of two and on all finite bfloat16 numbers in groups."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)  # it has much to say at import
    try:
        with warnings.catch_warnings(action="ignore"):
            package = imported("torchao.prototype.mx_formats.mx_tensor")
            config = imported("torchao.prototype.mx_formats.config")
    finally:
        logging.disable(before)
    if package is None or config is None:
        return Outcome(missing="not installed")
    numbers = patterns(torch.bfloat16).float()
    numbers = numbers.where(numbers.isfinite(), 0.0)
    x = torch.cat([maxima(), *(y.reshape(-1, _SIZE) for y in (numbers, shuffled(numbers)))])
    above = 2.0 ** (format.lowest_group_exponent + 1 + format.element_exponent)
    x = x[x.abs().amax(1) >= above]
    mode = config.ScaleCalculationMode[str(format.scale_rule).upper()]
    theirs = package.MXTensor.to_mx(x, TORCHAO[_element(format)], _SIZE, scaling_mode=mode).dequantize()
    outcome = Outcome(inputs=x.numel())
    got = kernel.quantize(x, format, _NEAREST_EVEN)
    outcome.add(x, got, theirs.double().numpy(), of=Asked(format, _NEAREST_EVEN))
    return outcome


def _by_gfloat(format: Scaled, tick: Tick) -> Outcome:
    """Its blocks in every deterministic mode that it has, on maxima around powers of two."""
    package = imported("gfloat")
    if package is None:
        return Outcome(missing="not installed")
    formats = importlib.import_module("gfloat.formats")
    element = getattr(formats, f"format_info_{GFLOAT[_element(format)]}")
    block = package.BlockFormatInfo(str(format), element, _SIZE, formats.format_info_ocp_e8m0)
    x = maxima()
    outcome = Outcome(inputs=x.numel())
    for done, setting in enumerate(_MODES):
        mode = package.RoundMode[GFLOAT_MODES[setting.rounding]]
        groups = x.double().numpy()
        wanted = [package.quantize_block(block, group, package.compute_scale_amax, mode) for group in groups]
        got = kernel.quantize(x, format, setting)
        outcome.add(x, got, np.stack(wanted), of=Asked(format, setting))
        tick((done + 1) / len(_MODES))
    return outcome
