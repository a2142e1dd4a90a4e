"""Where the program of a turn finds its tools: a unix socket that is there before anybody answers on it."""

from __future__ import annotations

import errno
import os
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from colony import files

BRIDGE = Path(__file__).with_name("bridge.py")


NAME = "tools.sock"
LEFT_SECONDS = 3600.0  # after which what nobody answers at was left by a turn that was killed


class ToolSocket:
    """Listens from the start, so that who connects early is answered later. One for each home at a time."""

    def __init__(self, home: Path) -> None:
        _sweep()
        self.path = files.private_folder(f"turn {home}") / NAME
        self.path.unlink(missing_ok=True)  # from a turn that was killed
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(str(self.path))
        self.listener.listen()

    @property
    def argv(self) -> list[str]:
        """What connects a program inside the sandbox with these tools over its standard streams."""
        return [os.path.realpath(sys.executable), "-I", "-S", str(BRIDGE), str(self.path)]

    @property
    def binds(self) -> tuple[Path, ...]:
        """What the sandbox must show for `argv` to work."""
        return BRIDGE, self.path.parent

    def __enter__(self) -> ToolSocket:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with suppress(OSError):  # whatever happened to the folder, the answer goes out
            self.listener.shutdown(socket.SHUT_RDWR)  # a close alone would leave a thread in its accept
            self.listener.close()
            self.path.unlink(missing_ok=True)
            self.path.parent.rmdir()


def _sweep() -> None:
    """Take away what killed turns of this user have left: that of homes which are no more, nobody else would."""
    for folder in files.private_folders():
        path = folder / NAME
        with suppress(OSError):
            if time.time() - path.lstat().st_mtime > LEFT_SECONDS and not _is_answered(path):
                path.unlink()
                folder.rmdir()


def _is_answered(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        return probe.connect_ex(str(path)) != errno.ECONNREFUSED
