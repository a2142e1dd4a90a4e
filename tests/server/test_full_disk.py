"""A full disk: nothing acknowledged is missing, nothing is half done, and it goes on by itself once there is room."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from colony import errors, operations, schema
from colony.client import Client
from server import soundness
from server.database import sqlite_url
from tests.colony_agent.agents import House, wait_for
from tests.server.cast import token_of
from tests.server.disks import CrampedServer, refused
from tests.server.support import problem

POSTERS = 6
REFUSALS = 10  # that each of them sees before it believes it


@pytest.fixture
def server(sqlite_file: Path) -> Iterator[CrampedServer]:
    server = CrampedServer(sqlite_file)
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture
def house(server: CrampedServer) -> Iterator[House]:
    house = House(server)
    yield house
    house.close()


def post_until_full(server: CrampedServer) -> list[schema.Message]:
    """What was acknowledged to several who post at once until none of them gets anything in any more."""
    acknowledged: list[schema.Message] = []
    mutex = threading.Lock()

    def post(number: int) -> None:
        refusals = 0
        with server.client(token_of(("ann", "bob")[number % 2])) as ape:
            while refusals < REFUSALS:
                try:
                    said = ape.call(operations.POST, schema.PostMessage(channel="general", body=f"@rook {number} " + "x" * 8_000))
                except errors.StorageFull:
                    refusals += 1
                    continue
                with mutex:
                    acknowledged.append(said)

    with ThreadPoolExecutor(POSTERS) as pool:
        list(pool.map(post, range(POSTERS)))
    return acknowledged


def history(house: House, channel: str = "general") -> list[schema.Message]:
    found: list[schema.Message] = []
    while page := house.ann.call(
        operations.READ, schema.ReadMessages(channel=channel, since=found[-1].seq if found else 0, limit=100)
    ).messages:
        found += page
    return found


def is_refused(call: Callable[[], Any]) -> bool:
    """Whether there was no room for it; nothing else may be the matter."""
    try:
        call()
    except errors.StorageFull:
        return True
    return False


def is_done(call: Callable[[], Any]) -> bool:
    return not is_refused(call)


def test_what_was_acknowledged_is_there_and_the_server_goes_on_once_there_is_room(house: House, server: CrampedServer) -> None:
    before = [process.pid for process in server.processes()]
    with server.client(token_of("scout")) as scout:
        house.ann.call(operations.POST, schema.PostMessage(channel="general", body="@scout hello"))
        turn = scout.call(operations.CLAIM, schema.ClaimTurn()).turn
        assert turn
        acknowledged = post_until_full(server)
        assert len(acknowledged) > 100
        server.disk.fill()
        with Client(server.http_url, token_of("scout"), f"{turn.id}.{turn.attempt}") as speaking:
            writes: dict[str, Callable[[], Any]] = {
                "renew": lambda: speaking.call(operations.RENEW, schema.RenewTurn(id=turn.id)),
                "post": lambda: speaking.call(operations.POST, schema.PostMessage(channel="general", body="x" * 60_000)),
                "finish": lambda: speaking.call(operations.FINISH, schema.FinishTurn(id=turn.id, reply="y" * 60_000)),
            }
            for name, write in writes.items():  # the small ones may find room in the log a few times more
                wait_for(partial(is_refused, write), f"refusal of {name}")
            said = {"Authorization": f"Bearer {token_of('ann')}"}
            url = f"{server.http_url}/api/channels/general/messages"
            answer = httpx.post(url, headers=said, json={"body": "x" * 60_000}, trust_env=False)
            assert (answer.status_code, problem(answer)["code"]) == (507, "storage_full")
            # Reading goes on, and whoever lives may say so.
            assert [each.seq for each in history(house)] == list(range(1, len(acknowledged) + 2))
            assert scout.call(operations.TURN, schema.GetTurn(id=turn.id)).state == "running"
            assert scout.call(operations.HEARTBEAT, schema.Heartbeat(agent="scout")).status == "healthy"
            assert house.admin.call(operations.AGENTS, schema.ListAgents()).agents
            assert server.answers(server.url)
            server.disk.free()
            for name, write in writes.items():
                wait_for(partial(is_done, write), f"room for {name}")
    stored = {each.id: each for each in history(house)}
    assert all(stored[each.id].body == each.body for each in acknowledged)
    assert len(stored) == len(acknowledged) + 3  # the mention, and in the turn a post and the reply
    assert [each.seq for each in stored.values()] == list(range(1, len(stored) + 1))
    assert len(house.rows("SELECT 1 FROM inbox JOIN users ON users.id = agent_id WHERE username = 'rook'")) == len(acknowledged)
    assert [process.pid for process in server.processes()] == before
    assert soundness.examine(sqlite_url(server.database)).findings == []
    assert "Traceback" not in server.log()
    print(f"\nfull disk: {len(acknowledged)} posts acknowledged, all there")


def test_an_answer_that_finds_no_room_is_delivered_later_without_being_thought_again(
    house: House, server: CrampedServer, tmp_path: Path
) -> None:
    thinks = "echo run >> runs; until [ -e go ]; do sleep 0.05; done; head -c 60000 /dev/zero | tr '\\0' y"
    agent = house.agent(tmp_path, thinks, sandbox="none")
    agent.ask()
    with agent.begin("turn") as turn:
        wait_for(lambda: agent.runs() == 1, "run")
        post_until_full(server)
        server.disk.fill()
        (agent.home / "go").touch()
        wait_for(lambda: agent.state.finished, "journal")
        assert agent.said() == []
        turn.popen.kill()
        turn.wait()
    server.disk.free()
    wait_for(lambda: agent.turn().returncode in (0, 75) and agent.state.finished is None, "delivery")
    assert [len(said) for said in agent.said()] == [60_000]
    assert agent.outcomes() == ["answered"]
    assert agent.runs() == 1


def test_a_worker_outlives_a_full_disk(house: House, server: CrampedServer, tmp_path: Path) -> None:
    agent = house.agent(tmp_path, sandbox="none")
    with agent.worker() as worker:
        agent.ask()
        agent.await_said(1)
        server.disk.fill()
        large = schema.PostMessage(channel="general", body="x" * 60_000)
        wait_for(lambda: is_refused(lambda: house.ann.call(operations.POST, large)), "refusal")
        server.disk.free()
        wait_for(lambda: not is_refused(agent.ask), "room")
        agent.await_said(2, 60)
        assert worker.is_alive
    assert "Traceback" not in worker.log()


def test_a_server_that_is_killed_and_started_on_a_full_disk_lets_everybody_read(house: House, server: CrampedServer) -> None:
    acknowledged = post_until_full(server)
    server.kill()
    server.disk.fill()
    server.start()
    assert len(history(house)) == len(acknowledged)
    large = schema.PostMessage(channel="general", body="x" * 60_000)
    assert is_refused(lambda: house.ann.call(operations.POST, large))
    server.disk.free()
    assert house.ann.call(operations.POST, large).seq == len(acknowledged) + 1
    assert soundness.examine(sqlite_url(server.database)).findings == []


def test_a_server_that_finds_no_room_to_open_its_database_says_so_in_one_line(server: CrampedServer) -> None:
    server.stop()
    assert soundness.examine(sqlite_url(server.database)).findings == []  # the last to close it leaves nothing beside it
    assert not server.database.with_name("colony.db-shm").exists()
    server.disk.fill()
    code, words = refused(server)
    assert code == errors.StorageFull.exit_code
    assert words == f"colony-server: the disk that holds {server.database} is full; free some space\n"
    server.disk.free()
    server.start()
