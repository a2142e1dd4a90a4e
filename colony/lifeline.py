"""Ties processes together, so that none is left behind when another ends, however it does."""

from __future__ import annotations

import ctypes
import os
import signal

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36  # from linux/prctl.h


def adopt_orphans() -> None:
    """From now on, also after an exec, descendants whose parents end become this process's children."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(parent: int, by: signal.Signals = signal.SIGKILL) -> bool:
    """From now on the signal comes when `parent` ends; False if it has ended already. A forked child has to call this itself."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, by)
    return os.getppid() == parent
