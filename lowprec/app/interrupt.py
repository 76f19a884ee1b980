"""Ctrl-C as a request that is looked at between two steps."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self


class Interrupted(Exception):
    """The user pressed Ctrl-C, and everything done so far is in the checkpoint."""


class Interrupt:
    """Within it, the first Ctrl-C only sets ``requested``; the second one interrupts at once.

    Outside the main thread, where Python does not allow it, it does nothing.

    Example:
        >>> with Interrupt() as interrupt:
        ...     interrupt.requested
        False
    """

    def __init__(self) -> None:
        self.requested = False
        self._before: Any = None

    def __enter__(self) -> Self:
        """Take over the signal."""
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give the signal back."""
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _note(self, number: int, frame: FrameType | None) -> None:
        """Remember the first one."""
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
