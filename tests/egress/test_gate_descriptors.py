"""Descriptors that are passed to the gate stop it for nobody: whoever closes one waits for as long as its sender has set (SO_LINGER)."""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial

import pytest

from egress import descriptors
from tests.egress.house import House, code, echo, everything, until

LINGER_SECONDS = 60
ASKS = b"CONNECT a.example:443 HTTP/1.1\r\n\r\n"
Opened = Callable[..., House]


@pytest.fixture(params=["this kernel", "an older kernel"])
def house(request: pytest.FixtureRequest, open_house: Opened, monkeypatch: pytest.MonkeyPatch) -> House:
    if request.param == "an older kernel":
        monkeypatch.setattr(descriptors, "SO_PASSRIGHTS", 9999)
    return open_house()


@pytest.fixture
def slow() -> Iterator[Callable[[], socket.socket]]:
    """Makes sockets whose close takes a minute, unless somebody else has them, too."""
    made: list[socket.socket] = []

    def make() -> socket.socket:
        listening = socket.create_server(("127.0.0.1", 0))
        mine = socket.create_connection(listening.getsockname())
        other, _ = listening.accept()
        mine.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, LINGER_SECONDS))
        mine.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                mine.send(b"x" * 65536)
        made.extend((listening, other))
        return mine

    yield make
    for each in made:
        each.close()


def pass_on(connection: socket.socket, message: bytes, passed: socket.socket) -> bool:
    """Whether the kernel has taken it; nobody but the other end holds it then."""
    try:
        socket.send_fds(connection, [message], [passed.fileno()])
    except PermissionError:
        passed.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 0, 0))
        return False
    finally:
        passed.close()
    return True


def answers(house: House) -> None:
    """At once."""
    began = time.monotonic()
    assert code(house.ask(ASKS)) == "egress_denied"
    assert time.monotonic() - began < LINGER_SECONDS / 4


def test_in_a_head(house: House, slow: Callable[[], socket.socket]) -> None:
    with house.knock() as connection:
        if pass_on(connection, b"CONNECT a.example:443", slow()):
            assert b"descriptors" in everything(connection)
        answers(house)


def test_unread_when_the_connection_ends(house: House, slow: Callable[[], socket.socket]) -> None:
    with house.knock() as connection:
        connection.sendall(ASKS)
        pass_on(connection, b"more", slow())
        answers(house)
    answers(house)


def closing() -> int:
    return sum(thread.name == "closing" for thread in threading.enumerate())


@pytest.mark.parametrize("how", ["as it is", "in another socket", "before a socket that listens", "behind what is empty"])
def test_however_many_come_they_hold_no_thread(
    open_house: Opened, slow: Callable[[], socket.socket], how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(descriptors, "SO_PASSRIGHTS", 9999)  # an older kernel's
    house = open_house()
    for _ in range(6):
        connection, passed = house.knock(), slow()
        if how != "as it is":
            passed = within(passed, how)
        pass_on(connection, b"x", passed)
        connection.close()
    until(lambda: not closing(), "the end of closing")
    answers(house)


def within(passed: socket.socket, how: str) -> socket.socket:
    """What holds it unread, and is held by nobody else."""
    if how == "before a socket that listens":
        holding, mine = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
        holding.bind("")
        holding.listen()
        mine.connect(holding.getsockname())
    else:
        kind = socket.SOCK_STREAM if how == "in another socket" else socket.SOCK_SEQPACKET
        mine, holding = socket.socketpair(socket.AF_UNIX, kind)
    with mine:
        if how == "behind what is empty":
            mine.send(b"")
        socket.send_fds(mine, [b"x"], [passed.fileno()])
    passed.close()
    return holding


def test_so_many_threads_close_what_takes_long() -> None:
    closers, over, closed = descriptors.Closers(3), threading.Event(), list[int]()

    def work(number: int) -> None:
        closed.append(number)
        over.wait(10)

    for number in range(20):
        closers.begin(partial(work, number))
    until(lambda: len(closed) == 3)
    time.sleep(0.1)
    assert len(closed) == 3
    over.set()
    until(lambda: len(closed) == 20)


def test_in_a_tunnel(house: House, slow: Callable[[], socket.socket]) -> None:
    upstream = house.upstream(echo)
    with house.tunnel("127.0.0.1", upstream.port) as connection:
        connection.sendall(b"plain ")
        if pass_on(connection, b"and not", slow()):
            assert b"and not" not in everything(connection)
            assert "descriptors" in house.contact().reason
        answers(house)


def test_a_tunnel_carries_all_the_same(house: House) -> None:
    upstream = house.upstream(echo)
    sent = os.urandom(3 * 2**20)
    with house.tunnel("127.0.0.1", upstream.port) as connection:
        connection.setblocking(False)
        came, at = bytearray(), 0
        while len(came) < len(sent):
            with suppress(BlockingIOError):
                at += connection.send(sent[at : at + 65536]) if at < len(sent) else 0
            with suppress(BlockingIOError):
                came += connection.recv(65536)
    assert bytes(came) == sent
    until(lambda: house.contact().sent_bytes == len(sent))
