"""Other packages as oracles, where they define a named format: torch, ml_dtypes, gfloat.

A cast of theirs knows one rule for overflow. Where the format saturates, the input is first clamped to
its ends, which is exact: no value lies between an end and what rounds past it.
"""

import importlib
from collections.abc import Iterator
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lowprec.app.verify import kernel
from lowprec.app.verify.claim import CLAIMS, Part, Tick
from lowprec.app.verify.comparison import Asked, Outcome
from lowprec.app.verify.inputs import hard_inputs, holders, patterns
from lowprec.app.verify.setting import FEW_BITS, Setting, settings
from lowprec.formats import P3109, Format
from lowprec.modes import Overflow, Rounding

Float64 = npt.NDArray[np.float64]

TORCH = {
    "binary32": torch.float32,
    "binary16": torch.float16,
    "bfloat16": torch.bfloat16,
    "e5m2": torch.float8_e5m2,
    "e4m3fn": torch.float8_e4m3fn,
    "e5m2fnuz": torch.float8_e5m2fnuz,
    "e4m3fnuz": torch.float8_e4m3fnuz,
}
"""Dtypes that torch casts to."""

ML_DTYPES = {
    "bfloat16": "bfloat16",
    "e5m2": "float8_e5m2",
    "e4m3fn": "float8_e4m3fn",
    "e5m2fnuz": "float8_e5m2fnuz",
    "e4m3fnuz": "float8_e4m3fnuz",
    "e4m3ieee": "float8_e4m3",
    "e3m4": "float8_e3m4",
    "e3m2": "float6_e3m2fn",
    "e2m3": "float6_e2m3fn",
    "e2m1": "float4_e2m1fn",
}
"""Dtypes of ml_dtypes."""

GFLOAT = {
    "binary16": "binary16",
    "bfloat16": "bfloat16",
    "e5m2": "ocp_e5m2",
    "e4m3fn": "ocp_e4m3",
    "e3m2": "ocp_e3m2",
    "e2m3": "ocp_e2m3",
    "e2m1": "ocp_e2m1",
}
"""Formats of gfloat."""

GFLOAT_MODES = {
    Rounding.NEAREST_EVEN: "TiesToEven",
    Rounding.NEAREST_AWAY: "TiesToAway",
    Rounding.TOWARD_ZERO: "TowardZero",
    Rounding.UP: "TowardPositive",
    Rounding.DOWN: "TowardNegative",
    Rounding.STOCHASTIC: "StochasticFastest",
    Rounding.STOCHASTIC_MIDPOINT: "StochasticFast",
    Rounding.STOCHASTIC_NEAREST: "Stochastic",
}
"""Modes of gfloat."""

_NEAREST_EVEN = Setting(Rounding.NEAREST_EVEN)


def peer_parts(format: Format) -> Iterator[Part]:
    """The parts of a format that other packages know by this very definition.

    Args:
        format: Any format.

    Yields:
        At most one part for each package, also if it is not installed.

    Example:
        >>> from lowprec.formats import parse
        >>> [part.claim.name for part in peer_parts(parse("e4m3ieee"))]
        ['ml_dtypes']
    """
    name = str(format)
    if name in TORCH:
        yield Part(CLAIMS["torch"], name, 1, 0.1, partial(_by_torch, format))
    if name in ML_DTYPES:
        yield Part(CLAIMS["ml_dtypes"], name, 1, 0.1, partial(_by_ml_dtypes, format))
    if name in GFLOAT or _is_standard(format):
        yield Part(CLAIMS["gfloat"], name, len(_gfloat_settings()), 0.5, partial(_by_gfloat, format))


def clamped(x: Tensor, format: Format) -> Tensor:
    """Inputs whose overflow is that of a saturating format, whatever a cast makes of it.

    Args:
        x: Numbers of a carrier.
        format: A format; one that overflows to infinity changes nothing.

    Returns:
        x itself, or clamped to the ends of the format; NaN stays.

    Example:
        >>> from lowprec.formats import parse
        >>> clamped(torch.tensor([1e9]), parse("e4m3fn"))
        tensor([448.])
    """
    return x.clamp(format.min, format.max) if format.overflow is Overflow.SATURATE else x  # type: ignore[attr-defined]


def _inputs(format: Format) -> Tensor:
    """All 16-bit numbers in float32; for a format of float32's width hard inputs in float64."""
    if format.bits > 16:
        return hard_inputs(format, _NEAREST_EVEN, torch.float64)
    return torch.cat([patterns(torch.bfloat16).float(), patterns(torch.float16).float()])


def _by_torch(format: Format, tick: Tick) -> Outcome:
    """Casts of torch."""
    x = _inputs(format)
    wanted = clamped(x, format).to(TORCH[str(format)]).double().numpy()
    return _compared(x, wanted, format)


def _by_ml_dtypes(format: Format, tick: Tick) -> Outcome:
    """Casts of ml_dtypes; where the format has no NaN, of numbers only."""
    package = imported("ml_dtypes")
    if package is None:
        return Outcome(missing="not installed")
    x = _inputs(format)
    x = x if format.has_nan else x[~x.isnan()]
    with np.errstate(all="ignore"):
        cast = clamped(x, format).numpy().astype(getattr(package, ML_DTYPES[str(format)]))
    return _compared(x, cast.astype(np.float64), format)


def _compared(x: Tensor, wanted: Float64, format: Format) -> Outcome:
    """What the kernel makes of x, to nearest even."""
    outcome = Outcome(inputs=x.numel())
    outcome.add(x, kernel.quantize(x, format, _NEAREST_EVEN), wanted, of=Asked(format, _NEAREST_EVEN))
    return outcome


def _gfloat_settings() -> list[Setting]:
    """The modes that gfloat has; its float64 sums are exact for few random bits."""
    return [s for s in settings() if s.rounding in GFLOAT_MODES and s.random_bits in (None, FEW_BITS)]


def _is_standard(format: Format) -> bool:
    """Whether a format is one of P3109 as the standard has it, which float32 holds."""
    return isinstance(format, P3109) and "<" not in str(format) and torch.float32 in holders(format)


def _gfloat_info(package: ModuleType, format: Format) -> Any:
    """The format as gfloat describes it."""
    formats = importlib.import_module("gfloat.formats")
    if not isinstance(format, P3109):
        return getattr(formats, f"format_info_{GFLOAT[str(format)]}")
    signedness = package.types.Signedness.Signed if format.signed else package.types.Signedness.Unsigned
    domain = package.types.Domain.Extended if format.extended else package.types.Domain.Finite
    return formats.format_info_p3109(format.bits, format.precision, signedness, domain)


def _by_gfloat(format: Format, tick: Tick) -> Outcome:
    """Modes of gfloat, on hard inputs in float32; of unsigned formats on those that have no sign."""
    package = imported("gfloat")
    if package is None:
        return Outcome(missing="not installed")
    info = _gfloat_info(package, format)
    outcome, modes = Outcome(), _gfloat_settings()
    for done, setting in enumerate(modes):
        x = hard_inputs(format, setting, torch.float32)
        x = x if format.min < 0 else x[~x.signbit()]
        numbers, noise = x.double().numpy(), {}
        if setting.word is not None:
            top = setting.word >> (32 - FEW_BITS)
            noise = {"srbits": np.full(numbers.shape, top, np.int64), "srnumbits": FEW_BITS}
        mode = package.RoundMode[GFLOAT_MODES[setting.rounding]]
        saturates = format.overflow is Overflow.SATURATE  # type: ignore[attr-defined]
        with np.errstate(all="ignore"):
            wanted = package.round_ndarray(info, numbers, mode, saturates, **noise)
        outcome.add(x, kernel.quantize(x, format, setting), wanted, of=Asked(format, setting))
        outcome.inputs = max(outcome.inputs, x.numel())
        tick((done + 1) / len(modes))
    return outcome


def imported(name: str) -> ModuleType | None:
    """A package that may not be installed.

    Args:
        name: Of the module.

    Returns:
        It, or None.

    Example:
        >>> imported("math").__name__, imported("nobody_made_this")
        ('math', None)
    """
    try:
        return importlib.import_module(name)
    except ImportError:
        return None
