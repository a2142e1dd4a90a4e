"""PostgreSQL's NOTIFY and LISTEN: what one server commits wakes the waiters of the others. Only server/database.py uses it.

It is told after the commit, by a connection of its own: within the transaction NOTIFY makes the whole database commit one by one.
"""

from __future__ import annotations

import json
import logging
import os
import select
import threading
from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import Any

from sqlalchemy import Engine

from server.waiters import Topic

CHANNEL = "colony"
MAX_PAYLOAD_BYTES = 7_999  # PostgreSQL's own bound
MAX_UNSENT = 1_000  # commits; of more the others learn only that there were some
FIRST_PAUSE_SECONDS = 0.1  # before the lost connection is opened again; doubled up to the longest
LONGEST_PAUSE_SECONDS = 5.0
_OPTIONS = {
    "application_name": "colony notifications",
    "keepalives_idle": 30,  # seconds: a database whose machine vanished is missed within a minute
    "keepalives_interval": 10,
    "keepalives_count": 3,
}

log = logging.getLogger(__name__)
Hear = Callable[[Sequence[Topic] | None], None]  # None: some may have been missed, so everyone is meant


class Notifications:
    """One server's voice and ear among the servers of a database: a thread with its own connection, which it opens again when lost.

    If a server dies between its commit and the telling, others hear of it when their wait is over.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._unsent: deque[Sequence[Topic]] = deque(maxlen=MAX_UNSENT)
        self._bell = os.eventfd(0, os.EFD_NONBLOCK)  # rung when there is something to tell, or to end
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def publish(self, topics: Sequence[Topic]) -> None:
        """Tell the other servers, soon; nobody waits for it."""
        self._unsent.append(topics)
        os.eventfd_write(self._bell, 1)

    def subscribe(self, hear: Hear) -> None:
        """From now on let `hear` know what the others tell."""
        self._thread = threading.Thread(target=self._run, args=(hear,), name="notifications", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread; what was published before is told."""
        self._closing.set()
        os.eventfd_write(self._bell, 1)
        if self._thread:
            self._thread.join()
        os.close(self._bell)

    def _run(self, hear: Hear) -> None:
        pause = FIRST_PAUSE_SECONDS
        while not self._closing.is_set():
            try:
                with self._connect() as connection:
                    pause = FIRST_PAUSE_SECONDS
                    self._attend(connection, hear)
            except self._engine.dialect.dbapi.Error as error:  # type: ignore[union-attr]
                log.warning("no notifications from the database retry_seconds=%s error=%s", pause, " ".join(str(error).split()))
                self._engine.dispose()  # what ended this connection has likely ended the pool's: no request shall find out
                self._closing.wait(pause)
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    def _connect(self) -> Any:
        arguments, options = self._engine.dialect.create_connect_args(self._engine.url)
        return self._engine.dialect.connect(*arguments, **{**_OPTIONS, **options, "autocommit": True})

    def _attend(self, connection: Any, hear: Hear) -> None:
        """Tell and hear until the connection is lost or the server stops."""
        connection.execute("SET synchronous_commit TO off")  # what is told need not survive anything
        connection.execute(f"LISTEN {CHANNEL}")
        hear(None)  # what was told before, by whomever, is lost
        _tell(connection, None)
        while not self._closing.is_set():
            if self._bell in _readable(self._bell, connection.fileno()):
                os.eventfd_read(self._bell)
                self._tell_unsent(connection)
            for heard in connection.notifies(timeout=0):
                if heard.pid != connection.info.backend_pid:  # one's own waiters have been woken
                    hear(_understood(heard.payload))
        self._tell_unsent(connection)

    def _tell_unsent(self, connection: Any) -> None:
        """Many commits in one notification."""
        found = [self._unsent.popleft() for _ in range(len(self._unsent))]
        if found:
            _tell(connection, None if len(found) == MAX_UNSENT else {topic for topics in found for topic in topics})


def _tell(connection: Any, topics: Collection[Topic] | None) -> None:
    payload = json.dumps(topics and list(topics), separators=(",", ":"))
    connection.execute("SELECT pg_notify(%s, %s)", (CHANNEL, payload if len(payload) <= MAX_PAYLOAD_BYTES else "null"))


def _understood(payload: str) -> Sequence[Topic] | None:
    try:
        topics = [tuple(topic) if isinstance(topic, list) else topic for topic in json.loads(payload)]
        hash(tuple(topics))  # a topic is a key
        return topics
    except (TypeError, ValueError, RecursionError):  # everyone, or what only a newer server understands
        return None


def _readable(*descriptors: int) -> Collection[int]:
    """Those that can be read, once one of them can."""
    poll = select.poll()  # not select(), which ends at 1,024 descriptors
    for each in descriptors:
        poll.register(each, select.POLLIN)
    return dict(poll.poll())
