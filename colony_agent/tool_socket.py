"""Where the program of a turn finds its tools: a unix socket that is there before anybody answers on it."""

from __future__ import annotations

import os
import socket
import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from colony import files

BRIDGE = Path(__file__).with_name("bridge.py")


class ToolSocket:
    """Listens from the start, so that who connects early is answered later. One for each home at a time."""

    def __init__(self, home: Path) -> None:
        self.path = files.private_folder(f"turn {home}") / "tools.sock"
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
