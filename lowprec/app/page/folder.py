"""What a run folder holds, finished or not, read from its checkpoint without touching it.

The checkpoint alone decides what was done; every other file of the folder can be made again from it.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lowprec.app import checkpoint, data
from lowprec.app.loop import Counts, Row, add_counts
from lowprec.app.page.layers import Moment, read_layers
from lowprec.app.results import Summary, summarize
from lowprec.app.settings import PLAIN, Run, Settings, option, plan
from lowprec.app.train import CHECKPOINT
from lowprec.errors import sentence, value_error
from lowprec.scheme import SCHEMES, Scheme


@dataclass(frozen=True)
class RunFolder:
    """A job as its folder tells of it."""

    path: Path
    settings: Settings
    schemes: dict[str, Scheme]
    """By name, without the float32 twin."""
    fingerprint: str
    """SHA-256 of the images and labels."""
    rows: tuple[Row, ...]
    step_seconds: dict[Run, list[float]]
    """Of every finished run."""
    current_steps: int
    """Of the run that was under way when the checkpoint was written."""
    versions: list[dict[str, str]]
    """What it was trained with, one after the other; empty ones where that was not recorded."""
    moments: tuple[Moment, ...]
    """What was lost in each layer; none where ``layers.csv`` is missing."""

    @property
    def runs(self) -> tuple[Run, ...]:
        """All runs of the job, in the order in which they are trained."""
        return plan(self.settings, self.schemes)

    @property
    def members(self) -> list[tuple[str, float]]:
        """Scheme and momentum of the runs, each once."""
        return list(dict.fromkeys((run.scheme, run.momentum) for run in self.runs))

    @property
    def is_finished(self) -> bool:
        """Whether every run is trained."""
        return len(self.step_seconds) == len(self.runs)

    @property
    def title(self) -> str:
        """The model and the images."""
        return f"{self.settings.model} on the {data.name_of(self.settings.data)}"

    def summaries(self) -> dict[tuple[str, float], Summary]:
        """Of every scheme and momentum, over the seeds that are finished."""
        finished = [run for run in self.runs if run in self.step_seconds]
        return {(s.scheme, s.momentum): s for s in summarize(finished, self.rows, self.step_seconds)}

    def counts(self, scheme: str, momentum: float) -> Counts:
        """What a scheme lost, role by role, in all epochs so far."""
        return add_counts(
            row.counts for row in self.rows if (row.run.scheme, row.run.momentum) == (scheme, momentum)
        )

    def command(self) -> list[str]:
        """The words of the command that does the same job again, every setting spelled out."""
        words = ["lowprec", "train"]
        for name, value in self.settings.to_dict().items():
            if name not in {"scheme", "checkpoint_seconds"} and value is not None:
                words += [option(name), str(value)]
        for name in self.schemes or (PLAIN,):
            file = str(self.path / "schemes" / f"{name}.toml")
            words += ["--scheme", file if name in self.own_schemes else name]
        return words

    @property
    def own_schemes(self) -> list[str]:
        """The names that this lowprec does not know, or knows for another scheme."""
        scale: dict[str, Any] = (
            {} if self.settings.loss_scale is None else {"loss_scale": self.settings.loss_scale}
        )
        known = {name: dataclasses.replace(scheme, **scale) for name, scheme in SCHEMES.items()}
        return [name for name, scheme in self.schemes.items() if scheme != known.get(name)]


def read(folder: str | Path) -> RunFolder:
    """Read a run folder.

    Args:
        folder: What ``lowprec train`` wrote to, or is writing to.

    Returns:
        What is there.

    Raises:
        FileNotFoundError: If it has no checkpoint.
        ValueError: If the checkpoint or ``layers.csv`` is damaged, or is something else.

    Example:
        >>> read("nowhere")
        Traceback (most recent call last):
        FileNotFoundError: `RUN` must be a run folder with a checkpoint.pt, got 'nowhere'.
    """
    path = Path(folder)
    if not (path / CHECKPOINT).is_file():
        raise FileNotFoundError(sentence("RUN", f"be a run folder with a {CHECKPOINT}", str(folder)))
    state = checkpoint.load(path / CHECKPOINT, "RUN")
    try:
        return _described(path, state)
    except (AttributeError, LookupError, TypeError) as error:
        must = "be a run folder of this version of lowprec"
        raise value_error("RUN", must, str(folder), f"Its checkpoint differs: {error}.") from None


def _described(path: Path, state: dict[str, Any]) -> RunFolder:
    """The job that the checkpoint describes."""
    settings = Settings.from_dict(state["settings"])
    schemes = {name: Scheme.from_dict(values) for name, values in state["schemes"].items()}
    runs = plan(settings, schemes)
    return RunFolder(
        path=path,
        settings=settings,
        schemes=schemes,
        fingerprint=state["fingerprint"],
        rows=tuple(Row(**(values | {"run": runs[values["run"]]})) for values in state["rows"]),
        step_seconds=dict(zip(runs, state["step_seconds"], strict=False)),
        current_steps=state["current"]["steps_done"] if state["current"] else 0,
        versions=state.get("versions", [{}]),
        moments=read_layers(path),
    )
