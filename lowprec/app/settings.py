"""What a training job is asked to do: its settings, and the list of runs that follows from them."""

import dataclasses
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lowprec.errors import sentence, value_error
from lowprec.scheme import SCHEMES, Scheme

PLAIN = "float32"
"""The name of the twin: PyTorch as it is, without lowprec."""

DEFAULT_SCHEMES = ("fp8-hybrid", "bfp8-sr", "fixed8", "fixed8-sr")
DEFAULT_MOMENTUM = 0.9
MOMENTUM_FREE = ("fixed8", "fixed8-sr")
"""Schemes that run without momentum unless it is asked for."""


@dataclass(frozen=True)
class Settings:
    """The options of ``lowprec train``, checked.

    Args:
        seeds: How many seeds, counted from 0.
        epochs: Passes over the training images.
        batch_size: Images in a step.
        lr: Learning rate of SGD.
        momentum: Of every run; None for 0.9, and 0 for fixed8 and fixed8-sr.
        model: A name of ``lowprec.app.models.MODELS`` or ``package.module:factory``.
        scheme: Names and TOML files; empty for the default ones.
        data: A folder of IDX files, or None for the bundled subset.
        train_size: Use only the first so many training images; None for all.
        loss_scale: In the place of the schemes' own; None to keep theirs.
        threads: Of PyTorch and the kernels; PyTorch's own products depend on it in the last bits.
        checkpoint_seconds: Write a checkpoint after so much work, besides every epoch's end.

    Raises:
        ValueError: If a number is out of range.

    Example:
        >>> Settings(epochs=0)
        Traceback (most recent call last):
        ValueError: `--epochs` must be at least 1, got 0.
    """

    seeds: int = 1
    epochs: int = 5
    batch_size: int = 64
    lr: float = 0.05
    momentum: float | None = None
    model: str = "cnn"
    scheme: tuple[str, ...] = ()
    data: str | None = None
    train_size: int | None = None
    loss_scale: float | None = None
    threads: int = 1
    checkpoint_seconds: float = 5.0

    def __post_init__(self) -> None:
        """Check every number."""
        for name in ("seeds", "epochs", "batch_size", "train_size", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise value_error(option(name), "be at least 1", value)
        for name in ("lr", "loss_scale"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise value_error(option(name), "be a positive number", value)
        if self.momentum is not None and not 0 <= self.momentum < 1:
            raise value_error("--momentum", "be at least 0 and below 1", self.momentum)
        if not (math.isfinite(self.checkpoint_seconds) and self.checkpoint_seconds >= 0):
            raise value_error("--checkpoint-seconds", "be at least 0", self.checkpoint_seconds)
        cores = os.cpu_count() or 1
        if self.threads > cores:
            raise value_error("--threads", f"be at most the {cores} of this machine", self.threads)

    def to_dict(self) -> dict[str, Any]:
        """The settings as plain values, for a checkpoint."""
        return dataclasses.asdict(self) | {"scheme": list(self.scheme)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Settings":
        """The settings of a checkpoint, also where this machine has fewer cores."""
        settings = cls(**(values | {"scheme": tuple(values["scheme"]), "threads": 1}))
        object.__setattr__(settings, "threads", values["threads"])
        return settings


@dataclass(frozen=True)
class Run:
    """One network trained from the beginning to the end.

    Args:
        scheme: Its name; ``float32`` for the twin.
        momentum: Of SGD.
        seed: Of the initial weights, the order of the images, and the noise.

    Example:
        >>> Run("bfp8-sr", 0.9, 0).title
        'bfp8-sr, momentum 0.9, seed 0'
        >>> Run("bfp8-sr", 0.9, 0).file_stem
        'bfp8-sr_momentum0.9_seed0'
    """

    scheme: str
    momentum: float
    seed: int

    @property
    def title(self) -> str:
        """What it is called in the progress display."""
        return f"{self.scheme}, momentum {self.momentum:g}, seed {self.seed}"

    @property
    def file_stem(self) -> str:
        """What its files are called."""
        return f"{self.scheme}_momentum{self.momentum!r}_seed{self.seed}"


def option(name: str) -> str:
    """How a setting is spelled on the command line."""
    return "--" + name.replace("_", "-")


def load_schemes(settings: Settings) -> dict[str, Scheme]:
    """The schemes that the settings ask for, by name, in order, without the float32 twin.

    Args:
        settings: Names and TOML files; a file's scheme is called like the file.

    Returns:
        The schemes, with the loss scale of the settings if there is one.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a name is unknown or comes twice, a file is damaged, or a loss scale is
            given and no scheme to use it.

    Example:
        >>> list(load_schemes(Settings(scheme=("float32", "bf16"))))
        ['bf16']
    """
    schemes: dict[str, Scheme] = {}
    names = set()
    for text in settings.scheme or DEFAULT_SCHEMES:
        from_file = text.endswith(".toml")
        name = Path(text).stem if from_file else text
        if name in names:
            raise value_error("--scheme", "name each scheme once", name, "Rename the TOML file.")
        names.add(name)
        if from_file:
            if name == PLAIN:
                raise value_error("--scheme", f"not be called {PLAIN}", text, "Rename the file.")
            if not Path(text).is_file():
                raise FileNotFoundError(sentence("--scheme", "be an existing file", text))
            schemes[name] = Scheme.from_toml(Path(text))
        elif name in SCHEMES:
            schemes[name] = SCHEMES[name]
        elif name != PLAIN:
            known = ", ".join((PLAIN, *SCHEMES))
            raise value_error("--scheme", "be a known name or a TOML file", text, f"Known: {known}.")
    if settings.loss_scale is not None:
        if not schemes:
            raise value_error("--loss-scale", f"have a scheme besides {PLAIN} to act on", settings.loss_scale)
        schemes = {
            name: dataclasses.replace(scheme, loss_scale=settings.loss_scale)
            for name, scheme in schemes.items()
        }
    return schemes


def plan(settings: Settings, schemes: dict[str, Scheme]) -> tuple[Run, ...]:
    """The runs of a job, seed by seed: for each momentum in use the float32 twin, then its schemes.

    Args:
        settings: How many seeds, and the momentum.
        schemes: What ``load_schemes`` returned.

    Returns:
        The runs, in the order in which they are trained.

    Example:
        >>> [run.title for run in plan(Settings(scheme=("float32",)), {})]
        ['float32, momentum 0.9, seed 0']
    """
    by_momentum: dict[float, list[str]] = {}
    for name in schemes or (PLAIN,):
        usual = 0.0 if name in MOMENTUM_FREE else DEFAULT_MOMENTUM
        momentum = usual if settings.momentum is None else settings.momentum
        by_momentum.setdefault(momentum, [PLAIN])
        if name != PLAIN:
            by_momentum[momentum].append(name)
    return tuple(
        Run(name, momentum, seed)
        for seed in range(settings.seeds)
        for momentum, names in by_momentum.items()
        for name in names
    )
