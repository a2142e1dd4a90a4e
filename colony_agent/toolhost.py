"""The process that serves a turn's tools: forked early, so that it imports MCP while the turn is claimed and Claude Code starts."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

BRIDGE = Path(__file__).with_name("bridge.py")


class ToolHost:
    """A unix socket that speaks MCP for one turn, while the `with` block lasts.

    Make it before anything heavy is imported and any thread is started. The socket listens from then on: whoever connects before
    `open` waits.
    """

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="colony-turn-"))
        self._socket_path = self._folder / "tools.sock"
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(str(self._socket_path))
            listener.listen()
            self._orders, orders = socket.socketpair()
            with orders:
                self._pid = os.fork()
                if self._pid == 0:
                    self._orders.close()
                    _serve(listener, orders, self._folder)

    @property
    def argv(self) -> list[str]:
        """What connects a program inside the sandbox with these tools over its standard streams."""
        return [os.path.realpath(sys.executable), "-I", "-S", str(BRIDGE), str(self._socket_path)]

    @property
    def binds(self) -> tuple[Path, ...]:
        """What the sandbox must show for `argv` to work."""
        return BRIDGE, self._folder

    def open(self, url: str, token: str | None, turn_id: int, attempt: int) -> None:
        """Begin to answer, with this turn's identity."""
        document = {"url": url, "token": token, "turn_id": turn_id, "attempt": attempt}
        self._orders.sendall(json.dumps(document).encode() + b"\n")

    @property
    def is_alive(self) -> bool:
        try:
            return os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
        except ChildProcessError:
            return False

    def __enter__(self) -> ToolHost:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._orders.close()
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        shutil.rmtree(self._folder, ignore_errors=True)


def _serve(listener: socket.socket, orders: socket.socket, folder: Path) -> None:
    """The child's whole life; it ends with its parent."""
    try:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the turn, which gets it too, decides when the tools go
        os.setpgid(0, 0)  # so that it can tidy up after a turn that is killed with its group
        from colony_agent import mcp_server
        from colony_agent.tools import Toolbox

        line = orders.makefile("rb").readline()
        threading.Thread(target=_end_with_parent, args=[orders, folder], daemon=True).start()
        if line:
            document: dict[str, Any] = json.loads(line)
            mcp_server.serve(listener, Toolbox.of_turn(**document))
    except Exception as error:
        print(f"tool server died: {error!r}", file=sys.stderr, flush=True)
        os._exit(1)
    signal.pause()


def _end_with_parent(orders: socket.socket, folder: Path) -> None:
    """At once, also in the middle of a call: what a tool does after its turn is refused anyway."""
    while orders.recv(1):
        pass
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)
