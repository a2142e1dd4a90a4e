"""The agent's end of a connection whose TLS ends in the gate."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress

from egress.client import RECEIVE_BYTES, Client
from egress.refusals import Gone, Malformed, Slow

PIECE_BYTES = 8 * 1024  # of TLS that is read without a pause: it may be hundreds of records


class TlsClient(Client):
    """Speaks through another client's connection. What that one has heard too early belongs to the handshake.

    `round` is waited for before each piece of TLS is read.
    """

    def __init__(self, under: Client, context: ssl.SSLContext, round: Callable[[], Awaitable[None]]) -> None:
        super().__init__(under.socket, under.is_wary)
        self._under, self._round = under, round
        self._came, self._goes = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._came, self._goes, server_side=True)
        self._sending = asyncio.Lock()  # two who speak at once must not mix their records
        self._left = under.surplus  # of what has come

    async def shake(self, seconds: float) -> None:
        """The handshake. Raises `Malformed` where it fails, `Slow`, `Gone`."""
        try:
            async with asyncio.timeout(seconds):
                while True:
                    try:
                        self._tls.do_handshake()
                        return await self._flush()
                    except ssl.SSLWantReadError:
                        await self._flush()
                        await self._hear()
        except ssl.SSLError as error:
            with suppress(OSError):
                await self._flush()  # it says why
            raise Malformed(f"there is no TLS with you: {error.reason or 'it failed'}; do you trust $SSL_CERT_FILE?") from error
        except TimeoutError as error:
            raise Slow(f"the TLS handshake was not complete within {seconds} s") from error

    async def receive(self) -> bytes:
        while True:
            try:
                return self._tls.read(RECEIVE_BYTES)
            except ssl.SSLWantReadError:
                await self._flush()
                try:
                    await self._hear()
                except Gone:
                    return b""
            except ssl.SSLError:  # it has said that it is done, or nonsense
                return b""

    async def send(self, message: bytes) -> None:
        self.has_answer = True
        self._tls.write(message)
        await self._flush()

    async def finish(self) -> None:
        """Say that all has been said: without that it could have been cut off."""
        with suppress(OSError):
            with suppress(ssl.SSLError):
                self._tls.unwrap()
            await self._flush()
            self.socket.shutdown(socket.SHUT_WR)

    async def _hear(self) -> None:
        self._left = self._left or await self._under.receive()
        if not self._left:
            raise Gone()
        await self._round()
        self._came.write(self._left[:PIECE_BYTES])
        self._left = self._left[PIECE_BYTES:]

    async def _flush(self) -> None:
        async with self._sending:
            if message := self._goes.read():
                await asyncio.get_running_loop().sock_sendall(self.socket, message)
