"""SGD and AdamW in low precision: LowPrecision around torch's own."""

from collections.abc import Iterable, Mapping
from typing import Any, TypedDict, Unpack

import torch
from torch import Tensor

from lowprec.cast import CastLike
from lowprec.optim.low_precision import LowPrecision

Parameters = Iterable[Tensor] | Iterable[dict[str, Any]]
"""What torch's optimizers take: parameters, or groups of them with options of their own."""


class Options(TypedDict, total=False):
    """What LowPrecision takes beside the optimizer."""

    weight: CastLike
    gradient: CastLike
    state: CastLike | Mapping[str, CastLike]
    master: CastLike
    gradient_scale: float
    store: str
    compensation: str | None
    groups: Mapping[int, Mapping[str, Any]] | None
    exclude: Iterable[Tensor]
    seed: int | None


class SGD(LowPrecision):
    """Stochastic gradient descent whose weights, gradients, momentum and master are kept in low precision.

    Each step is one pass over memory, where LowPrecision says so, with the bits of LowPrecision around
    ``torch.optim.SGD(foreach=False)``. NaN, infinities and overflow follow each format.

    Args:
        params: As for torch.optim.SGD.
        lr, momentum, dampening, weight_decay, nesterov, maximize: As for torch.optim.SGD.
        options: ``weight``, ``gradient``, ``state``, ``master``, ``gradient_scale``, ``store``,
            ``compensation``, ``groups``, ``exclude``, ``seed``: as for LowPrecision.

    Raises:
        TypeError, ValueError: As torch.optim.SGD and LowPrecision.

    Example:
        >>> model = torch.nn.Linear(2, 1)
        >>> optimizer = SGD(model.parameters(), lr=0.1, momentum=0.9, weight="bfloat16", state="e5m2")
        >>> model(torch.ones(3, 2)).sum().backward()
        >>> optimizer.step()

    Reference:
        Sutskever et al., On the importance of initialization and momentum in deep learning, 2013.
    """

    def __init__(
        self,
        params: Parameters,
        lr: float | Tensor = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,  # noqa: FBT002  # as torch has it
        *,
        maximize: bool = False,
        **options: Unpack[Options],
    ) -> None:
        inner = torch.optim.SGD(
            params, lr, momentum, dampening, weight_decay, nesterov, maximize=maximize, foreach=False
        )
        super().__init__(inner, **options)


class AdamW(LowPrecision):
    """AdamW whose weights, gradients, moments and master are kept in low precision.

    Each step is one pass over memory, where LowPrecision says so, with the bits of LowPrecision around
    ``torch.optim.AdamW(foreach=False)``. NaN, infinities and overflow follow each format.

    Args:
        params: As for torch.optim.AdamW.
        lr, betas, eps, weight_decay, amsgrad, maximize: As for torch.optim.AdamW.
        options: ``weight``, ``gradient``, ``state``, ``master``, ``gradient_scale``, ``store``,
            ``compensation``, ``groups``, ``exclude``, ``seed``: as for LowPrecision.

    Raises:
        TypeError, ValueError: As torch.optim.AdamW and LowPrecision.

    Example:
        >>> model = torch.nn.Linear(200, 10)
        >>> moments = {"exp_avg": "bfp8", "exp_avg_sq": "bfloat16"}
        >>> optimizer = AdamW(model.parameters(), state=moments, store="packed")
        >>> model(torch.ones(3, 200)).sum().backward()
        >>> optimizer.step()
        >>> optimizer.state_nbytes  # in float32 it would be 16,088
        6046

    Reference:
        Loshchilov and Hutter, Decoupled weight decay regularization, 2019.
    """

    def __init__(
        self,
        params: Parameters,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,  # noqa: FBT002  # as torch has it
        *,
        maximize: bool = False,
        **options: Unpack[Options],
    ) -> None:
        inner = torch.optim.AdamW(
            params, lr, betas, eps, weight_decay, amsgrad, maximize=maximize, foreach=False
        )
        super().__init__(inner, **options)
