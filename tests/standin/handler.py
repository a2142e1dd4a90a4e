"""One connection: read requests, have them answered, write the replies."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler
from typing import Any, cast
from urllib.parse import urlsplit

from tests.standin.replies import Ending, Failure, Message, Reply, Silence, error
from tests.standin.requests import Request
from tests.standin.server import Answerer, Server
from tests.standin.wire import stream, whole


class Handler(BaseHTTPRequestHandler):
    """Speaks HTTP/1.1 with keep-alive; whatever is asked for is recorded."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 64 * 1024  # head and body leave in one packet

    def do_POST(self) -> None:
        request = self._read()
        match urlsplit(self.path).path:
            case "/v1/messages":
                self._reply(request, self._answerer.answer(request))
            case "/v1/messages/count_tokens":
                self._answerer.note(request)
                self._send_json(200, {"input_tokens": len(json.dumps(request.body)) // 4})
            case _:
                self._answerer.note(request)
                self._send_error(error(404, f"the stand-in has no POST {self.path}"))

    def do_GET(self) -> None:
        self._answerer.note(self._read())
        self._send_json(200, {})

    do_HEAD = do_GET

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the requests are recorded."""

    @property
    def _answerer(self) -> Answerer:
        return cast(Server, self.server).answerer

    def _read(self) -> Request:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        return Request(self.command, self.path, headers, _parse(body), time.monotonic())

    def _reply(self, request: Request, reply: Reply) -> None:
        if reply.delay_seconds and self._caller_leaves(reply.delay_seconds):
            self.close_connection = True
            return
        match reply:
            case Message():
                self._send_message(request, reply)
            case Failure():
                self._send_error(reply)
            case Silence():
                self._end(reply.ending)

    def _send_message(self, request: Request, message: Message) -> None:
        model = request.body.get("model", "unknown")
        if request.body.get("stream"):
            content_type, body = "text/event-stream", stream(message, model)
        else:
            content_type, body = "application/json", json.dumps(whole(message, model)).encode()
        last_chunk = b"0\r\n\r\n" if message.ending is Ending.COMPLETE else b""
        headers = {"content-type": content_type, "transfer-encoding": "chunked"}
        self._send(200, headers, b"%x\r\n%b\r\n%b" % (len(body), body, last_chunk))
        self._end(message.ending)

    def _send_error(self, failure: Failure) -> None:
        self._send_json(failure.status, failure.body, failure.headers)

    def _send_json(self, status: int, content: object, headers: Mapping[str, str] | None = None) -> None:
        body = json.dumps(content).encode()
        plain = {"content-type": "application/json", "content-length": str(len(body))}
        self._send(status, {**plain, **(headers or {})}, b"" if self.command == "HEAD" else body)

    def _send(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in {**headers, "request-id": "req_standin"}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def _end(self, ending: Ending) -> None:
        if ending is Ending.HANG:
            self._caller_leaves(within_seconds=None)
        self.close_connection = self.close_connection or ending is not Ending.COMPLETE

    def _caller_leaves(self, within_seconds: float | None) -> bool:
        """Wait; True as soon as the caller hangs up or the stand-in closes the connection."""
        self.connection.settimeout(within_seconds)
        try:
            self.connection.recv(1)
        except TimeoutError:
            return False
        finally:
            self.connection.settimeout(None)
        return True


def _parse(body: bytes) -> Mapping[str, Any]:
    """The JSON object in the body, or nothing: telemetry may be sent in any format."""
    try:
        content = json.loads(body)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}
