"""The tools as a program in the sandbox gets them: MCP over the bridge, a unix socket and the process behind it."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from colony import operations, schema
from colony.client import Client
from colony_agent.sandbox import for_home
from colony_agent.settings import load
from colony_agent.toolhost import ToolHost
from colony_agent.tools import TOOLS, described
from tests.colony_agent.agents import LONG, Agent, House, housed, living, wait_for

INITIALIZE = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}


@pytest.fixture(scope="module")
def house(sqlite_file: Path) -> Iterator[House]:
    with housed(sqlite_file) as house:
        yield house


@pytest.fixture
def scout(house: House, tmp_path: Path) -> Agent:
    return house.agent(tmp_path)


@pytest.fixture
def host() -> Iterator[ToolHost]:
    with ToolHost() as host:
        yield host


@pytest.fixture
def turn(scout: Agent) -> schema.Turn:
    scout.ask()
    with Client(scout.house.server.url, scout.token) as client:
        turn = client.call(operations.CLAIM, schema.ClaimTurn()).turn
    assert turn
    return turn


@pytest.fixture
def opened(host: ToolHost, scout: Agent, turn: schema.Turn) -> ToolHost:
    host.open(scout.house.server.url, scout.token, turn.id, turn.attempt)
    return host


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
def model(host: ToolHost, argv: tuple[str, ...] = (), **options: Any) -> Iterator[Model]:
    with subprocess.Popen([*argv, *host.argv], stdin=subprocess.PIPE, stdout=subprocess.PIPE, **options) as process:
        try:
            yield Model(process)
        finally:
            process.kill()


def test_every_tool_is_described_by_mcp(opened: ToolHost) -> None:
    with model(opened) as claude:
        hello = claude.shake_hands()
        assert hello["serverInfo"]["name"] == "colony"
        assert "tools" in hello["capabilities"]
        listed = claude.ask("tools/list")["result"]["tools"]
        assert {tool["name"]: tool["inputSchema"] for tool in listed} == {
            name: described(operation)["inputSchema"] for name, operation in TOOLS.items()
        }
        assert all(tool["description"] for tool in listed)


def test_a_call_is_made_with_the_turns_identity(opened: ToolHost, scout: Agent, turn: schema.Turn) -> None:
    with model(opened) as claude:
        claude.shake_hands()
        result = claude.call("post", channel="#general", body="from the tools")
        assert not result.get("isError")
        posted = schema.Message.model_validate_json(result["content"][0]["text"])
        assert (posted.author, posted.turn_id) == (scout.name, turn.id)


def test_an_error_is_the_tools_and_not_the_protocols(opened: ToolHost) -> None:
    with model(opened) as claude:
        claude.shake_hands()
        for name, arguments in (("read", {"channel": "nowhere"}), ("claim", {}), ("read", {})):
            result = claude.call(name, **arguments)
            assert result["isError"]
            assert result["content"][0]["text"]
        assert not claude.call("whoami").get("isError")


def test_what_it_does_not_know_is_refused_and_it_goes_on(opened: ToolHost) -> None:
    """Claude Code asks for `server/discover` first."""
    with model(opened) as claude:
        assert "error" in claude.ask("server/discover")
        claude.shake_hands()
        assert "error" in claude.ask("no/such/method")
        claude.write(b"this is no JSON\n")
        claude.write(b'{"jsonrpc": "2.0", "id": 99, "method": "tools/call", "params": {"name": "\\ud800"}}\n')
        claude.write(b"[]\n\n")
        claude.send(id=100, method="ping")
        while claude.hear().get("id") != 100:
            pass


def test_a_request_too_long_ends_this_connection_and_no_other(opened: ToolHost) -> None:
    with model(opened) as claude, model(opened) as other:
        claude.shake_hands()
        other.shake_hands()
        with pytest.raises((AssertionError, BrokenPipeError), match=r"hung up|Broken pipe"):
            claude.call("post", channel="general", body="x" * 20_000_000)
        assert not other.call("whoami").get("isError")


def test_a_body_too_long_is_a_tool_error(opened: ToolHost) -> None:
    with model(opened) as claude:
        claude.shake_hands()
        assert claude.call("post", channel="general", body="x" * 1_100_000)["isError"]
        assert not claude.call("whoami").get("isError")


def test_several_calls_at_once_are_all_answered(opened: ToolHost, scout: Agent) -> None:
    with model(opened) as claude:
        claude.shake_hands()
        for number in range(20):
            params = {"name": "post", "arguments": {"channel": scout.name, "body": f"number {number}"}}
            claude.send(id=1000 + number, method="tools/call", params=params)
        answers = {claude.hear()["id"] for _ in range(20)}
    assert answers == set(range(1000, 1020))
    assert sorted(scout.said()) == sorted(f"number {number}" for number in range(20))


def test_the_tools_work_from_within_the_sandbox(opened: ToolHost, scout: Agent) -> None:
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


def test_who_connects_before_the_turn_is_claimed_waits(host: ToolHost, scout: Agent, turn: schema.Turn) -> None:
    with model(host) as claude:
        claude.send(id=1, method="initialize", params=INITIALIZE)
        with pytest.raises(AssertionError, match="silent"):
            claude.hear(0.3)
        host.open(scout.house.server.url, scout.token, turn.id, turn.attempt)
        assert claude.hear()["id"] == 1


def test_it_ends_with_its_block_and_leaves_nothing() -> None:
    with ToolHost() as host:
        folder = Path(host.argv[-1]).parent
        child = tool_server(os.getpid())
        assert host.is_alive
        assert folder.stat().st_mode & 0o777 == 0o700
    assert not living([child])
    assert not folder.exists()


def test_it_knows_when_its_process_died(host: ToolHost) -> None:
    tool_server(os.getpid()).kill()
    wait_for(lambda: not host.is_alive, "end of the tools")


def test_sigterm_leaves_it_to_the_turn(opened: ToolHost) -> None:
    tool_server(os.getpid()).send_signal(signal.SIGTERM)
    with model(opened) as claude:
        claude.shake_hands()
        assert not claude.call("whoami").get("isError")
    assert opened.is_alive


@pytest.mark.parametrize("is_open", [True, False])
def test_it_ends_with_its_turn_however_that_ends(scout: Agent, is_open: bool) -> None:
    program = f"""
import sys, time
from colony_agent.toolhost import ToolHost
with ToolHost() as host:
    if {is_open}:
        host.open("{scout.house.server.url}", None, 1, 1)
    print(host.argv[-1], flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout
        path = Path(process.stdout.readline().strip())
        child = tool_server(process.pid)
        assert path.exists()
        os.killpg(process.pid, signal.SIGKILL)
    wait_for(lambda: not living([child]) and not path.parent.exists(), "end of the tools")


def tool_server(parent: int) -> psutil.Process:
    """The child that serves them: it runs what its parent runs."""
    process = psutil.Process(parent)
    own = [child for child in process.children() if child.cmdline() == process.cmdline()]
    assert len(own) == 1
    return own[0]
