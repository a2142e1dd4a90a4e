"""Log records for systemd's journal in its native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL), with fields that one can search by."""

from __future__ import annotations

import logging
import socket
import struct
from collections.abc import Mapping

SOCKET = "/run/systemd/journal/socket"
SEND_SECONDS = 1  # how long a journal that is busy is waited for
MAX_VALUE_BYTES = 48 * 1024  # what the journal takes from a line on stderr, too; far below what fits in a datagram
_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))  # as syslog numbers them


class JournalHandler(logging.Handler):
    """Sends records to the journal; `fallback` gets those that it doesn't take."""

    def __init__(self, fallback: logging.Handler, path: str = SOCKET) -> None:
        super().__init__()
        self.marks: dict[str, str] = {}
        self._fallback, self._path = fallback, path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", SEND_SECONDS, 0))
        self.setFormatter(logging.Formatter())

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._socket.sendto(datagram(self._fields(record)), self._path)
        except OSError:  # it restarts, or has no room
            self._fallback.handle(record)
        except Exception:  # arguments that don't fit their message, as any handler takes it
            self.handleError(record)

    def close(self) -> None:
        self._socket.close()
        super().close()

    def _fields(self, record: logging.LogRecord) -> dict[str, str]:
        priority = next((number for level, number in _PRIORITIES if record.levelno >= level), 7)
        return {
            "MESSAGE": self.format(record),
            "PRIORITY": str(priority),
            "SYSLOG_IDENTIFIER": f"agent-{self.marks['COLONY_AGENT']}" if "COLONY_AGENT" in self.marks else "colony-agent",  # as its unit's
            "LOGGER": record.name,
            **self.marks,
        }


def mark(**fields: object) -> None:
    """From now on each record of this process carries these that are not None, as COLONY_TURN and so on. Without a journal: nothing."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, JournalHandler):
            handler.marks |= {f"COLONY_{name.upper()}": str(value) for name, value in fields.items() if value is not None}


def datagram(fields: Mapping[str, str]) -> bytes:
    """The fields as the journal reads them; a value that is too long is cut."""
    return b"".join(_field(name.encode(), value.encode(errors="backslashreplace")[:MAX_VALUE_BYTES]) for name, value in fields.items())


def _field(name: bytes, value: bytes) -> bytes:
    if b"\n" in value:  # then its length tells where it ends
        return name + b"\n" + struct.pack("<Q", len(value)) + value + b"\n"
    return name + b"=" + value + b"\n"
