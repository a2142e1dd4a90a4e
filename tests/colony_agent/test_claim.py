"""Asking for a turn without the colony's client."""

from __future__ import annotations

import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from colony import config, errors, operations, schema
from colony_agent import settings
from colony_agent.claim import Claimed, claim
from colony_agent.settings import AgentSettings, Home
from colony_agent.tools import TOOLS
from tests.colony_agent.agents import Agent


def test_a_turn_starts_without_what_is_slow_to_import() -> None:
    script = "import sys, colony_agent.entry, colony_agent.turn; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60).stdout.split()
    assert not {"pydantic", "httpx", "click", "colony.schema", "colony.client"} & set(loaded)


def test_it_asks_where_the_table_of_operations_says(scout: Agent) -> None:
    assert (operations.CLAIM.method, operations.CLAIM.path) == ("POST", "/api/turns")
    asked = scout.ask("where?")
    claimed = claim(settings.load(scout.home), "answer")
    assert isinstance(claimed, Claimed)
    assert claimed.turn == scout.house.admin.call(operations.TURN, schema.GetTurn(id=claimed.id)).model_copy(
        update={"context": claimed.turn.context, "tools": list(TOOLS)}
    )
    assert (claimed.reference, claimed.kind, claimed.channel) == (f"{claimed.id}.1", "answer", asked.channel)
    assert [item.message.body for item in claimed.turn.items] == [asked.body]


def test_it_says_why_there_is_no_turn(scout: Agent) -> None:
    assert claim(settings.load(scout.home), "answer") == "nothing is due"


def test_a_refusal_is_the_servers_own_error(scout: Agent) -> None:
    scout.settle(token="wrong")
    with pytest.raises(errors.Unauthenticated):
        claim(settings.load(scout.home), "answer")


def test_a_server_that_is_away_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(errors.Unavailable, match="is colony-server running"):
        claim(_home(f"unix:{tmp_path}/none.sock"), "answer")


def test_an_address_that_is_none_is_invalid() -> None:
    with pytest.raises(errors.Invalid, match="no colony's address"):
        claim(_home("http://127.0.0.1:port"), "answer")


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-none\r\n",
        b"HTTP/1.0 200 OK\r\n\r\n",
        b'HTTP/1.0 200 OK\r\n\r\n{"turn": {"id": 1',
        b'HTTP/1.0 200 OK\r\n\r\n{"turn": "7", "reason": ""}',
        b'HTTP/1.0 200 OK\r\n\r\n{"turn": {"id": 7}, "reason": ""}',
        b"HTTP/1.0 502 Bad Gateway\r\n\r\n<html>",
    ],
)
def test_what_is_no_colonys_answer_is_unavailable(tmp_path: Path, answer: bytes) -> None:
    with _answering(tmp_path / "api.sock", answer) as url, pytest.raises(errors.Unavailable):
        claim(_home(url), "answer")


def _home(url: str) -> Home:
    return Home(Path("/nowhere"), AgentSettings("scout"), config.Settings(url))


@contextmanager
def _answering(path: Path, answer: bytes) -> Iterator[str]:
    class Once(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(65536)
            self.request.sendall(answer)

    with socketserver.UnixStreamServer(str(path), Once) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        yield f"unix:{path}"
