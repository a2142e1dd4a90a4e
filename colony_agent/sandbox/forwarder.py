"""Leads a sandbox's loopback to the egress gate's unix socket, then becomes the program of the turn. Standard library only, as a script.

`forwarder PORT SOCKET PROGRAM ARGUMENT…`, as the first process of a sandbox that has no network. The listening socket is there before
the program is, so that nobody connects too early. Then this process becomes the program, whose streams, signals and exit code are so its
own, and a child serves until the sandbox ends. The ways that need no process in here were left for this one: a socket that is handed out
to the turn would have that copy, and hold descriptors for, whatever the agent sends; activation by whoever starts the sandbox can't be,
since its loopback only comes into being with it; and of the programs that shall get out few can speak to a unix socket themselves.
"""

from __future__ import annotations

# The two are what is behind `signal` and `socket`, which spend 10 ms on enumerations, before the program can start.
import _signal  # type: ignore[import-not-found]
import os
import select
import sys
from _socket import AF_INET, AF_UNIX, IPPROTO_TCP, SHUT_WR, SO_REUSEADDR, SOCK_NONBLOCK, SOCK_STREAM, SOL_SOCKET, TCP_NODELAY, socket

MAX_CONNECTIONS = 400  # two descriptors each, of the 1024 that a process may have by default; whoever comes then waits
BACKLOG = 1024
CHUNK_BYTES = 2**16
PAUSE_SECONDS = 0.02  # before the gate, or the system, is asked again whether it has room for one more
IGNORED_BY_PYTHON = (_signal.SIGPIPE, _signal.SIGXFSZ)  # what a process ignores, the program that it becomes does, too
CANNOT_START = 127


class Way:
    """One direction of a connection. What was read waits here until it is written: nothing is read meanwhile."""

    def __init__(self, source: socket, target: socket) -> None:
        self.source, self.target = source, target
        self.held = memoryview(b"")
        self.is_open = True

    @property
    def is_over(self) -> bool:
        return not self.is_open and not self.held

    def move(self) -> None:
        """Pass on what there is. Raises `OSError` when an end is lost."""
        try:
            if self.is_open and not self.held:
                chunk = self.source.recv(CHUNK_BYTES)
                self.held = memoryview(chunk)
                if not chunk:
                    self.is_open = False
                    self.target.shutdown(SHUT_WR)  # the other direction may go on for long
            if self.held:
                self.held = self.held[self.target.send(self.held) :]
        except BlockingIOError:
            pass


class Forwarder:
    """Copies between those who connect to the listener and the gate, all in one thread."""

    def __init__(self, listener: socket, gate: str) -> None:
        self._listener, self._gate = listener, gate
        self._poll = select.epoll()
        self._masks: dict[int, int] = {}  # what is waited for at each descriptor
        self._ways: dict[int, tuple[Way, Way]] = {}  # by either end: from it, to it
        self._await(listener, select.EPOLLIN)

    def run(self) -> None:
        while True:
            is_resting = self._listener.fileno() not in self._masks
            for descriptor, _ in self._poll.poll(PAUSE_SECONDS if is_resting else None):
                if descriptor == self._listener.fileno():
                    self._welcome()
                elif descriptor in self._ways:  # unless its other end has just ended both
                    self._move(*self._ways[descriptor])
            if is_resting and len(self._ways) < 2 * MAX_CONNECTIONS:
                self._await(self._listener, select.EPOLLIN)

    def _welcome(self) -> None:
        """Connect one of those who wait. While there is no room they are left in the kernel's queue."""
        if len(self._ways) >= 2 * MAX_CONNECTIONS:
            self._await(self._listener, 0)
            return
        gate = caller = None
        try:
            gate = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK)
            is_there = self._reach(gate)
            caller = socket(fileno=self._listener._accept()[0])  # type: ignore[attr-defined]
            caller.setblocking(False)
            caller.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
        except OSError:  # the gate's queue is full, there are no descriptors, or the caller has gone
            is_there = False
            self._await(self._listener, 0)
        if gate and caller and is_there:
            there, back = Way(caller, gate), Way(gate, caller)
            self._ways[caller.fileno()], self._ways[gate.fileno()] = (there, back), (back, there)
            self._move(there, back)
            return
        for end in (gate, caller):
            if end:
                end.close()

    def _reach(self, gate: socket) -> bool:
        """Whether it is there; if not, the caller is hung up on. Raises `BlockingIOError` when it has too much to do."""
        try:
            gate.connect(self._gate)
        except (ConnectionRefusedError, FileNotFoundError, PermissionError):
            return False
        return True

    def _move(self, way: Way, other: Way) -> None:
        try:
            way.move()
            other.move()
            is_over = way.is_over and other.is_over
        except OSError:
            is_over = True
        for out, back in ((way, other), (other, way)):
            waits = (select.EPOLLIN if out.is_open and not out.held else 0) | (select.EPOLLOUT if back.held else 0)
            self._await(out.source, 0 if is_over else waits)
        if is_over:
            for end in (way.source, way.target):
                del self._ways[end.fileno()]
                end.close()

    def _await(self, end: socket, mask: int) -> None:
        """Nothing to wait for takes a descriptor off the list: an end that was hung up on would be told of for ever."""
        descriptor = end.fileno()
        before = self._masks.get(descriptor, 0)
        if mask and not before:
            self._poll.register(descriptor, mask)
        elif mask != before:
            self._poll.modify(descriptor, mask) if mask else self._poll.unregister(descriptor)
        if mask:
            self._masks[descriptor] = mask
        else:
            self._masks.pop(descriptor, None)


def main(port: int, gate: str, argv: list[str]) -> None:
    listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK)
    listener.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(BACKLOG)
    if os.fork() == 0:
        _stand_apart()
        if os.fork() == 0:
            Forwarder(listener, gate).run()
        os._exit(0)
    os.wait()  # a program that waits for all of its children would wait for one that serves
    for number in IGNORED_BY_PYTHON:
        _signal.signal(number, _signal.SIG_DFL)
    try:
        os.execvp(argv[0], argv)
    except OSError as error:
        print(f"forwarder: can't start {argv[0]}: {error.strerror}", file=sys.stderr, flush=True)
        os._exit(CANNOT_START)


def _stand_apart() -> None:
    """Before the program starts: its streams end with it; what it sends to its group, or whoever asks it to stop, is not for this."""
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)
    for number in (_signal.SIGTERM, _signal.SIGINT, _signal.SIGHUP):
        _signal.signal(number, _signal.SIG_IGN)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3:])
