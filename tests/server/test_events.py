"""Events: nothing is left out and nothing comes twice, whoever commits when, however often the stream breaks."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import httpx
import pytest

from colony import errors, operations, schema
from colony.client import Client
from server.config import ServerConfig
from server.database import PostgreSQL
from server.models import base, event, posting
from server.models.audit import audit
from server.models.message import messages
from tests.server.cast import token_of
from tests.server.samples import SAMPLES, SECRET
from tests.server.serving import Server
from tests.server.support import Clock, Colony, only_sqlite, problem

only_postgresql = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
START = "0.0"
LONG = 40.0


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


def wait_for(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < deadline, f"no {what} within {LONG} s"
        time.sleep(0.01)


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


# --- the stream


class Tap:
    """Follows the events of a real server in a thread."""

    def __init__(self, client: Client, since: str | None = None) -> None:
        self.seen: list[schema.Event] = []
        self._client, self._since = client, since
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        with suppress(RuntimeError, errors.ColonyError):  # the client was closed
            for each in self._client.events(self._since):
                self.seen.append(each)

    def bodies(self) -> list[str]:
        return [each.message.body for each in self.seen if each.message]


def raw(server: Server, query: str = "", token: str = "ann", **headers: str) -> httpx.Client:
    return httpx.Client(base_url=server.http_url, headers={"Authorization": f"Bearer {token_of(token)}", **headers}, timeout=LONG)


def say(server: Server, *bodies: str) -> None:
    with server.client(token_of("ann")) as ann:
        for body in bodies:
            ann.call(operations.POST, schema.PostMessage(channel="general", body=body, client_id=body))


ODD = ["plain", "two\nlines\r\nand\rmore", "\u2028\u2029\x85\x0b\x0c", "data: x\n\nid: 9.9\n\n", "🦧 é", "\x01" * 3]


def test_a_stream_tells_what_happens_from_now_on_whatever_it_says(server: Server) -> None:
    say(server, "before")
    with server.client(token_of("bob")) as bob, raw(server) as http:
        with http.stream("GET", "/api/events") as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            pieces = answer.iter_text()
            position = next(pieces).partition("id: ")[2].strip()
            tap = Tap(bob, position)
            say(server, *ODD)
            wait_for(lambda: len(tap.seen) >= len(ODD), "events")
            assert next(pieces).startswith("id: ")
        assert tap.bodies() == ODD


def test_a_stream_goes_on_where_it_broke_through_restarts_of_the_server(server: Server) -> None:
    with server.client(token_of("bob")) as bob:
        tap = Tap(bob, START)
        expected = []
        for number, end in enumerate((server.stop, server.kill, server.stop)):
            batch = [f"{number}.{n}" for n in range(20)]
            say(server, *batch)
            expected += batch
            end()
            server.start()
        say(server, "last")
        wait_for(lambda: tap.bodies()[-1:] == ["last"], "last event")
        assert tap.bodies() == [*expected, "last"]


def test_the_header_of_a_browser_counts_more_than_the_address_it_came_from(server: Server) -> None:
    say(server, "one", "two")
    with raw(server) as http:
        with http.stream("GET", "/api/events?since=0.0") as answer:
            ids = [line[4:] for line in next(answer.iter_text()).splitlines() if line.startswith("id: ")]
        with http.stream("GET", "/api/events?since=0.0", headers={"Last-Event-ID": ids[0]}) as answer:
            piece = next(answer.iter_text())
            assert '"two"' in piece
            assert '"one"' not in piece


def test_a_server_that_stops_ends_its_streams_in_peace(server: Server) -> None:
    with raw(server) as http, http.stream("GET", "/api/events") as answer:
        pieces = answer.iter_text()
        next(pieces)
        assert server.stop() == 0
        assert all(": heartbeat" in piece for piece in pieces)  # and then its proper end, without an error
    assert "Traceback" not in server.log()


def test_who_is_nobody_any_more_hears_no_more(server: Server) -> None:
    with raw(server, token="bob") as http, http.stream("GET", "/api/events") as answer, server.client(over_socket=True) as admin:
        pieces = answer.iter_text()
        next(pieces)
        admin.call(operations.ISSUE_TOKEN, schema.IssueToken(username="bob"))
        say(server, "secret")
        assert "secret" not in "".join(pieces)


def test_streams_leave_threads_to_others_and_come_free_again(sqlite_file: Any) -> None:
    server = Server(sqlite_file)  # with 64 threads, so 8 streams
    try:
        server.start()
        with raw(server) as http:
            opened = [http.stream("GET", "/api/events") for _ in range(8)]
            for each in opened:
                next(each.__enter__().iter_text())
            refused = http.get("/api/events")
            assert problem(refused)["code"] == "unavailable"
            assert "all 8 streams" in problem(refused)["detail"]
            assert http.get("/api/events", headers={"Accept": "application/json"}).is_success
            for each in opened:
                each.__exit__(None, None, None)
            say(server, "which is how a server finds out", "that somebody has left")

            def is_free() -> bool:
                say(server, str(time.monotonic()))
                with http.stream("GET", "/api/events") as answer:
                    return answer.is_success

            wait_for(is_free, "free stream")
    finally:
        server.close()


@only_sqlite
@pytest.mark.parametrize("since", ["", "x", "1", "1.", ".1", "1.1.1", "-1.1", "1.1 ", "١.١", "9" * 19 + ".1", "1e3.1"])
def test_a_position_that_is_none_is_refused(colony: Colony, since: str) -> None:
    with colony.http(token_of("ann")) as http:
        for accept in ("application/json", "text/event-stream"):
            answer = http.get("/api/events", params={"since": since}, headers={"Accept": accept})
            assert problem(answer)["detail"].startswith("since"), answer.text


@only_sqlite
def test_a_stream_takes_no_fields_of_a_page_and_no_stranger(colony: Colony) -> None:
    with colony.http(token_of("ann")) as http:
        for query in ("limit=1", "wait=1", "colour=red"):
            assert problem(http.get(f"/api/events?{query}"))["detail"].startswith(query.partition("=")[0])
    with colony.http("nobody's token") as http:
        assert problem(http.get("/api/events?colour=red"))["code"] == "unauthenticated"


@only_sqlite
def test_only_a_head_is_answered_without_a_stream_left_open(database_url: str, clock: Clock) -> None:
    colony = Colony(database_url, clock, ServerConfig(database_url, max_streams=1))
    with colony.http(token_of("ann")) as http:
        for _ in range(3):
            assert http.head("/api/events").status_code == 200
    colony.close()
