"""The idle worker: holds one long poll and starts a turn when something is due. Standard library only, run as a script.

An agent idles most of its life, so this file imports next to nothing: what is once imported stays in memory. It learns what it must
know from a JSON document (see `Orders`) on a descriptor, and leaves all work to the short-lived child `colony-agent turn`.
"""

from __future__ import annotations

import errno
import json
import os
import select
import signal
import socket
import sys
import time

HEARTBEAT_SECONDS = 40  # how long one poll waits
PATIENCE_SECONDS = 15  # on top of that, before a silent server is given up
RETRY_SECONDS = (0.1, 0.5, 1, 2, 5, 10, 30)  # between tries to reach the server
REST_SECONDS = (0.5, 1, 2, 5, 10, 30, 60)  # after turns that did nothing
STOP_SECONDS = 10  # for a turn that shall hand back its work, before it is killed
FAILED, NOTHING = 10, 75  # exit codes of a turn: handed back (1 would be any crash's), nothing to do (EX_TEMPFAIL)
MAX_ANSWER_BYTES = 65536
ERROR, WARNING, INFO = 3, 4, 6  # as syslog numbers them


TYPE_CHECKING = False  # `typing` itself would cost half a megabyte
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any


class Orders:
    """What a worker must know, as the command that starts it wrote it down."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.agent: str = document["agent"]
        self.url: str = document["url"]
        self.token: str | None = document["token"]
        self.turn_argv: list[str] = document["turn_argv"]
        self.turn_deadline_seconds: float = document["turn_deadline_seconds"]
        self.pulse_seconds: int = document["pulse_seconds"]  # 0: no pulse
        self.heartbeat_file: str = document["heartbeat_file"]


class Poll:
    """One heartbeat on its way: sent, and answered when there is news."""

    def __init__(self, orders: Orders, status: str | None, busy: bool) -> None:
        self.busy = busy
        self.deadline = time.monotonic() + HEARTBEAT_SECONDS + PATIENCE_SECONDS
        self._received = b""
        fields = {"wait": HEARTBEAT_SECONDS, "status": status, "busy": busy} if status else {"busy": busy}
        self._socket = ask(orders.url, orders.token, f"/api/agents/{orders.agent}/heartbeat", fields)
        self._socket.setblocking(False)

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def answer(self) -> dict[str, Any] | None:
        """The server's answer; None while it isn't complete. Raises OSError for anything else than a colony's answer."""
        try:
            while chunk := self._socket.recv(MAX_ANSWER_BYTES):
                self._received += chunk
                if len(self._received) > MAX_ANSWER_BYTES:
                    raise OSError(errno.EPROTO, "the answer is too long")
        except (BlockingIOError, InterruptedError):
            return None
        except OSError as error:
            if error.errno in (None, 2) and "did not complete" in str(error):  # TLS: nothing to read yet
                return None
            raise
        code, document = understood(self._received)
        if code != "200" or not document.keys() >= {"status", "due"}:
            raise OSError(errno.EPROTO, f"the server answered {code}: {document.get('detail', 'no words of a colony')}")
        return document


class Child:
    """A running turn."""

    def __init__(self, pid: int, deadline: float) -> None:
        self.pid = pid
        self.deadline = deadline
        self.descriptor = os.pidfd_open(pid)  # readable once it has ended
        self._is_stopping = False

    def fileno(self) -> int:
        return self.descriptor

    def stop(self) -> None:
        """Ask it, once, to hand its work back; it is killed if it doesn't."""
        if self._is_stopping:
            return
        self._is_stopping = True
        signal.pidfd_send_signal(self.descriptor, signal.SIGTERM)
        self.deadline = min(self.deadline, time.monotonic() + STOP_SECONDS)

    def kill(self) -> None:
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            signal.pidfd_send_signal(self.descriptor, signal.SIGKILL)

    def reap(self) -> int:
        """Its exit code, negative for a signal."""
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        os.close(self.descriptor)
        return code


class Worker:
    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        self._status: str | None = None  # what the server said last
        self._poll: Poll | None = None
        self._turn: Child | None = None
        self._failures = 0  # of reaching the server
        self._idle_turns = 0  # in a row that did nothing
        self._not_before = 0.0  # no poll, after a failure
        self._rest_until = 0.0  # no turn, after one that did nothing
        self._pulse = self._pulse_number()
        self._stopping = False
        self._wake, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_stop)
        watchdog = int(os.environ.get("WATCHDOG_USEC") or 0) / 1e6
        self._watchdog_seconds = watchdog / 2 if watchdog else None

    def run(self) -> None:
        """Work until SIGTERM, or until the agent is dead."""
        notify(f"READY=1\nSTATUS={self._orders.agent} waits")
        _log("worker ready", agent=self._orders.agent, pid=os.getpid())
        while not (self._stopping and self._turn is None):
            if self._status == "dead" and self._turn is None:
                break
            self._step()
        notify("STOPPING=1")
        _log("worker ends", agent=self._orders.agent)

    def _step(self) -> None:
        if self._stopping and self._turn:
            self._turn.stop()
        now = time.monotonic()
        if self._poll and self._poll.busy and not self._is_busy(now):
            self._close_poll()  # it waited for a change of status only
        if self._poll is None and not self._stopping and now >= self._not_before:
            self._begin_poll()
        self._maybe_pulse()
        poller = select.poll()
        poller.register(self._wake, select.POLLIN)
        if self._poll:
            poller.register(self._poll, select.POLLIN)
        if self._turn:
            poller.register(self._turn, select.POLLIN)
        ready = {descriptor for descriptor, _ in poller.poll(max(0, int(self._pause_seconds() * 1000) + 1))}
        if self._wake in ready:
            os.read(self._wake, 64)
        if self._turn and (self._turn.fileno() in ready or time.monotonic() >= self._turn.deadline):
            self._end_turn(self._turn, timed_out=self._turn.fileno() not in ready)
        if self._poll and (self._poll.fileno() in ready or time.monotonic() >= self._poll.deadline):
            self._hear(self._poll)
        if self._watchdog_seconds:
            notify("WATCHDOG=1")

    def _pause_seconds(self) -> float:
        """How long nothing happens unless something is heard."""
        now = time.monotonic()
        moments = [now + 3600]
        if self._poll:
            moments.append(self._poll.deadline)
        elif not self._stopping:
            moments.append(self._not_before)
        if self._turn:
            moments.append(self._turn.deadline)
        elif self._is_busy(now):
            moments.append(self._rest_until)
        if self._orders.pulse_seconds:
            moments.append(now + self._orders.pulse_seconds - (time.time() - self._stagger()) % self._orders.pulse_seconds)
        if self._watchdog_seconds:
            moments.append(now + self._watchdog_seconds)
        return min(moments) - now

    def _is_busy(self, now: float) -> bool:
        """Whether no turn may start: one runs, or one has just done nothing. The status is listened for all the same."""
        return self._turn is not None or now < self._rest_until

    def _begin_poll(self) -> None:
        try:
            known = None if self._failures else self._status  # after a failure the first answer must come at once
            self._poll = Poll(self._orders, known, busy=self._is_busy(time.monotonic()))
        except OSError as error:
            self._unreachable(error)

    def _hear(self, poll: Poll) -> None:
        try:
            answer = poll.answer()
            if answer is None and time.monotonic() >= poll.deadline:
                raise OSError(errno.ETIMEDOUT, "the server is silent")
        except OSError as error:
            self._close_poll()
            self._unreachable(error)
            return
        if answer is None:
            return
        self._close_poll()
        if self._failures:
            _log("server is back", agent=self._orders.agent)
        self._failures = 0
        if answer["status"] != self._status:
            _log("status", agent=self._orders.agent, status=answer["status"])
            notify(f"STATUS={self._orders.agent} is {answer['status']}")
        self._status = answer["status"]
        if self._turn and self._status != "healthy":
            self._turn.stop()
        if answer["due"] and not poll.busy and not self._turn and not self._stopping:
            self._start_turn()

    def _unreachable(self, error: OSError) -> None:
        pause = RETRY_SECONDS[min(self._failures, len(RETRY_SECONDS) - 1)]
        if self._failures in (0, len(RETRY_SECONDS)):
            _log("server unreachable", WARNING, agent=self._orders.agent, error=error.strerror or error)
        self._failures += 1
        self._not_before = time.monotonic() + pause

    def _close_poll(self) -> None:
        if self._poll:
            self._poll.close()
            self._poll = None

    def _maybe_pulse(self) -> None:
        number = self._pulse_number()
        if number == self._pulse:
            return
        if self._status == "healthy" and not self._turn and not self._stopping and _has_content(self._orders.heartbeat_file):
            self._start_turn("--pulse")
        if not self._turn or self._status != "healthy":
            self._pulse = number

    def _pulse_number(self) -> int:
        return int((time.time() - self._stagger()) // self._orders.pulse_seconds) if self._orders.pulse_seconds else 0

    def _stagger(self) -> int:
        """Agents of other names have their pulse at other seconds, the same after each restart."""
        return int.from_bytes(self._orders.agent.encode(), "big") % max(1, self._orders.pulse_seconds)

    def _start_turn(self, *options: str) -> None:
        self._close_poll()  # it waited for items, too: those are this turn's now
        argv = [*self._orders.turn_argv, "--parent", str(os.getpid()), *options]
        try:
            pid = os.posix_spawn(argv[0], argv, os.environ, setpgroup=0, setsigmask=[], setsigdef=[signal.SIGTERM, signal.SIGINT])
        except OSError as error:  # too many processes, or not enough memory: that passes
            _log("turn not started", WARNING, agent=self._orders.agent, error=error.strerror)
            self._rest()
            return
        self._turn = Child(pid, time.monotonic() + self._orders.turn_deadline_seconds)
        if options:
            self._pulse = self._pulse_number()

    def _end_turn(self, turn: Child, timed_out: bool) -> None:
        if timed_out:
            _log("turn killed", WARNING, agent=self._orders.agent, pid=turn.pid)
            turn.kill()
        self._turn = None
        code = turn.reap()
        _end_orphans()
        if code == 0:
            self._idle_turns = 0
        else:
            self._rest()
        if code not in (0, FAILED, NOTHING):
            _log("turn crashed", WARNING, agent=self._orders.agent, code=code)

    def _rest(self) -> None:
        self._rest_until = time.monotonic() + REST_SECONDS[min(self._idle_turns, len(REST_SECONDS) - 1)]
        self._idle_turns += 1

    def _on_stop(self, number: int, frame: FrameType | None) -> None:
        self._stopping = True  # the byte on the wake-up pipe ends the wait


def ask(url: str, token: str | None, path: str, fields: dict[str, Any]) -> socket.socket:
    """POST the fields to the colony; on the connection comes one answer, as far as its end. Raises OSError."""
    body = json.dumps(fields)
    head = [
        f"POST {_path(url)}{path} HTTP/1.0",
        f"Host: {_host(url)}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    ]
    if token:
        head.append(f"Authorization: Bearer {token}")
    connection = _connect(url)
    connection.sendall("\r\n".join([*head, "", body]).encode())
    return connection


def understood(received: bytes) -> tuple[str, dict[str, Any]]:
    """The HTTP status of an answer and its JSON; that is empty where it is none of a colony's. Raises OSError if nothing came."""
    head, _, body = received.partition(b"\r\n\r\n")
    words = head.split(b" ", 2)
    if len(words) < 3 or not words[0].startswith(b"HTTP/"):
        raise OSError(errno.EPROTO, "the server hung up")
    try:
        document = dict(json.loads(body))
    except (ValueError, TypeError):  # a proxy's page, or a part of an answer
        document = {}
    return words[1].decode(errors="replace"), document


def _end_orphans() -> None:
    """End what a killed turn has left: it is this process's child now, as the command that started it arranged."""
    while orphans := _children():  # their own children come next
        for pid in orphans:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _children() -> list[int]:
    try:
        with open(f"/proc/self/task/{os.getpid()}/children") as file:
            return [int(pid) for pid in file.read().split()]
    except OSError:  # a kernel that doesn't tell
        return []


def _connect(url: str) -> socket.socket:
    if url.startswith("unix:"):
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        connection.settimeout(5)
        connection.connect(url[5:])
        return connection
    name, _, port = _host(url).rpartition(":") if ":" in _host(url).rpartition("]")[2] else (_host(url), "", "")
    is_tls = url.startswith("https:")
    connection = socket.create_connection((name.strip("[]"), int(port or (443 if is_tls else 80))), timeout=5)
    if is_tls:
        import ssl

        connection = ssl.create_default_context().wrap_socket(connection, server_hostname=name.strip("[]"))
    return connection


def _host(url: str) -> str:
    return "colony" if url.startswith("unix:") else url.split("/")[2]


def _path(url: str) -> str:
    return "" if url.startswith("unix:") else "".join(f"/{part}" for part in url.split("/")[3:])


def _has_content(path: str) -> bool:
    """Whether a regular file has more in it than blanks; the agent may have put anything there."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return bool(os.read(descriptor, 4096).strip())
    except OSError:
        return False
    finally:
        os.close(descriptor)


def notify(text: str) -> None:
    """Tell systemd, as `man sd_notify` says, if it started us. Of a service it hears the main process only."""
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            channel.connect("\0" + address[1:] if address[0] == "@" else address)
            channel.send(text.encode())


def prefix(priority: int) -> str:
    """What tells the journal how grave a line is; nothing where stderr leads elsewhere."""
    return f"<{priority}>" if leads_to_journal() else ""


def leads_to_journal() -> bool:
    """Whether stderr is systemd's journal; others may have inherited the variable (`man systemd.exec`)."""
    stream = os.environ.get("JOURNAL_STREAM")
    return bool(stream) and stream == "{0.st_dev}:{0.st_ino}".format(os.fstat(2))


def _log(what: str, priority: int = INFO, **ids: object) -> None:
    print(prefix(priority) + what, *(f"{name}={value}" for name, value in ids.items()), file=sys.stderr, flush=True)


if __name__ == "__main__":
    with open(int(sys.argv[1])) as orders:
        worker = Worker(Orders(json.load(orders)))
    worker.run()
