"""What the tests of the server need of the machine: a free port, root, other users, and processes that don't outlive them."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
from functools import cache
from pathlib import Path

NOBODY, NOGROUP = 65534, 65534  # a user and a group that each machine has
_LEAVE_ONE = "import socket; ends = socket.socketpair(); socket.send_fds(socket.socket(fileno=0), [b'.'], [ends[0].fileno()])"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def as_root(*command: str | Path) -> None:
    """Run what only root may, such as a mount."""
    subprocess.run([*([] if os.geteuid() == 0 else ["sudo", "-n"]), *command], check=True)


def as_user(uid: int, program: str, *arguments: str, stdin: socket.socket | None = None) -> bytes:
    """What a Python program prints that this user runs, who can't read this checkout and has no group in common with it."""
    command = ["/usr/bin/python3", "-I", "-c", program, *arguments]
    who: dict[str, object] = {"user": uid, "group": NOGROUP, "extra_groups": []}
    if os.geteuid():
        command, who = ["sudo", "-n", "-u", f"#{uid}", "-g", f"#{NOGROUP}", *command], {}
    ran = subprocess.run(command, stdin=stdin, capture_output=True, check=False, cwd="/", timeout=20, **who)  # type: ignore[call-overload]
    assert ran.returncode == 0, f"this test needs to act as another user (root, or sudo without a password): {ran.stderr!r}"
    return bytes(ran.stdout)


@cache
def peer(uid: int) -> socket.socket:
    """A socket of which the kernel says that this user is at its other end; nobody is there any more."""
    here, there = socket.socketpair(socket.AF_UNIX)
    with here, there:
        as_user(uid, _LEAVE_ONE, stdin=there)
        _, [found], _, _ = socket.recv_fds(here, 1, 1)
    return socket.socket(fileno=found)


def die_with_parent() -> None:
    """For `preexec_fn`: a killed test run leaves no process behind."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
