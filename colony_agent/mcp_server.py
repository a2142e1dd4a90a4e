"""Serves a toolbox by MCP on a unix socket. The one place that imports the `mcp` package, which takes half a second."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

import anyio
import mcp_types as types
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.server.lowlevel import Server
from mcp.shared.message import SessionMessage

from colony import __version__
from colony_agent.tools import TOOLS, Toolbox, described

MAX_REQUEST_BYTES = 2**20


def serve(listener: socket.socket, toolbox: Toolbox) -> None:
    """Answer every client of the socket, for ever."""
    asyncio.run(_serve(listener, toolbox))


async def _serve(listener: socket.socket, toolbox: Toolbox) -> None:
    def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Coroutine[Any, Any, None]:
        return _converse(toolbox, reader, writer)

    async with await asyncio.start_unix_server(talk, sock=listener, limit=MAX_REQUEST_BYTES) as server:
        await server.serve_forever()


async def _converse(toolbox: Toolbox, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    server = _server(toolbox)
    incoming, requests = anyio.create_memory_object_stream[SessionMessage | Exception](16)
    answers, outgoing = anyio.create_memory_object_stream[SessionMessage](16)
    with suppress(ConnectionError):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_listen, reader, incoming)
            tasks.start_soon(_speak, writer, outgoing)
            await server.run(requests, answers, server.create_initialization_options())
            tasks.cancel_scope.cancel()
    writer.close()


def _server(toolbox: Toolbox) -> Server[Any]:
    async def list_tools(context: Any, params: Any) -> types.ListToolsResult:
        return types.ListToolsResult(tools=[types.Tool.model_validate(tool) for tool in map(described, TOOLS.values())])

    async def call_tool(context: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
        result = await anyio.to_thread.run_sync(toolbox.call, params.name, params.arguments or {})
        return types.CallToolResult(content=[types.TextContent(type="text", text=result.text)], is_error=result.is_error)

    return Server("colony", version=__version__, on_list_tools=list_tools, on_call_tool=call_tool)


async def _listen(reader: asyncio.StreamReader, incoming: MemoryObjectSendStream[SessionMessage | Exception]) -> None:
    async with incoming:
        while line := await reader.readline():
            try:
                message = types.jsonrpc_message_adapter.validate_json(line, by_name=False)
            except ValueError as error:
                await incoming.send(error)
            else:
                await incoming.send(SessionMessage(message))


async def _speak(writer: asyncio.StreamWriter, outgoing: MemoryObjectReceiveStream[SessionMessage]) -> None:
    async with outgoing:
        async for answer in outgoing:
            writer.write(answer.message.model_dump_json(by_alias=True, exclude_unset=True).encode() + b"\n")
            await writer.drain()
