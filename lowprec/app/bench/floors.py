"""Every limit that ``lowprec bench --check`` holds the package to, in one place."""

from lowprec.app.bench.figure import Limit
from lowprec.formats import GroupedFormat, Posit, Scaled, TabledFormat, parse
from lowprec.modes import Rounding

NEAREST_EVEN = 0.9
DETERMINISTIC = 0.7
STOCHASTIC = 0.35
"""Of float and saturating fixed-point kernels, as speed relative to a copy of the same bytes. Wrapping
has no floor: a modulo is a second rounding's worth of work."""

GROUPS = {
    "bfp8<channel0>": 0.6,
    "bfp8<group32>": 0.4,
    "bfp8<group32@0>": 0.3,
    "mxfp8_e4m3": 0.4,
    "mxfp4": 0.4,
    "scaled<e4m3fn,e8m0,group32@0>": 0.3,
    "scaled<e2m1,e8m0,group32@0>": 0.3,
    "scaled<e4m3fn,float32,amax>": 0.4,
    "nvfp4": 0.25,
    "nf4": 0.25,
}
"""Of formats with groups under nearest_even; others of them have no floor."""

GROUPS_STOCHASTIC = {"mxfp8_e4m3": 0.25, "mxfp4": 0.25}
"""Of formats with groups under stochastic."""

LISTED = 0.25
LISTED_LARGE = 0.1
"""Of posits and of formats of up to 256 listed values, and of more, under nearest_even."""

OTHER_CARRIER = 0.5
"""What part of its floor a kernel must reach in bfloat16, float16 and float64. Scaled
formats have no floor there."""

PACK = {4: 0.25}
"""Of packing codes of so many bits, relative to a copy of the codes."""

CALL = 12.0
CALL_WITH_AUTOGRAD = 20.0
CALL_EXTRA_STOCHASTIC = 5.0
"""Microseconds for 64 elements."""

FIRST_CALL_COLD = 3.0
FIRST_CALL_WARM = 0.6
IMPORT = 0.6
"""Seconds."""

MEMORY = 1.1
"""What one call may add to the memory of the process, over what a copy adds."""

STEP = 1.35
"""A training step with every role in low precision, over the same step in float32."""

RECORD = 1.3
"""The same step under record, over the step without it."""
LOOK = 1.0
"""Microseconds that a cast spends on looking for a record block where there is none."""

ONE_PASS = 1.3
EACH = 2.5
"""An optimizer's step with every role in low precision, in one pass over memory or rounding by rounding,
over torch's foreach step in float32."""

NEAREST, ROUNDED, DRAWN, KAHAN, WRAPPED = "nearest", "product rounded", "stochastic", "Kahan", "wrapping"
PRODUCT = {NEAREST: 20.0, ROUNDED: 40.0, DRAWN: 50.0, KAHAN: 60.0, WRAPPED: 20.0}
"""A matrix product of rounded operands in which every sum is rounded, over torch's in float32."""
RAW = 2.0
"""How many times as long it may take of float32 operands that are not rounded."""


def of_product(kind: str, *, raw: bool) -> float:
    """The most that a matrix product may take.

    Args:
        kind: One of those of PRODUCT.
        raw: Whether operands are not rounded.

    Returns:
        Times torch's float32 product.

    Example:
        >>> of_product("Kahan", raw=True)
        120.0
    """
    return PRODUCT[kind] * (RAW if raw else 1.0)


def of_kernel(format: str, rounding: Rounding, carrier: str) -> Limit | None:
    """The floor of a kernel, if there is one.

    Args:
        format: The name of the format.
        rounding: The mode.
        carrier: The name of the dtype.

    Returns:
        The least ratio to a copy.

    Example:
        >>> str(of_kernel("e4m3fn", Rounding.NEAREST_EVEN, "bfloat16"))
        '≥ 0.45'
    """
    floor: float | None
    parsed = parse(format)
    if "wrap" in format or (carrier != "float32" and isinstance(parsed, Scaled)):
        floor = None
    elif isinstance(parsed, GroupedFormat):
        floors = {Rounding.NEAREST_EVEN: GROUPS, Rounding.STOCHASTIC: GROUPS_STOCHASTIC}
        floor = floors.get(rounding, {}).get(format)
    elif isinstance(parsed, Posit | TabledFormat):
        small = parsed.bits <= 8 or isinstance(parsed, Posit)
        floor = (LISTED if small else LISTED_LARGE) if rounding is Rounding.NEAREST_EVEN else None
    elif rounding.startswith("stochastic"):
        floor = STOCHASTIC
    else:
        floor = NEAREST_EVEN if rounding is Rounding.NEAREST_EVEN else DETERMINISTIC
    if floor is None:
        return None
    return Limit(floor if carrier == "float32" else floor * OTHER_CARRIER, at_least=True)


def of_call(*, stochastic: bool, autograd: bool) -> Limit:
    """The most microseconds of a call for 64 elements.

    Args:
        stochastic: Whether noise is drawn.
        autograd: Whether the input requires a gradient.

    Returns:
        The ceiling.

    Example:
        >>> str(of_call(stochastic=True, autograd=False))
        '≤ 17'
    """
    base = CALL_WITH_AUTOGRAD if autograd else CALL
    return Limit(base + (CALL_EXTRA_STOCHASTIC if stochastic else 0.0), at_least=False)
