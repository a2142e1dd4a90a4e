"""The kernel's pipes, through which bytes pass from one socket to another without being copied into this process."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress

LARGE_BYTES = 1024 * 1024  # four times a reader's usual piece: each turn costs the kernel's TCP the same, however much it carries
LARGE = 16  # pipes of that size; the others have the kernel's 64 KiB. Its bound for one user, 64 MiB, is then out of everybody's reach
KEPT = 32  # that nobody uses at the moment


class Pipe:
    """Empty whenever it is handed out."""

    __slots__ = ("is_large", "reading", "writing")

    def __init__(self, is_large: bool) -> None:
        self.is_large = is_large
        self.reading, self.writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        if is_large:
            with suppress(OSError):  # where the kernel allows less it works, too
                fcntl.fcntl(self.writing, fcntl.F_SETPIPE_SZ, LARGE_BYTES)

    @property
    def size(self) -> int:
        """Bytes that it holds."""
        return fcntl.fcntl(self.writing, fcntl.F_GETPIPE_SZ)

    def close(self) -> None:
        os.close(self.reading)
        os.close(self.writing)


class Pipes:
    """Lends pipes: a tunnel needs one only while its bytes have left one end and not reached the other.

    So a few large ones serve all that flows; a tunnel whose end does not read keeps the one that it has.
    """

    def __init__(self) -> None:
        self._free: list[Pipe] = []  # the large ones last
        self._large = 0  # that there are, lent ones too

    def take(self) -> Pipe:
        """Raises `OSError` where this process may open no more files."""
        may_be_large = self._large < LARGE
        if self._free and (self._free[-1].is_large or not may_be_large):
            return self._free.pop()
        pipe = Pipe(may_be_large)
        self._large += may_be_large
        return pipe

    def give_back(self, pipe: Pipe) -> None:
        if pipe.is_large:
            self._free.append(pipe)
        elif len(self._free) < KEPT:
            self._free.insert(0, pipe)
        else:
            self.end(pipe)

    def end(self, pipe: Pipe) -> None:
        """Instead of `give_back`, for one that is not empty."""
        self._large -= pipe.is_large
        pipe.close()

    def close(self) -> None:
        while self._free:
            self.end(self._free.pop())
