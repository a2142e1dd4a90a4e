"""TLS that ends in the gate is read in pieces: a client may cut what it says into thousands of records."""

from __future__ import annotations

import asyncio
import socket
import ssl

from egress.authority import Authority
from egress.client import Client
from egress.tls import PIECE_BYTES, TlsClient

HOST = "api.example"
SAID = b"GET / HTTP/1.1\r\nX: " + b"y" * 4000 + b"\r\n\r\n"


class Agent:
    """Speaks TLS with whoever is at the other end of the socket."""

    def __init__(self, end: socket.socket) -> None:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        self._came, self._goes = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls, self._end = context.wrap_bio(self._came, self._goes, server_hostname=HOST), end

    async def shake(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                self._tls.do_handshake()
                return self._end.sendall(self._goes.read())
            except ssl.SSLWantReadError:
                self._end.sendall(self._goes.read())
                self._came.write(await loop.sock_recv(self._end, 65536))

    def crumbled(self, said: bytes) -> bytes:
        """That, in a record for each of its bytes."""
        for at in range(len(said)):
            self._tls.write(said[at : at + 1])
        return self._goes.read()


def test_others_have_their_turn_after_each_piece_of_tls() -> None:
    rounds = 0

    async def count() -> None:
        nonlocal rounds
        rounds += 1

    async def go() -> tuple[int, bytes]:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            for end in (ours, theirs):
                end.setblocking(False)
            agent, client = Agent(theirs), TlsClient(Client(ours), Authority().context(HOST), count)
            await asyncio.gather(agent.shake(), client.shake(5.0))
            before, crumbs = rounds, agent.crumbled(SAID)
            sending = asyncio.create_task(asyncio.get_running_loop().sock_sendall(theirs, crumbs))
            asked = await client.head(5.0)
            await sending
            assert asked
            assert len(crumbs) > 10 * PIECE_BYTES
            return (rounds - before) * PIECE_BYTES - len(crumbs), asked[1]

    more, raw = asyncio.run(go())
    assert raw == SAID
    assert more > 0
