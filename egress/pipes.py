"""The kernel's pipes, through which bytes pass from one socket to another without being copied into this process."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress

PIPE_BYTES = 256 * 1024
KEPT = 32  # that nobody uses at the moment


class Pipe:
    """Empty whenever it is handed out."""

    __slots__ = ("reading", "writing")

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        with suppress(OSError):  # a user's pipes have a bound together; a small one does, too
            fcntl.fcntl(self.writing, fcntl.F_SETPIPE_SZ, PIPE_BYTES)

    @property
    def size(self) -> int:
        """Bytes that it holds."""
        return fcntl.fcntl(self.writing, fcntl.F_GETPIPE_SZ)

    def close(self) -> None:
        os.close(self.reading)
        os.close(self.writing)


class Pipes:
    """Lends pipes: a tunnel needs one only while its bytes have left one end and not reached the other."""

    def __init__(self) -> None:
        self._free: list[Pipe] = []

    def take(self) -> Pipe:
        """Raises `OSError` where this process may open no more files."""
        return self._free.pop() if self._free else Pipe()

    def give_back(self, pipe: Pipe) -> None:
        if len(self._free) < KEPT:
            self._free.append(pipe)
        else:
            pipe.close()

    def close(self) -> None:
        while self._free:
            self._free.pop().close()
