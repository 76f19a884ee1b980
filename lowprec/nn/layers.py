"""Linear, Conv and ConvTranspose layers that call lowprec.functional.

A layer is its torch.nn twin with another class and a few plain attributes: parameters, keys, hooks and
pickles stay what they were, so ``convert`` only has to assign ``__class__``.
"""

from typing import Any, Self, cast

import torch
from torch import Tensor
from torch.nn.modules.conv import _ConvTransposeNd

from lowprec.errors import type_error
from lowprec.functional.arguments import check_convolution
from lowprec.functional.layers import planned_conv, planned_linear
from lowprec.functional.plan import LINEAR_AXES, Axes, Plan, conv_axes, conv_transpose_axes, make_plan
from lowprec.functional.transposed import planned_conv_transpose
from lowprec.nn.lent_seeds import LentSeeds
from lowprec.ops.observation import owner_of
from lowprec.ops.quantize import seed_tensor
from lowprec.scheme import Scheme, scheme_of


class Simulated(torch.nn.Module):
    """What the layers share: a scheme, a plan for each of train() and eval(), and the weight's noise."""

    scheme: Scheme
    _axes: Axes
    _plans: tuple[Plan, Plan]
    _in_forward: bool
    _weight_seed: Tensor | None
    _lent: dict[torch.device, LentSeeds]
    _keeper: "tuple[Simulated, ...]"

    @classmethod
    def from_torch(cls, layer: torch.nn.Module, scheme: Scheme | str) -> Self:
        """A simulated layer with the parameters of a torch layer, which stays as it is.

        Parameters, buffers and parts are shared, not copied: training either layer trains both, and an
        optimizer of one is one of the other. Training mode and hooks are those of the layer at this
        moment; hooks registered or removed later are each layer's own. Where ``lowprec.convert`` changes
        a whole model in place, and has each weight rounded once per call of the model, this makes one
        layer for a model of one's own, which rounds its weight at each call.

        Args:
            layer: A layer of exactly the torch class that this class simulates, on any device.
            scheme: A scheme or its name; its rules and optimizer roles have no say here.

        Returns:
            The layer; ``lowprec.revert`` gives it its torch class back.

        Raises:
            TypeError: If ``layer`` is of another class, a subclass or a simulated layer included.
            ValueError: If no scheme has that name.

        Example:
            >>> plain = torch.nn.Linear(4, 2)
            >>> Linear.from_torch(plain, "bfp8").weight is plain.weight
            True
        """
        plain = next(original for original, twin in TWINS.items() if twin is cls)
        if type(layer) is not plain:
            remedy = "Call lowprec.convert for a whole model."
            raise type_error("layer", f"be a torch.nn.{plain.__name__} itself", type(layer), remedy)
        made = cls.__new__(cls)
        tables = {k: v.copy() if isinstance(v, dict) else v for k, v in layer.__dict__.items()}
        made.__dict__.update(tables)  # parameters, buffers, parts and hooks each lie in a dictionary
        made.adopt(scheme)
        return made

    @classmethod
    def check(cls, scheme: Scheme) -> None:
        """Refuse a scheme that such a layer has no plan for."""
        for training in (False, True):
            make_plan(scheme, cls._axes, training=training)

    def adopt(self, scheme: Scheme | str) -> None:
        """Take up a scheme."""
        self.scheme = scheme_of(scheme)
        self._plans = (
            make_plan(self.scheme, self._axes, training=False),
            make_plan(self.scheme, self._axes, training=True),
        )
        self._in_forward, self._weight_seed, self._lent = False, None, {}
        self._keeper = ()

    def share_weight_noise(self, keeper: "Simulated") -> None:
        """Read the weight with the noise of another layer, which has the same weight."""
        self._keeper = (keeper,)  # in a tuple, or it would become a part of this layer

    @property
    def shared_weight(self) -> Tensor | None:
        """Of the parameters, the one whose other readers have the same noise."""
        return self.weight  # type: ignore[return-value]  # every layer but attention has one

    def disown(self) -> None:
        """Remove what adopt added."""
        for name in ("scheme", "_plans", "_in_forward", "_weight_seed", "_lent", "_keeper"):
            delattr(self, name)

    def begin_forward(self) -> None:
        """The converted model is called: the weight gets one noise until end_forward."""
        self._in_forward, self._weight_seed = True, None

    def end_forward(self) -> None:
        """Every later call is a forward of its own."""
        self._in_forward = False

    def _seeds(self, x: Tensor, plan: Plan) -> tuple[Tensor | None, Tensor | None]:
        """The seeds of this call and of the weight.

        Every call draws exactly one seed, so that a checkpointed region that is run again draws what
        it drew before. The first call within a forward of the converted model lends its seed to the
        weight, and later calls of that forward read the weight with that: a layer read twice has one
        weight, and so have layers that share one. A call outside, of a part of the model or a layer of
        its own, has its own noise.
        """
        if not plan.is_stochastic:
            return None, None
        seed = seed_tensor(x)
        if not plan.rounds_weight_stochastically:
            return seed, seed
        compiling = torch.compiler.is_compiling()
        keeper = self._keeper[0] if self._keeper else self
        if self._in_forward:
            if keeper._weight_seed is None:
                keeper._weight_seed = seed
            elif not compiling:
                keeper._lend(seed, keeper._weight_seed)
            return seed, keeper._weight_seed
        rerun = not compiling and torch._C._current_graph_task_id() != -1  # it has no public name
        if rerun and seed.device in keeper._lent:  # a checkpointed part of an earlier forward
            return seed, keeper._lent[seed.device].seed_for(seed)
        return seed, seed

    def _lend(self, seed: Tensor, weight_seed: Tensor) -> None:
        """Remember with which seed the weight was read by a call that drew another."""
        if torch.is_inference_mode_enabled():  # of which no backward runs a part again
            return
        if seed.device not in self._lent:
            self._lent[seed.device] = LentSeeds(seed.device)
        self._lent[seed.device].lend(seed, weight_seed)

    def __getstate__(self) -> dict[str, Any]:
        """Without the noise of the last forward, which is no part of a saved layer."""
        state = self.__dict__.copy()
        state.update(_in_forward=False, _weight_seed=None, _lent={})
        return state


class Linear(Simulated, torch.nn.Linear):
    """``torch.nn.Linear`` with operands, errors and output rounded as a scheme says.

    Special values are treated as by ``lowprec.functional.linear``. The bias is not rounded.

    Args:
        *args: As torch.nn.Linear.
        scheme: A scheme or its name.
        **kwargs: As torch.nn.Linear.

    Example:
        >>> Linear(4, 2, scheme="bfp8")(torch.ones(3, 4)).shape
        torch.Size([3, 2])
    """

    _axes = LINEAR_AXES

    def __init__(self, *args: Any, scheme: Scheme | str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.adopt(scheme)

    def forward(self, input: Tensor) -> Tensor:
        """The simulated product."""
        plan = self._plans[self.training]
        return planned_linear(input, self.weight, self.bias, plan, *self._seeds(input, plan), owner_of(self))


class _Conv(Simulated):
    """What the convolutions share: torch's class calls _conv_forward with its weight and bias."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The simulated product."""
        plan = self._plans[self.training]
        return planned_conv(
            input,
            weight,
            bias,
            self.stride,  # type: ignore[arg-type]  # from the torch class beside this one
            self.padding,  # type: ignore[arg-type]
            self.dilation,  # type: ignore[arg-type]
            self.groups,  # type: ignore[arg-type]
            self.padding_mode,  # type: ignore[arg-type]
            plan,
            *self._seeds(input, plan),
            owner_of(self),
        )


class Conv1d(_Conv, torch.nn.Conv1d):
    """``torch.nn.Conv1d`` with operands, errors and output rounded as a scheme says; see Linear.

    Example:
        >>> Conv1d(1, 2, 3, scheme="bfp8")(torch.ones(1, 1, 5)).shape
        torch.Size([1, 2, 3])
    """

    _axes = conv_axes(1)

    def __init__(self, *args: Any, scheme: Scheme | str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.adopt(scheme)


class Conv2d(_Conv, torch.nn.Conv2d):
    """``torch.nn.Conv2d`` with operands, errors and output rounded as a scheme says; see Linear.

    Example:
        >>> Conv2d(1, 2, 3, scheme="bfp8")(torch.ones(1, 1, 5, 5)).shape
        torch.Size([1, 2, 3, 3])
    """

    _axes = conv_axes(2)

    def __init__(self, *args: Any, scheme: Scheme | str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.adopt(scheme)


class Conv3d(_Conv, torch.nn.Conv3d):
    """``torch.nn.Conv3d`` with operands, errors and output rounded as a scheme says; see Linear.

    Example:
        >>> Conv3d(1, 2, 3, scheme="bfp8")(torch.ones(1, 1, 5, 5, 5)).shape
        torch.Size([1, 2, 3, 3, 3])
    """

    _axes = conv_axes(3)

    def __init__(self, *args: Any, scheme: Scheme | str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.adopt(scheme)


class _ConvTranspose(Simulated, _ConvTransposeNd):
    """What the transposed convolutions share."""

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """The simulated product, in one of the sizes that a stride leaves open."""
        dimensions = len(self.stride)
        check_convolution(input, self.weight, dimensions, self.groups)
        output_padding = self._output_padding(
            input,
            output_size,
            self.stride,  # type: ignore[arg-type]  # torch wants lists and has tuples
            self.padding,  # type: ignore[arg-type]
            self.kernel_size,  # type: ignore[arg-type]
            dimensions,
            self.dilation,  # type: ignore[arg-type]
        )
        plan = self._plans[self.training]
        return planned_conv_transpose(
            input,
            self.weight,
            self.bias,
            self.stride,
            self.padding,  # type: ignore[arg-type]
            output_padding,
            self.groups,
            self.dilation,
            plan,
            *self._seeds(input, plan),
            owner_of(self),
        )


class ConvTranspose1d(_ConvTranspose, torch.nn.ConvTranspose1d):
    """``torch.nn.ConvTranspose1d`` with operands, errors and output rounded as a scheme says; see Linear.

    Called with an ``output_size``, it gives that size, as torch's layer does.

    Example:
        >>> ConvTranspose1d(1, 2, 3, scheme="bfp8")(torch.ones(1, 1, 5)).shape
        torch.Size([1, 2, 7])
    """

    _axes = conv_transpose_axes(1)

    def __init__(self, *args: Any, scheme: Scheme | str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.adopt(scheme)


class ConvTranspose2d(_ConvTranspose, torch.nn.ConvTranspose2d):
    """``torch.nn.ConvTranspose2d`` with operands, errors and output rounded as a scheme says; see Linear.

    Called with an ``output_size``, it gives that size, as torch's layer does.

    Example:
        >>> ConvTranspose2d(1, 2, 3, stride=2, scheme="bfp8")(torch.ones(1, 1, 5, 5), [12, 12]).shape
        torch.Size([1, 2, 12, 12])
    """

    _axes = conv_transpose_axes(2)

    def __init__(self, *args: Any, scheme: Scheme | str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.adopt(scheme)


class ConvTranspose3d(_ConvTranspose, torch.nn.ConvTranspose3d):
    """``torch.nn.ConvTranspose3d`` with operands, errors and output rounded as a scheme says; see Linear.

    Called with an ``output_size``, it gives that size, as torch's layer does.

    Example:
        >>> ConvTranspose3d(1, 2, 3, scheme="bfp8")(torch.ones(1, 1, 5, 5, 5)).shape
        torch.Size([1, 2, 7, 7, 7])
    """

    _axes = conv_transpose_axes(3)

    def __init__(self, *args: Any, scheme: Scheme | str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.adopt(scheme)


TWINS: dict[type[torch.nn.Module], type[Simulated]] = {
    torch.nn.Linear: Linear,
    torch.nn.Conv1d: Conv1d,
    torch.nn.Conv2d: Conv2d,
    torch.nn.Conv3d: Conv3d,
    torch.nn.ConvTranspose1d: ConvTranspose1d,
    torch.nn.ConvTranspose2d: ConvTranspose2d,
    torch.nn.ConvTranspose3d: ConvTranspose3d,
}
"""Each torch layer and the layer that simulates it."""


def become_twin(layer: torch.nn.Module, scheme: Scheme) -> Simulated:
    """Give a torch layer the class of its twin, and a scheme."""
    layer.__class__ = TWINS[type(layer)]
    simulated = cast(Simulated, layer)
    simulated.adopt(scheme)
    return simulated
