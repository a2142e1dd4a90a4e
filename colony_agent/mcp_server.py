"""Serves a turn's tools by MCP on the turn's socket.

Only what a tool server needs of the protocol (https://modelcontextprotocol.io/specification/2025-06-18), in the standard library: the
official package takes half a second and 60 MB to import, in every turn. The tests let its client talk with this server.
"""

from __future__ import annotations

import json
import logging
import socket
import threading
from contextlib import suppress
from typing import Any

from colony import __version__
from colony_agent.tools import Toolbox

log = logging.getLogger(__name__)

PROTOCOLS = ("2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05")  # alike in all that is used here; the newest first
MAX_REQUEST_BYTES = 2**24  # whoever sends a longer line is hung up on
PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS = -32700, -32600, -32601, -32602


def serve(listener: socket.socket, toolbox: Toolbox) -> None:
    """Answer whoever connects, in threads of its own, until the listener is shut down."""
    threading.Thread(target=_welcome, args=[listener, toolbox], name="tools", daemon=True).start()


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
            result = {"tools": toolbox.described()}
        case "tools/call" if isinstance(params.get("name"), str) and isinstance(params.get("arguments", {}), dict):
            result = _called(toolbox, params["name"], params.get("arguments", {}))
        case "tools/call":
            return _refused(message["id"], INVALID_PARAMS, "a call needs a name, and its arguments must be an object")
        case method:
            return _refused(message["id"], METHOD_NOT_FOUND, f"no method {method[:100]}")
    return {"jsonrpc": "2.0", "id": message["id"], "result": result}


def _welcome(listener: socket.socket, toolbox: Toolbox) -> None:
    with suppress(OSError):  # the turn is over
        while True:
            threading.Thread(target=_converse, args=[listener.accept()[0], toolbox], name="tools", daemon=True).start()


def _converse(connection: socket.socket, toolbox: Toolbox) -> None:
    try:
        with connection, connection.makefile("rb") as lines:
            while (line := lines.readline(MAX_REQUEST_BYTES)).endswith(b"\n"):
                response = answer(toolbox, line)
                if response is not None:
                    connection.sendall(json.dumps(response).encode() + b"\n")
    except (ConnectionError, ValueError):  # it hung up; or the turn did
        pass
    except Exception:
        log.exception("tool server lost a client")


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
