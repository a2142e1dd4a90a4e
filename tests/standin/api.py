"""The stand-in itself: a server on the loopback that records requests and answers from a script."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from tests.standin.handler import Handler
from tests.standin.replies import Reply
from tests.standin.requests import Request
from tests.standin.script import Script, echo, sequence
from tests.standin.server import Server


class Standin:
    """The Messages API on 127.0.0.1, as a context manager. Echoes until it is given a script.

    `requests` holds what was asked of the model, `other_requests` everything else, in order of
    arrival. Leaving ends every handler at once, hanging ones too: no thread or socket remains.
    """

    def __init__(self, port: int = 0) -> None:
        self.requests: list[Request] = []
        self.other_requests: list[Request] = []
        self._script: Script = echo
        self._changed = threading.Condition()
        self._server = Server(port, Handler, self)
        self._thread = threading.Thread(target=self._server.serve, name="standin")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def script(self, script: Reply | Iterable[Reply] | Script) -> None:
        """Answer with one reply for ever, replies in turn (the last repeats), or what a function says."""
        if callable(script):
            self._script = script
        else:
            self._script = sequence(script if isinstance(script, Iterable) else [script])

    def wait_for(self, count: int, timeout_seconds: float = 10) -> list[Request]:
        """The requests, once there are `count` of them; TimeoutError if they don't come."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.requests) >= count, timeout_seconds):
                raise TimeoutError(f"{len(self.requests)} of {count} requests in {timeout_seconds} s")
        return self.requests

    def answer(self, request: Request) -> Reply:
        """Record a request to the model and choose its reply. Called by the handler."""
        with self._changed:
            self.requests.append(request)
            self._changed.notify_all()
        return self._script(request)

    def note(self, request: Request) -> None:
        """Record a request that needs no script. Called by the handler."""
        self.other_requests.append(request)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End every connection and thread; `requests` stay readable."""
        self._server.stop_accepting()
        self._thread.join()
        self._server.hang_up()
        self._server.server_close()
