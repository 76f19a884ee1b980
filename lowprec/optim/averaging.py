"""Averaging: the average of weights over training, itself kept in low precision."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lowprec.cast import Cast
from lowprec.errors import type_error, value_error
from lowprec.formats import FormatLike
from lowprec.ops.quantize import CARRIER_DTYPES, check_carrier, check_tensor, quantize_into, seed_tensor
from lowprec.optim.casts import checked_spec

# Streams lie apart from an optimizer's under the same seed, and those of each carrier from the others'.
_AVERAGES, _UPDATE_SHIFT, _NUMBER_SHIFT = 1 << 62, 32, 6


class Averaging:
    """Average weights in a format: stochastic weight averaging in low precision (SWALP).

    It is the ``multi_avg_fn`` of ``torch.optim.swa_utils.AveragedModel``: after n updates
    ``average = Q(average + (p - average) / (n + 1))``, or with a decay
    ``average = Q(average + (1 - decay) * (p - average))``, in the arithmetic of the carrier. The first update
    is torch's: a copy of the weights as they are. Buffers are averaged where the AveragedModel has
    ``use_buffers=True``; integers and booleans among them are copied. NaN, infinities and overflow follow the
    format.

    The noise follows from the seed, from n, which the AveragedModel saves, and from the place of a parameter
    among those of its dtype, so that a model that is loaded goes on with the same bits.

    Args:
        cast: Cast of the average, a format or its name.
        decay: The share of the old average in an exponential moving one, 0 to 1; None for equal shares.
        seed: A 64-bit integer.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If a name is unknown, or the decay or the seed lies elsewhere.

    Example:
        >>> from torch.optim.swa_utils import AveragedModel
        >>> model = torch.nn.Linear(2, 1)
        >>> average = AveragedModel(model, multi_avg_fn=Averaging("bfp8"))
        >>> average.update_parameters(model)

    Reference:
        Yang et al., SWALP: Stochastic weight averaging in low-precision training, 2019.
    """

    def __init__(self, cast: Cast | FormatLike, *, decay: float | None = None, seed: int = 0) -> None:
        if cast is None:
            raise type_error("cast", "be a cast, a format or its name", cast)
        if decay is not None and (isinstance(decay, bool) or not isinstance(decay, int | float)):
            raise type_error("decay", "be a number or None", decay)
        if decay is not None and not 0.0 <= decay <= 1.0:
            raise value_error("decay", "lie between 0 and 1", decay)
        self._spec = checked_spec("cast", cast)
        self._decay = decay
        if seed is None:
            raise type_error("seed", "be an integer", seed, "No state_dict saves the seed of an average.")
        self._seed = int(seed_tensor(torch.empty(0), seed).item())

    @torch.no_grad()
    def __call__(
        self, averages: Sequence[Tensor], parameters: Sequence[Tensor], updates: Tensor | int
    ) -> None:
        """Update averages in place, as an AveragedModel asks for it.

        Args:
            averages: The averages so far, tensors of one dtype and device.
            parameters: The model's own, in the same order.
            updates: How many updates came before.

        Raises:
            TypeError: If it is called as an ``avg_fn``, or a parameter is no carrier.
            ValueError: If the carrier cannot hold the format.
        """
        if isinstance(averages, Tensor):
            raise type_error("averages", "be a list of tensors", "one tensor", "Pass it as multi_avg_fn.")
        count = int(updates)
        for number, (average, p) in enumerate(zip(averages, parameters, strict=True)):
            if not (average.is_floating_point() or average.is_complex()):
                average.copy_(p)
                continue
            check_tensor(average)
            check_carrier(self._spec, average.dtype)
            change = p - average
            average.add_(_share(change, count + 1) if self._decay is None else change * (1 - self._decay))
            role = CARRIER_DTYPES.index(average.dtype)
            stream = _AVERAGES | (count << _UPDATE_SHIFT) | (number << _NUMBER_SHIFT) | role
            seed = None
            if self._spec.is_stochastic:
                seed = torch.full((1,), self._seed, dtype=torch.int64, device=average.device)
            quantize_into(average, seed, self._spec, average, stream)

    def __repr__(self) -> str:
        """The cast and how it averages."""
        how = "equal shares" if self._decay is None else f"decay {self._decay:g}"
        return f"Averaging({self._spec.format} {self._spec.rounding}, {how})"


def _share(x: Tensor, count: int) -> Tensor:
    """``x / count``, divided: on CUDA devices torch multiplies by the reciprocal of a number."""
    wide = x if x.dtype == torch.float64 else x.float()
    return (wide / torch.full((), count, dtype=wide.dtype, device=x.device)).to(x.dtype)
