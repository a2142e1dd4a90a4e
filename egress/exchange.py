"""One HTTP request and its answer, passed on as they come: read by one parser and written anew, so that both ends see the same message."""

from __future__ import annotations

import asyncio
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any, Protocol

import h11

from colony.traces import Trace, Tripwire
from egress import framing, refusals
from egress.client import Client
from egress.head import Headers, end_to_end
from egress.limits import Rounds
from egress.mask import Mask
from egress.refusals import Betrayed, CutOff, Gone, Malformed, Refusal, Silent, TooLarge, Unreachable
from egress.settings import Bounds
from egress.visit import Visit

READ_BYTES = 64 * 1024
FRAMING_BYTES = 1024 * 1024  # of a body in chunks that are not its data, beside a quarter of these


class Ear(Protocol):
    """Who is told of an exchange as it goes on."""

    def asked(self) -> None:
        """The first byte of the request goes out."""

    def answered(self, status: int, headers: Headers) -> None: ...
    def hear(self, data: bytes) -> None: ...
    def heard(self) -> None:
        """The whole answer has come."""


class Exchange:
    """`raw` is the request's head as it came; `silence_seconds` is how long the answer's next byte may take; `trace` must not go out."""

    def __init__(
        self,
        client: Client,
        raw: bytes,
        visit: Visit,
        bounds: Bounds,
        rounds: Rounds,
        silence_seconds: float,
        trace: Trace | None = None,
    ) -> None:
        self._tripwire = Tripwire(trace) if trace else None
        self._client, self._visit, self._bounds, self._rounds = client, visit, bounds, rounds
        self._silence_seconds = silence_seconds
        self._cut: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._inner = h11.Connection(h11.SERVER, max_incomplete_event_size=len(raw) + 4096)
        self._outer = h11.Connection(h11.CLIENT, max_incomplete_event_size=framing.MAX_HEAD)
        self._answer = framing.Answer()
        try:
            self._inner.receive_data(raw)
            event = self._inner.next_event()
        except h11.RemoteProtocolError as error:
            raise Malformed("the request is no HTTP") from error
        if not isinstance(event, h11.Request):
            raise Malformed("the head is not complete")
        self.request = event
        self._chunks = framing.Chunks() if b"transfer-encoding" in dict(event.headers) else None
        length = dict(event.headers).get(b"content-length")
        if length and int(length) > bounds.max_body_bytes:
            raise TooLarge(f"the body is larger than {bounds.max_body_bytes} bytes")
        self._arrived = 0  # of the body, as it came
        if client.surplus:
            self._take_in(client.surplus)

    async def body(self, take: Callable[[int], None], seconds: float) -> bytearray:
        """The request's whole body, to be judged before anything is asked. `take` hears of each piece's size, and may refuse it."""
        body = bytearray()
        try:
            async with asyncio.timeout(seconds):
                async for data in self._arriving():
                    take(len(data))
                    body += data
        except TimeoutError as error:
            raise Malformed(f"the body was not complete within {seconds} s") from error
        return body

    async def run(
        self,
        reader: StreamReader,
        writer: StreamWriter,
        path: str,
        headers: Headers,
        content: Sequence[bytes] | None = None,
        ear: Ear | None = None,
        mask: Mask | None = None,
    ) -> None:
        """Ask for that path with these headers, framing aside, and answer the client. Raises `Refusal`, `Gone`, `OSError`.

        `content` is what goes out in the place of the body, which has been read then; `mask` covers what must not come back.
        """
        framing = [(name, value) for name, value in self.request.headers if name in (b"content-length", b"transfer-encoding")]
        if content is not None:
            framing = [(b"content-length", str(sum(map(len, content))).encode())]
        if ear:
            ear.asked()
        self._write(writer, h11.Request(method=self.request.method, target=path, headers=[*headers, *framing, (b"connection", b"close")]))
        pieces = self._arriving() if content is None else _in_pieces(content)
        try:
            async with asyncio.timeout(self._bounds.total_seconds):
                await _first_of(self._download(reader, ear, mask), self._upload(writer, pieces), self._until_cut())
        except TimeoutError as error:
            raise CutOff(f"it lasted {self._bounds.total_seconds} s") from error

    def cut(self, reason: str) -> None:
        if not self._cut.done():
            self._cut.set_result(reason)

    async def _until_cut(self) -> None:
        raise CutOff(await self._cut)

    async def _arriving(self) -> AsyncIterator[bytes]:
        """The request's body, as it comes."""
        size = 0
        while True:
            try:
                data, event = _taken(self._inner)
            except h11.RemoteProtocolError as error:
                raise Malformed("the request's body is no HTTP") from error
            size += len(data)
            self._require_modest(size)
            if self._tripwire and self._tripwire.is_touched_by(data):
                raise Betrayed()
            if data:
                yield data
            if isinstance(event, h11.EndOfMessage):
                return
            if event is not h11.NEED_DATA:
                raise Gone()
            if self._chunks and self._chunks.is_behind:
                self._take_in(b"")
                await self._round()
            else:
                await self._hear()

    async def _upload(self, writer: StreamWriter, pieces: AsyncIterator[bytes]) -> None:
        """Until the request is out; then until the client hangs up. Ends only with an error."""
        is_wanted = True
        async for data in pieces:
            if is_wanted:
                is_wanted = await self._pass_on(writer, h11.Data(data))
        if is_wanted:
            await self._pass_on(writer, h11.EndOfMessage())  # trailers end here
        await self._until_gone()

    def _require_modest(self, size: int) -> None:
        """The size is that of the body's data so far."""
        if size > self._bounds.max_body_bytes:
            raise TooLarge(f"the body is larger than {self._bounds.max_body_bytes} bytes")
        if self._chunks and self._arrived - size > FRAMING_BYTES + size // 4:
            raise TooLarge("the body is in too many small chunks; send it in larger ones")

    async def _hear(self) -> None:
        if self._inner.they_are_waiting_for_100_continue:
            await self._send(h11.InformationalResponse(status_code=100, headers=[]))
        try:
            async with asyncio.timeout(self._bounds.idle_seconds):
                arrived = await self._client.receive()
        except TimeoutError as error:
            raise Malformed(f"the body did not go on for {self._bounds.idle_seconds} s") from error
        if not arrived:
            raise Gone()
        await self._round()
        self._take_in(arrived)

    def _take_in(self, arrived: bytes) -> None:
        self._arrived += len(arrived)
        try:
            body = self._chunks.feed(arrived) if self._chunks else arrived
        except framing.Broken as error:
            raise Malformed("the request's body is no HTTP") from error
        if body:
            self._inner.receive_data(body)

    async def _pass_on(self, writer: StreamWriter, event: h11.Event) -> bool:
        """Whether upstream goes on listening: it may answer before it has heard all."""
        try:
            self._write(writer, event)
            async with asyncio.timeout(self._bounds.idle_seconds):
                await writer.drain()
        except ConnectionError:
            return False
        except TimeoutError as error:
            raise Silent(f"it took nothing more for {self._bounds.idle_seconds} s") from error
        return True

    async def _until_gone(self) -> None:
        arrived = await self._client.receive()
        if not arrived and self._client.is_gone():
            raise Gone()
        await asyncio.Event().wait()  # done with sending, or asking more than one thing: the answer comes all the same

    async def _round(self) -> None:
        """What is already there would be received without a pause, and nobody else served meanwhile."""
        await self._rounds.mine(self._visit.user)

    async def _download(self, reader: StreamReader, ear: Ear | None, mask: Mask | None) -> None:
        """Until the whole answer is with the client."""
        while True:
            try:
                data, event = _taken(self._outer)
                if data:
                    if ear:
                        ear.hear(data)
                    await self._send_data(mask.feed(data) if mask else data)
                if event is h11.NEED_DATA:
                    self._outer.receive_data(await self._next(reader))
                elif isinstance(event, h11.Response):
                    self._answer.begin_body(is_chunked=b"transfer-encoding" in dict(event.headers))
                    if ear:
                        ear.answered(event.status_code, list(event.headers))
                    await self._send(_passed_on(_covered(event, mask) if mask else event))
                elif isinstance(event, h11.EndOfMessage):
                    if ear:
                        ear.heard()
                    await self._send_data(mask.finish() if mask else b"")
                    await self._send(h11.EndOfMessage())
                    return
                elif not isinstance(event, h11.InformationalResponse):
                    raise Unreachable("it hung up without an answer")
            except (h11.RemoteProtocolError, h11.LocalProtocolError, framing.Broken) as error:
                # What the error says holds what the host has said, which may be a secret.
                raise Unreachable("its answer is no HTTP") from error

    async def _next(self, reader: StreamReader) -> bytes:
        """Of the answer, as h11 may read it; nothing at its end."""
        if self._answer.is_behind:
            await self._round()
        while not (found := self._answer.next()):
            arrived = await self._read(reader)
            if not arrived:
                return b""
            self._answer.more(arrived)
        return found

    async def _read(self, reader: StreamReader) -> bytes:
        try:
            async with asyncio.timeout(self._silence_seconds):
                arrived = await reader.read(READ_BYTES)
        except TimeoutError as error:
            raise Silent(f"it was silent for {self._silence_seconds} s") from error
        except OSError as error:
            raise Unreachable(refusals.broken_off(error)) from error
        self._visit.received += len(arrived)
        self._require_room()
        await self._round()
        return arrived

    async def _send_data(self, data: bytes) -> None:
        if data:
            await self._send(h11.Data(data))

    async def _send(self, event: h11.Event) -> None:
        message = self._inner.send(event)
        if not message:
            return
        try:
            async with asyncio.timeout(self._bounds.idle_seconds):
                await self._client.send(message)
        except TimeoutError as error:
            raise Gone() from error
        except OSError as error:
            raise Gone() from error

    def _write(self, writer: StreamWriter, event: h11.Event) -> None:
        message = self._outer.send(event) or b""
        self._visit.sent += len(message)
        self._require_room()
        writer.write(message)

    def _require_room(self) -> None:
        if self._visit.sent + self._visit.received > self._bounds.max_bytes:
            raise CutOff(f"it carried more than {self._bounds.max_bytes} bytes")


async def _in_pieces(content: Sequence[bytes]) -> AsyncIterator[bytes]:
    for part in content:
        for at in range(0, len(part), READ_BYTES):
            yield part[at : at + READ_BYTES]


def _taken(connection: h11.Connection) -> tuple[bytes, Any]:
    """The data that has come, and the event after it."""
    pieces: list[bytes] = []
    while isinstance(event := connection.next_event(), h11.Data):
        pieces.append(event.data)
    return b"".join(pieces), event


def _passed_on(answer: h11.Response) -> h11.Response:
    names = [name for name, _ in answer.headers]
    if b"transfer-encoding" in names and b"content-length" in names:
        raise Unreachable("its answer has both Content-Length and Transfer-Encoding")
    try:
        headers = end_to_end(list(answer.headers))
    except Refusal as error:
        raise Unreachable("its answer's Connection names what ends nowhere") from error
    return h11.Response(status_code=answer.status_code, reason=answer.reason, headers=[*headers, (b"connection", b"close")])


def _covered(answer: h11.Response, mask: Mask) -> h11.Response:
    """Raises `Unreachable` for one whose body can't be read."""
    if any(name == b"content-encoding" and value.strip().lower() not in (b"", b"identity") for name, value in answer.headers):
        raise Unreachable("its answer is encoded, though that was not asked for, so that nobody sees what is in it")
    headers = [(name, mask.whole(value)) for name, value in answer.headers if not mask.is_in_name(name)]
    return h11.Response(status_code=answer.status_code, reason=mask.whole(bytes(answer.reason)), headers=headers)


async def _first_of(*works: Coroutine[Any, Any, None]) -> None:
    """Until one of them ends or fails, which ends the others; if several have, the first that is named counts."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    next(task for task in tasks if task in done).result()
