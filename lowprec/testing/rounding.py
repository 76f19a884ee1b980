"""Every mode on every hard input, by a definition; and what holds between the results."""

from collections.abc import Iterator, Sequence

import numpy as np

from lowprec.formats import Format
from lowprec.modes import Overflow, Rounding
from lowprec.testing.decide import Decided, Noise, decided
from lowprec.testing.definition import Definition
from lowprec.testing.failure import Check, same
from lowprec.testing.hard import Floats
from lowprec.testing.subjects import Subject

_MIRRORED = {
    Rounding.UP: Rounding.DOWN,
    Rounding.DOWN: Rounding.UP,
    Rounding.NEAREST_UP: Rounding.NEAREST_DOWN,
    Rounding.NEAREST_DOWN: Rounding.NEAREST_UP,
}


def check_rounding(
    check: Check, subject: Subject, definition: Definition, x: Floats, modes: Sequence[Rounding]
) -> None:  # fmt: skip
    """Every input in every mode, under every word of few random bits where it is stochastic."""
    for rounding in modes:
        inputs = thinned(x) if rounding.is_stochastic else x
        for noise in noises(rounding):
            place = check.at(situation(subject, rounding, noise))
            with place.running("runs", input=f"{inputs.size} numbers"):
                got = subject.run(inputs, rounding, noise)
            for number, value in zip(inputs.tolist(), got.tolist(), strict=True):
                judge(place, number, value, decided(number, definition, rounding, noise))


def check_relations(check: Check, subject: Subject, definition: Definition, x: Floats) -> None:
    """What must hold between results: they ascend with the inputs, mirror each other, and stay."""
    wraps = getattr(definition, "rule", None) is Overflow.WRAP
    for rounding in (Rounding.NEAREST_EVEN, Rounding.TOWARD_ZERO, Rounding.UP):
        if subject.name == "kernels" and rounding is not Rounding.NEAREST_EVEN:
            continue  # other modes would have to be compiled
        place = check.at(situation(subject, rounding, Noise()))
        finite = np.sort(x[np.isfinite(x)])
        got = subject.run(finite, rounding, Noise())
        if not wraps:
            _check_monotone(place, finite, got)
            if definition.is_mirrored(parity=rounding in _BY_PARITY):
                _check_symmetric(place, subject, rounding, finite, got, definition)
        kept = got[np.isfinite(got)]
        again = subject.run(kept, rounding, Noise())
        for value, second in zip(kept.tolist(), again.tolist(), strict=True):
            place.equal("idempotent", second, value, input=value)


def judge(check: Check, x: float, got: float, want: Decided, **more: object) -> None:
    """One result against the definition's; the neighbors stand in the message."""
    check.report.count(want.rule)
    if same(got, want.value):
        return
    lines: dict[str, object] = {}
    if want.place is not None and want.place.near != want.place.far:
        sign = -1 if x < 0 else 1
        below, above = sorted((sign * want.place.near, sign * want.place.far))
        lines = {"below": float(below), "above": float(above)}
    check.fail(want.rule, input=x, got=got, want=want.value, **lines, **more)


def noises(rounding: Rounding) -> Iterator[Noise]:
    """All words of one to four random bits; the bits behind them must not count."""
    if not rounding.is_stochastic:
        yield Noise()
    elif rounding is Rounding.STOCHASTIC_EQUAL:
        yield from (Noise(word=word) for word in (0, 2**31 - 1, 2**31, 2**32 - 1))
    else:
        for bits in (1, 2, 3, 4):
            for number in range(2**bits):
                unseen = (2 ** (32 - bits) - 1) * (number % 2)
                yield Noise(bits, number << (32 - bits) | unseen)


def thinned(x: Floats, most: int = 250) -> Floats:
    """A part of many numbers, at a regular distance that meets both signs."""
    return x[:: (x.size // most) | 1] if x.size > most else x


def situation(subject: Subject, rounding: Rounding, noise: Noise) -> str:
    """Where a result comes from, for a message."""
    drawn = (
        f", {noise.random_bits} random bits of the word {noise.word:#010x}" if rounding.is_stochastic else ""
    )
    return f"{rounding}{drawn}, {subject.name} in {subject.carrier}"


def _check_monotone(check: Check, x: Floats, got: Floats) -> None:
    """A larger number does not become a smaller one."""
    check.report.count("monotone", x.size)
    (at,) = np.nonzero(got[1:] < got[:-1])
    for first in at[:1].tolist():
        lines = {"smaller input": float(x[first]), "becomes": float(got[first])}
        want = f"at least {float(got[first])!r}"
        check.fail("monotone", input=float(x[first + 1]), got=float(got[first + 1]), want=want, **lines)


_BY_PARITY = (Rounding.NEAREST_EVEN, Rounding.NEAREST_ODD, Rounding.TO_ODD)


def _check_symmetric(
    check: Check, subject: Subject, rounding: Rounding, x: Floats, got: Floats, definition: Definition
) -> None:  # fmt: skip
    """The negated number becomes the negated result, in the mirrored mode."""
    if subject.name == "kernels" and rounding in _MIRRORED:
        return
    mirrored = subject.run(-x, _MIRRORED.get(rounding, rounding), Noise())
    for number, value, other in zip(x.tolist(), got.tolist(), mirrored.tolist(), strict=True):
        if number == 0 and not definition.is_value(0):  # type: ignore[arg-type]
            continue
        want = -value if value or definition.signed_zero else 0.0
        check.equal("symmetric", other, want, input=-number)


def all_modes(format: Format) -> list[Rounding]:
    """The modes that a format has."""
    return list(Rounding)
