"""Break: where a run went wrong."""

from collections.abc import Iterable
from dataclasses import dataclass

from lowprec.record.counters import counters_of
from lowprec.record.moments import Key, Moment, Numbers


@dataclass(frozen=True)
class Break:
    """Where a run broke.

    Args:
        first_step: The step; where only several together are known, the first of them.
        last_step: The same or, of several, the last.
        layer: The layer or parameter.
        role: What of it.
        what: ``"NaN"``, ``"infinity"`` or ``"saturation"``.
        is_given: Whether the NaN or infinity came in and rounding made a finite number of it, so that no
            result shows it; else it is among the results.
        share: The fraction of elements that saturated, where that is what happened.

    Example:
        >>> print(Break(7, 7, "fc1", "output", "infinity"))
        step 7: infinity in the output of fc1
        >>> print(Break(2, 2, "fc1", "weight", "infinity", is_given=True))
        step 2: infinity given to the weight of fc1
        >>> print(Break(9, 9, "fc1", "error", "saturation", share=0.14))
        step 9: saturation (14 %) in the error of fc1
    """

    first_step: int
    last_step: int
    layer: str
    role: str
    what: str
    is_given: bool = False
    share: float | None = None

    def is_of(self, moment: Moment, key: Key) -> bool:
        """Whether it happened there."""
        return self.first_step <= moment.last_step and key == (self.layer, self.role)

    def __str__(self) -> str:
        """A sentence."""
        when = (
            f"step {self.first_step}"
            if self.first_step == self.last_step
            else f"steps {self.first_step} to {self.last_step}"
        )
        where = "given to" if self.is_given else "in"
        share = "" if self.share is None else f" ({100 * self.share:.3g} %)"
        return f"{when}: {self.what}{share} {where} the {self.role} of {self.layer}"


def not_finite_in(step: int, key: Key, numbers: Numbers) -> Break | None:
    """What of one quantization is not finite: of its results, else of what it was given."""
    found = counters_of(numbers.tolist())
    if found.nan or found.infinite:
        return Break(step, step, *key, "NaN" if found.nan else "infinity")
    if found.given_nan or found.given_infinite:
        return Break(step, step, *key, "NaN" if found.given_nan else "infinity", is_given=True)
    return None


def first_break(moments: Iterable[Moment], not_finite: Break | None, saturation: float) -> Break | None:
    """The first that is not finite, unless something saturated before, in the order of computing."""
    for moment in moments:
        if not_finite is not None and not_finite.first_step < moment.first_step:
            return not_finite
        for key, counters in moment.counters().items():
            if not_finite is not None and not_finite.is_of(moment, key):
                return not_finite
            if counters.saturation > saturation:
                return Break(
                    moment.first_step, moment.last_step, *key, "saturation", share=counters.saturation
                )
    return not_finite
