"""One caller's connection: every failure arrives as the class the server raised, and silence as `Unavailable`."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from colony import errors, operations, schema
from colony.client import Client, _blocks
from tests.server.cast import token_of
from tests.server.serving import Server
from tests.server.support import Colony, only_sqlite


@contextmanager
def foreign_server(answer: bytes) -> Iterator[str]:
    """Something on loopback that is no colony."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with listening.accept()[0] as line:
                line.recv(65536)
                line.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        thread.join(5)


def page(status: str, body: bytes, kind: str = "text/html") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-OpenSSH\r\n",
        page("200 OK", b"<h1>It works!</h1>"),
        page("200 OK", b'{"no": "user"}', "application/json"),
        page("502 Bad Gateway", b"<h1>Caddy</h1>"),
        page("404 Not Found", b"{}", "application/json"),
        page("204 No Content", b""),
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort",
    ],
)
def test_what_is_no_colony_is_unavailable(answer: bytes) -> None:
    with foreign_server(answer) as url, Client(url) as client, pytest.raises(errors.Unavailable):
        client.call(operations.WHOAMI, schema.Whoami())


@pytest.mark.parametrize("url", ["unix:/nowhere/api.sock", "http://127.0.0.1:1", "http://colony.invalid"])
def test_where_nobody_answers_is_unavailable_and_the_message_says_where(url: str) -> None:
    with pytest.raises(errors.Unavailable, match="colony-server running") as raised, Client(url) as client:
        client.call(operations.WHOAMI, schema.Whoami())
    assert url in raised.value.detail


@pytest.mark.parametrize("kind", errors.BY_CODE.values(), ids=lambda kind: kind.code)
def test_each_error_arrives_as_its_class(kind: type[errors.ColonyError]) -> None:
    problem = schema.Problem(title="x", status=kind.status, detail="because", code=kind.code)
    with (
        foreign_server(page(f"{kind.status} X", problem.model_dump_json().encode(), "application/problem+json")) as url,
        Client(url) as client,
        pytest.raises(errors.ColonyError) as raised,
    ):
        client.call(operations.WHOAMI, schema.Whoami())
    assert (type(raised.value), raised.value.detail) == (kind, "because")


def test_an_error_of_a_newer_server_arrives_as_the_root() -> None:
    body = b'{"title": "x", "status": 418, "detail": "short and stout", "code": "teapot", "type": "about:blank"}'
    with foreign_server(page("418 Teapot", body)) as url, Client(url) as client, pytest.raises(errors.ColonyError, match="short and stout"):
        client.call(operations.WHOAMI, schema.Whoami())


def test_an_address_that_is_none_is_invalid() -> None:
    with pytest.raises(errors.Invalid, match="address"), Client("http://[::1") as client:
        client.call(operations.WHOAMI, schema.Whoami())


@only_sqlite
def test_a_none_that_is_named_counts_as_absent(colony: Colony) -> None:
    colony.post(colony.ann, "x")
    assert len(colony.ann.call(operations.READ, schema.ReadMessages(channel="general", since=None)).messages) == 1
    assert colony.ann.call(operations.INBOX, schema.ReadInbox(user=None, trigger=None)).items == []
    assert colony.ann.call(operations.USERS, schema.ListUsers(kind=None)).users
    assert colony.post(colony.ann, "y", reply_to=None, client_id=None).seq == 2


@only_sqlite
def test_what_stands_in_a_path_is_quoted(colony: Colony) -> None:
    for name in ("../../healthz", "a/b", "a?wait=1", "a#b", "%2e"):
        request = schema.ReadMessages.model_construct(channel=name, _fields_set={"channel"})
        with pytest.raises((errors.Invalid, errors.NotFound)):
            colony.ann.call(operations.READ, request)


def test_both_addresses_of_a_server_answer(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")  # a proxy must see neither call nor token
    with server.client(token_of("ann")) as ann, server.client(over_socket=True) as admin:
        assert ann.call(operations.WHOAMI, schema.Whoami()).username == "ann"
        assert admin.call(operations.WHOAMI, schema.Whoami()).is_admin
        said = ann.call(operations.POST, schema.PostMessage(channel="general", body="x", client_id="c"))
        assert not said.duplicate
        assert ann.call(operations.POST, schema.PostMessage(channel="general", body="x", client_id="c")).duplicate


def test_the_blocks_of_a_stream_are_found_however_it_is_cut() -> None:
    text = ': heartbeat\nid: 1.0\n\nid: 2.0\nevent: message\ndata: {"x": "a: b\u2028\x85🦧"}\n\nid: cut off'.encode()
    expected = [{"": "heartbeat", "id": "1.0"}, {"id": "2.0", "event": "message", "data": '{"x": "a: b\u2028\x85🦧"}'}]
    expected[0].pop("")
    for size in (1, 2, 3, 7, 1000):
        assert list(_blocks(text[place : place + size] for place in range(0, len(text), size))) == expected


@pytest.mark.parametrize("body", [b"id: 1.0\ndata: {}\n\n", b"id: 1.0\ndata: nonsense\n\n", b"id: 1.0\ndata: \xff\n\n"])
def test_what_is_no_stream_of_a_colony_is_unavailable(body: bytes) -> None:
    heard: list[errors.Unavailable | None] = []

    def tell(error: errors.Unavailable | None) -> None:
        heard.append(error)
        raise KeyboardInterrupt

    with foreign_server(page("200 OK", body, "text/event-stream")) as url, Client(url) as client, pytest.raises(KeyboardInterrupt):
        next(client.events(tell=tell))
    assert isinstance(heard[0], errors.Unavailable)


@only_sqlite
def test_a_stream_that_is_refused_is_not_tried_again(colony: Colony) -> None:
    with pytest.raises(errors.Unauthenticated):
        next(colony.eve.events())
    with pytest.raises(errors.Conflict, match="restored"):
        next(colony.ann.events("9.9"))
    with pytest.raises(errors.Invalid, match="since"):
        next(colony.ann.events("nonsense"))
