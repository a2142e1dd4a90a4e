"""Attempts on what processes share: memory, queues, keys, and sockets without a file."""

from __future__ import annotations

import ctypes
import os

from .kernel import checked, syscall

_libc = ctypes.CDLL(None, use_errno=True)


def attach_memory(key: str) -> None:
    """A segment of System V shared memory."""
    segment = syscall("shmget", int(key), 1, 0)
    _libc.shmat.restype = ctypes.c_void_p
    if _libc.shmat(segment, None, 0) == ctypes.c_void_p(-1).value:
        checked(-1)


def open_system_v_queue(key: str) -> None:
    syscall("msgget", int(key), 0)


def open_queue(name: str) -> None:
    """A POSIX message queue."""
    os.close(checked(_libc.mq_open(name.encode(), os.O_RDONLY)))
