"""Speaks MCP with one client over a stream. The one place that imports the `mcp` package, which takes half a second: do so late."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import anyio
import mcp_types as types
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.server.lowlevel import Server
from mcp.shared.message import SessionMessage

from colony import __version__

if TYPE_CHECKING:
    from colony_agent.tools import Toolbox


async def converse(toolbox: Toolbox, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer one client until it hangs up."""
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
        return types.ListToolsResult(tools=[types.Tool.model_validate(tool) for tool in toolbox.descriptions()])

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
