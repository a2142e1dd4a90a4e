"""The stream of events: it goes on where it broke, and leaves the server to others."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import Any

import httpx
import pytest
from werkzeug.test import create_environ
from werkzeug.wrappers import Response

from colony import errors, operations, schema
from colony.client import Client
from server.config import ServerConfig
from tests.server.cast import token_of
from tests.server.following import LONG, START, wait_for
from tests.server.serving import Server
from tests.server.support import Clock, Colony, only_sqlite, problem


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

    def has_heard(self, body: str) -> bool:
        return body in self.bodies()


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
        with Client(server.url) as admin:
            admin.call(operations.SET_ACL, schema.SetAcl(principal="agents", action="events", effect="allow"))
        with raw(server, token="bob") as bob, raw(server, token="rook") as rook, raw(server) as http:
            opened = [each.stream("GET", "/api/events") for each in (bob, rook) for _ in range(4)]
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
@pytest.mark.parametrize("since", ["", " ", "x", "+1.1", " 1.1", "1.1 ", "1_0.1", "9" * 19 + ".1"])
@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
def test_what_is_wrong_in_the_header_or_beside_it_is_refused(colony: Colony, since: str, accept: str) -> None:
    with colony.http(token_of("ann")) as http:
        wrong = http.get("/api/events", headers={"Accept": accept, "Last-Event-ID": since})
        assert problem(wrong)["detail"].startswith("since"), wrong.text
        beside = http.get("/api/events", params={"since": since}, headers={"Accept": accept, "Last-Event-ID": "0.0"})
        assert problem(beside)["detail"].startswith("since"), beside.text


@only_sqlite
def test_the_header_counts_for_pages_too(colony: Colony) -> None:
    colony.post(colony.ann, "one")
    with colony.http(token_of("ann")) as http:
        page = http.get("/api/events?since=0.0", headers={"Accept": "application/json"}).json()
        last = http.get("/api/events?since=0.0", headers={"Accept": "application/json", "Last-Event-ID": page["position"]}).json()
    assert page["events"]
    assert last["events"] == []


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


@only_sqlite
def test_one_user_leaves_streams_to_others(database_url: str, clock: Clock) -> None:
    colony = Colony(database_url, clock, ServerConfig(database_url, max_streams=8))
    with ExitStack() as streams:
        taken = [streams.enter_context(open_stream(colony, "ann")) for _ in range(4)]
        with open_stream(colony, "ann") as refused:
            assert (refused.status_code, (refused.json or {}).get("code")) == (429, "limit_reached")
        others = [streams.enter_context(open_stream(colony, "bob")) for _ in range(4)]
        assert [each.status_code for each in (*taken, *others)] == [200] * 8
        with open_stream(colony, "ann") as refused:
            assert refused.status_code == 429
    with open_stream(colony, "ann") as again:
        assert again.status_code == 200, "what was left is free"
    colony.close()


@contextmanager
def open_stream(colony: Colony, who: str) -> Iterator[Response]:
    """The answer, of which nothing has been read yet."""
    environ = create_environ("/api/events", headers={"Authorization": f"Bearer {token_of(who)}"})
    response = Response.from_app(colony.app, environ)
    try:
        yield response
    finally:
        response.close()


def test_a_stream_tells_of_a_private_channel_while_its_reader_is_a_member(server: Server) -> None:
    with server.client(token_of("ann")) as ann, server.client(token_of("bob")) as bob, server.client(token_of("rook")) as rook:
        with Client(server.url) as admin:
            admin.call(operations.SET_ACL, schema.SetAcl(principal="rook", action="events", effect="allow"))
        position = ann.call(operations.EVENTS, schema.ListEvents()).position
        taps = [Tap(ann, position), Tap(bob, position), Tap(rook, position)]

        def say(body: str, channel: str = "attic") -> None:
            ann.call(operations.POST, schema.PostMessage(channel=channel, body=body))
            wait_for(lambda: body in taps[0].bodies(), "the message in its author's stream")

        ann.call(operations.CREATE_CHANNEL, schema.CreateChannel(name="attic", private=True))
        ann.call(operations.INVITE, schema.InviteMembers(channel="attic", usernames=["bob"]))
        say("for two")
        wait_for(lambda: "for two" in taps[1].bodies(), "the message in its reader's stream")
        ann.call(operations.REMOVE_MEMBER, schema.RemoveMember(channel="attic", username="bob"))
        say("for one")
        say("for all", "general")
        for tap in taps:
            wait_for(partial(tap.has_heard, "for all"), "the public message")
        assert [tap.bodies() for tap in taps[1:]] == [["ann has invited @bob.", "for two", "for all"], ["for all"]]
        assert taps[0].bodies() == ["ann has invited @bob.", "for two", "ann has removed bob.", "for one", "for all"]
        deeds = [[each.deed.operation for each in tap.seen if each.deed] for tap in taps]
        assert (deeds[0], deeds[1][-1], deeds[2]) == (["create_channel", "invite", "remove_member"], "invite", [])
