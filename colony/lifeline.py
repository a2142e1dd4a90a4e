"""Ties a process to its parent: when that ends, however it does, the kernel ends the process."""

from __future__ import annotations

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1  # from linux/prctl.h


def die_with_parent(parent: int, by: signal.Signals = signal.SIGKILL) -> bool:
    """From now on the signal comes when `parent` ends; False if it has ended already. A forked child has to call this itself."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, by)
    return os.getppid() == parent
