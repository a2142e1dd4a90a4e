"""Who calls: the Linux user that the kernel reports for the other end of the socket, whatever the request says."""

from __future__ import annotations

import os
import pwd
import socket
import struct

_PEER_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid, as in `man 7 unix`


def linux_user(connection: socket.socket) -> str | None:
    """The name of the user who connected; None for root and the gate's own, who are nobody's agents, and for a uid without a name."""
    found = uid(connection)
    if is_house(found):
        return None
    try:
        return pwd.getpwuid(found).pw_name  # looked up each time: a uid may be another agent's tomorrow
    except KeyError:
        return None


def uid(connection: socket.socket) -> int:
    answer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER_CREDENTIALS.size)
    return int(_PEER_CREDENTIALS.unpack(answer)[1])


def is_house(uid: int) -> bool:
    """Whether it is root's or the gate's own."""
    return uid in (0, os.geteuid())
