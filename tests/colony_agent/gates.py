"""Unix sockets in the place of the egress gate: one that speaks its HTTP, and one that does what a test says with each connection."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

KEY = "sk-ant-of-the-gate"
REFUSAL = b"HTTP/1.1 403 Forbidden\r\nContent-Type: application/problem+json\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"
Serve = Callable[[socket.socket], None]


class Socket:
    """Listens at a path and serves each connection in a thread of its own."""

    def __init__(self, path: Path, serve: Serve) -> None:
        self.egress, self._serve = f"unix:{path}", serve
        self._open: list[socket.socket] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(8)  # fewer than come at once in the tests
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for each in (self._listener, *self._open):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                caller, _ = self._listener.accept()
                self._open.append(caller)
                threading.Thread(target=self._welcome, args=[caller], daemon=True).start()

    def _welcome(self, caller: socket.socket) -> None:
        with suppress(OSError), caller:
            self._serve(caller)


class HttpGate(Socket):
    """`hosts` says where the allowed `host:port`s are really found. What is asked for by its path alone goes to the model, with the key."""

    def __init__(self, path: Path, model_url: str = "", hosts: Mapping[str, int] | None = None) -> None:
        self.asked: list[str] = []  # the request lines
        self.keys: list[str] = []  # what callers hold for the model's key
        self._model, self._hosts = urlsplit(model_url).port, hosts or {}
        super().__init__(path, self._answer)

    def _answer(self, caller: socket.socket) -> None:
        head, _, rest = _head(caller).partition(b"\r\n\r\n")
        request, *headers = head.decode().split("\r\n")
        method, target, _ = request.split()
        self.asked.append(request)
        if method == "CONNECT":
            port, first = self._hosts.get(target), b""
        elif target.startswith("/"):
            self.keys += [line for line in headers if line.lower().startswith(("x-api-key:", "authorization:"))]
            port, first = self._model, _written(f"{method} {target} HTTP/1.1", headers, f"x-api-key: {KEY}") + rest
        else:
            url = urlsplit(target)
            port, first = self._hosts.get(f"{url.hostname}:{url.port or 80}"), _written(f"{method} {url.path} HTTP/1.1", headers) + rest
        if port is None:
            caller.sendall(REFUSAL)
            return
        with socket.create_connection(("127.0.0.1", port)) as upstream:
            self._open.append(upstream)
            caller.sendall(b"HTTP/1.1 200 Connected\r\n\r\n" if method == "CONNECT" else b"")
            upstream.sendall(first)
            threading.Thread(target=copy, args=[caller, upstream], daemon=True).start()
            copy(upstream, caller)


def copy(source: socket.socket, target: socket.socket) -> None:
    """As far as the end, and that, too."""
    with suppress(OSError):
        while chunk := source.recv(65536):
            target.sendall(chunk)
        target.shutdown(socket.SHUT_WR)


def echo(caller: socket.socket) -> None:
    copy(caller, caller)


def _head(caller: socket.socket) -> bytes:
    head = b""
    while b"\r\n\r\n" not in head and (chunk := caller.recv(65536)):
        head += chunk
    return head


def _written(request: str, headers: list[str], *more: str) -> bytes:
    """One request a connection: the next one's key would not be replaced."""
    kept = [line for line in headers if not line.lower().startswith(("x-api-key:", "authorization:", "connection:", "proxy-"))]
    return "\r\n".join([request, *kept, *more, "Connection: close", "", ""]).encode()
