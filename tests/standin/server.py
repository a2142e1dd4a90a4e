"""The sockets: a thread per connection, all of which can be ended at once."""

from __future__ import annotations

import socket
import sys
import threading
from contextlib import suppress
from http.server import ThreadingHTTPServer
from typing import Any, Protocol

from tests.standin.replies import Reply
from tests.standin.requests import Request


class Answerer(Protocol):
    """Who decides what a request gets."""

    def answer(self, request: Request) -> Reply: ...

    def note(self, request: Request) -> None: ...


class Server(ThreadingHTTPServer):
    """Listens on 127.0.0.1; handlers find their `answerer` here."""

    daemon_threads = False  # so that closing joins the handlers
    request_queue_size = 1024

    def __init__(self, port: int, handler: type, answerer: Answerer) -> None:
        self.answerer = answerer
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._stopping = False
        super().__init__(("127.0.0.1", port), handler)

    def serve(self) -> None:
        """Accept until stopped. Unlike `serve_forever` it notices the stop without polling."""
        while not self._stopping:
            self.handle_request()

    def stop_accepting(self) -> None:
        self._stopping = True
        _shut(self.socket)

    def hang_up(self) -> None:
        """Shut every open connection, which wakes the handlers that wait on one."""
        with self._lock:
            for connection in self._connections:
                _shut(connection)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        # Callers that leave early are part of the tests; anything else is worth a traceback.
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


def _shut(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
