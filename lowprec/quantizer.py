"""Quantizer: the nn.Module that rounds activations forward and errors backward."""

from typing import Any

import torch
from torch import Tensor

from lowprec.errors import type_error, value_error
from lowprec.formats import FormatLike
from lowprec.modes import Rounding, check_random_bits
from lowprec.observed import Observed
from lowprec.observers import Observer
from lowprec.ops.gradients import GradientRule, quantize_ruled, run
from lowprec.ops.observation import observe, owner_of
from lowprec.ops.quantize import Spec, check_carrier, check_tensor, make_spec, seed_tensor


class Quantizer(torch.nn.Module):
    """Round values forward to one format and errors backward to another.

    Special values are treated as by quantize. The gradient is, in this order: the incoming one (the
    straight-through rule) or ``gradient(grad, x, y)``; zero where overflow fired in that very forward,
    if ``clip_gradient``; rounded to ``error``.

    With an ``observer`` the scales of a scaled format (the outermost, where scales have scales) are static:
    in training mode each input is observed first; in ``eval()``, of this module alone if need be, what was
    observed stays as it is. The statistics are ``observed.statistic``, a float64 buffer that goes into the
    ``state_dict``, can be loaded into a Quantizer that has seen nothing, and keeps its dtype in ``.to()``.
    A tensor without elements is not observed.

    Within a backward nothing is observed: a forward that a checkpoint runs again uses the scales of the last
    training call, which are those of its first run if the Quantizer was not called in between. A compiled
    graph cannot tell whether it is run again, so compile what contains the checkpoint, not what it contains;
    fullgraph then needs ``torch._dynamo.config.skip_fwd_side_effects_in_bwd_under_checkpoint = True``.

    Args:
        format: Format of the forward, its name, or a torch dtype; None to pass values on.
        error: Format of the backward; None to pass errors on.
        rounding: Mode of the forward.
        error_rounding: Mode of the backward; None for that of the forward.
        random_bits: Bits of noise for stochastic modes, 1 to 32; None for 32.
        clip_gradient: Give no gradient where the forward overflowed.
        gradient: A rule ``(grad, x, y) -> grad`` in place of the straight-through one.
        observer: How static scales follow from the inputs, one of lowprec.observers; None for scales
            that follow from each input alone. It needs groups that are the same for every input.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If a name is unknown, an option has nothing to act on, or an observer is given for a
            format that is not a scaled one or has the scale rule "mse". In a call: if the groups of x are
            not those of the inputs before.
        RuntimeError: In a call with an observer that has seen nothing, in eval() or within a backward; or
            under the transforms of torch.func.

    Shape:
        Any; the output has the shape of the input.

    Example:
        >>> layer = Quantizer("e4m3fn", "e5m2")
        >>> layer(torch.tensor([0.3]))
        tensor([0.3125])

    Reference:
        Bengio et al., Estimating or propagating gradients through stochastic neurons, 2013.
    """

    def __init__(
        self,
        format: FormatLike | None = None,
        error: FormatLike | None = None,
        *,
        rounding: Rounding | str = "nearest_even",
        error_rounding: Rounding | str | None = None,
        random_bits: int | None = None,
        clip_gradient: bool = False,
        gradient: GradientRule | None = None,
        observer: Observer | None = None,
    ) -> None:
        super().__init__()
        forward_mode = Rounding.parse(rounding, "rounding")
        backward_mode = (
            forward_mode if error_rounding is None else Rounding.parse(error_rounding, "error_rounding")
        )
        if format is None and clip_gradient:
            raise value_error("clip_gradient", "be False without a format", clip_gradient)
        if gradient is not None and not callable(gradient):
            raise type_error("gradient", "be a function (grad, x, y) -> grad", gradient)
        if error is None and error_rounding is not None:
            raise value_error("error_rounding", "be None without an error format", error_rounding)
        used = [
            mode for target, mode in ((format, forward_mode), (error, backward_mode)) if target is not None
        ]
        if not used and forward_mode is not Rounding.NEAREST_EVEN:
            raise value_error("rounding", "be left out without a format", str(forward_mode))
        check_random_bits(random_bits, *(used or [forward_mode]))
        self._spec = self._make(format, forward_mode, random_bits)
        self._error = self._make(error, backward_mode, random_bits)
        self._clip_gradient = clip_gradient
        self._gradient = gradient
        self.observed = None if observer is None else self._observed(observer)

    @staticmethod
    def _make(format: FormatLike | None, mode: Rounding, random_bits: int | None) -> Spec | None:
        """A checked spec, or None without a format."""
        if format is None:
            return None
        return make_spec(format, mode, random_bits if mode.takes_random_bits else None)

    def _observed(self, observer: Observer) -> Observed:
        """The state of an observer."""
        if not isinstance(observer, Observer):
            remedy = "Call the class: observers.MinMax()." if isinstance(observer, type) else ""
            raise type_error("observer", "be one of lowprec.observers", observer, remedy)
        if self._spec is None:
            raise value_error("observer", "be None without a format", observer)
        return Observed(observer, self._spec.format)

    def forward(self, x: Tensor) -> Tensor:
        """Quantize ``x``; a tensor whose dtype can hold the formats."""
        check_tensor(x)
        specs = [spec for spec in (self._spec, self._error) if spec is not None]
        for spec in specs:
            check_carrier(spec, x.dtype)
        owner = owner_of(self)
        scales = () if self.observed is None else self.observed.scales(x)
        seed = seed_tensor(x) if any(spec.is_stochastic for spec in specs) else None
        if self._error is None and not self._clip_gradient and self._gradient is None:
            y = x if self._spec is None else run(x, seed, self._spec, scales=scales)
        else:
            y = quantize_ruled(
                x,
                seed,
                self._spec,
                self._error,
                clip_gradient=self._clip_gradient,
                rule=self._gradient,
                owner=owner,
                scales=scales,
            )
        if self._spec is not None:
            observe("input", owner, x, y, seed, self._spec, 0, scales)
        return y

    def synchronize(self, group: Any = None) -> None:
        """Make what was observed the same in all processes of torch.distributed: call it in every one.

        The largest statistic counts, or under an averaging observer their mean.

        Args:
            group: A process group; None for all processes.

        Raises:
            RuntimeError: If there is no observer or no process group, or a process has seen nothing or
                inputs with other groups. Then it is raised in every process.
        """
        if self.observed is None:
            raise RuntimeError(
                "`synchronize` must be called on a Quantizer with an observer. "
                "Others keep nothing that could differ."
            )
        self.observed.synchronize(group)

    def extra_repr(self) -> str:
        """The formats and modes."""
        parts = []
        for name, spec in (("forward", self._spec), ("error", self._error)):
            if spec is not None:
                counted = Rounding(spec.rounding).takes_random_bits
                noise = f" {spec.random_bits} random bits" if counted else ""
                parts.append(f"{name}={spec.format} {spec.rounding}{noise}")
        if self._clip_gradient:
            parts.append("clip_gradient")
        if self._gradient is not None:
            parts.append(f"gradient={getattr(self._gradient, '__name__', self._gradient)}")
        return ", ".join(parts)
