"""Tensors bit by bit, and whether each element of one is a value of a format."""

from fractions import Fraction
from typing import Any

import numpy as np
from torch import Tensor

from lowprec.formats import BlockFloatingPoint, Scaled
from lowprec.modes import ScaleRule
from lowprec.testing.definition import Definition
from lowprec.testing.failure import Check
from lowprec.testing.hard import Floats
from lowprec.testing.listed import definition_of
from lowprec.testing.scales import CARRIER_FORMATS, Shared, groups_of, nearest_even, shared
from lowprec.testing.subjects import array_of


def equal_tensors(check: Check, name: str, x: Tensor, got: Tensor, want: Tensor, **lines: object) -> None:
    """Equal bits, NaN equal to NaN; the first element that differs is told, with its input."""
    check.report.count(name, x.numel())
    if (got.shape, got.dtype) != (want.shape, want.dtype):
        check.fail(
            name, got=f"{got.dtype} {tuple(got.shape)}", want=f"{want.dtype} {tuple(want.shape)}", **lines
        )
    first, second = array_of(got), array_of(want)
    equal = (first == second) & (np.signbit(first) == np.signbit(second))
    wrong = np.argwhere(~(equal | np.isnan(first) & np.isnan(second)))
    for at in map(tuple, wrong[:1].tolist()):
        results = {"got": float(first[at]), "want": float(second[at])}
        check.fail(name, input=float(array_of(x)[at]), position=at, **results, **lines)


def on_grid(check: Check, name: str, y: Tensor, format: Any, x: Tensor | None = None) -> None:
    """Every finite element is a value of the format; of one with groups over the scales that ``x`` has.

    Without an ``x`` these are the tensor's own, which is known to hold for powers of two only.
    """
    values, carrier = array_of(y), str(y.dtype).removeprefix("torch.")
    source = values if x is None else array_of(x)
    groups = np.zeros(values.shape, np.int64)
    if isinstance(format, BlockFloatingPoint | Scaled):
        if x is None and isinstance(format, Scaled) and format.scale_rule is not ScaleRule.FLOOR:
            return
        parts = shared(source, format, carrier)
        groups = groups_of(values.shape, format.granularity)
    else:
        parts = [Shared(definition_of(format, carrier), Fraction(1))]
    holder = definition_of(CARRIER_FORMATS[carrier])
    for value, group in zip(values.ravel().tolist(), groups.ravel().tolist(), strict=True):
        check.report.count(name)
        if not np.isfinite(value) or _is_element(value, parts[group], holder):
            continue
        definition, scale = parts[group]
        place = definition.place(abs(Fraction(value)) / scale, negative=value < 0)
        near, far = sorted((1 if value > 0 else -1) * x * scale for x in (place.near, place.far))
        between = f"between {float(near)!r} and {float(far)!r}" if near != far else "past the end"
        check.fail(name, got=value, want=f"a value of {format}", position=between)


def _is_element(value: float, part: Shared, holder: Definition) -> bool:
    """Whether a number is a value times a scale, rounded to what holds it."""
    definition, scale = part
    exact = Fraction(value)
    if scale == 1:
        return definition.is_value(exact)
    place = definition.place(abs(exact) / scale, negative=value < 0)
    # The product was rounded: the value may lie a little to either side of the quotient.
    beyond = definition.place(abs(exact) / scale * Fraction(2**24 + 1, 2**24), negative=value < 0)
    before = definition.place(abs(exact) / scale * Fraction(2**24 - 1, 2**24), negative=value < 0)
    near = {place.near, place.far, beyond.near, beyond.far, before.near, before.far}
    return any(nearest_even(candidate * scale, holder) == abs(exact) for candidate in near if candidate >= 0)


def spread(shape: tuple[int, ...], format: Any, carrier: str, *, finite: bool) -> Floats:
    """Hard values of a format in any order, in a shape; rows of formats with groups differ in magnitude."""
    from lowprec.testing.hard import hard_values

    random = np.random.default_rng(11)
    if format is None:
        x = random.standard_normal(shape)
    else:
        hard = hard_values(format, carrier).astype(np.float64)
        largest = abs(float(format.max)) if np.isfinite(format.max) else 1e4
        near = hard[~np.isfinite(hard) | (np.abs(hard) <= 4 * largest)]
        x = random.choice(near, shape)
        if isinstance(format, BlockFloatingPoint | Scaled):
            x = x * 2.0 ** random.integers(-6, 6, (*shape[:-1], 1))
    return np.where(np.isfinite(x), x, 1.0) if finite else x
