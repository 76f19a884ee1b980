"""Break: where a run went wrong."""

from collections.abc import Iterable
from dataclasses import dataclass

from lowprec.record.moments import Key, Moment


@dataclass(frozen=True)
class Break:
    """Where a run broke.

    Args:
        first_step: The step; where only several together are known, the first of them.
        last_step: The same or, of several, the last.
        layer: The layer or parameter.
        role: What of it.
        what: ``"NaN"``, ``"infinity"`` or ``"saturation"``.

    Example:
        >>> print(Break(7, 7, "fc1", "output", "infinity"))
        step 7: infinity in the output of fc1
    """

    first_step: int
    last_step: int
    layer: str
    role: str
    what: str

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
        return f"{when}: {self.what} in the {self.role} of {self.layer}"


def first_break(moments: Iterable[Moment], not_finite: Break | None, saturation: float) -> Break | None:
    """The first that is not finite, unless something saturated before, in the order of computing."""
    for moment in moments:
        if not_finite is not None and not_finite.first_step < moment.first_step:
            return not_finite
        for key, counters in moment.counters().items():
            if not_finite is not None and not_finite.is_of(moment, key):
                return not_finite
            if counters.saturation > saturation:
                return Break(moment.first_step, moment.last_step, *key, "saturation")
    return not_finite
