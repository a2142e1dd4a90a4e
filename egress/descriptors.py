"""Descriptors that somebody passes along with bytes: closing one can take as long as its sender likes (SO_LINGER), and stop all others."""

from __future__ import annotations

import array
import os
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial

SO_PASSRIGHTS = 83  # since Linux 6.16; see `man 7 unix`
MOST = 253  # of one message, as the kernel has it
CLOSING = 48  # threads; the gate needs others, and its unit has so many
IDLE_SECONDS = 1.0  # after which one of them ends
DEEPEST = 8  # sockets within sockets, of which the kernel takes fewer
EMPTY = 1024  # messages one after the other, which is the end; only streams have no empty ones
_AT_ONCE = struct.pack("ii", 0, 0)
_SPACE = socket.CMSG_SPACE(MOST * array.array("i").itemsize)


def decline(listening: socket.socket) -> bool:
    """Whether the kernel lets nobody pass any to the connections that are taken here; older ones can't be told so."""
    try:
        listening.setsockopt(socket.SOL_SOCKET, SO_PASSRIGHTS, 0)
    except OSError:
        return False
    return True


def receive(connection: socket.socket, most: int) -> tuple[bytes, bool]:
    """Up to so many bytes, and whether descriptors came along, which are closed where nobody waits for that. Raises `BlockingIOError`."""
    data, came = _received(connection, most)
    for each in came:
        _CLOSERS.begin(partial(_let_go, each))
    return data, bool(came)


def close(connection: socket.socket) -> None:
    """Close a connection in which descriptors may wait unread, which closes them, too."""
    descriptor = connection.detach()
    _CLOSERS.begin(partial(_let_go, descriptor))


class Closers:
    """Threads that each close one thing after the other. What finds none waits: who has some closed slowly takes no more of them."""

    def __init__(self, most: int = CLOSING) -> None:
        self._most = most
        self._news = threading.Condition()
        self._threads = self._idle = 0
        self._waiting: deque[Callable[[], object]] = deque()

    def begin(self, work: Callable[[], object]) -> None:
        with self._news:
            self._waiting.append(work)
            if len(self._waiting) <= self._idle or self._threads >= self._most:
                self._news.notify()
                return
            self._threads += 1
        try:
            threading.Thread(target=self._work, name="closing", daemon=True).start()
        except RuntimeError:  # no more threads: it waits for one of these
            with self._news:
                self._threads -= 1

    def _work(self) -> None:
        while work := self._next():
            with suppress(OSError):
                work()

    def _next(self) -> Callable[[], object] | None:
        with self._news:
            self._idle += 1
            is_there = self._news.wait_for(lambda: self._waiting, IDLE_SECONDS)
            self._idle -= 1
            if is_there:
                return self._waiting.popleft()
            self._threads -= 1
            return None


_CLOSERS = Closers()


def _received(connection: socket.socket, most: int) -> tuple[bytes, array.array[int]]:
    data, ancillary, _, _ = connection.recvmsg(most, _SPACE)
    came = array.array("i")
    for level, kind, passed in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            came.frombytes(passed[: len(passed) - len(passed) % came.itemsize])
    return data, came


def _let_go(descriptor: int, depth: int = 0) -> None:
    """Close it. What it is told to wait for then is not waited for, nor what those are told to that are within it."""
    try:
        found = socket.socket(fileno=descriptor)
    except OSError:  # no socket
        with suppress(OSError):
            os.close(descriptor)
        return
    with found:
        with suppress(OSError):
            found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        if found.family == socket.AF_UNIX and depth < DEEPEST:
            _empty(found, depth)


def _empty(connection: socket.socket, depth: int) -> None:
    connection.setblocking(False)
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)  # nothing more is put into it
    with suppress(OSError):  # nobody is there any more, or it does not listen
        while True:
            _let_go(connection.accept()[0].detach(), depth + 1)
    empty = 0
    with suppress(OSError):
        while empty < (1 if connection.type == socket.SOCK_STREAM else EMPTY):
            data, came = _received(connection, 65536)
            empty = 0 if data else empty + 1
            for each in came:
                _let_go(each, depth + 1)
