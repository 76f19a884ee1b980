"""The networks that ``lowprec train`` knows by name, and how it finds one of your own."""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lowprec.app.data import IMAGE_SHAPE, NUM_CLASSES
from lowprec.errors import sentence, type_error, value_error


def mlp() -> nn.Module:
    """A perceptron 784-128-64-10 with ReLU.

    Returns:
        The module; images of shape (N, 1, 28, 28) in, scores of shape (N, 10) out.

    Example:
        >>> sum(p.numel() for p in mlp().parameters())
        109386
    """
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(28 * 28, 128),
        nn.ReLU(),
        nn.Linear(128, 64),
        nn.ReLU(),
        nn.Linear(64, NUM_CLASSES),
    )


def cnn() -> nn.Module:
    """A small convolutional network 16C3-pool-32C3-pool-64-10 with ReLU.

    Returns:
        The module; images of shape (N, 1, 28, 28) in, scores of shape (N, 10) out.

    Example:
        >>> sum(p.numel() for p in cnn().parameters())
        105866
    """
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * 7 * 7, 64),
        nn.ReLU(),
        nn.Linear(64, NUM_CLASSES),
    )


class PreActivationBlock(nn.Module):
    """Two 3x3 convolutions, each after BatchNorm and ReLU, around an identity.

    Args:
        channels_in: Channels of the input.
        channels: Channels of the output.
        stride: Of the first convolution. Where it or the channels change, a 1x1 convolution of the
            activated input replaces the identity.

    Example:
        >>> PreActivationBlock(16, 32, stride=2)(torch.zeros(1, 16, 8, 8)).shape
        torch.Size([1, 32, 4, 4])

    Reference:
        He et al., Identity Mappings in Deep Residual Networks, 2016.
    """

    def __init__(self, channels_in: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        same = stride == 1 and channels_in == channels
        self.shortcut = None if same else nn.Conv2d(channels_in, channels, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """The residual plus the input or its projection."""
        activated = F.relu(self.norm1(x))
        residual = self.conv2(F.relu(self.norm2(self.conv1(activated))))
        skipped: Tensor = x if self.shortcut is None else self.shortcut(activated)
        out: Tensor = skipped + residual
        return out


def resnet20() -> nn.Module:
    """A pre-activation ResNet of 20 layers with 16, 32 and 64 channels.

    Returns:
        The module; images of shape (N, 1, 28, 28) in, scores of shape (N, 10) out.

    Example:
        >>> sum(p.numel() for p in resnet20().parameters())
        271994
    """
    layers: list[nn.Module] = [nn.Conv2d(1, 16, 3, padding=1, bias=False)]
    channels_in = 16
    for channels, first_stride in ((16, 1), (32, 2), (64, 2)):
        for stride in (first_stride, 1, 1):
            layers.append(PreActivationBlock(channels_in, channels, stride))
            channels_in = channels
    layers += [nn.BatchNorm2d(64), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(64, NUM_CLASSES))


MODELS: dict[str, Callable[[], nn.Module]] = {"mlp": mlp, "cnn": cnn, "resnet20": resnet20}


def find(name: str) -> Callable[[], nn.Module]:
    """The function that builds a model.

    Args:
        name: One of ``MODELS``, or ``"package.module:factory"``, which is imported with the current
            folder on the path; the factory takes no arguments.

    Returns:
        The function.

    Raises:
        ImportError: If the module cannot be imported.
        TypeError: If the factory cannot be called.
        ValueError: If the name is unknown or the module has no such factory.

    Example:
        >>> find("cnn")()[0]
        Conv2d(1, 16, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1))
    """
    if name in MODELS:
        return MODELS[name]
    module_name, colon, attribute = name.partition(":")
    if not (colon and module_name and attribute):
        known = ", ".join(MODELS)
        raise value_error("--model", f"be {known} or package.module:factory", name)
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        factory = importlib.import_module(module_name)
        for part in attribute.split("."):
            factory = getattr(factory, part)
    except AttributeError:
        raise value_error("--model", f"name something in the module {module_name}", name) from None
    except Exception as error:
        remedy = f"Its module raised {type(error).__name__}: {error}."
        raise ImportError(sentence("--model", "be importable", name, remedy)) from error
    if not callable(factory):
        raise type_error("--model", "name a function without arguments", name)
    found: Callable[[], nn.Module] = factory
    return found


def check(name: str, factory: Callable[[], nn.Module]) -> None:
    """Refuse a factory that fails or whose model does not classify the images.

    Args:
        name: What the user called the model.
        factory: The function that ``find`` returned.

    Raises:
        TypeError: If the factory returns something that is no module.
        ValueError: If it fails, or its model does, or the scores have another shape.

    Example:
        >>> check("cnn", cnn)
    """
    images = torch.zeros(2, 1, *IMAGE_SHAPE)
    try:
        model = factory()
        scores = model(images) if isinstance(model, nn.Module) else None
    except Exception as error:
        raise value_error(
            "--model", f"accept images of shape {tuple(images.shape)}", name,
            f"It raised {type(error).__name__}: {error}",
        ) from error  # fmt: skip
    if not isinstance(model, nn.Module):
        raise type_error("--model", "build a torch.nn.Module", type(model).__name__)
    shape = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
    if shape != (len(images), NUM_CLASSES):
        raise value_error("--model", f"return scores of shape (2, {NUM_CLASSES})", shape)
    if not any(p.requires_grad for p in model.parameters()):
        raise value_error("--model", "have parameters to train", name)
