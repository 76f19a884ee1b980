"""Compiling all kernels of a verification beforehand: one interpreter compiles on one core."""

import signal
import sys
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import active_children, get_context

import torch

from lowprec.app.interrupt import Interrupt, Interrupted
from lowprec.app.own import register_inherited
from lowprec.app.progress import display
from lowprec.app.verify import kernel
from lowprec.app.verify.inputs import holders
from lowprec.app.verify.setting import settings
from lowprec.formats import parse
from lowprec.kernels import dispatch

FEW = 4
"""Formats below which starting interpreters takes longer than it saves."""

MOST = 4
"""Interpreters at most: together they need some gigabytes of memory."""


def compile_ahead(formats: Sequence[str]) -> None:
    """Have the kernels of formats in the disk cache, by an interpreter for each thread of torch, up to 4.

    Nothing is done for few formats, for one thread, or where no cache can be written: then kernels are
    compiled when they are first called. So are those that are missing where an interpreter was killed,
    as for want of memory, which is said on standard error.

    Args:
        formats: Names.

    Raises:
        Interrupted: If the user pressed Ctrl-C.

    Example:
        >>> compile_ahead(["e2m1"])
    """
    workers = min(torch.get_num_threads(), MOST)
    if len(formats) < FEW or workers == 1 or dispatch.cache_folder() is None:
        return
    # Neighbors in this order have no kernel in common, so that hardly any is compiled twice.
    jobs = [(name, carrier) for name in formats for carrier in holders(parse(name))]
    others = {*active_children()}
    with (
        Interrupt() as interrupt,
        display(1, 0, len(jobs)) as shown,
        ProcessPoolExecutor(workers, get_context("spawn"), initializer=_begin) as pool,
    ):
        shown.begin("loading kernels, compiled on the first run", 0, len(jobs))
        pending = {pool.submit(compile_kernels, *job) for job in jobs}
        while pending:
            done, pending = wait(pending, timeout=0.2, return_when=FIRST_COMPLETED)
            if interrupt.requested:
                for child in {*active_children()} - others:  # a kernel in the making is lost, no more
                    child.terminate()
                pool.shutdown(cancel_futures=True)
                raise Interrupted
            try:
                for job in done:
                    job.result()
                    shown.step()
            except BrokenProcessPool:
                sys.stderr.write("An interpreter was killed: kernels are compiled as they are needed.\n")
                break
        shown.end()


def _begin() -> None:
    """Ctrl-C reaches every process of a terminal, and the first one decides; formats must be known here."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    register_inherited()


def compile_kernels(name: str, carrier: torch.dtype) -> None:
    """Call every kernel of a format in one carrier on two elements.

    Args:
        name: Of the format.
        carrier: One that holds it.

    Example:
        >>> compile_kernels("e2m1", torch.float32)
    """
    torch.set_num_threads(1)
    x = torch.ones(1, 2, dtype=carrier)
    for setting in settings(parse(name)):
        kernel.quantize(x, parse(name), setting)
