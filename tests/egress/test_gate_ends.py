"""Nothing lasts for ever: what does not go on is given up, and what goes on has a bound."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from egress.settings import Bounds
from tests.egress.house import House, Upstream, code, echo, everything, hear, status
from tests.egress.test_gate_proxy import get


@pytest.mark.parametrize("said", [b"", b"GET ht", b"CONNECT pypi.org:443 HTTP/1.1\r\nX: y\r\n"])
def test_a_head_that_is_never_complete_is_given_up(open_house: Callable[..., House], said: bytes) -> None:
    house = open_house(Bounds(head_seconds=1))
    with house.knock() as connection:
        connection.sendall(said)
        answer = everything(connection)
    assert (status(answer), code(answer)) == (408, "egress_slow")


def test_a_head_that_drips_has_no_more_time_than_others(open_house: Callable[..., House]) -> None:
    house = open_house(Bounds(head_seconds=1))
    stop = threading.Event()
    with house.knock() as connection:

        def drip() -> None:
            while not stop.wait(0.05):
                try:
                    connection.sendall(b"x")
                except OSError:
                    return

        dripping = threading.Thread(target=drip)
        dripping.start()
        answer = everything(connection)
        stop.set()
        dripping.join()
    assert status(answer) == 408


def test_a_tunnel_without_a_byte_is_closed(open_house: Callable[..., House]) -> None:
    house = open_house(Bounds(idle_seconds=1))
    upstream = house.upstream(echo)
    with house.tunnel("127.0.0.1", upstream.port) as tunnel:
        assert everything(tunnel) == b""
    assert house.contact().reason == "nothing came either way for 1 s"
    assert house.contact().verdict == "failed"


def test_a_half_open_tunnel_is_closed_too(open_house: Callable[..., House]) -> None:
    def deaf(upstream: Upstream, connection: socket.socket) -> None:
        connection.shutdown(socket.SHUT_WR)
        threading.Event().wait(3)

    house = open_house(Bounds(idle_seconds=1))
    upstream = house.upstream(deaf)
    with house.tunnel("127.0.0.1", upstream.port) as tunnel:
        assert everything(tunnel) == b""
        assert house.contact().reason.startswith("nothing came")


def test_a_tunnel_that_nobody_reads_from_is_closed_and_what_waits_in_it_is_bounded(open_house: Callable[..., House]) -> None:
    poured: list[int] = []

    def pour(upstream: Upstream, connection: socket.socket) -> None:
        while True:
            poured.append(connection.send(b"x" * 65536))

    house = open_house(Bounds(idle_seconds=1))
    upstream = house.upstream(pour)
    with house.tunnel("127.0.0.1", upstream.port):
        assert house.contact().reason.startswith("nothing came")
    assert sum(poured) < 64 * 2**20


def test_a_tunnel_has_an_end(open_house: Callable[..., House]) -> None:
    house = open_house(Bounds(total_seconds=1))
    upstream = house.upstream(echo)
    with house.tunnel("127.0.0.1", upstream.port) as tunnel:
        for _ in range(1000):
            try:
                tunnel.sendall(b"x")
                if not tunnel.recv(1):
                    break
            except OSError:
                break
            threading.Event().wait(0.01)
    assert house.contact().reason == "it lasted 1 s"


@pytest.mark.parametrize("kind", ["connect", "http"])
def test_a_connection_carries_so_many_bytes_and_no_more(open_house: Callable[..., House], kind: str) -> None:
    def pour(upstream: Upstream, connection: socket.socket) -> None:
        if kind == "http":
            hear(connection)
            connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            connection.sendall(b"x" * 65536)

    house = open_house(Bounds(max_bytes=500_000))
    upstream = house.upstream(pour)
    if kind == "http":
        found = house.ask(get(upstream.port))
    else:
        with house.tunnel("127.0.0.1", upstream.port) as tunnel:
            found = everything(tunnel)
    assert len(found) < 1_000_000
    assert house.contact().reason == "it carried more than 500000 bytes"


@pytest.mark.parametrize("framing", ["Content-Length: 2000\r\n", "Transfer-Encoding: chunked\r\n"])
def test_a_body_has_a_bound(open_house: Callable[..., House], framing: str) -> None:
    house = open_house(Bounds(max_body_bytes=1000))
    upstream = house.upstream()
    body = b"x" * 2000 if "Length" in framing else b"7d0\r\n" + b"x" * 2000 + b"\r\n0\r\n\r\n"
    answer = house.ask(get(upstream.port, extra=framing, method="POST") + body)
    assert (status(answer), code(answer)) == (413, "too_large")
    assert upstream.heard == []


def test_an_upstream_that_never_answers_is_given_up(open_house: Callable[..., House]) -> None:
    def silent(upstream: Upstream, connection: socket.socket) -> None:
        hear(connection)
        everything(connection)

    house = open_house(Bounds(idle_seconds=1))
    upstream = house.upstream(silent)
    answer = house.ask(get(upstream.port))
    assert (status(answer), code(answer)) == (504, "egress_timeout")


def test_a_body_that_never_comes_is_given_up(open_house: Callable[..., House]) -> None:
    def waiting(upstream: Upstream, connection: socket.socket) -> None:
        everything(connection)

    house = open_house(Bounds(idle_seconds=1))
    upstream = house.upstream(waiting)
    assert status(house.ask(get(upstream.port, extra="Content-Length: 5\r\n", method="POST"))) in (400, 504)


def test_an_address_that_takes_no_connection_is_given_up(open_house: Callable[..., House]) -> None:
    house = open_house(Bounds(connect_seconds=1))
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, ExitStack() as stack:
        port = full.getsockname()[1]
        for _ in range(3):  # until the kernel takes no more
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", port))
        house.allow("127.0.0.1", port)
        answer = house.ask(f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\n\r\n".encode())
    assert (status(answer), code(answer)) == (504, "egress_timeout")
