"""HTTP over a unix socket with nothing in between, so that what is measured is the server."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def request(
    method: str, path: str, token: str | None = None, fields: Mapping[str, Any] | None = None, headers: Mapping[str, str] | None = None
) -> bytes:
    """The bytes of one request with a JSON body."""
    body = b"" if fields is None else json.dumps(fields).encode()
    head = [f"{method} {path} HTTP/1.1", "Host: colony", f"Content-Length: {len(body)}"]
    if token:
        head.append(f"Authorization: Bearer {token}")
    head += [f"{name}: {value}" for name, value in (headers or {}).items()]
    if body:
        head.append("Content-Type: application/json")
    return "\r\n".join([*head, "", ""]).encode() + body


class Connection:
    """One client that keeps its connection."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(str(path))
        self.sent_at = 0.0
        self._received = b""

    def send(self, message: bytes) -> None:
        self.socket.sendall(message)

    def receive(self) -> bytes | None:
        """The answer's body once all of it is here; to be called when the socket is readable. Raises `RuntimeError` for a refusal."""
        arrived = self.socket.recv(262_144)
        if not arrived:
            raise ConnectionError("the server hung up")
        self._received += arrived
        head, end, body = self._received.partition(b"\r\n\r\n")
        whole = _whole(head.lower(), body) if end else None
        if whole is None:
            return None
        body = whole
        self._received = b""
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"{head.splitlines()[0].decode()}: {body[:500].decode(errors='replace')}")
        return body

    def ask(self, message: bytes) -> Any:
        """Send and wait: the answer's JSON."""
        self.send(message)
        while (body := self.receive()) is None:
            pass
        return json.loads(body)

    def close(self) -> None:
        self.socket.close()


def _whole(head: bytes, body: bytes) -> bytes | None:
    """The body, without what frames it; None while a part is missing."""
    _, has_length, rest = head.partition(b"content-length:")
    if has_length:
        return body if len(body) >= int(rest.split(b"\r\n", 1)[0]) else None
    chunks = b""  # Transfer-Encoding: chunked, as in RFC 9112
    while body:
        size, end, body = body.partition(b"\r\n")
        if not end or len(body) < int(size, 16) + 2:
            return None
        if not int(size, 16):
            return chunks
        chunks, body = chunks + body[: int(size, 16)], body[int(size, 16) + 2 :]
    return None
