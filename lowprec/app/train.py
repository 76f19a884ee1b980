"""The training job: a list of runs in a run folder, which goes on from wherever it was stopped.

Invariants: everything that is wrong with the settings is found before the folder is touched; the
checkpoint alone decides what was done; every other file of the folder can be made again from it.
"""

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn

import lowprec
from lowprec.app import checkpoint, data, environment, lock, models, results
from lowprec.app.interrupt import Interrupt, Interrupted
from lowprec.app.loop import Row, Training, count_steps
from lowprec.app.progress import Display, display
from lowprec.app.settings import Run, Settings, load_schemes, option, plan
from lowprec.errors import sentence, value_error
from lowprec.record import Moments
from lowprec.scheme import Scheme

CHECKPOINT = "checkpoint.pt"


@dataclass
class Job:
    """Runs to train, where their files go, and what is done already.

    Made by ``new`` or ``resumed``, which check everything.
    """

    settings: Settings
    schemes: dict[str, Scheme]
    dataset: data.Dataset
    folder: Path
    rows: list[Row] = field(default_factory=list)
    step_seconds: dict[Run, list[float]] = field(default_factory=dict)
    """Of every finished run."""
    moments: dict[Run, Moments] = field(default_factory=dict)
    """What the sampled steps of every finished run did to each layer."""
    current: dict[str, Any] | None = None
    """The state of the run that was under way."""
    versions: list[dict[str, str]] = field(default_factory=list)
    """What it was trained with, one after the other; an empty one where lowprec did not record it yet."""
    held: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    """The lock of the folder."""

    def __post_init__(self) -> None:
        """Find the model, and the runs that follow from the settings."""
        self.runs = plan(self.settings, self.schemes)
        self._build_model = _checked_model(self.settings.model, self.schemes)
        self._saved = time.monotonic()

    def close(self) -> None:
        """Let another process have the folder."""
        self.held.close()

    def train(self) -> None:
        """Train what is not trained yet, and write all results.

        Raises:
            Interrupted: After Ctrl-C, when the checkpoint is written.
            OSError: If a file cannot be written.
        """
        steps = count_steps(self.settings, self.dataset)
        done = steps * len(self.step_seconds)
        done += self.current["steps_done"] if self.current else 0
        shown = display(len(self.runs), done, steps * len(self.runs))
        if len(self.step_seconds) < len(self.runs) and self.versions[-1:] != [environment.versions()]:
            self.versions.append(environment.versions())
        with torch_settings(self.settings.threads), Interrupt() as interrupt, shown:
            while len(self.step_seconds) < len(self.runs):
                self._train(self.next_training(), shown, interrupt)
        from lowprec.app import plot  # matplotlib takes a second, and is not needed to begin

        self._write_tables()
        title = f"{self.settings.model} on the {self.dataset.name}"
        plot.write_png(self.folder, self.rows, title)

    def summaries(self) -> list[results.Summary]:
        """What was reached, when all is trained."""
        return results.summarize(self.runs, self.rows, self.step_seconds)

    def next_training(self) -> Training:
        """The first run that is not finished, at the place where it was stopped.

        Raises:
            ValueError: If the checkpoint does not fit the model.
        """
        run = self.runs[len(self.step_seconds)]
        scheme = self.schemes.get(run.scheme)
        training = Training(run, self.settings, self._build_model, scheme, self.dataset)
        if self.current is not None:
            training.load_state_dict(self.current)
        return training

    def _train(self, training: Training, shown: Display, interrupt: Interrupt) -> None:
        """Train one run, from where it is, to its end."""
        run = training.run
        shown.begin(run.title, training.steps_done, training.num_steps)
        while not training.is_finished:
            row = training.advance()
            shown.step()
            if row is not None:
                self.rows.append(row)
                epoch = f"epoch {row.epoch}/{self.settings.epochs}"
                shown.reached(f"{epoch}, accuracy {100 * row.test_accuracy:.1f} %")
            overdue = time.monotonic() - self._saved >= self.settings.checkpoint_seconds
            if row is not None or overdue or interrupt.requested:
                self.current = training.state_dict()
                self.save()
            if interrupt.requested:
                raise Interrupted
        self._write_weights(run, training.model)
        self.step_seconds[run] = training.step_seconds
        self.moments[run] = training.moments
        self.current = None
        self.save()
        shown.end()

    def _write_weights(self, run: Run, model: nn.Module) -> None:
        """The final weights; one metadata entry, since several would come in any order."""
        tensors = {name: t.detach().clone() for name, t in model.state_dict().items()}
        described = json.dumps({"model": self.settings.model, "run": run.title})
        content = safetensors.torch.save(tensors, metadata={"lowprec": described})
        folder = self.folder / "weights"
        folder.mkdir(exist_ok=True)
        checkpoint.write(folder / f"{run.file_stem}.safetensors", content)

    def save(self) -> None:
        """Write the checkpoint, then the rows for people to read."""
        state = {
            "settings": self.settings.to_dict(),
            "schemes": {name: scheme.to_dict() for name, scheme in self.schemes.items()},
            "fingerprint": self.dataset.fingerprint,
            "rows": [_row_to_dict(row, self.runs) for row in self.rows],
            "step_seconds": list(self.step_seconds.values()),
            "moments": [moments.to_plain() for moments in self.moments.values()],
            "current": self.current,
            "versions": self.versions,
        }
        checkpoint.save(self.folder / CHECKPOINT, state)
        self._write_tables()
        self._saved = time.monotonic()

    def _write_tables(self) -> None:
        """What was reached in each epoch, and what was counted of each layer."""
        results.write_csv(self.folder, self.rows)
        recorded = dict(self.moments)
        if self.current is not None:
            recorded[self.runs[len(self.step_seconds)]] = Moments.from_plain(self.current["moments"])
        results.write_layers(self.folder, recorded.items())


def new(settings: Settings, folder: str | None = None) -> Job:
    """A job in a new run folder.

    Args:
        settings: What to do.
        folder: An empty or new folder; None for one under ``runs`` named by the time and the model.

    Returns:
        The job, its first checkpoint written and its folder locked until it is closed.

    Raises:
        ImportError: If the model's module cannot be imported.
        OSError: If a file is missing or the folder cannot be written.
        TypeError: If the model is none.
        ValueError: If a setting, a scheme, a data file or the folder is not what it must be.

    Example:
        >>> import tempfile
        >>> job = new(Settings(scheme=("float32",), train_size=100), tempfile.mkdtemp())
        >>> [run.title for run in job.runs]
        ['float32, momentum 0.9, seed 0']
        >>> job.close()
    """
    schemes = load_schemes(settings)
    dataset = data.load(settings.data, settings.train_size)
    if settings.batch_size > len(dataset.train_labels):
        must = f"be at most the {len(dataset.train_labels)} training images"
        raise value_error("--batch-size", must, settings.batch_size)
    path = _default_folder(settings) if folder is None else Path(folder)
    job = Job(settings, schemes, dataset, path)
    try:
        if path.is_dir() and any(entry.name != lock.LOCK for entry in path.iterdir()):
            raise value_error(
                "--out", "be an empty or a new folder", str(path),
                f"Continue a job in it with --resume {path}, or choose another.",
            )  # fmt: skip
        path.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as held:
            held.callback(lock.taken(path, "--out").release)
            (path / "schemes").mkdir(exist_ok=True)
            for name, scheme in schemes.items():
                checkpoint.write(path / "schemes" / f"{name}.toml", scheme.to_toml().encode())
            job.save()
            job.held = held.pop_all()
    except OSError as error:
        must = f"be a folder that can be written ({error.strerror or error})"
        raise OSError(sentence("--out", must, str(path))) from None
    return job


def resumed(folder: str, given: dict[str, Any]) -> Job:
    """The job of a run folder, at the place where it was stopped.

    Args:
        folder: The run folder.
        given: Settings that were given besides; they must be the job's own.

    Returns:
        The job, its folder locked until it is closed.

    Raises:
        ImportError: If the model's module cannot be imported.
        OSError: If the checkpoint or a data file is missing, or the folder cannot be written.
        TypeError: If the model is none.
        ValueError: If the job is running, the checkpoint is damaged, the images are others than
            before, or a setting differs from the job's.

    Example:
        >>> resumed("nowhere", {})
        Traceback (most recent call last):
        FileNotFoundError: `--resume` must be a run folder with a checkpoint.pt, got 'nowhere'.
    """
    path = Path(folder)
    if not (path / CHECKPOINT).is_file():
        raise FileNotFoundError(sentence("--resume", f"be a run folder with a {CHECKPOINT}", folder))
    with contextlib.ExitStack() as held:
        held.callback(lock.taken(path, "--resume").release)
        job = _restored(path, given)
        job.held = held.pop_all()
    return job


def _restored(path: Path, given: dict[str, Any]) -> Job:
    """The job that the checkpoint describes, checked."""
    state = checkpoint.load(path / CHECKPOINT)
    if "moments" not in state:
        remedy = "Its layers were not counted; train anew."
        raise value_error("--resume", "name a job that this version began", str(path), remedy)
    settings = Settings.from_dict(state["settings"])
    differing = [
        f"{option(name)} is {getattr(settings, name)!r}, got {value!r}"
        for name, value in given.items()
        if value != getattr(settings, name)
    ]
    if differing:
        must = f"keep the settings of the job ({'; '.join(differing)})"
        raise value_error("--resume", must, str(path), "Drop them.")
    schemes = {name: Scheme.from_dict(values) for name, values in state["schemes"].items()}
    dataset = data.load(settings.data, settings.train_size)
    if dataset.fingerprint != state["fingerprint"]:
        where = settings.data or "the bundled subset"
        must = f"find the images that the job was trained on in {where}"
        raise value_error("--resume", must, str(path), "Restore them, or start anew, with --out.")
    runs = plan(settings, schemes)
    job = Job(
        settings,
        schemes,
        dataset,
        path,
        [_row_from_dict(values, runs) for values in state["rows"]],
        dict(zip(runs, state["step_seconds"], strict=False)),
        dict(zip(runs, map(Moments.from_plain, state["moments"]), strict=False)),
        state["current"],
        state.get("versions", [{}]),
    )
    if job.current is not None:
        job.next_training()  # refuses a state that does not fit, before anything is touched
    return job


def _default_folder(settings: Settings) -> Path:
    """A folder that does not exist yet, named by the time and the model."""
    model = settings.model.replace(":", ".")
    stem = f"{datetime.now().astimezone():%Y-%m-%d_%H-%M-%S}_{model}"
    path, number = Path("runs") / stem, 1
    while path.exists():
        number += 1
        path = path.with_name(f"{stem}_{number}")
    return path


def _checked_model(name: str, schemes: dict[str, Scheme]) -> Callable[[], nn.Module]:
    """The function that builds the model, after trying it with every scheme."""
    factory = models.find(name)
    models.check(name, factory)
    for scheme in schemes.values():
        lowprec.convert(factory(), scheme)
    return factory


@contextlib.contextmanager
def torch_settings(threads: int) -> Iterator[None]:
    """Set what the bits of PyTorch's own products depend on, and set it back.

    Args:
        threads: Of PyTorch and the kernels.

    Yields:
        Nothing.

    Example:
        >>> with torch_settings(threads=1):
        ...     torch.get_num_threads()
        1
    """
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    memory: Any = torch.utils.deterministic  # its one attribute is unknown to type checkers
    filled = memory.fill_uninitialized_memory
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(mode=True)
    memory.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        torch.use_deterministic_algorithms(mode=before[1])
        memory.fill_uninitialized_memory = filled


def _row_to_dict(row: Row, runs: tuple[Run, ...]) -> dict[str, Any]:
    """A row as plain values; its run by number."""
    return vars(row) | {"run": runs.index(row.run)}


def _row_from_dict(values: dict[str, Any], runs: tuple[Run, ...]) -> Row:
    """The row again."""
    return Row(**(values | {"run": runs[values["run"]]}))
