"""The agent's tools: the colony's operations marked as such, served by MCP on a unix socket with the turn's identity."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import re
import socket
import sys
import tempfile
import threading
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from pydantic import ValidationError

from colony import errors, operations, schema
from colony.client import Client
from colony.operations import OPERATIONS, Operation

log = logging.getLogger(__name__)

MAX_REQUEST_BYTES = 2**20
BRIDGE = Path(__file__).with_name("bridge.py")
_NOT_THE_AGENTS = frozenset({"client_id", "wait", "user"})  # fields that the turn sets, or that only make sense outside of one


@dataclass(frozen=True)
class Result:
    text: str
    is_error: bool = False


class Toolbox:
    """The tools of one turn."""

    def __init__(self, client: Client, turn: schema.Turn) -> None:
        self._client = client
        self._turn = turn
        self._posts = itertools.count()

    def descriptions(self) -> list[dict[str, Any]]:
        """Name, description and input schema of each tool."""
        return [_described(operation) for operation in _tools().values()]

    def call(self, name: str, arguments: Mapping[str, Any]) -> Result:
        """The operation's response as JSON, or what was wrong, in words for the model."""
        operation = _tools().get(name)
        if operation is None:
            return Result(f"no tool {name}; there are {', '.join(_tools())}", is_error=True)
        if odd := _NOT_THE_AGENTS & arguments.keys():
            return Result(f"{', '.join(sorted(odd))}: not a field of {name}", is_error=True)
        fields = {key: _bare(key, value) for key, value in arguments.items()}
        if operation is operations.POST:
            fields["client_id"] = f"{self._turn.id}:{next(self._posts)}"
        try:
            response = self._client.call(operation, operation.request.model_validate(fields))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            return Result(f"{'.'.join(map(str, first['loc']))}: {first['msg']}", is_error=True)
        except errors.ColonyError as error:
            return Result(error.detail, is_error=True)
        if isinstance(response, schema.Message) and response.duplicate:
            return Result(f"An earlier attempt of this turn has posted this instead: {response.model_dump_json()}")
        return Result(response.model_dump_json())


class ToolServer:
    """Serves a toolbox while the `with` block lasts.

    The socket listens from the start, so the program in the sandbox can connect while the MCP library is still being imported.
    """

    def __init__(self, toolbox: Toolbox) -> None:
        self._toolbox = toolbox
        self._folder = Path(tempfile.mkdtemp(prefix="colony-turn-"))
        self.socket_path = self._folder / "tools.sock"
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(self.socket_path))
        self._listener.listen()
        self._listener.setblocking(False)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tools", daemon=True)

    @property
    def argv(self) -> list[str]:
        """What connects a program inside the sandbox with these tools over its standard streams."""
        return [os.path.realpath(sys.executable), "-I", "-S", str(BRIDGE), str(self.socket_path)]

    @property
    def binds(self) -> tuple[Path, ...]:
        """What the sandbox must show for `argv` to work."""
        return BRIDGE, self._folder

    def __enter__(self) -> ToolServer:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ending.set()
        if self._loop:
            with suppress(RuntimeError):  # it has ended by itself
                self._loop.call_soon_threadsafe(self._cancel_all)
        self._listener.close()
        with suppress(FileNotFoundError):
            self.socket_path.unlink()
        self._folder.rmdir()

    def _cancel_all(self) -> None:
        for task in asyncio.all_tasks():
            task.cancel()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except asyncio.CancelledError:
            pass
        except Exception:
            if not self._ending.is_set():
                log.exception("tool server died")
        finally:
            # Whoever connects from now on is refused, and the runner sees that its tools are gone.
            self._listener.close()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        from colony_agent.mcp_server import converse

        def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Coroutine[Any, Any, None]:
            return converse(self._toolbox, reader, writer)

        server = await asyncio.start_unix_server(talk, sock=self._listener, limit=MAX_REQUEST_BYTES)
        if self._ending.is_set():
            return
        async with server:
            await server.serve_forever()


def _tools() -> dict[str, Operation[Any, Any]]:
    return {name: operation for name, operation in OPERATIONS.items() if operation.is_tool}


def _described(operation: Operation[Any, Any]) -> dict[str, Any]:
    fields = operation.request.model_json_schema()
    fields["properties"] = {name: value for name, value in fields.get("properties", {}).items() if name not in _NOT_THE_AGENTS}
    return {"name": operation.name, "description": operation.summary, "inputSchema": fields}


def _bare(field: str, value: Any) -> Any:
    """Models like to write #general."""
    return re.sub(r"\A#", "", value) if field == "channel" and isinstance(value, str) else value
