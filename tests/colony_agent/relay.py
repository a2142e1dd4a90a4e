"""A TCP relay before the real server, which counts connections and can answer in its place."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import Self

from colony import errors, schema
from tests.colony_agent.gates import copy


class Relay:
    """Listens on 127.0.0.1. The first connections get `answers`, one each; all others, and those with None for an answer, reach the server.

    Of those, the first `swallowed` requests never hear their answer.
    """

    def __init__(self, port: int, *answers: bytes | None, swallowed: int = 0) -> None:
        self._port, self._answers, self.swallowed = port, list(answers), swallowed
        self.connections = 0
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                caller, _ = self._listener.accept()
                self._open.append(caller)
                self.connections += 1
                threading.Thread(target=self._serve, args=[caller], daemon=True).start()

    def _serve(self, caller: socket.socket) -> None:
        with suppress(OSError), caller:
            if self._answers and (answer := self._answers.pop(0)) is not None:
                caller.recv(65536)
                caller.sendall(answer)
                return
            with socket.create_connection(("127.0.0.1", self._port)) as server:
                self._open.append(server)
                threading.Thread(target=copy, args=[caller, server], daemon=True).start()
                if self.swallowed:
                    self.swallowed -= 1
                    server.recv(65536)
                    caller.shutdown(socket.SHUT_RDWR)
                copy(server, caller)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for each in (self._listener, *self._open):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


def problem(error: errors.ColonyError) -> bytes:
    """The server's answer when this is raised in it."""
    body = schema.Problem(title="Refused", status=error.status, detail=error.detail, code=error.code).model_dump_json()
    kind = "Content-Type: application/problem+json\r\nConnection: close"
    return f"HTTP/1.1 {error.status} Refused\r\n{kind}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
