"""lower rounds the outputs of layers in place, sequential_lower in a copy that shows it."""

import copy
from collections.abc import Iterable
from typing import Any

from torch import nn

from lowprec.compat.qtorch.number import Number
from lowprec.compat.qtorch.quant import Quantizer
from lowprec.errors import type_error, value_error

_NAMES = {
    "conv": "Conv1d Conv2d Conv3d ConvTranspose1d ConvTranspose2d ConvTranspose3d Unfold Fold",
    "linear": "Linear Bilinear",
    "pool": "MaxPool1d MaxPool2d MaxPool3d MaxUnpool1d MaxUnpool2d MaxUnpool3d AvgPool1d AvgPool2d AvgPool3d"
    " FractionalMaxPool2d LPPool1d LPPool2d AdaptiveMaxPool1d AdaptiveMaxPool2d AdaptiveMaxPool3d"
    " AdaptiveAvgPool1d AdaptiveAvgPool2d AdaptiveAvgPool3d",
    "pad": "ReflectionPad1d ReflectionPad2d ReplicationPad1d ReplicationPad2d ZeroPad2d ConstantPad1d"
    " ConstantPad2d ConstantPad3d",
    "activation": "ELU Hardshrink Hardtanh LeakyReLU LogSigmoid PReLU ReLU ReLU6 RReLU SELU Sigmoid Softplus"
    " Softshrink Softsign Tanh Tanhshrink Threshold Softmin Softmax Softmax2d LogSoftmax",
    "normalization": "BatchNorm1d BatchNorm2d BatchNorm3d GroupNorm InstanceNorm1d InstanceNorm2d"
    " InstanceNorm3d LayerNorm LocalResponseNorm",
    "dropout": "Dropout Dropout2d Dropout3d AlphaDropout",
    "loss": "L1Loss MSELoss CrossEntropyLoss NLLLoss PoissonNLLLoss KLDivLoss BCELoss BCEWithLogitsLoss"
    " MarginRankingLoss HingeEmbeddingLoss MultiLabelMarginLoss SmoothL1Loss SoftMarginLoss"
    " MultiLabelSoftMarginLoss MultiMarginLoss TripletMarginLoss",
}
LAYER_TYPES = {kind: frozenset(getattr(nn, name) for name in names.split()) for kind, names in _NAMES.items()}
"""QPyTorch's kinds of layers. A layer counts if its type is exactly one of these, not a subclass."""


class _Hook:
    """A forward hook that rounds what a layer gives, however the layer is called, copied or pickled."""

    def __init__(self) -> None:
        self.quantizers: list[Quantizer] = []

    def __call__(self, module: nn.Module, inputs: Any, output: Any) -> Any:
        """Round an output."""
        for quantize in self.quantizers:
            output = quantize(output)
        return output


class _Lowered(nn.Sequential):
    """A layer and the rounding of its output, called with whatever the layer takes."""

    def forward(self, *inputs: Any, **options: Any) -> Any:
        """Call the layer, and round."""
        layer, quantize = self
        return quantize(layer(*inputs, **options))


def lower(
    model: nn.Module,
    layer_types: Iterable[str] = [],
    forward_number: Number | None = None,
    backward_number: Number | None = None,
    forward_rounding: str = "stochastic",
    backward_rounding: str = "stochastic",
) -> None:
    """Round the outputs of a model's layers, and the errors that come back to them, in place.

    Weights are left to OptimLP. A layer that is shared is rounded once; a second call rounds after the first.
    NaN, infinities and overflow are the numbers' affair.

    Args:
        model: A module.
        layer_types: Kinds of layers: conv, linear, pool, pad, activation, normalization, dropout, loss.
        forward_number: The number for outputs; None to leave them.
        backward_number: The number for errors; None to leave them.
        forward_rounding: ``"stochastic"`` or ``"nearest"``.
        backward_rounding: The same for errors.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If a kind of layers or a rounding is unknown.

    Example:
        >>> import torch
        >>> from lowprec.compat.qtorch import FixedPoint
        >>> model = nn.Sequential(nn.Flatten(), nn.ReLU())
        >>> lower(model, ["activation"], FixedPoint(4, 2), forward_rounding="nearest")
        >>> model(torch.tensor([[0.3, 9.0]]))
        tensor([[0.2500, 1.7500]])
    """
    quantize = Quantizer(forward_number, backward_number, forward_rounding, backward_rounding)
    chosen = _chosen_types(layer_types)
    _check_model(model)
    for module in list(model.modules()):
        if type(module) in chosen:
            _hook_of(module).quantizers.append(quantize)


def sequential_lower(
    model: nn.Module,
    layer_types: Iterable[str] = [],
    forward_number: Number | None = None,
    backward_number: Number | None = None,
    forward_rounding: str = "stochastic",
    backward_rounding: str = "stochastic",
) -> nn.Module:
    """A copy of a model in which each chosen layer is followed by the rounding of its output and error.

    The layer and its Quantizer become an ``nn.Sequential`` in the layer's place, so that its keys in the
    ``state_dict`` gain a ``.0``. A layer that is shared stays so. NaN, infinities and overflow are the
    numbers' affair.

    Args:
        model: A module; it is not changed.
        layer_types: Kinds of layers: conv, linear, pool, pad, activation, normalization, dropout, loss.
        forward_number: The number for outputs; None to leave them.
        backward_number: The number for errors; None to leave them.
        forward_rounding: ``"stochastic"`` or ``"nearest"``.
        backward_rounding: The same for errors.

    Returns:
        The copy; where the model is itself a chosen layer, the ``nn.Sequential``.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If a kind of layers or a rounding is unknown.

    Example:
        >>> from lowprec.compat.qtorch import FixedPoint
        >>> model = nn.Sequential(nn.Linear(2, 1, bias=False))
        >>> list(sequential_lower(model, ["linear"], FixedPoint(8, 6)).state_dict())
        ['0.0.weight']
    """
    quantize = Quantizer(forward_number, backward_number, forward_rounding, backward_rounding)
    chosen = _chosen_types(layer_types)
    _check_model(model)
    return _wrapped(copy.deepcopy(model), chosen, quantize, {})


def _wrapped(
    module: nn.Module, chosen: frozenset[type], quantize: Quantizer, done: dict[nn.Module, nn.Module]
) -> nn.Module:
    """What stands in a module's place: a chosen leaf with its rounding, or itself with its children done."""
    if module in done:
        return done[module]
    children = {name: child for name, child in module._modules.items() if child is not None}
    done[module] = _Lowered(module, quantize) if not children and type(module) in chosen else module
    for name, child in children.items():
        module._modules[name] = _wrapped(child, chosen, quantize, done)
    return done[module]


def _hook_of(module: nn.Module) -> _Hook:
    """The hook that rounds a module's output, made if there is none; it comes before all others."""
    for hook in module._forward_hooks.values():
        if isinstance(hook, _Hook):
            return hook
    made = _Hook()
    module.register_forward_hook(made, prepend=True)
    return made


def _chosen_types(kinds: Iterable[str]) -> frozenset[type]:
    """The layer types of kinds."""
    if isinstance(kinds, str):
        raise type_error("layer_types", "be a list of kinds", kinds, f"Write [{kinds!r}].")
    kinds = list(kinds)
    for kind in kinds:
        if kind not in LAYER_TYPES:
            raise value_error("layer_types", f"hold kinds among {', '.join(LAYER_TYPES)}", kind)
    return frozenset().union(*(LAYER_TYPES[kind] for kind in kinds))


def _check_model(model: nn.Module) -> None:
    """Refuse what is no module."""
    if not isinstance(model, nn.Module):
        raise type_error("model", "be a torch.nn.Module", type(model))
