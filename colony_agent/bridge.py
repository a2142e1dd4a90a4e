"""Joins a sandboxed program's standard streams with a unix socket. Standard library only: it runs inside the sandbox, alone."""

import os
import select
import socket
import sys


def main(path: str) -> None:
    """Copy both ways until either side ends."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
        peer.connect(path)
        while True:
            ready = select.select([0, peer.fileno()], [], [])[0]
            if 0 in ready:
                chunk = os.read(0, 65536)
                if not chunk:
                    return
                peer.sendall(chunk)
            if peer.fileno() in ready:
                chunk = peer.recv(65536)
                if not chunk:
                    return
                while chunk:
                    chunk = chunk[os.write(1, chunk) :]


if __name__ == "__main__":
    main(sys.argv[1])
