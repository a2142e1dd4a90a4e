"""What the tests of the server need of the machine: a free port, root, and processes that don't outlive them."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
from pathlib import Path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def as_root(*command: str | Path) -> None:
    """Run what only root may, such as a mount."""
    subprocess.run([*([] if os.geteuid() == 0 else ["sudo", "-n"]), *command], check=True)


def die_with_parent() -> None:
    """For `preexec_fn`: a killed test run leaves no process behind."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
