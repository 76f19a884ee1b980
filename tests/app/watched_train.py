"""``lowprec train`` that reports each step, and stalls within its n-th checkpoint write.

Run by the test that kills it: ``python watched_train.py N train …``, N = 0 for never.
"""

import os
import sys
import time

from lowprec.app import loop
from lowprec.app.cli import main


def tell(line: str) -> None:
    """Write a line to the test at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def watch(stalled_write: int) -> None:
    """Patch the step and the replacement of files."""
    advance, replace = loop.Training.advance, os.replace
    writes = 0

    def reporting(self):
        row = advance(self)
        tell("step")
        return row

    def stalling(source, target):
        nonlocal writes
        if str(target).endswith("checkpoint.pt"):
            writes += 1
            if writes == stalled_write:
                tell("writing")
                time.sleep(600)
        replace(source, target)

    loop.Training.advance = reporting
    os.replace = stalling


if __name__ == "__main__":
    watch(int(sys.argv.pop(1)))
    main()
