"""Two sockets made one: what comes in at either goes out at the other, until both have ended."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from contextlib import suppress

from egress import hello, refusals
from egress.client import Client
from egress.limits import Rounds
from egress.pipes import LARGE_BYTES, Pipe, Pipes
from egress.refusals import OtherHost, Refusal, Slow
from egress.settings import Bounds
from egress.visit import Visit

SEND_BYTES = 512 * 1024  # that may be on the way to a client; the kernel grants what net.core.wmem_max allows, and doubles it
MOVE = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK
Work = Callable[[], bool]  # whether there was still something to do


class Tunnel:
    """Both sockets are non-blocking and stay the caller's, who closes them after `run`.

    What the client says first is read and judged; what comes after that nobody reads. There are callbacks here and no tasks: an agent may
    open hundreds of tunnels at once.
    """

    def __init__(self, client: Client, upstream: socket.socket, visit: Visit, bounds: Bounds, pipes: Pipes, rounds: Rounds) -> None:
        self._loop = asyncio.get_running_loop()
        self._client, self._visit, self._bounds = client, visit, bounds
        self._over: asyncio.Future[str] = self._loop.create_future()
        self._moved_at = self._loop.time()
        self._ends_at = self._moved_at + bounds.total_seconds
        self._next_look: asyncio.TimerHandle | None = None
        self._patience: asyncio.TimerHandle | None = None  # with the client's first message, once it has begun
        self._listener = hello.Listener(visit.host)
        receive = client.receive_now if client.is_wary else None
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BYTES)

        def queue(work: Work) -> bool:
            return rounds.queue(visit.user, work)

        self._out = _Flow(self._loop, client.socket, upstream, pipes, queue, self._sent, self._flow_ended, receive)
        self._back = _Flow(self._loop, upstream, client.socket, pipes, queue, self._received, self._flow_ended)

    async def run(self) -> str:
        """Why it was cut off; empty if both sides have ended by themselves. Raises `Refusal` for what the client says first."""
        try:
            self._watch()
            self._back.start()  # the other end may be the one that speaks first, and the client be silent for as long as it likes
            self._loop.add_reader(self._client.socket.fileno(), self._listen)
            self._listen()
            return await self._over
        finally:
            self._out.stop()  # which ends listening, too
            self._back.stop()
            for timer in (self._next_look, self._patience):
                if timer:
                    timer.cancel()

    def cut(self, reason: str) -> None:
        if not self._over.done():
            self._over.set_result(reason)

    def _listen(self) -> None:
        if self._over.done():
            return
        try:
            arrived = self._client.surplus or self._client.receive_now(hello.MAX_BYTES)
            self._client.surplus = b""
            is_whole = self._listener.hear(arrived)
        except (BlockingIOError, InterruptedError):
            pass
        except Refusal as error:
            self._refuse(error)
        except OSError as error:
            self.cut(refusals.broken_off(error))
        else:
            if is_whole:
                if self._patience:
                    self._patience.cancel()
                self._sent(len(self._listener.said))
                self._out.start(self._listener.said)
            elif not self._patience:
                slow = Slow(f"TLS in the tunnel did not complete its first message within {self._bounds.head_seconds} s")
                self._patience = self._loop.call_later(self._bounds.head_seconds, self._refuse, slow)

    def _refuse(self, error: Refusal) -> None:
        if self._over.done():
            return
        self._over.set_exception(error)
        if isinstance(error, OtherHost):
            with suppress(OSError):
                self._client.socket.send(hello.UNRECOGNIZED_NAME)

    def _watch(self) -> None:
        """Looks when the silence could have become too long, not at each byte."""
        now, quiet_until = self._loop.time(), self._moved_at + self._bounds.idle_seconds
        if now >= self._ends_at:
            self.cut(f"it lasted {self._bounds.total_seconds} s")
        elif now >= quiet_until:
            self.cut(f"nothing came either way for {self._bounds.idle_seconds} s")
        else:
            self._next_look = self._loop.call_at(min(quiet_until, self._ends_at), self._watch)

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
        if trouble or (self._out.is_over and self._back.is_over):
            self.cut(trouble)


class _Flow:
    """One direction. At any moment it waits either for its source or for its sink, so what is on the way has a bound.

    `queue` has a piece moved later, or says that it may be now: all flows of an agent share a round of the loop.
    `receive` is how its source is read where that must not be left to the kernel.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        source: socket.socket,
        sink: socket.socket,
        pipes: Pipes,
        queue: Callable[[Work], bool],
        on_moved: Callable[[int], None],
        on_end: Callable[[str], None],
        receive: Callable[[int], bytes] | None = None,
    ) -> None:
        self._loop, self._sink, self._pipes = loop, sink, pipes
        self._from, self._to = source.fileno(), sink.fileno()  # a loop that looks for a socket in vain spells it out, at each look
        self._queue, self._on_moved, self._on_end, self._receive = queue, on_moved, on_end, receive
        self._pipe: Pipe | None = None  # while it holds something
        self._pending = 0  # bytes in it
        self._first = b""
        self.is_over = False

    def start(self, first: bytes = b"") -> None:
        """`first` goes to the sink before what the source says from now on."""
        self._first = first
        self._loop.add_reader(self._from, self._read_in_turn)
        self._send_on()

    def stop(self) -> None:
        self.is_over = True
        self._loop.remove_reader(self._from)
        self._loop.remove_writer(self._to)
        if self._pipe:
            self._pipes.end(self._pipe)  # and not given back: it isn't empty
            self._pipe = None

    def _read_in_turn(self) -> None:
        if self._queue(self._read_now):
            self._loop.remove_reader(self._from)
        else:
            self._read()

    def _read_now(self) -> bool:
        if self.is_over:
            return False
        if self._read():
            self._queue(self._read_now)  # in a later round: as long as it flows, nobody has to be asked whether more is there
        elif not self.is_over and not self._pending:
            self._loop.add_reader(self._from, self._read_in_turn)
        return True

    def _read(self) -> bool:
        """Whether a piece has gone all the way."""
        try:
            count = self._take_in()
        except (BlockingIOError, InterruptedError):
            pass
        except OSError as error:
            self._end(refusals.broken_off(error))
        except Refusal as error:
            self._end(error.detail)
        else:
            if count:
                self._on_moved(count)
                self._send_on()
                return not self.is_over and not self._pending
            with suppress(OSError):  # the other end is gone already, which its own flow finds out
                self._sink.shutdown(socket.SHUT_WR)
            self._end("")
        return False

    def _take_in(self) -> int:
        """Bytes that are in the pipe now; 0 at the source's end."""
        pipe, count = self._pipes.take(), 0
        try:
            if self._receive:
                count = os.write(pipe.writing, self._receive(pipe.size))
            else:
                count = os.splice(self._from, pipe.writing, LARGE_BYTES, flags=MOVE)
        finally:
            if count:
                self._pipe, self._pending = pipe, count
            else:
                self._pipes.give_back(pipe)
        return count

    def _send_on(self) -> None:
        if self._write() and not self.is_over:
            self._loop.remove_reader(self._from)
            self._loop.add_writer(self._to, self._write_in_turn)

    def _write(self) -> bool:
        """Whether something is left that could not be written yet."""
        try:
            if self._first:
                self._first = self._first[self._sink.send(self._first) :]
            elif self._pipe:
                self._pending -= os.splice(self._pipe.reading, self._to, self._pending, flags=MOVE)
        except (BlockingIOError, InterruptedError):
            return True
        except OSError as error:
            self._end(refusals.broken_off(error))
            return False
        if self._first or self._pending:
            return True
        if self._pipe:
            self._pipes.give_back(self._pipe)
            self._pipe = None
        return False

    def _write_in_turn(self) -> None:
        self._loop.remove_writer(self._to)
        if not self._queue(self._write_now):
            self._write_now()

    def _write_now(self) -> bool:
        if self.is_over:
            return False
        if self._write():
            self._loop.add_writer(self._to, self._write_in_turn)
        elif not self.is_over:
            self._queue(self._read_now)
        return True

    def _end(self, trouble: str) -> None:
        self.stop()
        self._on_end(trouble)
