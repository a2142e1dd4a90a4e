"""What systemd hears from the server: that it answers, that it still does, and that it stops."""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import MutableMapping
from pathlib import Path
from time import monotonic

from sdnotify import SystemdNotifier

from server.gate import Gate

log = logging.getLogger(__name__)

ASK_SECONDS = 45.0  # that an answer may take: crowds of long polls hold their threads for 40 s
FIRST_PAUSE_SECONDS = 0.02  # between two questions, until the first is answered
_QUESTION = b"GET /healthz HTTP/1.1\r\nHost: colony\r\nConnection: close\r\n\r\n"
_WELL = b"HTTP/1.1 200"


class Systemd:
    """The way to the systemd that started this process; where there is none, nothing is sent."""

    def __init__(self, environ: MutableMapping[str, str] = os.environ) -> None:
        self._notifier = SystemdNotifier()
        environ.pop("NOTIFY_SOCKET", None)  # else gunicorn would call itself ready before anything answers
        self._watchdog_seconds = int(environ.pop("WATCHDOG_USEC", 0)) / 1e6

    def report(self, gate: Gate, address: Path) -> None:
        """Say so when the server answers at the unix socket, and again and again while it does; from a thread that ends with it."""
        threading.Thread(target=self._go_on, args=[gate, address], name="systemd", daemon=True).start()

    def stopping(self) -> None:
        self._notifier.notify("STOPPING=1")

    def _go_on(self, gate: Gate, address: Path) -> None:
        while not (asked(address) or b"").startswith(_WELL):
            if _rest(gate, FIRST_PAUSE_SECONDS):
                return
        self._notifier.notify(f"READY=1\nSTATUS=Answers at {address}")
        while self._watchdog_seconds and not _rest(gate, self._watchdog_seconds / 6):
            if is_alive(gate, address):
                self._notifier.notify("WATCHDOG=1")


def is_alive(gate: Gate, address: Path) -> bool:
    """Whether the server still answers, whatever it says, and whether its writer comes back. It doesn't return while that one hangs.

    A refusal is an answer: a restart mends no disk and no database.
    """
    if asked(address) is None:
        log.error("the server does not answer itself address=%s", address)
        return False
    if gate.database.writer:
        try:
            gate.database.write(lambda connection: None)
        except Exception as error:
            log.warning("the writer refuses error=%s", error)
    return True


def asked(address: Path, seconds: float = ASK_SECONDS) -> bytes | None:
    """How the answer to /healthz begins; None if nothing came."""
    try:
        with socket.socket(socket.AF_UNIX) as asking:
            asking.settimeout(seconds)
            asking.connect(str(address))
            asking.sendall(_QUESTION)
            return asking.recv(len(_WELL)) or None
    except OSError:
        return None


def _rest(gate: Gate, seconds: float) -> bool:
    """Sleep, or until the server stops: then True."""
    gate.waiters.wait("systemd", gate.waiters.moment, monotonic() + seconds)
    return gate.waiters.is_closed
