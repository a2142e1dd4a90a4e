"""What a worker tells systemd."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest

from tests.colony_agent.agents import SOON, Agent, wait_for
from tests.colony_agent.brains import WAITS_FOR_GO


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_it_tells_systemd_how_it_is(scout: Agent, tmp_path: Path, kind: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        name = str(tmp_path / "notify") if kind == "path" else f"@colony-test-{os.getpid()}"
        channel.bind(name.replace("@", "\0"))
        channel.settimeout(SOON)
        with scout.worker(env={"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "600000"}) as worker:
            assert channel.recv(4096).startswith(b"READY=1\n")
            said = [channel.recv(4096) for _ in range(8)]
            assert said.count(b"WATCHDOG=1") >= 6
            assert any(text.startswith(b"STATUS=") and text.endswith(b"is healthy") for text in said)
            worker.signal(signal.SIGTERM)
            while channel.recv(4096) != b"STOPPING=1":
                pass
            assert worker.wait(SOON) == 0


def test_it_pets_the_watchdog_while_a_turn_runs_and_while_the_server_is_away(scout: Agent, tmp_path: Path) -> None:
    scout.settle(WAITS_FOR_GO)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(str(tmp_path / "notify"))
        channel.settimeout(SOON)
        with scout.worker(env={"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "400000"}):
            scout.ask()
            wait_for(lambda: scout.runs() == 1, "running turn")
            channel.setblocking(False)
            drain(channel)
            channel.settimeout(SOON)
            assert {channel.recv(4096) for _ in range(5)} == {b"WATCHDOG=1"}
            (scout.home / "go").touch()
            scout.await_said()


def drain(channel: socket.socket) -> None:
    try:
        while True:
            channel.recv(4096)
    except BlockingIOError:
        pass
