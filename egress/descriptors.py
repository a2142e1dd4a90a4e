"""Descriptors that somebody passes along with bytes: closing one can take as long as its sender likes (SO_LINGER), and stop all others."""

from __future__ import annotations

import array
import os
import socket
import threading
from contextlib import suppress

SO_PASSRIGHTS = 83  # since Linux 6.16; see `man 7 unix`
MOST = 253  # of one message, as the kernel has it
_SPACE = socket.CMSG_SPACE(MOST * array.array("i").itemsize)


def decline(listening: socket.socket) -> bool:
    """Whether the kernel lets nobody pass any to the connections that are taken here; older ones can't be told so."""
    try:
        listening.setsockopt(socket.SOL_SOCKET, SO_PASSRIGHTS, 0)
    except OSError:
        return False
    return True


def receive(connection: socket.socket, most: int) -> tuple[bytes, bool]:
    """Up to so many bytes, and whether descriptors came along, which are closed where nobody waits for that. Raises `BlockingIOError`."""
    data, ancillary, _, _ = connection.recvmsg(most, _SPACE)
    came = array.array("i")
    for level, kind, passed in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            came.frombytes(passed[: len(passed) - len(passed) % came.itemsize])
    for each in came:
        threading.Thread(target=_close, args=[each], name="closing", daemon=True).start()
    return data, bool(came)


def close(connection: socket.socket) -> None:
    """Close a connection in which descriptors may wait unread, which closes them, too."""
    threading.Thread(target=connection.close, name="closing", daemon=True).start()


def _close(descriptor: int) -> None:
    with suppress(OSError):
        os.close(descriptor)
