"""Serves a turn's tools by MCP on a unix socket.

Only what a tool server needs of the protocol (https://modelcontextprotocol.io/specification/2025-06-18), in the standard library: the
official package takes half a second and 60 MB to import, in every turn. The tests let its client talk with this server.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import socketserver
import sys
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from colony import __version__, files
from colony_agent.tools import TOOLS, Toolbox, described

log = logging.getLogger(__name__)

BRIDGE = Path(__file__).with_name("bridge.py")
PROTOCOLS = ("2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05")  # alike in all that is used here; the newest first
MAX_REQUEST_BYTES = 2**24  # whoever sends a longer line is hung up on
PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS = -32700, -32600, -32601, -32602


class ToolServer:
    """Answers on its socket, in threads of its own, while the `with` block lasts. One for each home at a time."""

    def __init__(self, home: Path, toolbox: Toolbox) -> None:
        self.socket = files.private_folder(f"turn {home}") / "tools.sock"
        self.socket.unlink(missing_ok=True)  # from a turn that was killed
        self._server = _Server(str(self.socket), toolbox)
        self._thread = threading.Thread(target=self._server.serve, name="tools", daemon=True)

    @property
    def argv(self) -> list[str]:
        """What connects a program inside the sandbox with these tools over its standard streams."""
        return [os.path.realpath(sys.executable), "-I", "-S", str(BRIDGE), str(self.socket)]

    @property
    def binds(self) -> tuple[Path, ...]:
        """What the sandbox must show for `argv` to work."""
        return BRIDGE, self.socket.parent

    def __enter__(self) -> ToolServer:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.end()
        self._thread.join()
        self._server.server_close()
        with suppress(OSError):  # whatever happened to the folder, the answer goes out
            self.socket.unlink(missing_ok=True)
            self.socket.parent.rmdir()


def answer(toolbox: Toolbox, line: bytes) -> dict[str, Any] | None:
    """The response to one JSON-RPC message; None where none is due."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        return _refused(None, PARSE_ERROR, "this is not JSON")
    if not isinstance(message, dict) or not isinstance(message.get("method"), str):
        is_response = isinstance(message, dict) and ("result" in message or "error" in message)
        return None if is_response else _refused(None, INVALID_REQUEST, "this is no request")
    if "id" not in message:  # a notification
        return None
    params = message.get("params", {})
    if not isinstance(params, dict):
        return _refused(message["id"], INVALID_PARAMS, "params must be an object")
    match message["method"]:
        case "initialize":
            result = _hello(params)
        case "ping":
            result = {}
        case "tools/list":
            result = {"tools": [described(operation) for operation in TOOLS.values()]}
        case "tools/call" if isinstance(params.get("name"), str) and isinstance(params.get("arguments", {}), dict):
            result = _called(toolbox, params["name"], params.get("arguments", {}))
        case "tools/call":
            return _refused(message["id"], INVALID_PARAMS, "a call needs a name, and its arguments must be an object")
        case method:
            return _refused(message["id"], METHOD_NOT_FOUND, f"no method {method[:100]}")
    return {"jsonrpc": "2.0", "id": message["id"], "result": result}


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    block_on_close = False  # a client that stays connected must not keep the turn from ending

    def __init__(self, path: str, toolbox: Toolbox) -> None:
        self.toolbox = toolbox
        self._ends = False
        super().__init__(path, _Conversation)

    def serve(self) -> None:
        """Until `end`. Not `serve_forever`, which looks whether it shall end only now and then: a turn would wait for that."""
        while not self._ends:
            self.handle_request()

    def end(self) -> None:
        self._ends = True
        self.socket.shutdown(socket.SHUT_RDWR)  # wakes it

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.exception("tool server lost a client")


class _Conversation(socketserver.StreamRequestHandler):
    server: _Server

    def handle(self) -> None:
        try:
            while (line := self.rfile.readline(MAX_REQUEST_BYTES)).endswith(b"\n"):
                response = answer(self.server.toolbox, line)
                if response is not None:
                    self.wfile.write(json.dumps(response).encode() + b"\n")
        except (ConnectionError, ValueError):  # it hung up; or the turn did
            pass


def _hello(params: dict[str, Any]) -> dict[str, Any]:
    asked = params.get("protocolVersion")
    return {
        "protocolVersion": asked if asked in PROTOCOLS else PROTOCOLS[0],
        "capabilities": {"tools": {}},
        "serverInfo": {"name": "colony", "version": __version__},
    }


def _called(toolbox: Toolbox, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    result = toolbox.call(name, arguments)
    return {"content": [{"type": "text", "text": result.text}], "isError": result.is_error}


def _refused(request_id: Any, code: int, reason: str) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": request_id, "error": {"code": code, "message": reason}}
