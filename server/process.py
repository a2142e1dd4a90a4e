"""The server as a process: gunicorn with one worker of many threads, on a unix socket and on loopback."""

from __future__ import annotations

import atexit
import ctypes
import gc
import os
import resource
import select
import signal
import socket
import struct
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from flask import Flask
from gunicorn.app.base import BaseApplication  # type: ignore[import-untyped]
from gunicorn.workers.gthread import ThreadWorker  # type: ignore[import-untyped]

from colony import errors, lifeline
from server.config import ServerConfig
from server.identity import peer_uid
from server.systemd import Systemd

SLOW_CLIENT_SECONDS = 10  # for the next part of a request, or of an answer
LINGER_SECONDS = 0.1  # that a thread waits for a client's next request, before it leaves the connection to the one that watches them all
SHARE = 8  # who has an account holds one of so many connections, and waits in one of so many threads: nobody keeps the others out
GRACEFUL_SECONDS = 2  # long polls are sent home at once; anything else is done by then
_SLOW_CLIENT = struct.pack("ll", SLOW_CLIENT_SECONDS, 0)
_M_ARENA_MAX = -8


@dataclass(frozen=True)
class Listen:
    socket: Path
    port: int  # on 127.0.0.1; 0: only the socket
    threads: int


def serve(config: ServerConfig, listen: Listen) -> None:
    """Serve until SIGTERM. Raises `Unavailable` when an address is taken."""
    _require_free(listen)
    try:
        if not listen.socket.parent.exists():
            listen.socket.parent.mkdir(parents=True)
            listen.socket.parent.chmod(0o755 if os.geteuid() == 0 else 0o700)
    except OSError as error:
        raise errors.Unavailable(f"can't create {listen.socket.parent}: {error.strerror}") from error
    _allow_descriptors(2 * listen.threads + 256)
    _Server(config, listen).run()


class _Worker(ThreadWorker):  # type: ignore[misc]
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._held: dict[int, list[Any]] = {}  # connections by the uid at their other end; those that are closed by now, too

    def enqueue_req(self, conn: Any) -> None:
        """Whoever holds too many connections is hung up on, before another one takes a thread from everybody."""
        if conn.initialized or self._admits(conn):
            super().enqueue_req(conn)
        else:
            self.nr_conns -= 1
            conn.close()

    def _admits(self, conn: Any) -> bool:
        uid = peer_uid(conn.sock)
        if uid in (None, 0, os.geteuid()):
            return True
        held = self._held[uid] = [other for other in self._held.get(uid, ()) if other.sock.fileno() >= 0]
        if conn not in held:
            held.append(conn)
        return len(held) <= int(self.cfg.threads) // SHARE

    def handle(self, conn: Any) -> Any:
        """Whoever sends half a request, or doesn't take the answer, must not hold a thread for ever."""
        if not conn.initialized:
            for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
                conn.sock.setsockopt(socket.SOL_SOCKET, option, _SLOW_CLIENT)
        keeps_open = super().handle(conn)
        # As long as nobody waits for a thread; else a few who never pause would keep all of them.
        while keeps_open is True and self.alive and self.tpool._work_queue.empty() and _speaks_on(conn):
            keeps_open = super().handle(conn)
        if not keeps_open:
            conn.close(graceful=True)  # here, and not in the one thread that accepts: it waits for the client to hang up
        return keeps_open


def _speaks_on(conn: Any) -> bool:
    """Whether the client's next request comes at once: then no other thread needs to hear of it."""
    if conn.parser.unreader.buf.getvalue():
        return False
    poll = select.poll()
    poll.register(conn.sock, select.POLLIN)
    return bool(poll.poll(LINGER_SECONDS * 1e3))


class _Server(BaseApplication):  # type: ignore[misc]
    def __init__(self, config: ServerConfig, listen: Listen) -> None:
        self._config, self._listen = config, listen
        self._systemd = Systemd()
        super().__init__()

    def load_config(self) -> None:
        loopback = [f"127.0.0.1:{self._listen.port}"] if self._listen.port else []
        settings = {
            "bind": [f"unix:{self._listen.socket}", *loopback],
            "umask": 0o077,
            "worker_class": _Worker,
            "workers": 1,  # one process, so that one writer writes and a wake reaches every waiter
            "threads": self._listen.threads,
            "worker_connections": 2 * self._listen.threads,
            "keepalive": 75,
            "graceful_timeout": GRACEFUL_SECONDS,
            "timeout": 60,
            "accesslog": None,
            "forwarder_headers": "",  # no caller says where this server is mounted
            "loglevel": "warning",
            "control_socket_disable": True,
            "when_ready": self._open,
            "pre_fork": _share_memory,
            "post_fork": _tie_to_parent,
            "post_worker_init": self._prepare_worker,
            "proc_name": "colony-server",
        }
        for name, value in settings.items():
            self.cfg.set(name, value)

    def _open(self, arbiter: Any) -> None:
        """Every local user who can reach the socket may knock: the kernel says who it is, and strangers are refused."""
        self._listen.socket.chmod(0o666)

    def _prepare_worker(self, worker: Any) -> None:
        from server import watch

        gate = worker.wsgi.extensions["gate"]
        _stop_gracefully(worker, self._systemd)
        atexit.register(gate.database.close)  # when all threads have ended; then SQLite leaves everything in one file
        watch.start(gate, self._config.patience)
        self._systemd.report(gate, self._listen.socket)

    def load(self) -> Flask:
        from server import create_app

        # Many short-lived threads would otherwise each keep a heap of their own.
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 2)
        return create_app(self._config)


def _allow_descriptors(count: int) -> None:
    """Without them a crowd of clients would end the worker; the usual soft limit is 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count if hard == resource.RLIM_INFINITY else min(count, hard), hard))


def _share_memory(arbiter: Any, worker: Any) -> None:
    """The collector would write to everything that the two have in common, and so copy it."""
    gc.collect()
    gc.freeze()


def _tie_to_parent(arbiter: Any, worker: Any) -> None:
    """A killed master must not leave a worker that holds the port and the database."""
    if not lifeline.die_with_parent(arbiter.pid):
        os._exit(1)


def _stop_gracefully(worker: Any, systemd: Systemd) -> None:
    """Stop sends waiters home; slow clients, whom it hangs up on, don't fill the log."""
    worker.log.error_log.addFilter(lambda record: not (record.exc_info and isinstance(record.exc_info[1], BlockingIOError)))
    previous = signal.getsignal(signal.SIGTERM)

    def stop(number: int, frame: FrameType | None) -> None:
        waiters = worker.wsgi.extensions["gate"].waiters
        if not waiters.is_closed:  # a second signal could find their lock held by this very thread
            systemd.stopping()
            waiters.close()
        if callable(previous):
            previous(number, frame)

    signal.signal(signal.SIGTERM, stop)


def _require_free(listen: Listen) -> None:
    if listen.port:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", listen.port))
            except OSError as error:
                raise errors.Unavailable(f"port {listen.port} is taken ({error.strerror}); name another with --port") from error
    with socket.socket(socket.AF_UNIX) as probe:
        if len(str(listen.socket)) > 100:
            raise errors.Unavailable(f"the socket's path is too long for Linux: {listen.socket}; name a shorter one with --socket")
        if probe.connect_ex(str(listen.socket)) == 0:
            raise errors.Unavailable(f"another server answers on {listen.socket}")
