"""Tunnels of one agent take turns: however many it has open, they hold nobody else up."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from egress import tunnel
from egress.limits import PIECES, Rounds
from egress.pipes import Pipes
from tests.egress.house import House, echo

FLOWS = 12
SAID = b"x" * 100_000


@pytest.fixture
def ends() -> Iterator[list[tuple[socket.socket, socket.socket, socket.socket]]]:
    """Of each flow: what it reads, what it writes to, and who hears it. All is said already."""
    with ExitStack() as stack:
        found = []
        for _ in range(FLOWS):
            said, source, sink, heard = (stack.enter_context(each) for pair in (socket.socketpair(), socket.socketpair()) for each in pair)
            for each in (said, source, sink, heard):
                each.setblocking(False)
            said.sendall(SAID)
            said.shutdown(socket.SHUT_WR)
            found.append((source, sink, heard))
        yield found


def carried(ends: list[tuple[socket.socket, socket.socket, socket.socket]], monkeypatch: pytest.MonkeyPatch) -> int:
    """Carries all that is said to who hears it; the most pieces that were moved in one round of the loop."""
    moved = most = 0
    splice = os.splice

    def counted(source: int, sink: int, count: int, flags: int) -> int:
        nonlocal moved
        moved += 1
        return splice(source, sink, count, flags=flags)

    async def go() -> None:
        nonlocal moved, most
        loop, rounds, pipes, left = asyncio.get_running_loop(), Rounds(), Pipes(), FLOWS
        over = loop.create_future()

        def queue(work: tunnel.Work) -> bool:
            return rounds.queue("scout", work)

        def ended(trouble: str) -> None:
            nonlocal left
            assert not trouble
            left -= 1
            if not left:
                over.set_result(None)

        flows = [tunnel._Flow(loop, source, sink, pipes, queue, lambda _: None, ended) for source, sink, _ in ends]
        heard = [asyncio.create_task(everything(heard)) for _, _, heard in ends]
        for flow in flows:
            flow.start()
        while not over.done():
            most, moved = max(most, moved), 0
            await asyncio.sleep(0)
        assert await asyncio.gather(*heard) == [SAID] * FLOWS
        pipes.close()

    monkeypatch.setattr(os, "splice", counted)
    asyncio.run(asyncio.wait_for(go(), 10))
    return most


async def everything(heard: socket.socket) -> bytes:
    found = b""
    while arrived := await asyncio.get_running_loop().sock_recv(heard, 2**20):
        found += arrived
    return found


def test_an_agents_tunnels_move_a_few_pieces_in_a_round(
    ends: list[tuple[socket.socket, socket.socket, socket.socket]], monkeypatch: pytest.MonkeyPatch
) -> None:
    most = 2 * (PIECES + 1)  # in and out, by whose turn it is and by whoever comes first when all had theirs
    assert 0 < carried(ends, monkeypatch) <= most


def test_what_goes_through_many_tunnels_at_once_comes_out_whole_at_its_own_end(house: House) -> None:
    upstream = house.upstream(echo)
    house.allow("127.0.0.1", upstream.port, user="rook")

    def goes_through(number: int) -> bool:
        said, heard = os.urandom(3 * 2**20), bytearray()
        with house.tunnel("127.0.0.1", upstream.port) as open_tunnel:
            sending = threading.Thread(target=open_tunnel.sendall, args=[said])
            sending.start()
            time.sleep(number % 4 * 0.05)  # until nothing more can be on the way
            while len(heard) < len(said):
                heard += open_tunnel.recv(1000 + number * 10_000)
            sending.join()
        return heard == said

    with ThreadPoolExecutor(16) as pool:
        for user in ("scout", "rook"):
            house.user = user
            opened = [pool.submit(goes_through, number) for number in range(16)]
            assert all(each.result(60) for each in opened)
