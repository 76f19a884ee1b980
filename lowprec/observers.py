"""Observers: how a Quantizer finds static scales in the tensors that it sees.

An observer takes a statistic of each group of a scaled format (of each outermost group where scales have
scales): the largest magnitude of its finite elements, or the lowest and the highest where the format has
zero points. NaN and infinities never enter one. Statistics are kept in float64, which holds those of every
carrier; the scales follow from them by the format's own rule.
"""

import sys
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from lowprec.errors import type_error, value_error
from lowprec.ops.statistics import statistic

_LARGEST = sys.float_info.max
_WIDEST_MARGIN = 127


class Observer:
    """What every observer does; a Quantizer keeps the state.

    States and statistics are finite, not negative, and in float64.
    """

    delayed: ClassVar[bool] = False
    """Whether an input is quantized by the state before it."""
    averaged: ClassVar[bool] = False
    """Whether states are averaged over processes; the largest counts elsewhere."""

    def measure(self, x: Tensor, format: str) -> Tensor:
        """The statistic of one input, for each group."""
        return statistic(x, format)

    def update(self, state: Tensor | None, current: Tensor) -> Tensor:
        """The state after an input; None before the first."""
        raise NotImplementedError

    def statistic(self, state: Tensor) -> Tensor:
        """From what the scales follow."""
        return state


@dataclass(frozen=True)
class MinMax(Observer):
    """The largest magnitude ever seen, that of the current input included.

    Example:
        >>> from lowprec import Quantizer
        >>> layer = Quantizer("int8", observer=MinMax())
        >>> layer(torch.tensor([254.0, 1.0])), layer(torch.tensor([3.0, 1.0]))
        (tensor([254.,   0.]), tensor([4., 0.]))

    Reference:
        Jacob et al., Quantization and training of neural networks for efficient integer-arithmetic-only
        inference, 2018.
    """

    def update(self, state: Tensor | None, current: Tensor) -> Tensor:
        """The larger of the two."""
        return current if state is None else torch.maximum(state, current)


class _Averaged(Observer):
    """A moving average of what is measured, computed as ``current + momentum * (average - current)``."""

    averaged: ClassVar[bool] = True
    momentum: float

    def __post_init__(self) -> None:
        """Check the momentum."""
        _check_number("momentum", self.momentum)
        if not 0 <= self.momentum < 1:
            raise value_error("momentum", "be at least 0 and below 1", self.momentum)

    def update(self, state: Tensor | None, current: Tensor) -> Tensor:
        """The average; the first input's own statistic."""
        return current if state is None else current + self.momentum * (state - current)


@dataclass(frozen=True)
class MovingAverage(_Averaged):
    """The moving average of the largest magnitudes, that of the current input included.

    Args:
        momentum: The weight of the past, at least 0 and below 1. The first input has none.

    Raises:
        TypeError: If ``momentum`` is not a number.
        ValueError: If it lies outside.

    Example:
        >>> from lowprec import Quantizer
        >>> layer = Quantizer("int8", observer=MovingAverage(0.5))
        >>> _ = layer(torch.tensor([254.0])), layer(torch.tensor([508.0]))
        >>> layer.observed.statistic
        tensor([381.], dtype=torch.float64)

    Reference:
        Jacob et al., 2018, 3.1.
    """

    momentum: float = 0.9


@dataclass(frozen=True)
class Percentile(_Averaged):
    """The moving average of a percentile of the magnitudes: outliers are clipped.

    The percentile is the smallest of the group's finite magnitudes that at least ``percent`` percent of
    them do not exceed: nothing is interpolated. With zero points the same is taken of the values and,
    with the opposite sign, of the negated ones, widened to include zero. It waits for a CUDA device.

    Args:
        percent: Above 0 and at most 100; a float stands for the decimal number that it prints as.
        momentum: The weight of the past, at least 0 and below 1. The first input has none.

    Raises:
        TypeError: If an argument is not a number.
        ValueError: If one lies outside.

    Example:
        >>> from lowprec import Quantizer
        >>> layer = Quantizer("int8", observer=Percentile(75))
        >>> layer(torch.tensor([1.0, 2.0, 127.0, 1000.0]))
        tensor([  1.,   2., 127., 127.])

    Reference:
        Wu et al., Integer quantization for deep learning inference, 2020, 5.
    """

    percent: float = 99.9
    momentum: float = 0.9
    _decimal: str = field(init=False, repr=False, compare=False)  # torch.compile writes no floats

    def __post_init__(self) -> None:
        """Check both."""
        super().__post_init__()
        _check_number("percent", self.percent)
        if not 0 < self.percent <= 100:
            raise value_error("percent", "lie above 0 and be at most 100", self.percent)
        object.__setattr__(self, "_decimal", str(self.percent))

    def measure(self, x: Tensor, format: str) -> Tensor:
        """The percentiles of one input."""
        return statistic(x, format, percent=self._decimal)


@dataclass(frozen=True)
class MeanSquaredError(_Averaged):
    """The moving average of the magnitudes that clip with the least squared error.

    Of ``steps`` equally spaced magnitudes up to the group's largest, the one whose scale quantizes the
    group's own values to nearest even with the least mean squared error; of equal ones the larger. Every
    training call quantizes its input ``steps`` times. Both ends of a range shrink together. It waits
    for a CUDA device.

    Args:
        steps: How many magnitudes are tried, at least 1.
        momentum: The weight of the past, at least 0 and below 1. The first input has none.

    Raises:
        TypeError: If ``steps`` is not an integer or ``momentum`` not a number.
        ValueError: If one lies outside.

    Example:
        >>> from lowprec import Quantizer
        >>> layer = Quantizer("int4", observer=MeanSquaredError(4))
        >>> layer(torch.tensor([1.0] * 999 + [14.0]))[[0, -1]]
        tensor([1., 7.])

    Reference:
        Sung et al., Resiliency of deep neural networks under quantization, 2015.
    """

    steps: int = 64
    momentum: float = 0.9

    def __post_init__(self) -> None:
        """Check both."""
        super().__post_init__()
        _check_integer("steps", self.steps)
        if self.steps < 1:
            raise value_error("steps", "be at least 1", self.steps)

    def measure(self, x: Tensor, format: str) -> Tensor:
        """The best of one input."""
        return statistic(x, format, steps=self.steps)


@dataclass(frozen=True)
class Delayed(Observer):
    """The largest magnitude of the inputs before the current one, as transformer engines scale FP8.

    The scale of an input is known before the input is: what exceeds it follows the format's overflow
    rule. The first input, which has none before it, is scaled by its own magnitude. In ``eval()`` the
    last training inputs are the past.

    Args:
        history: How many inputs are remembered, at least 1.
        margin: The magnitude is multiplied by 2 to this integer, -127 to 127.

    Raises:
        TypeError: If an argument is not an integer.
        ValueError: If one lies outside.

    Example:
        >>> from lowprec import Quantizer
        >>> layer = Quantizer("int8", observer=Delayed(history=2))
        >>> layer(torch.tensor([127.0])), layer(torch.tensor([254.0])), layer(torch.tensor([254.0]))
        (tensor([127.]), tensor([127.]), tensor([254.]))

    Reference:
        Micikevicius et al., FP8 formats for deep learning, 2022.
    """

    delayed: ClassVar[bool] = True
    history: int = 16
    margin: int = 0

    def __post_init__(self) -> None:
        """Check both."""
        _check_integer("history", self.history)
        _check_integer("margin", self.margin)
        if self.history < 1:
            raise value_error("history", "be at least 1", self.history)
        if abs(self.margin) > _WIDEST_MARGIN:
            raise value_error("margin", f"lie within ±{_WIDEST_MARGIN}", self.margin)

    def update(self, state: Tensor | None, current: Tensor) -> Tensor:
        """Forget the oldest; what is not seen yet is zero."""
        if state is None:
            state = current.new_zeros(self.history, *current.shape)
        return torch.cat([state[1:], current.unsqueeze(0)])

    def statistic(self, state: Tensor) -> Tensor:
        """The largest remembered, with the margin."""
        return (state.amax(0) * 2.0**self.margin).clamp(max=_LARGEST)


def _check_number(name: str, value: object) -> None:
    """Refuse anything but an int or float."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise type_error(name, "be a number", value)


def _check_integer(name: str, value: object) -> None:
    """Refuse anything but an int."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise type_error(name, "be an integer", value)
