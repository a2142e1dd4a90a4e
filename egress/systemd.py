"""What systemd hears from the gate: that it answers at its socket, that it still does, and that it stops."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, MutableMapping
from pathlib import Path

from sdnotify import SystemdNotifier

log = logging.getLogger(__name__)

ASK_SECONDS = 10.0  # that an answer may take
PAUSE_SECONDS = 0.05  # between two questions, until the first is answered
_QUESTION = b"GET /alive HTTP/1.1\r\nHost: gate\r\n\r\n"
_ANSWER = b"HTTP/1.1 "  # whatever it says: the gate's own user is nobody's agent


class Systemd:
    """The way to the systemd that started this process; where there is none, nothing is sent."""

    def __init__(self, environ: MutableMapping[str, str] = os.environ) -> None:
        self._notifier = SystemdNotifier()
        if self._notifier.socket:
            self._notifier.socket.setblocking(False)  # a systemd that doesn't listen must not stop all connections
        self._watchdog_seconds = int(environ.pop("WATCHDOG_USEC", 0)) / 1e6

    async def report(self, address: Path, is_sound: Callable[[], bool]) -> None:
        """Say so when the gate answers, and again and again while it does and its threads live; until this is cancelled."""
        while not await answers(address):
            await asyncio.sleep(PAUSE_SECONDS)
        self._notifier.notify(f"READY=1\nSTATUS=Answers at {address}")
        while self._watchdog_seconds:
            await asyncio.sleep(self._watchdog_seconds / 4)
            if is_sound() and await answers(address):
                self._notifier.notify("WATCHDOG=1")
            else:
                log.error("the gate does not answer itself, or has lost a thread address=%s", address)

    def stopping(self) -> None:
        self._notifier.notify("STOPPING=1")


async def answers(address: Path) -> bool:
    """Whether something that speaks HTTP is at the socket."""
    try:
        async with asyncio.timeout(ASK_SECONDS):
            reader, writer = await asyncio.open_unix_connection(str(address))
            try:
                writer.write(_QUESTION)
                return await reader.read(len(_ANSWER)) == _ANSWER
            finally:
                writer.transport.abort()
    except OSError:
        return False
