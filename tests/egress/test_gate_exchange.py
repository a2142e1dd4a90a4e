"""A message in small pieces takes no more of the gate's time than its share."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from egress import exchange
from egress.client import Client
from egress.exchange import Exchange
from egress.framing import CHUNKS_PER_TURN
from egress.limits import Rounds
from egress.refusals import Gone
from egress.settings import Bounds
from egress.visit import Visit
from tests.egress.house import House, Upstream, code, everything, hear, status, until
from tests.egress.test_gate_proxy import get

CHUNKED = "Transfer-Encoding: chunked\r\n"
PIECES = 10_000
CRUMBS = b"1\r\nx\r\n" * PIECES
BLOCKS = 5
TURNS = BLOCKS * PIECES // CHUNKS_PER_TURN


class Eager(Client):
    """An agent that has always said something already, and hears at once."""

    said: Iterator[bytes] = iter(())
    sent: list[bytes]

    async def receive(self) -> bytes:
        return next(self.said, b"")

    async def send(self, message: bytes) -> None:
        self.sent.append(message)


class Ready:
    """An upstream's stream that is as eager; once there is no more, it waits."""

    def __init__(self, *said: bytes) -> None:
        self.said, self.written = iter(said), list[bytes]()

    async def read(self, count: int) -> bytes:
        for each in self.said:
            return each
        await asyncio.Event().wait()
        return b""

    def write(self, message: bytes) -> None:
        self.written.append(message)

    async def drain(self) -> None: ...


async def turns_of_others(client: Client, raw: bytes, upstream: Ready) -> int:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    other = asyncio.create_task(count())
    one = Exchange(client, raw, Visit("scout", "http", "x", 80), Bounds(), Rounds(), 60.0)
    with suppress(Gone):
        await one.run(upstream, upstream, "/", [(b"host", b"x")])  # type: ignore[arg-type]
    other.cancel()
    return turns


def test_a_body_in_crumbs_leaves_others_their_turns_and_goes_on_in_large_pieces() -> None:
    with socket.socket() as unused:
        client, upstream = Eager(unused), Ready()
        client.said = iter([CRUMBS] * BLOCKS)
        turns = asyncio.run(turns_of_others(client, get(80, extra=CHUNKED, method="POST"), upstream))
    assert turns >= TURNS
    assert len([each for each in upstream.written if each]) <= 1 + TURNS + BLOCKS
    assert sum(each.count(b"x") for each in upstream.written[1:]) == BLOCKS * PIECES


def test_an_answer_in_crumbs_leaves_others_their_turns_and_goes_on_in_large_pieces() -> None:
    with socket.socket() as unused:
        client = Eager(unused)
        client.sent = []
        client.receive = asyncio.Event().wait  # type: ignore[method-assign,assignment]
        head = b"HTTP/1.1 200 OK\r\n" + CHUNKED.encode() + b"\r\n"
        upstream = Ready(head, *[CRUMBS] * BLOCKS, b"0\r\n\r\n")
        turns = asyncio.run(turns_of_others(client, get(80), upstream))
    assert turns >= TURNS
    assert len(client.sent) <= 1 + TURNS + BLOCKS + 1


def test_an_agent_is_answered_while_another_sends_crumbs(open_house: Callable[..., House], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "FRAMING_BYTES", 2**40)

    def listen(upstream: Upstream, connection: socket.socket) -> None:
        while arrived := connection.recv(65536):
            upstream.heard.append(arrived)

    house = open_house()
    slow, quick = house.upstream(listen), house.upstream(user="rook")
    answered, is_over = threading.Event(), threading.Event()
    with house.knock() as connection:

        def crumble() -> None:
            connection.sendall(get(slow.port, extra=CHUNKED, method="POST"))
            while not answered.is_set():
                connection.sendall(CRUMBS)
            is_over.set()

        sending = threading.Thread(target=crumble)
        sending.start()
        until(lambda: len(slow.heard) > 3, "the crumbs")
        house.user = "rook"
        assert status(house.ask(get(quick.port))) == 200
        assert not is_over.is_set()
        answered.set()
        sending.join()


@pytest.mark.parametrize("crumb", [b"1\r\nx\r\n", b"1;" + b"y" * 1000 + b"\r\nx\r\n"])
def test_a_body_that_is_mostly_framing_is_refused(house: House, crumb: bytes) -> None:
    upstream = house.upstream(lambda upstream, connection: upstream.heard.append(hear(connection)))
    with house.knock() as connection:
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(get(upstream.port, extra=CHUNKED, method="POST"))
            for _ in range(4):
                connection.sendall(crumb * (2**20 // len(crumb)))
        answer = everything(connection)
    assert (status(answer), code(answer)) == (413, "too_large")
    assert "small chunks" in house.contact().reason
    assert upstream.heard == []


def test_a_long_body_in_chunks_of_a_usual_size_is_passed_on(house: House) -> None:
    upstream = house.upstream()
    body = (b"40\r\n" + b"x" * 64 + b"\r\n") * 50_000 + b"0\r\n\r\n"
    assert status(house.ask(get(upstream.port, extra=CHUNKED, method="POST") + body)) == 200
    assert upstream.heard[0].count(b"x") >= 50_000 * 64
