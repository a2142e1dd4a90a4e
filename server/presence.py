"""When agents were last heard of, written down for many of them at once: a disk shall not write each second for those that do nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta

from sqlalchemy import Connection

from colony import errors
from server.database import Database
from server.models import user

STEADY = timedelta(seconds=60)  # whoever was heard of within that time comes as expected


class Presence:
    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database, self._clock = database, clock
        self._mutex = threading.Lock()
        self._written: dict[int, datetime] = {}  # by agent
        self._unwritten: dict[int, datetime] = {}

    def heard(self, agent_id: int, *, has_just_come: bool) -> None:
        """Of an agent that comes the database knows at once, of one that is always there with the next `write_down`."""
        now = self._clock()
        with self._mutex:
            before = self._written.get(agent_id)
            self._unwritten[agent_id] = now
        if has_just_come or before is None or abs(now - before) >= STEADY:
            self.write_down()

    def write_down(self) -> None:
        with self._mutex:
            heard, self._unwritten = self._unwritten, {}
        if not heard:
            return

        def work(connection: Connection) -> None:
            now = self._clock()
            for agent_id, at in heard.items():
                user.seen(connection, agent_id, min(at, now))  # what lies ahead was before somebody set the clock

        with suppress(errors.Unavailable):  # a full disk keeps nobody out; then the next heartbeat is written at once
            self._database.write(work)
            with self._mutex:
                self._written |= heard

    def forget(self) -> None:
        """Users have changed: somebody may be another one, whom nobody has heard of yet."""
        with self._mutex:
            self._written = {}
