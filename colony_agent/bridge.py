"""Joins a sandboxed program's standard streams with a unix socket. Standard library only: it runs inside the sandbox, alone."""

import os
import signal
import socket
import sys
import threading
from contextlib import suppress


def main(path: str) -> None:
    """Copy both ways until either side ends."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Claude Code ends it so, and waits for it: Python's own way takes its time
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
        peer.connect(path)
        # Each way has its own thread: one that waits to write must not keep the other from reading.
        threading.Thread(target=_copy, args=[peer.fileno(), 1]).start()
        _copy(0, peer.fileno())


def _copy(source: int, target: int) -> None:
    with suppress(OSError):
        while chunk := os.read(source, 65536):
            while chunk:
                chunk = chunk[os.write(target, chunk) :]
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
