"""Two servers on one PostgreSQL."""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from typing import Any

import pytest

from colony import errors, operations, schema
from colony.client import Client
from server import rights
from server.database import open_database
from server.models.base import now
from server.models.user import users
from tests.server.cast import token_of
from tests.server.postgres import Postgres
from tests.server.serving import Server
from tests.server.support import Clock, Colony

on_postgresql = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
LONG = 40.0  # seconds that a noisy machine may take
SOON = 5.0  # far less than the long poll of 25 seconds


@pytest.fixture
def replica(database_url: str, clock: Clock) -> Iterator[Colony]:
    replica = Colony(database_url, clock)
    yield replica
    replica.close()


class Pair:
    """Two real server processes on one database: news at `one` is to be heard at `other`."""

    def __init__(self, postgres: Postgres, stack: ExitStack) -> None:
        self.postgres = postgres
        self.url = postgres.fresh()
        stack.callback(postgres.drop, self.url)
        self.one, self.other = (Server(None, database_url=self.url) for _ in range(2))
        self.pool = stack.enter_context(ThreadPoolExecutor(8))
        for server in (self.one, self.other):
            stack.callback(server.close)
            server.start()
        self._stack = stack
        self.ann, self._scraper = self.caller(self.one, "ann"), self.caller(self.other, "ann")
        wait_for(lambda: len(self.listeners()) == 2, "two listeners")

    def caller(self, server: Server, name: str) -> Client:
        return self._stack.enter_context(server.client(token_of(name)))

    def asks(self, name: str, operation: operations.Operation[Any, Any], **fields: Any) -> Future[Any]:
        """A long poll at the other server, by a caller of its own, that has begun to wait."""
        caller = self.caller(self.other, name)
        before = self._asleep()
        future = self.pool.submit(caller.call, operation, operation.request(wait=25, **fields))
        wait_for(lambda: self._asleep() > before, "waiter")
        return future

    def _asleep(self) -> float:
        """How many wait at the other server."""
        told = self._scraper._http.get("/metrics").text
        found = re.search(r"^colony_waiters_asleep{} (\d+)$", told, re.MULTILINE)
        assert found, told
        return float(found[1])

    def say(self, body: str) -> None:
        """As a person's command would: again, if the database was away."""
        key = str(time.monotonic())
        wait_for(lambda: self._is_said(body, key), "post")

    def _is_said(self, body: str, key: str) -> bool:
        with suppress(errors.Unavailable):
            return bool(self.ann.call(operations.POST, schema.PostMessage(channel="general", body=body, client_id=key)))
        return False

    def listeners(self) -> list[int]:
        """The process ids of the database's ends of those connections that listen."""
        name = self.url.partition("@/")[2].partition("?")[0]
        query = f"SELECT pid FROM pg_stat_activity WHERE datname = '{name}' AND application_name = 'colony notifications'"
        return [pid for (pid,) in self.postgres.query(query)]


@pytest.fixture
def pair(postgres: Postgres) -> Iterator[Pair]:
    with ExitStack() as stack:
        yield Pair(postgres, stack)


def wait_for(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < deadline, f"no {what} within {LONG} s"
        time.sleep(0.02)


# --- two processes


def test_what_one_server_is_told_wakes_those_who_wait_at_another(pair: Pair) -> None:
    inbox = pair.asks("bob", operations.INBOX)
    channel = pair.asks("ann", operations.READ, channel="general", since=0)
    beat = pair.asks("scout", operations.HEARTBEAT, agent="scout", status="healthy")
    began = time.monotonic()
    pair.say("@bob @scout")
    assert [item.message.body for item in inbox.result(LONG).items] == ["@bob @scout"]
    assert [message.body for message in channel.result(LONG).messages] == ["@bob @scout"]
    assert beat.result(LONG).due
    assert time.monotonic() - began < SOON


def test_a_status_and_a_token_changed_at_one_server_count_at_another_at_once(pair: Pair) -> None:
    beat = pair.asks("rook", operations.HEARTBEAT, agent="rook", status="healthy")
    reading = pair.asks("bob", operations.READ, channel="general", since=0)
    bob = pair.caller(pair.other, "bob")
    assert bob.call(operations.WHOAMI, schema.Whoami()).username == "bob"  # remembered for two seconds from now on
    with pair.one.client(over_socket=True) as admin:
        began = time.monotonic()
        admin.call(operations.SET_STATUS, schema.SetStatus(agent="rook", status="paused"))
        assert beat.result(LONG).status == "paused"
        assert time.monotonic() - began < SOON
        admin.call(operations.ISSUE_TOKEN, schema.IssueToken(username="bob"))
    with pytest.raises(errors.Unauthenticated):
        reading.result(SOON)
    with pytest.raises(errors.Unauthenticated):
        deque((bob.call(operations.WHOAMI, schema.Whoami()) for _ in range(100)), maxlen=0)


def test_a_listener_that_was_cut_off_listens_again_and_wakes_everybody(pair: Pair) -> None:
    reading = pair.asks("bob", operations.READ, channel="general", since=0)
    before = pair.listeners()
    for pid in before:
        pair.postgres.query(f"SELECT pg_terminate_backend({pid})")
    wait_for(lambda: len(set(pair.listeners()) - set(before)) == 2, "new listeners")
    assert not reading.done()  # woken, it found nothing and waits on
    began = time.monotonic()
    pair.say("still there?")
    assert [message.body for message in reading.result(LONG).messages] == ["still there?"]
    assert time.monotonic() - began < SOON


def test_servers_recover_from_a_restart_of_the_database() -> None:
    cluster = Postgres()
    try:
        with ExitStack() as stack:
            pair = Pair(cluster, stack)
            reading = pair.asks("bob", operations.READ, channel="general", since=0)
            cluster.restart(pause_seconds=0.5)
            wait_for(lambda: len(pair.listeners()) == 2, "new listeners")
            pair.say("back again")
            with suppress(errors.Unavailable):  # it may have looked while the database was away
                assert [message.body for message in reading.result(LONG).messages] == ["back again"]
            later = pair.asks("bob", operations.READ, channel="general", since=1)
            began = time.monotonic()
            pair.say("and heard")
            assert [message.body for message in later.result(LONG).messages] == ["and heard"]
            assert time.monotonic() - began < SOON
            assert "Traceback" not in pair.one.log() + pair.other.log()
    finally:
        cluster.close()


# --- two in this process


@on_postgresql
def test_a_message_to_more_than_a_notification_can_name_wakes_all_of_them(colony: Colony, replica: Colony) -> None:
    crowd = [{"username": f"agent{n}", "kind": "agent", "status": "healthy", "created_at": now()} for n in range(800)]

    def settle(connection: Any) -> None:
        connection.execute(users.insert(), crowd)

    colony.gate.database.write(settle)
    with ThreadPoolExecutor(2) as pool:
        waiting = pool.submit(replica.inbox, replica.scout, wait=25)
        wait_for(lambda: replica.gate.waiters.asleep, "waiter")
        began = time.monotonic()
        colony.post(colony.ann, "@agents listen")
        assert waiting.result(LONG)
        assert time.monotonic() - began < SOON


@on_postgresql
def test_a_row_set_at_one_server_counts_at_another_at_once(colony: Colony, replica: Colony, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rights, "CACHE_SECONDS", 1000.0)
    replica.post(replica.ann, "hello")
    deny = schema.SetAcl(principal="ann", action="post", effect="deny")
    colony.admin.call(operations.SET_ACL, deny)

    def is_refused() -> bool:
        try:
            replica.post(replica.ann, "and again")
        except errors.Forbidden:
            return True
        return False

    wait_for(is_refused, "refusal")
    colony.admin.call(operations.DROP_ACL, schema.DropAcl(principal="ann", action="post"))
    wait_for(lambda: not is_refused(), "post")


@on_postgresql
@pytest.mark.parametrize("payload", ["", "nonsense", "null", "7", pytest.param("[" * 3000, id="deep"), "[{}]", "[[[]]]"])
def test_a_notification_that_nobody_understands_wakes_everybody(colony: Colony, payload: str) -> None:
    with ThreadPoolExecutor(1) as pool:
        before = colony.gate.waiters.moment
        waiting = pool.submit(colony.gate.waiters.wait, "anything", before, time.monotonic() + LONG)
        colony.gate.database.write(lambda connection: connection.exec_driver_sql("SELECT pg_notify('colony', %s)", (payload,)).all())
        assert waiting.result(LONG)


def test_a_server_does_not_hear_itself(postgres: Postgres) -> None:
    one, other = (open_database(postgres.url("postgres")) for _ in range(2))
    heard: list[Any] = []
    one.subscribe(heard.append)
    wait_for(lambda: heard, "listener")
    one.publish([("channel", 1), "identities"])
    other.subscribe(lambda topics: None)
    other.publish([("channel", 2), "events"])
    wait_for(lambda: [("channel", 2), "events"] in [topics and sorted(topics, key=str) for topics in heard], "news")
    assert not any(("channel", 1) in topics for topics in heard if topics)
    one.close()
    other.close()


def test_what_was_told_last_is_heard_though_the_server_stops(postgres: Postgres) -> None:
    url = postgres.url("postgres") + "&application_name=mine&keepalives_idle=5"  # what an address says comes first
    listening, stopping = open_database(url), open_database(url)
    heard: list[Any] = []
    others: list[Any] = []
    listening.subscribe(heard.append)
    stopping.subscribe(others.append)
    wait_for(lambda: heard and others, "listeners")
    for number in range(50):
        stopping.publish([("channel", number)])
    stopping.close()
    told = {topic for topics in heard if topics for topic in topics}

    def is_told() -> bool:
        told.update(*(topics for topics in heard if topics))
        return ("channel", 49) in told

    wait_for(is_told, "last words")
    assert told == {("channel", number) for number in range(50)}
    listening.close()


@on_postgresql
def test_two_servers_share_numbers_turns_and_the_fence(colony: Colony, replica: Colony) -> None:
    with ThreadPoolExecutor(8) as pool:
        houses = (colony, replica) * 20
        seqs = list(pool.map(lambda house: house.post(house.ann, "@scout").seq, houses))
    assert sorted(seqs) == list(range(1, 41))
    turn = colony.turn(colony.scout)
    assert replica.claim(replica.scout).turn is None
    assert replica.finish(turn, "done").state == "finished"
    assert colony.finish(turn, "done again").posts[0].body == "done"
