"""Ties processes together, so that none is left behind when another ends, however it does; and hears when this one shall end."""

from __future__ import annotations

import ctypes
import os
import select
import signal
from types import FrameType

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36  # from linux/prctl.h


def adopt_orphans() -> None:
    """From now on, also after an exec, descendants whose parents end become this process's children."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(parent: int, by: signal.Signals = signal.SIGKILL) -> bool:
    """From now on the signal comes when `parent` ends; False if it has ended already. A forked child has to call this itself."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, by)
    return os.getppid() == parent


class StopSignals:
    """Notes the signals that ask this process to end; one per process, made in its main thread.

    A handler must not set a `threading.Event`: should a second signal come while the first is being noted, or while the main thread
    waits for that very event, it waits for ever for a lock that its own thread holds.
    """

    def __init__(self, *numbers: signal.Signals) -> None:
        self._came = False
        self._bell, ring = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(ring, warn_on_full_buffer=False)
        for number in numbers:
            signal.signal(number, self._note)

    def is_set(self) -> bool:
        return self._came

    def wait(self, seconds: float | None = None) -> bool:
        """Until one comes, or for so long; whether one has come."""
        if not self._came:
            select.select([self._bell], [], [], seconds)
        return self._came

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._came = True
