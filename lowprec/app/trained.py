"""Networks that ``lowprec train`` has trained: their weights, images and settings, read back."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import nn

from lowprec.app import checkpoint, data, models
from lowprec.app.settings import PLAIN, Settings, plan
from lowprec.app.train import CHECKPOINT
from lowprec.errors import sentence, value_error
from lowprec.scheme import Scheme


@dataclass(frozen=True)
class Trained:
    """A trained network, in plain PyTorch, with what it was trained on."""

    model: nn.Module
    title: str
    """The network and its run, for people."""
    dataset: data.Dataset
    schemes: dict[str, Scheme]
    """Of the job; none where only the weights are there."""
    threads: int


def load(path: Path) -> Trained:
    """Read a network back.

    Args:
        path: A run folder, whose first float32 network is taken, or one weights file. A file outside of a
            run folder is tested on the bundled images.

    Returns:
        The network, in float32 and unconverted.

    Raises:
        ImportError: If the model's module cannot be imported.
        OSError: If a file is missing or cannot be read.
        TypeError: If the model is none.
        ValueError: If a file is damaged or of another kind, or the images are others than in training.

    Example:
        >>> load(Path("nowhere"))
        Traceback (most recent call last):
        FileNotFoundError: `RUN` must be a run folder or a file of weights, got 'nowhere'.
    """
    if not path.exists():
        raise FileNotFoundError(sentence("RUN", "be a run folder or a file of weights", str(path)))
    if path.is_dir() and not (path / CHECKPOINT).is_file():
        raise FileNotFoundError(sentence("RUN", f"be a run folder with a {CHECKPOINT}", str(path)))
    folder = path if path.is_dir() else path.resolve().parent.parent
    job: dict[str, Any] | None = None
    if path.is_dir() or (folder / CHECKPOINT).is_file():
        job = checkpoint.load(folder / CHECKPOINT, "RUN")
    settings = Settings() if job is None else Settings.from_dict(job["settings"])
    schemes = {} if job is None else {n: Scheme.from_dict(s) for n, s in job["schemes"].items()}
    weights = _float32_weights(path, settings, schemes) if path.is_dir() else path
    name, run, tensors = _read(weights)
    dataset = data.load(settings.data, settings.train_size)
    if job is not None and dataset.fingerprint != job["fingerprint"]:
        where = settings.data or "the bundled subset"
        must = f"find the images that it was trained on in {where}"
        raise value_error("RUN", must, str(folder), "Restore them.")
    model = models.find(name)()
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        must = f"have weights that fit the model '{name}'"
        raise value_error("RUN", must, str(weights), str(error)) from None
    return Trained(model, f"{name}, {run}", dataset, schemes, settings.threads)


def _float32_weights(folder: Path, settings: Settings, schemes: dict[str, Scheme]) -> Path:
    """The weights of the first float32 run in a folder."""
    for run in plan(settings, schemes):
        file = folder / "weights" / f"{run.file_stem}.safetensors"
        if run.scheme == PLAIN and file.is_file():
            return file
    raise value_error(
        "RUN",
        f"hold the weights of a {PLAIN} run",
        str(folder),
        f"Finish it with: lowprec train --resume {folder}",
    )


def _read(file: Path) -> tuple[str, str, dict[str, Any]]:
    """The model's name, the run's title and the tensors of a weights file."""
    try:
        with safetensors.safe_open(file, framework="pt") as opened:
            described = json.loads((opened.metadata() or {})["lowprec"])
        name, run = described["model"], described["run"]
    except (KeyError, TypeError, ValueError, safetensors.SafetensorError) as error:
        must = "be a run folder, or a file of weights that lowprec train has written"
        remedy = f"Reading it gave {type(error).__name__}: {error}"
        raise value_error("RUN", must, str(file), remedy) from None
    return name, run, safetensors.torch.load_file(file)
