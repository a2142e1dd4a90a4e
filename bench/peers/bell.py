"""How a peer's worker tells when it began: by the clock that all processes of the machine share."""

from __future__ import annotations

import socket
import time


def ring(address: str) -> None:
    """Send the moment at which this was called. An empty address is for jobs that only have to be stored."""
    began = time.monotonic()
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(str(began).encode(), address)


class Bell:
    """Listens at an address."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address)
        self._socket.settimeout(30)

    def heard(self) -> float:
        """The moment of the next ring. Raises `TimeoutError`."""
        return float(self._socket.recv(64))
