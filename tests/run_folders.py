"""Run folders as ``lowprec train`` leaves them, without training: for tests of what reads them."""

import csv
import math
from pathlib import Path

from lowprec.app import checkpoint, train
from lowprec.app.settings import Settings

VERSIONS = {"lowprec": "9.8.7", "python": "3.99 (CPython)", "torch": "2.99", "numba": "0.99", "numpy": "2.99"}
LAYER_COLUMNS = [
    "scheme", "momentum", "seed", "first_step", "last_step", "layer", "role",
    "count", "saturated", "underflowed", "nan", "sqnr_db",
]  # fmt: skip


def write_run(folder: Path, *, finished: int | None = None, broken: str | None = None, **settings) -> Path:
    """A folder whose runs are trained, all or the first so many; those of one scheme break down."""
    settings = {"model": "mlp", "scheme": ("fp8-hybrid", "fixed8"), "train_size": 200, "epochs": 4} | settings
    job = train.new(Settings(**settings), str(folder))
    job.close()
    trained = job.runs[:finished]
    state = checkpoint.load(folder / "checkpoint.pt")
    rows = []
    for number, run in enumerate(trained):
        for epoch in range(1, job.settings.epochs + 1):
            loss = math.nan if run.scheme == broken and epoch > 1 else 2.0 / epoch + 0.1 * run.seed
            counts = {} if run.scheme == "float32" else {"input": [1000, 10, 25, 0], "error": [1000, 0, 0, 0]}
            if math.isnan(loss):
                counts["error"] = [1000, 0, 0, 125]
            rows.append(
                {
                    "run": number,
                    "epoch": epoch,
                    "train_loss": loss,
                    "test_loss": loss,
                    "test_accuracy": 0.1 if math.isnan(loss) else 0.5 + 0.05 * epoch + 0.01 * run.seed,
                    "counts": counts,
                }
            )
    state |= {"rows": rows, "step_seconds": [[0.25]] * len(trained), "versions": [VERSIONS]}
    checkpoint.save(folder / "checkpoint.pt", state)
    return folder


def write_layers(folder: Path, *, num_moments: int = 10, layers=("conv1", "conv2", "head")) -> None:
    """What each layer lost: of fp8-hybrid some, of fixed8 more and more, until it is NaN."""
    roles = {("fp8-hybrid", 0.9): ("input", "weight", "error"), ("fixed8", 0.0): ("input", "error")}
    with (folder / "layers.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(LAYER_COLUMNS)
        for (scheme, momentum), names in roles.items():
            for moment in range(num_moments):
                for depth, layer in enumerate(layers):
                    for role in names:
                        lost = moment * depth if scheme == "fp8-hybrid" else 90 * moment
                        breaks = scheme == "fixed8" and role == "error" and moment >= 0.7 * num_moments
                        counts = [1000, 0, lost % 1000, 500 if breaks else 0]
                        ratio = "" if breaks else f"{30 - 2 * depth - moment / num_moments}"
                        step = 16 * moment
                        writer.writerow([scheme, momentum, 0, step, step + 1, layer, role, *counts, ratio])
