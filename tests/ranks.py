"""What processes of torch.distributed run in tests: they import it by name."""

from pathlib import Path

import torch
import torch.distributed as dist

import lowprec
from lowprec import observers

OBSERVERS = {
    "largest": ("int8", observers.MinMax()),
    "ends": ("uint8", observers.MinMax()),
    "mean": ("scaled<e4m3fn,float32,channel1,amax>", observers.MovingAverage()),
    "history": ("nvfp4", observers.Delayed(history=3)),
}
SEEN = {0: [[1.0, -8.0], [2.0, 4.0]], 1: [[6.0, -3.0], [0.5, 1e308]]}
"""The inputs of each process, one after the other."""


def synchronized(rank: int, folder: str) -> None:
    """Observe other inputs in each process, synchronize, and leave the statistics in a file."""
    where = Path(folder, "rendezvous").as_uri()
    dist.init_process_group("gloo", init_method=where, rank=rank, world_size=2)
    found: dict[str, object] = {}
    for name, (format, observer) in OBSERVERS.items():
        layer = lowprec.Quantizer(format, observer=observer)
        for x in SEEN[rank]:
            layer(torch.tensor([x], dtype=torch.float64))
        layer.synchronize()
        found[name] = layer.observed.statistic
    for name, rows in (("late", rank), ("other", rank + 1)):
        layer = lowprec.Quantizer("scaled<e4m3fn,float32,channel0,amax>", observer=observers.MinMax())
        layer(torch.ones(rows, 1))
        try:
            layer.synchronize()
        except RuntimeError as error:
            found[name] = str(error)
    torch.save(found, Path(folder, f"rank{rank}"))
    dist.destroy_process_group()
