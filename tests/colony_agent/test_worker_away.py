"""A worker whose server is away, or is none."""

from __future__ import annotations

import time

import pytest

from tests.colony_agent.agents import Agent, House, idle, wait_for
from tests.colony_agent.brains import WAITS_FOR_GO
from tests.colony_agent.relay import Relay


def test_it_waits_for_a_server_that_is_down_and_says_so_once(house: House, scout: Agent) -> None:
    with scout.worker() as worker:
        idle(worker)
        house.server.kill()
        try:
            worker.await_log("server unreachable")
            time.sleep(0.8)
            assert worker.is_alive
            assert worker.log().count("server unreachable") == 1
        finally:
            house.server.start()
        worker.await_log("server is back")
        scout.ask()
        assert scout.await_said() == ["answered"]


def test_it_can_be_started_before_its_server(house: House, scout: Agent) -> None:
    house.server.stop()
    try:
        with scout.worker() as worker:
            worker.await_log("server unreachable")
            house.server.start()
            worker.await_log("status=healthy")
    finally:
        if not house.server.processes():
            house.server.start()


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_restart_of_the_server_during_a_turn_leaves_one_answer(house: House, scout: Agent, end: str) -> None:
    scout.settle(WAITS_FOR_GO)
    with scout.worker():
        scout.ask()
        wait_for(lambda: scout.runs() == 1, "running turn")
        getattr(house.server, end)()
        try:
            (scout.home / "go").touch()
            wait_for(lambda: scout.state.finished, "answer in the journal")
            time.sleep(0.5)
        finally:
            house.server.start()
        assert scout.await_said() == ["answered"]
        time.sleep(0.5)
        assert scout.said() == ["answered"]
        assert scout.outcomes() == ["answered"]
        assert scout.runs() == 1
        assert [turn.failures for turn in scout.turns()] == [0]


def test_a_wrong_token_is_told_in_one_clear_line_and_does_not_spin(house: House, scout: Agent) -> None:
    with Relay(house.server.port) as relay:
        scout.settle(url=relay.url, token="nobody-s-token")
        with scout.worker() as worker:
            worker.await_log("server unreachable")
            time.sleep(2)
            assert worker.is_alive
            complaints = [line for line in worker.log().splitlines() if "unreachable" in line]
            assert len(complaints) == 1
            assert "401" in complaints[0]
            assert "token" in complaints[0]
            assert "nobody-s-token" not in worker.log()
            assert relay.connections <= 6


NO_ANSWERS = [
    b"",
    b"\r\n\r\n",
    b"SSH-2.0-OpenSSH_9.2\r\n",
    b"HTTP/1.0 200 OK\r\n\r\n",
    b"HTTP/1.0 200 OK\r\n\r\n[]",
    b"HTTP/1.0 200 OK\r\n\r\n5",
    b'HTTP/1.0 200 OK\r\n\r\n{"due": true}',
    b'HTTP/1.0 200 OK\r\n\r\n{"due": true, "status": "heal',
    b"HTTP/1.0 \xff\xfe OK\r\n\r\n\xff\xfe",
    b'HTTP/1.0 502 Bad Gateway\r\n\r\n["no"]',
    b"HTTP/1.0 200 OK\r\n\r\n" + b" " * 100_000,
]


@pytest.mark.parametrize("answer", NO_ANSWERS, ids=range(len(NO_ANSWERS)))
def test_it_survives_what_is_no_colonys_answer(house: House, scout: Agent, answer: bytes) -> None:
    with Relay(house.server.port, answer) as relay:
        scout.settle(url=relay.url)
        with scout.worker() as worker:
            worker.await_log("server is back")
            assert worker.log().count("server unreachable") == 1
            assert "Traceback" not in worker.log()
