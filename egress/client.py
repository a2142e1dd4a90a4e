"""The agent's end of a connection: its request's head, and answers to it."""

from __future__ import annotations

import asyncio
import select
import socket
from contextlib import suppress
from dataclasses import dataclass, field

from colony import errors
from egress import descriptors, head, refusals
from egress.head import Head
from egress.refusals import Malformed, Slow, TooLarge

RECEIVE_BYTES = 64 * 1024
FAREWELL_SECONDS = 1.0  # that a refused client may go on talking before the connection is closed
FAREWELL_BYTES = 256 * 1024


@dataclass
class Client:
    """`surplus` is what came behind the head in the same breath. It is for one event loop, and one of its tasks may receive at a time."""

    socket: socket.socket
    is_wary: bool = False  # descriptors may come along with its bytes
    surplus: bytes = b""
    has_answer: bool = field(default=False)  # the first byte of one is out

    async def head(self, seconds: float) -> tuple[Head, bytes] | None:
        """The request's head and its bytes; None if the client hung up without asking. Raises `Malformed`, `TooLarge`, `Slow`."""
        raw, looked_at = b"", 0
        try:
            async with asyncio.timeout(seconds):
                while (end := raw.find(head.END, max(0, looked_at - len(head.END)))) < 0:
                    looked_at = len(raw)
                    if len(raw) > head.MAX_BYTES:
                        raise TooLarge(f"the head is larger than {head.MAX_BYTES} bytes")
                    arrived = await self.receive()
                    if not arrived:
                        return None
                    raw += arrived
        except TimeoutError as error:
            raise Slow(f"the request's head was not complete within {seconds} s") from error
        end += len(head.END)
        if end > head.MAX_BYTES:
            raise TooLarge(f"the head is larger than {head.MAX_BYTES} bytes")
        self.surplus = raw[end:]
        return head.parsed(raw[:end]), raw[:end]

    async def receive(self) -> bytes:
        """What comes next; nothing at the end. Raises `Malformed` where descriptors come along."""
        if not self.is_wary:
            return await asyncio.get_running_loop().sock_recv(self.socket, RECEIVE_BYTES)
        while True:
            try:
                return self.receive_now(RECEIVE_BYTES)
            except BlockingIOError:
                await self._until_readable()

    def receive_now(self, most: int) -> bytes:
        """What is there. Raises `BlockingIOError` where that is nothing, and `Malformed` where descriptors come along."""
        if not self.is_wary:
            return self.socket.recv(most)
        data, is_more = descriptors.receive(self.socket, most)
        if is_more:
            raise Malformed("descriptors can't be passed through the gate")
        return data

    def close(self) -> None:
        if self.is_wary:
            descriptors.close(self.socket)
        else:
            self.socket.close()

    async def _until_readable(self) -> None:
        loop = asyncio.get_running_loop()
        there: asyncio.Future[None] = loop.create_future()
        loop.add_reader(self.socket, _settle, there)
        try:
            await there
        finally:
            loop.remove_reader(self.socket)

    async def send(self, message: bytes) -> None:
        self.has_answer = True
        await asyncio.get_running_loop().sock_sendall(self.socket, message)

    async def refuse(self, refusal: errors.ColonyError, *, has_body: bool = True, for_model: bool = False) -> None:
        """Answer with the refusal, if nothing was answered yet, and hear the client out for a moment: else it might lose the answer."""
        if self.has_answer:
            return
        body, kind = (refusals.api_error(refusal), "json") if for_model else (refusals.problem(refusal), "problem+json")
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(FAREWELL_SECONDS):
                await self.send(_answer(refusal, kind, body) + (body if has_body else b""))
                self.socket.shutdown(socket.SHUT_WR)
                left = FAREWELL_BYTES
                while left > 0 and (arrived := await self.receive()):
                    left -= len(arrived)

    def is_gone(self) -> bool:
        """Whether the other end is closed, and not only done with sending."""
        poll = select.poll()
        poll.register(self.socket, 0)  # POLLHUP and POLLERR are told unasked
        return bool(poll.poll(0))


def _settle(there: asyncio.Future[None]) -> None:
    if not there.done():
        there.set_result(None)


def _answer(refusal: errors.ColonyError, kind: str, body: bytes) -> bytes:
    return (
        f"HTTP/1.1 {refusal.status} {refusals.phrase(refusal)}\r\nContent-Type: application/{kind}\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    ).encode()
