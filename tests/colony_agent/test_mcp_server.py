"""The tools as a program in the sandbox gets them: MCP over the bridge and a unix socket."""

from __future__ import annotations

import asyncio
import json
import os
import select
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp import ClientSession, StdioServerParameters, stdio_client

from colony import operations, schema
from colony.client import Client
from colony_agent.mcp_server import PROTOCOLS, serve
from colony_agent.sandbox import for_home
from colony_agent.settings import load
from colony_agent.tool_socket import ToolSocket
from colony_agent.tools import TOOLS, described
from tests.colony_agent.agents import LONG, Agent, House, claim, toolbox
from tests.colony_agent.engines import ENGINES

INITIALIZE = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}


@pytest.fixture
def turn(scout: Agent) -> schema.Turn:
    scout.ask()
    with Client(scout.house.server.url, scout.token) as client:
        turn = client.call(operations.CLAIM, schema.ClaimTurn()).turn
    assert turn
    return turn


def serving(scout: Agent, turn: schema.Turn) -> ToolSocket:
    tools = ToolSocket(scout.home)
    serve(tools.listener, toolbox(scout, turn))
    return tools


@pytest.fixture
def opened(scout: Agent, turn: schema.Turn) -> Iterator[ToolSocket]:
    with serving(scout, turn) as server:
        yield server


class Model:
    """Speaks MCP with the tools through the bridge, as Claude Code does."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process, self._number, self._heard = process, 0, b""

    def send(self, **message: Any) -> None:
        self.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")

    def write(self, line: bytes) -> None:
        assert self._process.stdin
        self._process.stdin.write(line)
        self._process.stdin.flush()

    def hear(self, seconds: float = LONG) -> dict[str, Any]:
        assert self._process.stdout
        deadline = time.monotonic() + seconds
        while b"\n" not in self._heard:
            assert select.select([self._process.stdout], [], [], max(0, deadline - time.monotonic()))[0], "the tools are silent"
            chunk = os.read(self._process.stdout.fileno(), 65536)
            assert chunk, "the tools hung up"
            self._heard += chunk
        line, _, self._heard = self._heard.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        self.send(id=self._number, method=method, params=params)
        answer = self.hear()
        assert answer["id"] == self._number
        return answer

    def shake_hands(self) -> dict[str, Any]:
        answer: dict[str, Any] = self.ask("initialize", **INITIALIZE)["result"]
        self.send(method="notifications/initialized")
        return answer

    def call(self, name: str, **arguments: Any) -> dict[str, Any]:
        result: dict[str, Any] = self.ask("tools/call", name=name, arguments=arguments)["result"]
        return result


@contextmanager
def model(server: ToolSocket, argv: tuple[str, ...] = (), **options: Any) -> Iterator[Model]:
    with subprocess.Popen([*argv, *server.argv], stdin=subprocess.PIPE, stdout=subprocess.PIPE, **options) as process:
        try:
            yield Model(process)
        finally:
            process.kill()


def test_every_tool_is_described_by_mcp(opened: ToolSocket) -> None:
    with model(opened) as claude:
        hello = claude.shake_hands()
        assert hello["serverInfo"]["name"] == "colony"
        assert "tools" in hello["capabilities"]
        listed = claude.ask("tools/list")["result"]["tools"]
        assert {tool["name"]: tool["inputSchema"] for tool in listed} == {
            name: described(operation)["inputSchema"] for name, operation in TOOLS.items()
        }
        assert all(tool["description"] for tool in listed)


def test_an_agent_is_shown_the_tools_that_it_may_use_and_can_use_no_other(scout: Agent) -> None:
    for action in ("tool:post", "users"):
        scout.house.admin.call(operations.SET_ACL, schema.SetAcl(principal=scout.name, effect="deny", action=action))
    pulse = claim(scout, kind="pulse")  # asked where it may not post it would be given no turn
    with serving(scout, pulse) as server, model(server) as claude:
        claude.shake_hands()
        listed = [tool["name"] for tool in claude.ask("tools/list")["result"]["tools"]]
        assert listed == [name for name in TOOLS if name not in ("post", "users")]
        refused = claude.call("post", channel=scout.name, body="all the same")
        assert refused["isError"]
        text = refused["content"][0]["text"]
        assert text == f"{scout.name} may not post channel:{scout.name}: {scout.name} deny tool:post * (by colony)"
        assert claude.call("users")["isError"]
        assert not claude.call("read", channel="general").get("isError")
    assert scout.said() == []


def test_what_is_held_is_told_to_the_model_and_passes_once_it_is_approved(opened: ToolSocket, scout: Agent) -> None:
    hold = schema.SetAcl(principal=scout.name, action="tool:post", scope="channel:general", effect="hold")
    scout.house.admin.call(operations.SET_ACL, hold)
    with model(opened) as claude:
        claude.shake_hands()
        said = {"channel": "general", "body": "from the tools"}
        refused = claude.call("post", **said)
        assert refused["isError"]
        number = scout.house.ann.call(operations.APPROVALS, schema.ListApprovals()).approvals[0].id
        then = "you will hear of it in this turn's channel; make the same call again then"
        assert refused["content"][0]["text"] == f"held as #{number} until an ape approves it; {then}"
        scout.house.ann.call(operations.APPROVE, schema.Approve(id=number))
        assert not claude.call("post", **said).get("isError")
        assert claude.call("post", **said)["isError"]
        assert not claude.call("post", channel=scout.name, body="elsewhere").get("isError")
    assert scout.said("general") == ["from the tools"]


def test_a_call_is_made_with_the_turns_identity(opened: ToolSocket, scout: Agent, turn: schema.Turn) -> None:
    with model(opened) as claude:
        claude.shake_hands()
        result = claude.call("post", channel="#general", body="from the tools")
        assert not result.get("isError")
        posted = schema.Message.model_validate_json(result["content"][0]["text"])
        assert (posted.author, posted.turn_id) == (scout.name, turn.id)


def test_an_error_is_the_tools_and_not_the_protocols(opened: ToolSocket) -> None:
    with model(opened) as claude:
        claude.shake_hands()
        for name, arguments in (("read", {"channel": "nowhere"}), ("claim", {}), ("read", {})):
            result = claude.call(name, **arguments)
            assert result["isError"]
            assert result["content"][0]["text"]
        assert not claude.call("whoami").get("isError")


def test_a_request_too_long_ends_this_connection_and_no_other(opened: ToolSocket) -> None:
    with model(opened) as claude, model(opened) as other:
        claude.shake_hands()
        other.shake_hands()
        with pytest.raises((AssertionError, BrokenPipeError), match=r"hung up|Broken pipe"):
            claude.call("post", channel="general", body="x" * 20_000_000)
        assert not other.call("whoami").get("isError")


def test_a_body_too_long_is_a_tool_error(opened: ToolSocket) -> None:
    with model(opened) as claude:
        claude.shake_hands()
        assert claude.call("post", channel="general", body="x" * 1_100_000)["isError"]
        assert not claude.call("whoami").get("isError")


def test_several_calls_at_once_are_all_answered(opened: ToolSocket, scout: Agent) -> None:
    scout.house.admin.call(operations.SET_LIMITS, schema.SetLimits(agent=scout.name, posts_per_turn=20))
    with model(opened) as claude:
        claude.shake_hands()
        for number in range(20):
            params = {"name": "post", "arguments": {"channel": scout.name, "body": f"number {number}"}}
            claude.send(id=1000 + number, method="tools/call", params=params)
        answers = {claude.hear()["id"] for _ in range(20)}
    assert answers == set(range(1000, 1020))
    assert sorted(scout.said()) == sorted(f"number {number}" for number in range(20))


def test_the_model_is_told_that_it_may_post_no_more(opened: ToolSocket, scout: Agent) -> None:
    scout.house.admin.call(operations.SET_LIMITS, schema.SetLimits(agent=scout.name, posts_per_turn=1))
    with model(opened) as claude:
        claude.shake_hands()
        assert not claude.call("post", channel=scout.name, body="one").get("isError")
        refused = claude.call("post", channel=scout.name, body="two")
    assert refused["isError"]
    assert "say the rest in your reply" in str(refused)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_tools_work_from_within_the_sandbox(opened: ToolSocket, scout: Agent, engine: str) -> None:
    scout.settle(sandbox=engine)
    command = for_home(load(scout.home), opened.binds).confine(opened.argv, {})
    with subprocess.Popen(
        command.argv, env=command.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=command.descriptors
    ) as process:
        claude = Model(process)
        claude.shake_hands()
        assert json.loads(claude.call("whoami")["content"][0]["text"])["username"] == scout.name
        process.kill()
    for descriptor in command.descriptors:
        os.close(descriptor)


def test_it_ends_with_its_block_and_leaves_nothing(scout: Agent, turn: schema.Turn) -> None:
    with serving(scout, turn) as server, model(server) as claude:
        path = Path(server.argv[-1])
        assert path.parent.stat().st_mode & 0o777 == 0o700
        claude.shake_hands()  # and stays connected
    assert not path.parent.exists()


def test_what_a_killed_turn_left_is_not_in_the_way(scout: Agent, turn: schema.Turn) -> None:
    with serving(scout, turn) as server:
        path = Path(server.argv[-1])
    path.parent.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    with serving(scout, turn) as server, model(server) as claude:
        assert Path(server.argv[-1]) == path
        claude.shake_hands()


def test_each_home_has_its_own(house: House, scout: Agent, turn: schema.Turn, tmp_path: Path) -> None:
    with serving(scout, turn) as one, serving(house.agent(tmp_path), turn) as other:
        assert one.argv[-1] != other.argv[-1]


@pytest.mark.parametrize("make", [lambda path: path.symlink_to("/root"), Path.touch, lambda path: path.mkdir(mode=0o755)])
def test_what_somebody_else_put_in_its_place_is_left_to_them(scout: Agent, turn: schema.Turn, make: Callable[[Path], object]) -> None:
    with serving(scout, turn) as server:
        folder = Path(server.argv[-1]).parent
    make(folder)
    try:
        with serving(scout, turn) as server, model(server) as claude:
            own = Path(server.argv[-1]).parent
            assert own != folder
            assert own.stat().st_mode & 0o777 == 0o700
            claude.shake_hands()
            assert json.loads(claude.call("whoami")["content"][0]["text"])["username"] == scout.name
        assert not own.exists()
        assert folder.is_symlink() or folder.exists()
    finally:
        folder.rmdir() if folder.is_dir() and not folder.is_symlink() else folder.unlink()


NO_CALLS = [
    (b"this is no JSON", -32700),
    (b"[" * 100_000, -32700),
    (b"\xff\xfe", -32700),
    (b"[]", -32600),
    (b"5", -32600),
    (b"{}", -32600),
    (b'{"id": 1, "method": 5}', -32600),
    (b'{"id": 1, "method": "ping", "params": []}', -32602),
    (b'{"id": 1, "method": "tools/call"}', -32602),
    (b'{"id": 1, "method": "tools/call", "params": {"name": 5}}', -32602),
    (b'{"id": 1, "method": "tools/call", "params": {"name": "read", "arguments": []}}', -32602),
    (b'{"id": 1, "method": "no/such/method"}', -32601),
]


@pytest.mark.parametrize(("line", "code"), NO_CALLS, ids=range(len(NO_CALLS)))
def test_what_is_no_call_is_refused_and_it_goes_on(opened: ToolSocket, line: bytes, code: int) -> None:
    with model(opened) as claude:
        claude.write(line + b"\n")
        assert claude.hear()["error"]["code"] == code
        claude.shake_hands()
        assert not claude.call("whoami")["isError"]


@pytest.mark.parametrize("line", [b'{"jsonrpc": "2.0", "method": "notifications/cancelled"}', b'{"jsonrpc": "2.0", "id": 5, "result": {}}'])
def test_what_wants_no_answer_gets_none(opened: ToolSocket, line: bytes) -> None:
    with model(opened) as claude:
        claude.write(line + b"\n")
        assert claude.ask("ping")["result"] == {}


@pytest.mark.parametrize(("asked", "spoken"), [("2024-11-05", "2024-11-05"), ("2025-06-18", "2025-06-18"), ("1999-01-01", PROTOCOLS[0])])
def test_it_speaks_the_clients_protocol_or_its_newest(opened: ToolSocket, asked: str, spoken: str) -> None:
    with model(opened) as claude:
        assert claude.ask("initialize", **INITIALIZE | {"protocolVersion": asked})["result"]["protocolVersion"] == spoken


def test_half_of_a_pair_of_surrogates_is_a_tool_error(opened: ToolSocket) -> None:
    with model(opened) as claude:
        claude.shake_hands()
        assert claude.call("post", channel="general", body="\ud800")["isError"]
        assert claude.call("\ud800")["isError"]
        assert not claude.call("whoami")["isError"]


def test_the_official_client_talks_with_it(opened: ToolSocket, scout: Agent) -> None:
    async def talk() -> tuple[list[str], str]:
        command = StdioServerParameters(command=opened.argv[0], args=opened.argv[1:])
        async with stdio_client(command) as streams, ClientSession(*streams) as session:
            await session.initialize()
            names = [tool.name for tool in (await session.list_tools()).tools]
            result = await session.call_tool("whoami", {})
            return names, result.content[0].text  # type: ignore[union-attr]

    names, said = asyncio.run(talk())
    assert names == list(TOOLS)
    assert json.loads(said)["username"] == scout.name
