"""Formats with groups: one scale for each along the right axis, by its rule, and nothing beyond it."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np

from lowprec import ops, reference
from lowprec.formats import BlockFloatingPoint, PerBlock, PerChannel, PerGroup, PerTensor, Scaled
from lowprec.formats.carriers import CARRIERS
from lowprec.modes import Rounding
from lowprec.testing.decide import Decided, Noise, decided
from lowprec.testing.definition import Definition, Floating
from lowprec.testing.failure import Check
from lowprec.testing.hard import Floats, landmarks
from lowprec.testing.listed import definition_of
from lowprec.testing.rounding import judge, noises, situation
from lowprec.testing.scales import CARRIER_FORMATS, Shared, grid_of, groups_of, nearest_even, shared
from lowprec.testing.subjects import Subject, array_of, tensor_of

AnyGrouped = BlockFloatingPoint | Scaled

_FACTORS = (1.0, 1.1, 1.37, 1.71, 1.75, 1.9375, 1.96875, 1.999)
"""What the largest of a group is over a power of two."""
_SPECIALS = (np.nan, np.inf, -np.inf, -0.0)


def check_groups(check: Check, subject: Subject, format: AnyGrouped, modes: Sequence[Rounding]) -> None:
    """All inputs of some tensors, of which each has groups of very different magnitudes."""
    for x in group_tensors(format, subject.carrier):
        parts = shared(x, format, subject.carrier)
        groups = groups_of(x.shape, format.granularity).ravel().tolist()
        _check_scales(check.at(f"{subject.name} in {subject.carrier}"), subject, format, x, parts)
        for rounding in modes:
            for noise in [*noises(rounding)][-3:]:  # two even words and an odd one
                place = check.at(situation(subject, rounding, noise))
                with place.running("runs", input=f"a tensor of shape {x.shape}"):
                    got = subject.run(x, rounding, noise)
                rows = zip(x.ravel().tolist(), got.ravel().tolist(), groups, strict=True)
                for number, value, group in rows:
                    want = wanted(number, parts[group], rounding, noise, subject.carrier)
                    judge(place, number, value, want, group=group, scale=float(parts[group].scale))
        _check_independent(check.at(situation(subject, Rounding.NEAREST_EVEN, Noise())), subject, format, x)


def wanted(x: float, part: Shared, rounding: Rounding, noise: Noise, carrier: str) -> Decided:
    """What an element becomes: its quotient rounded, times the scale, rounded to the carrier."""
    definition, scale = part
    over = decided(x, definition, rounding, noise, scale)
    if scale == 1 or not np.isfinite(over.value):
        return over
    holder = Floating(CARRIER_FORMATS[carrier])
    product = nearest_even(abs(Fraction(over.value)) * scale, holder)
    past = product > (holder.ends or (0, 0))[1]
    value = float(np.copysign(np.inf if past else float(product), over.value))
    place = over.place and over.place._replace(near=over.place.near * scale, far=over.place.far * scale)
    signed = value if value or definition.signed_zero else 0.0
    return Decided(signed, over.rule, place)


def group_tensors(format: AnyGrouped, carrier: str) -> Iterator[Floats]:
    """Tensors whose groups hold hard values over the scale of each, and specials."""
    shape = shape_for(format.granularity)
    definition = _unit(format, carrier)
    marks = sorted({float(mark) for mark in landmarks(definition)})
    grid = groups_of(shape, format.granularity)
    random = np.random.default_rng(7)
    for number in range(max(2, min(4, 3 * len(marks) // grid.size + 1))):
        x = np.zeros(shape)
        for group in range(int(grid.max()) + 1):
            members = grid == group
            with np.errstate(over="ignore", under="ignore"):
                x[members] = _members(group + 5 * number, int(members.sum()), format, carrier, marks, random)
        yield _held(x, carrier)


def shape_for(granularity: Any) -> tuple[int, ...]:
    """A shape that has several groups, of which the last are shorter."""
    if isinstance(granularity, PerGroup):
        axis, size = int(granularity.axis), granularity.size or 24
        dims = max(2, axis + 1 if axis >= 0 else -axis)
        count = 1 if granularity.size is None else 2
        return tuple(
            count * size + (count > 1) * max(1, size // 3) if d == axis % dims else 4 for d in range(dims)
        )
    if isinstance(granularity, PerBlock):
        sizes = granularity.shape
        return (
            (2, *(size + max(1, size // 2) for size in sizes))
            if len(sizes) < 3
            else tuple(s + 1 for s in sizes)
        )
    if isinstance(granularity, PerChannel):
        axes = granularity.axis if isinstance(granularity.axis, tuple) else (granularity.axis,)
        dims = max(2, *(axis + 1 if axis >= 0 else -axis for axis in axes))
        kept = {axis % dims for axis in axes}
        return tuple(3 if d in kept or dims > 3 else 40 for d in range(dims))
    return (4, 40)


def _unit(format: AnyGrouped, carrier: str) -> Definition:
    """The definition of elements over the scale 1."""
    return definition_of(format, carrier)


def _members(
    group: int, count: int, format: AnyGrouped, carrier: str, marks: list[float], random: Any
) -> Floats:  # fmt: skip
    """The numbers of a group, its largest first."""
    if group % 11 == 10:
        return np.resize([0.0, np.nan, -0.0], count)  # a group without a finite number but zero
    low, high = max(CARRIERS[carrier].lowest_exponent, -126), min(CARRIERS[carrier].highest_exponent, 127)
    exponent = (0, 3, -9, high - 1, 11, low, -4, high, low + 12)[group % 9]
    largest = np.ldexp(_FACTORS[group % len(_FACTORS)], exponent)
    one = np.array([_held(np.array([largest]), carrier)[0]])
    definition, scale = shared(one, _flat(format), carrier)[0]
    top = float((definition.ends or (0, 1))[1] * scale)
    unit = np.array(random.choice(marks, count)) * float(scale)
    if isinstance(format, BlockFloatingPoint):
        unit = unit * top / float((_unit(format, carrier).ends or (0, 1))[1])
    steps = random.integers(-1, 2, count)
    held = _dtype(carrier)
    x = np.where(steps, np.nextafter(unit.astype(held), np.where(steps > 0, np.inf, 0).astype(held)), unit)
    x = np.where(np.abs(x) <= largest, x, largest * 0.75) * np.where(random.random(count) < 0.4, -1, 1)
    x[::17] = np.resize(_SPECIALS, x[::17].size) if group % 3 == 1 else x[::17]
    x[count // 2] = -largest if group % 2 and not getattr(format, "zero_point", False) else largest
    return x


def _flat(format: AnyGrouped) -> AnyGrouped:
    """The format with one group, that scales of scales count in as if it were alone."""
    return replace(format, granularity=PerTensor())


def _dtype(carrier: str) -> Any:
    """The dtype of arrays that hold a carrier's numbers."""
    return np.dtype("float32" if carrier == "bfloat16" else carrier)


def _held(x: Any, carrier: str) -> Floats:
    """Numbers rounded to what a carrier holds."""
    return array_of(tensor_of(x, carrier))


def _check_scales(check: Check, subject: Subject, format: AnyGrouped, x: Floats, parts: list[Shared]) -> None:
    """One for each group, in the shape of the groups, by the rule."""
    grid = grid_of(x.shape, format.granularity)
    found: Any
    if isinstance(format, Scaled):
        if subject.name == "kernels":
            found = ops.scales(tensor_of(x, subject.carrier), format)
            levels = found if isinstance(found, tuple) else (found,)
            arrays = [np.asarray(level.double().numpy()) for level in levels]
        else:
            found = reference.scales(x, format, carrier=subject.carrier)
            arrays = [np.asarray(level) for level in (found if isinstance(found, tuple) else (found,))]
        check.equal("one scale for each group", arrays[0].shape, grid, input=f"shape {x.shape}")
        effective = arrays[0].ravel().tolist()
        if isinstance(format.scale, Scaled):
            outer = groups_of(grid, format.scale.granularity).ravel()
            factors = arrays[1].ravel()[outer].tolist()
            exact = [Fraction(s) * Fraction(t) for s, t in zip(effective, factors, strict=True)]
        else:
            exact = list(map(Fraction, effective))
        wants = [part.scale for part in parts]
    else:
        finite = np.where(np.isfinite(x), x, 0).astype(x.dtype)
        if subject.name == "kernels":
            found = ops.encode(tensor_of(finite, subject.carrier), format)[1].double().numpy()
        else:
            found = reference.encode(finite, format, carrier=subject.carrier)[1]
        check.equal("one scale for each group", found.shape, grid, input=f"shape {x.shape}")
        exact = list(map(Fraction, found.ravel().tolist()))
        wants = [Fraction(2) ** (format.word_bits - 2) * part.definition.step for part in parts]  # type: ignore[attr-defined]
    groups = groups_of(x.shape, format.granularity)
    for group, (got, want) in enumerate(zip(exact, wants, strict=True)):
        check.report.count("scales follow the rule")
        if got != want:
            finite = np.abs(x[(groups == group) & np.isfinite(x)])
            largest = f"a group whose largest is {float(finite.max(initial=0))!r}"
            check.fail("scales follow the rule", input=largest, got=float(got), want=float(want), group=group)


def _check_independent(check: Check, subject: Subject, format: AnyGrouped, x: Floats) -> None:
    """Zeros in place of one group change no other, if it does not hold the largest of all."""
    groups = groups_of(x.shape, format.granularity)
    before = subject.run(x, Rounding.NEAREST_EVEN, Noise())
    magnitudes = np.where(np.isfinite(x), np.abs(x), 0)
    for group in range(min(int(groups.max()) + 1, 6)):
        if magnitudes[groups == group].max() == magnitudes.max():
            continue
        changed = np.where(groups == group, 0, x).astype(x.dtype)
        after = subject.run(changed, Rounding.NEAREST_EVEN, Noise())
        others = groups != group
        rows = zip(x[others].tolist(), after[others].tolist(), before[others].tolist(), strict=True)
        for number, got, want in rows:
            check.equal(
                "a group changes no other", got, want, input=number, changed=f"group {group} to zeros"
            )
