"""Which noise a role takes: the stream of a step, a numbered parameter and what is rounded of it."""

# States are numbered from STATE on, by the order of their names.
WEIGHT, MASTER, GRADIENT, STATE = range(4)
ROLE_BITS, STEP_SHIFT = 6, 32
EDIT = (1 << ROLE_BITS) - 1  # a master taken up anew
REMAINDER, COMPENSATION = EDIT - 2, EDIT - 1  # what a rounding lost, and what is added to the next
MOST_STATES = REMAINDER - STATE


def stream_of(step: int, number: int, role: int) -> int:
    """The stream of a step, a numbered parameter and a role; no two share one."""
    return step << STEP_SHIFT | number << ROLE_BITS | role
