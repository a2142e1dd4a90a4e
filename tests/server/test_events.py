"""Events: nothing is left out and nothing comes twice, whoever commits when."""

from __future__ import annotations

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest

from colony import errors, operations, schema
from colony.client import Client
from server.config import ServerConfig
from server.database import PostgreSQL
from server.models import base, event, posting
from server.models.audit import audit
from server.models.message import messages
from tests.server.following import LONG, START, wait_for
from tests.server.samples import SAMPLES, SECRET
from tests.server.support import Colony, only_sqlite

only_postgresql = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)


def page(colony: Colony, reader: Client | None = None, **fields: Any) -> schema.Events:
    return (reader or colony.ann).call(operations.EVENTS, schema.ListEvents(**fields))


def everything(colony: Colony, reader: Client | None = None, since: str = START, limit: int = 7) -> list[schema.Event]:
    """All events after the position, page by page."""
    found: list[schema.Event] = []
    while (answer := page(colony, reader, since=since, limit=limit)).position != since:
        found += answer.events
        since = answer.position
    return found


def told(events: list[schema.Event]) -> list[str]:
    return [each.message.body if each.message else f"{each.deed.actor} {each.deed.operation}" for each in events]  # type: ignore[union-attr]


# --- what they tell


def test_messages_and_deeds_come_in_the_order_of_their_time(colony: Colony) -> None:
    colony.post(colony.ann, "@scout hello")
    colony.clock.advance(1)
    turn = colony.turn(colony.scout)
    colony.clock.advance(1)
    colony.finish(turn, "done")
    colony.set_status("rook", "paused", "holiday")
    expected = ["@scout hello", "scout claim", "done", "scout finish", "colony set_status"]
    assert told(everything(colony)) == expected
    assert told(page(colony).events) == expected
    claim, status = (page(colony).events[place].deed for place in (1, 4))
    assert claim
    assert (claim.turn_id, claim.target, claim.fields) == (turn.id, "", {})
    assert status
    assert (status.target, status.fields) == ("rook", {"status": "paused"})


@pytest.mark.parametrize("limit", [1, 2, 3, 500])
def test_every_page_ends_where_the_next_begins(colony: Colony, limit: int) -> None:
    for number in range(7):
        colony.post(colony.ann, str(number))
        if number % 3 == 0:
            colony.open_channel(f"c{number}")
    seen = everything(colony, limit=limit)
    assert told(seen) == told(everything(colony, limit=500))
    assert len(seen) == 10
    for place, each in enumerate(seen):
        assert told(everything(colony, since=each.id, limit=limit)) == told(seen[place + 1 :])


def test_without_a_position_come_the_newest_and_where_to_go_on(colony: Colony) -> None:
    for number in range(5):
        colony.post(colony.ann, str(number))
    newest = page(colony, limit=2)
    assert told(newest.events) == ["3", "4"]
    assert told(page(colony, since=newest.events[0].id).events) == ["4"]
    assert page(colony, since=newest.position).events == []
    colony.open_channel("garden")
    assert told(page(colony, since=newest.position).events) == ["ann create_channel"]


def test_among_very_many_posts_a_deed_is_found_page_by_page(colony: Colony, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event, "MAX_SCANNED", 3)
    colony.open_channel("first")
    for number in range(20):
        colony.post(colony.ann, str(number))
    colony.open_channel("last")
    assert sorted(told(everything(colony))) == sorted([*map(str, range(20)), "ann create_channel", "ann create_channel"])


@only_sqlite
def test_a_page_waits_for_news_of_either_kind(colony: Colony) -> None:
    for does in (lambda: colony.post(colony.ann, "news"), lambda: colony.open_channel("garden")):
        position = page(colony).position
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(page, colony, colony.bob, since=position, wait=25)
            wait_for(lambda: colony.gate.waiters.asleep, "waiter")
            does()
            assert len(waiting.result(LONG).events) == 1


@only_sqlite
@pytest.mark.parametrize("name", SAMPLES)
def test_events_tell_nothing_that_only_some_may_know(colony: Colony, name: str) -> None:
    """Refusals, tokens, what was asked in detail, and what administrators do."""
    operation = operations.OPERATIONS[name]
    caller, request = SAMPLES[name](colony)
    before = page(colony).position
    caller.call(operation, request)
    with suppress(errors.ColonyError):
        colony.eve.call(operation, request)
    seen = everything(colony, since=before)
    deeds = [each.deed for each in seen if each.deed]
    assert len(deeds) == (operation.mutates and operation.is_audited and operation.who != "admin" and name != "post")
    for deed in deeds:
        assert deed.fields.keys() <= operation.request.told <= operation.request.model_fields.keys() - operation.request.unaudited
    assert SECRET not in "".join(deed.model_dump_json() for deed in deeds)
    as_admin = [each.deed.operation for each in everything(colony, colony.admin, since=before) if each.deed]
    assert as_admin == ([name] if operation.mutates and operation.is_audited and name != "post" else [])


@only_sqlite
@pytest.mark.parametrize("since", ["1.0", "0.1", "9.9", "999999999999999999.0"])
def test_a_position_from_a_colony_that_was_restored_since_is_a_conflict(colony: Colony, since: str) -> None:
    with pytest.raises(errors.Conflict, match="restored"):
        page(colony, since=since)


# --- the order of commits


def in_transaction(colony: Colony, body: str, begun: threading.Event, go: threading.Event, *, commits: bool = True) -> None:
    """A post whose transaction stays open, its ids taken, until it may go on."""

    def work(connection: Any) -> None:
        author = posting.Author(colony.id_of("ann"), "ann", "ape")
        request = schema.PostMessage(channel=body, body=body)
        posting.post(connection, author, request, ServerConfig("").guard, base.now())
        begun.set()
        assert go.wait(LONG)
        if not commits:
            raise ZeroDivisionError

    with suppress(ZeroDivisionError):
        colony.gate.database.write(work)


@only_postgresql
@pytest.mark.parametrize("commits", [True, False])
@pytest.mark.parametrize("has_position", [True, False])
def test_an_event_with_a_lower_id_that_is_committed_later_is_waited_for(colony: Colony, commits: bool, has_position: bool) -> None:
    colony.open_channel("slow")
    since = page(colony).position if has_position else None
    begun, go = threading.Event(), threading.Event()
    with ThreadPoolExecutor(2) as pool:
        slow = pool.submit(in_transaction, colony, "slow", begun, go, commits=commits)
        assert begun.wait(LONG)
        colony.post(colony.ann, "quick")
        asked = pool.submit(page, colony, colony.bob, **({"since": since} if since else {}))
        wait_for(lambda: colony.gate.waiters.asleep, "waiter")
        assert not asked.done()
        assert colony.post(colony.ann, "nobody is held up").seq == 2
        go.set()
        slow.result(LONG)
        seen = asked.result(LONG)
    rest = everything(colony, since=seen.position)
    assert [each for each in told(seen.events + rest) if " create" not in each] == [
        *(["slow"] if commits else []),
        "quick",
        "nobody is held up",
    ]


@only_postgresql
def test_a_transaction_that_does_not_end_is_told_and_loses_nothing(colony: Colony, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.operations.events.PATIENCE_SECONDS", 0.2)
    colony.open_channel("slow")
    since = page(colony).position
    begun, go = threading.Event(), threading.Event()
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(in_transaction, colony, "slow", begun, go)
        assert begun.wait(LONG)
        colony.post(colony.ann, "quick")
        for fields in ({}, {"since": since}, {"since": since, "wait": 2}):
            with pytest.raises(errors.Unavailable, match="does not end"):
                page(colony, **fields)
        go.set()
        slow.result(LONG)
    assert sorted(told(everything(colony, since=since))) == ["quick", "slow"]


def crowd(colony: Colony, seconds: float) -> list[str]:
    """Many at once post and do other things, some slowly and some in vain, while three read. Gives what each reader got, joined."""
    for number in range(6):
        colony.open_channel(f"c{number}")
    stop, is_over = threading.Event(), threading.Event()
    start = page(colony).position

    def write(number: int) -> None:
        chance = random.Random(number)

        def work(connection: Any) -> None:
            author = posting.Author(colony.id_of("ann"), "ann", "ape")
            request = schema.PostMessage(channel=f"c{number}", body=f"{number}:{chance.random()}")
            posting.post(connection, author, request, ServerConfig("").guard, base.now())
            time.sleep(chance.random() * 0.02)
            if chance.random() < 0.2:
                raise ZeroDivisionError

        while not stop.is_set():
            with suppress(ZeroDivisionError):
                colony.gate.database.write(work)
                colony.scout.call(operations.WATCH, schema.WatchChannel(channel=f"c{number}"))

    def follow(limit: int) -> list[str]:
        position, seen = start, []
        while True:
            was_over = is_over.is_set()
            answer = page(colony, colony.bob, since=position, limit=limit)
            seen += [f"m{each.message.id}" if each.message else f"d{each.id.partition('.')[2]}" for each in answer.events]
            if was_over and answer.position == position:
                return seen
            position = answer.position

    with ThreadPoolExecutor(9) as pool:
        writers = [pool.submit(write, number) for number in range(6)]
        readers = [pool.submit(follow, limit) for limit in (1, 10, 500)]
        time.sleep(seconds)
        stop.set()
        for writer in writers:
            writer.result(LONG)
        is_over.set()
        first, *others = [reader.result(2 * LONG) for reader in readers]
    assert all(sorted(each) == sorted(first) for each in others)
    return first


def stored(colony: Colony) -> list[str]:
    said = [f"m{row.id}" for row in colony.rows(messages)]
    return said + [f"d{row.id}" for row in colony.rows(audit) if row.operation == "watch"]


def test_nothing_is_lost_and_nothing_doubled_while_many_write_at_once(colony: Colony) -> None:
    assert sorted(crowd(colony, seconds=4)) == sorted(stored(colony))


@only_postgresql
def test_who_takes_the_highest_id_for_the_end_loses_events(colony: Colony, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shows that the test above can fail."""
    monkeypatch.setattr(PostgreSQL, "writing", lambda *_: frozenset())
    with pytest.raises(AssertionError):
        assert sorted(crowd(colony, seconds=4)) == sorted(stored(colony))
