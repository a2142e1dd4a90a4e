"""Silence is noticed: who reports no more, or lets something wait for too long, is shown as such and announced once."""

from __future__ import annotations

import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from threading import Barrier

import pytest
from sqlalchemy import delete, update

from colony import operations, schema
from server import watch
from server.config import ServerConfig
from server.models.agent import Patience
from server.models.channel import channels
from server.models.user import users
from tests.server.cast import token_of
from tests.server.serving import Server
from tests.server.support import Clock, Colony

PATIENCE = Patience()
QUIET = PATIENCE.silent_seconds + 1  # seconds without a heartbeat that are too many


@pytest.fixture
def house(colony: Colony) -> Colony:
    """Scout and rook have just reported."""
    for name in ("scout", "rook"):
        colony.heartbeat(name)
    return colony


def look(colony: Colony) -> list[str]:
    """What #ops has been told so far."""
    watch.look(colony.gate, PATIENCE)
    return [message.body for message in colony.read("ops")]


def seen(colony: Colony, name: str = "scout") -> schema.Agent:
    return next(each for each in colony.ann.call(operations.AGENTS, schema.ListAgents()).agents if each.username == name)


def pass_time(colony: Colony, seconds: float) -> None:
    """With both agents reporting."""
    while seconds > 0:
        colony.clock.advance(min(seconds, 25))
        seconds -= 25
        for name in ("scout", "rook"):
            colony.heartbeat(name)


def test_an_agent_that_reports_is_nothing_to_tell(house: Colony) -> None:
    assert look(house) == []
    house.clock.advance(89)
    assert look(house) == []
    assert seen(house).silent_since is None


def test_an_agent_that_falls_silent_is_announced_once_and_once_more_when_it_is_back(house: Colony) -> None:
    heard = house.clock.now
    house.post(house.ann, "@scout are you there?")
    house.clock.advance(QUIET)
    house.heartbeat("rook")
    assert seen(house).silent_since == heard
    for _ in range(3):
        [told] = look(house)
        house.heartbeat("rook")
        house.clock.advance(20)
    assert told.startswith("scout is silent: nothing was heard of it since 2030-01-01 12:00 UTC (1 in its inbox). See its worker's log")
    house.heartbeat("scout")
    house.heartbeat("rook")
    assert seen(house).silent_since is None
    for _ in range(2):
        assert look(house)[1:] == ["scout is well again."]
    house.clock.advance(QUIET)
    house.heartbeat("rook")
    assert len(look(house)) == 3, "another silence is told again"


@pytest.mark.parametrize("status", ["paused", "draining"])
def test_who_shall_not_work_is_not_called_silent(house: Colony, status: schema.Status) -> None:
    house.set_status("scout", status)
    house.clock.advance(10_000)
    house.heartbeat("rook")
    assert (look(house), seen(house).silent_since) == ([], None)


def test_pausing_a_silent_agent_ends_the_alarm_without_a_word(house: Colony) -> None:
    house.clock.advance(QUIET)
    house.heartbeat("rook")
    assert len(look(house)) == 1
    house.set_status("scout", "paused")
    assert len(look(house)) == 1
    house.set_status("scout", "healthy")
    assert len(look(house)) == 1, "it has just been called back: its worker may take a moment"
    house.clock.advance(QUIET)
    house.heartbeat("rook")
    assert len(look(house)) == 2


def test_an_agent_whose_worker_never_came_is_silent_too(house: Colony) -> None:
    house.admin.call(operations.CREATE_USER, schema.CreateUser(username="newt", kind="agent"))
    house.set_status("newt", "healthy")
    assert look(house) == []
    pass_time(house, QUIET)
    assert [body.partition(":")[0] for body in look(house)] == ["newt is silent"]


@pytest.mark.parametrize("sign", ["claim", "renew"])
def test_who_works_without_a_worker_is_not_silent(house: Colony, sign: str) -> None:
    house.post(house.ann, "@scout")
    turn = house.turn(house.scout)
    house.clock.advance(QUIET)
    if sign == "claim":
        house.claim(house.scout, take_over=True)
    else:
        house.in_turn(turn).call(operations.RENEW, schema.RenewTurn(id=turn.id))
    assert seen(house).silent_since is None


def test_an_item_that_waits_for_too_long_is_announced_once_until_it_has_ended(house: Colony) -> None:
    asked_at = house.clock.now
    house.post(house.ann, "@scout")
    pass_time(house, 599)
    assert (look(house), seen(house).overdue_since) == ([], None)
    pass_time(house, 1)
    assert seen(house).overdue_since == asked_at
    for _ in range(2):
        [told] = look(house)
        assert told == "scout lets messages wait since 2030-01-01 12:00 UTC. `colony agents` shows what it does."
        pass_time(house, 20)
    turn = house.turn(house.scout)
    assert seen(house).overdue_since is None
    assert len(look(house)) == 1, "it works on it, but that may fail"
    house.fail(turn, "crashed")
    assert len(look(house)) == 1
    pass_time(house, 30)
    house.finish(house.turn(house.scout), "at last")
    assert look(house)[1:] == ["scout is well again."]


def test_an_item_in_a_long_turn_or_one_that_rests_does_not_wait(house: Colony) -> None:
    house.post(house.ann, "@scout")
    turn = house.turn(house.scout, lease_seconds=3600)
    pass_time(house, 700)
    assert (look(house), seen(house).overdue_since) == ([], None)
    house.fail(turn, "crashed", retry_in_seconds=300)
    pass_time(house, 200)
    assert (look(house), seen(house).overdue_since) == ([], None)


def test_an_agent_that_its_api_holds_up_is_announced_with_the_reason(house: Colony) -> None:
    house.post(house.ann, "@scout")
    for _ in range(3):
        house.fail(house.turn(house.scout), "credentials_rejected", detail="`@apes` 401")
        pass_time(house, 300)
    [told] = look(house)
    assert ": the model's API rejected the credentials. What helps: give the agent a valid key." in told
    assert house.items("bob") == []
    notices = [message for message in house.read() if message.type == "notice"]
    assert len(notices) == 1, "the channel is told once, however often it is tried"


def test_the_agents_owner_is_called(house: Colony) -> None:
    bob = house.id_of("bob")
    house.gate.database.write(lambda connection: connection.execute(update(users).where(users.c.username == "scout").values(owner_id=bob)))
    house.clock.advance(QUIET)
    house.heartbeat("rook")
    [told] = look(house)
    assert told.startswith("@bob scout is silent")
    assert [item.message.body for item in house.inbox(house.bob)] == [told]
    assert house.items("rook") == [], "a notice wakes no agent"


def test_a_missing_ops_channel_is_opened(house: Colony) -> None:
    house.gate.database.write(lambda connection: connection.execute(delete(channels).where(channels.c.name == "ops")))
    house.clock.advance(QUIET)
    assert len(look(house)) == 2


def test_several_servers_announce_once(database_url: str, clock: Clock) -> None:
    houses = [Colony(database_url, clock) for _ in range(3)]
    houses[0].heartbeat("rook")
    houses[0].heartbeat("scout")
    for round in (1, 2, 3):
        clock.advance(QUIET)
        start = Barrier(3)

        def at_once(house: Colony, start: Barrier = start) -> None:
            start.wait()
            watch.look(house.gate, PATIENCE)

        houses[0].heartbeat("rook")
        if round == 2:
            houses[0].heartbeat("scout")
        with ThreadPoolExecutor(3) as pool:
            for each in [pool.submit(at_once, house) for house in houses]:
                each.result(60)
        assert len(houses[0].read("ops")) == round
    for house in houses:
        house.close()


# --- what is shown of a turn that runs


def test_a_running_turn_shows_and_never_stays(house: Colony) -> None:
    house.post(house.ann, "@scout")
    turn = house.turn(house.scout)
    began = house.clock.now
    shown = seen(house)
    assert (shown.turn_id, shown.turn_channel, shown.turn_attempt, shown.working_since) == (turn.id, "general", 1, began)
    house.clock.advance(60)
    assert seen(house).contact_lost_at == began + timedelta(seconds=60)
    turn = house.turn(house.scout)
    shown = seen(house)
    assert (shown.turn_attempt, shown.working_since, shown.contact_lost_at) == (2, house.clock.now, None)
    house.finish(turn, "ok")
    shown = seen(house)
    assert (shown.turn_id, shown.turn_channel, shown.turn_attempt, shown.working_since, shown.contact_lost_at) == (None,) * 5


# --- the thread in the real server


def test_the_server_watches_by_itself(sqlite_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process, with less patience than a server has."""
    monkeypatch.setattr(watch, "LOOK_SECONDS", 0.02)
    database = shutil.copyfile(sqlite_file, tmp_path / "own.db")
    colony = Colony(f"sqlite:///{database}", Clock(), ServerConfig(f"sqlite:///{database}"))
    try:
        colony.heartbeat("rook")
        colony.heartbeat("scout")
        watch.start(colony.gate, Patience(silent_seconds=0))
        deadline = time.monotonic() + 30
        while len(colony.read("ops")) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        colony.close()


def test_a_server_that_has_just_started_gives_workers_time(server: Server) -> None:
    with server.client(token_of("ann")) as ann:
        agents = ann.call(operations.AGENTS, schema.ListAgents()).agents
        assert ann.call(operations.READ, schema.ReadMessages(channel="ops")).messages == []
    assert [agent.last_seen_at for agent in agents] == [None, None]
