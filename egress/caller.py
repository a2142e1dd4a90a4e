"""Who calls: the Linux user that the kernel reports for the other end of the socket, whatever the request says."""

from __future__ import annotations

import os
import pwd
import socket
import struct

_PEER_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid, as in `man 7 unix`


def linux_user(connection: socket.socket) -> str | None:
    """The name of the user who connected; None for root and the gate's own, who are nobody's agents, and for a uid without a name."""
    answer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER_CREDENTIALS.size)
    uid = int(_PEER_CREDENTIALS.unpack(answer)[1])
    if uid in (0, os.geteuid()):
        return None
    try:
        return pwd.getpwuid(uid).pw_name  # looked up each time: a uid may be another agent's tomorrow
    except KeyError:
        return None
