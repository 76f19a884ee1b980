"""Granularities: which elements of a tensor share one scale.

Every granularity is a tile size for each dimension: 1 keeps the dimension (a scale for each index),
the dimension's size reduces it (one scale for all), anything between cuts it into runs whose last
may be shorter. Kernels and the reference know tiles only.
"""

from dataclasses import dataclass, replace

from lowprec.errors import type_error, value_error

CONTRACTION = "contraction"
"""An axis that a product replaces by the one it sums over."""


@dataclass(frozen=True)
class PerTensor:
    """One scale for the whole tensor.

    Example:
        >>> PerTensor().tiles((2, 3))
        (2, 3)
    """

    def tiles(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The size of a group along each dimension of ``shape``."""
        return tuple(shape)

    def __str__(self) -> str:
        """The name that parse reads back."""
        return "tensor"


@dataclass(frozen=True)
class PerChannel:
    """One scale for each index of the kept axes.

    Args:
        axis: The axis to keep, or several; negative ones count from the end.

    Raises:
        TypeError: If an axis is not an integer.
        ValueError: If no axis is given or one is named twice.

    Example:
        >>> PerChannel(0).tiles((4, 3, 3))
        (1, 3, 3)
    """

    axis: int | tuple[int, ...]

    def __post_init__(self) -> None:
        """Check the axes."""
        axes = self._axes
        for axis in axes:
            _check_axis(axis)
        if not axes or len(set(axes)) != len(axes):
            raise value_error("axis", "name at least one axis, and none twice", self.axis)
        if len(axes) == 1:  # one way to say it, so that equal granularities compare equal
            object.__setattr__(self, "axis", axes[0])

    @property
    def _axes(self) -> tuple[int, ...]:
        """The kept axes, always as a tuple."""
        return self.axis if isinstance(self.axis, tuple) else (self.axis,)

    def tiles(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The size of a group along each dimension of ``shape``."""
        kept = {_normalized(axis, shape) for axis in self._axes}
        if len(kept) != len(self._axes):
            raise value_error("axis", "name no dimension twice", self.axis, "Leave one out.")
        return tuple(1 if d in kept else size for d, size in enumerate(shape))

    def __str__(self) -> str:
        """The name that parse reads back."""
        return "channel" + "&".join(map(str, self._axes))


@dataclass(frozen=True)
class PerGroup:
    """One scale for each run of consecutive elements along an axis; the last run may be shorter.

    Args:
        size: Elements in a run; None for the whole axis.
        axis: The axis that is cut; ``"contraction"`` for the one that a product sums over.

    Raises:
        TypeError: If ``size`` or ``axis`` has the wrong type.
        ValueError: If ``size`` is below 1.

    Example:
        >>> PerGroup(32).tiles((4, 100))
        (1, 32)
    """

    size: int | None = None
    axis: int | str = -1

    def __post_init__(self) -> None:
        """Check size and axis."""
        if self.size is not None and (not isinstance(self.size, int) or isinstance(self.size, bool)):
            raise type_error("size", "be an integer or None", self.size)
        if self.size is not None and self.size < 1:
            raise value_error("size", "be at least 1", self.size)
        if self.axis != CONTRACTION:
            _check_axis(self.axis)

    def along(self, axis: int) -> "PerGroup":
        """This granularity with ``"contraction"`` replaced by an axis."""
        return replace(self, axis=axis) if self.axis == CONTRACTION else self

    def tiles(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The size of a group along each dimension of ``shape``."""
        if isinstance(self.axis, str):
            raise value_error(
                "axis",
                "be an integer outside a product",
                self.axis,
                "Only the casts of a scheme may say 'contraction'.",
            )
        cut = _normalized(self.axis, shape)
        return tuple((self.size or max(size, 1)) if d == cut else 1 for d, size in enumerate(shape))

    def __str__(self) -> str:
        """The name that parse reads back."""
        size = "" if self.size is None else self.size
        return f"group{size}" if self.axis == -1 else f"group{size}@{self.axis}"


@dataclass(frozen=True)
class PerBlock:
    """One scale for each tile of the last axes; tiles at the far ends may be smaller.

    Axes before them keep one scale for each index.

    Args:
        shape: The size of a tile along each of the last ``len(shape)`` axes.

    Raises:
        TypeError: If ``shape`` is not a tuple of integers.
        ValueError: If it is empty or a size is below 1.

    Example:
        >>> PerBlock((16, 16)).tiles((4, 100, 100))
        (1, 16, 16)
    """

    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        """Check the sizes."""
        sizes = self.shape if isinstance(self.shape, tuple) else (None,)
        if any(not isinstance(size, int) or isinstance(size, bool) for size in sizes):
            raise type_error("shape", "be a tuple of integers", self.shape)
        if not self.shape or min(self.shape) < 1:
            raise value_error("shape", "name at least one size, and none below 1", self.shape)

    def tiles(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The size of a group along each dimension of ``shape``."""
        if len(self.shape) > len(shape):
            must = f"have no more sizes than the {len(shape)} dimensions of the tensor"
            raise value_error("shape", must, self.shape)
        return (1,) * (len(shape) - len(self.shape)) + self.shape

    def __str__(self) -> str:
        """The name that parse reads back."""
        return "block" + "x".join(map(str, self.shape))


Granularity = PerTensor | PerChannel | PerGroup | PerBlock


def _check_axis(axis: object) -> None:
    """Refuse anything but an integer."""
    if not isinstance(axis, int) or isinstance(axis, bool):
        raise type_error("axis", "be an integer", axis)


def _normalized(axis: int, shape: tuple[int, ...]) -> int:
    """``axis`` counted from the front."""
    if not -len(shape) <= axis < len(shape):
        raise value_error("axis", f"lie within the {len(shape)} dimensions of the tensor", axis)
    return axis % len(shape)
