"""Two sockets made one: what comes in at either goes out at the other, until both have ended."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from contextlib import suppress

from egress import hello
from egress.client import Client
from egress.pipes import PIPE_BYTES, Pipe, Pipes
from egress.refusals import OtherHost, Refusal
from egress.settings import Bounds
from egress.visit import Visit

MOVE = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK


class Tunnel:
    """Both sockets are non-blocking and stay the caller's, who closes them after `run`."""

    def __init__(self, client: Client, upstream: socket.socket, visit: Visit, bounds: Bounds, pipes: Pipes) -> None:
        self._loop = asyncio.get_running_loop()
        self._client, self._upstream, self._visit, self._bounds = client, upstream, visit, bounds
        self._over: asyncio.Future[str] = self._loop.create_future()
        self._moved_at = self._loop.time()
        self._flows = (
            _Flow(self._loop, client.socket, upstream, pipes, self._sent, self._flow_ended, client.receive_now if client.is_wary else None),
            _Flow(self._loop, upstream, client.socket, pipes, self._received, self._flow_ended),
        )

    async def run(self) -> str:
        """Why it was cut off; empty if both sides have ended by themselves. Raises `Refusal` for what the client says first."""
        tasks = [asyncio.create_task(work) for work in (self._watch(), self._begin())]
        try:
            self._flows[1].start()  # the other end may be the one that speaks first
            return await self._over
        finally:
            for flow in self._flows:
                flow.stop()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def cut(self, reason: str) -> None:
        if not self._over.done():
            self._over.set_result(reason)

    async def _begin(self) -> None:
        """Pass on what the client says first, once it has been judged; what comes after that nobody reads."""
        try:
            first = await hello.heard(self._client, self._visit.host, self._bounds.head_seconds)
            await self._loop.sock_sendall(self._upstream, first)
            self._sent(len(first))
            if not self._over.done():
                self._flows[0].start()
        except OtherHost as error:
            with suppress(OSError):
                await self._client.send(hello.UNRECOGNIZED_NAME)
            self._fail(error)
        except Refusal as error:
            self._fail(error)
        except OSError as error:
            self.cut(f"broken off: {error.strerror}")

    def _fail(self, error: Refusal) -> None:
        if not self._over.done():
            self._over.set_exception(error)

    async def _watch(self) -> None:
        """Looks when the silence could have become too long, not at each byte."""
        end = self._loop.time() + self._bounds.total_seconds
        while True:
            quiet_until = self._moved_at + self._bounds.idle_seconds
            await asyncio.sleep(max(0.01, min(quiet_until, end) - self._loop.time()))
            if self._loop.time() >= end:
                return self.cut(f"it lasted {self._bounds.total_seconds} s")
            if self._loop.time() - self._moved_at >= self._bounds.idle_seconds:
                return self.cut(f"nothing came either way for {self._bounds.idle_seconds} s")

    def _sent(self, count: int) -> None:
        self._visit.sent += count
        self._moved()

    def _received(self, count: int) -> None:
        self._visit.received += count
        self._moved()

    def _moved(self) -> None:
        self._moved_at = self._loop.time()
        if self._visit.sent + self._visit.received > self._bounds.max_bytes:
            self.cut(f"it carried more than {self._bounds.max_bytes} bytes")

    def _flow_ended(self, trouble: str) -> None:
        if trouble or all(flow.is_over for flow in self._flows):
            self.cut(trouble)


class _Flow:
    """One direction. At any moment it waits either for its source or for its sink, so what is on the way has a bound.

    `receive` is how its source is read where that must not be left to the kernel.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        source: socket.socket,
        sink: socket.socket,
        pipes: Pipes,
        on_moved: Callable[[int], None],
        on_end: Callable[[str], None],
        receive: Callable[[int], bytes] | None = None,
    ) -> None:
        self._loop, self._source, self._sink, self._pipes = loop, source, sink, pipes
        self._on_moved, self._on_end, self._receive = on_moved, on_end, receive
        self._pipe: Pipe | None = None  # while it holds something
        self._pending = 0  # bytes in it
        self.is_over = False

    def start(self) -> None:
        self._loop.add_reader(self._source, self._read)

    def stop(self) -> None:
        self.is_over = True
        self._loop.remove_reader(self._source)
        self._loop.remove_writer(self._sink)
        if self._pipe:
            self._pipe.close()  # and not given back: it isn't empty
            self._pipe = None

    def _read(self) -> None:
        try:
            count = self._take_in()
        except (BlockingIOError, InterruptedError):
            pass
        except OSError as error:
            self._end(f"broken off: {error.strerror}")
        except Refusal as error:
            self._end(error.detail)
        else:
            if count:
                self._on_moved(count)
                self._send_on()
            else:
                with suppress(OSError):  # the other end is gone already, which its own flow finds out
                    self._sink.shutdown(socket.SHUT_WR)
                self._end("")

    def _take_in(self) -> int:
        """Bytes that are in the pipe now; 0 at the source's end."""
        pipe, count = self._pipes.take(), 0
        try:
            if self._receive:
                count = os.write(pipe.writing, self._receive(pipe.size))
            else:
                count = os.splice(self._source.fileno(), pipe.writing, PIPE_BYTES, flags=MOVE)
        finally:
            if count:
                self._pipe, self._pending = pipe, count
            else:
                self._pipes.give_back(pipe)
        return count

    def _send_on(self) -> None:
        if self._write() and not self.is_over:
            self._loop.remove_reader(self._source)
            self._loop.add_writer(self._sink, self._go_on_writing)

    def _write(self) -> bool:
        """Whether something is left in the pipe."""
        if not self._pipe:
            return False
        try:
            self._pending -= os.splice(self._pipe.reading, self._sink.fileno(), self._pending, flags=MOVE)
        except (BlockingIOError, InterruptedError):
            return True
        except OSError as error:
            self._end(f"broken off: {error.strerror}")
            return False
        if self._pending:
            return True
        self._pipes.give_back(self._pipe)
        self._pipe = None
        return False

    def _go_on_writing(self) -> None:
        if not self._write() and not self.is_over:
            self._loop.remove_writer(self._sink)
            self._loop.add_reader(self._source, self._read)

    def _end(self, trouble: str) -> None:
        self.stop()
        self._on_end(trouble)
