"""The single writer: many units of work, one commit."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from sqlalchemy import Connection

from colony.failpoints import reach
from server.metrics import Histogram

BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)
T = TypeVar("T")


class Writer:
    """Runs units of work one after the other on one connection and commits those that wait together at once.

    There is no thread of its own: the first caller to find the seat empty takes it and works for everyone who has queued up by
    then; afterwards it hands the seat to the next in the queue. A lone caller so commits without changing threads, and a busy
    server pays one fsync for many posts.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._mutex = threading.Lock()
        self._queue: list[_Unit[Any]] = []
        self._seat_taken = False
        self.batches = Histogram(BATCHES)

    @property
    def queued(self) -> int:
        """How many units wait to be begun."""
        return len(self._queue)

    def run(self, work: Callable[[Connection], T]) -> T:
        """What `work` returns, once it is durable. Raises what it or the commit raised; then nothing of it is kept.

        `work` may run twice: another one that fails in the same batch takes it back.
        """
        unit = _Unit(work)
        with self._mutex:
            self._queue.append(unit)
            must_wait, self._seat_taken = self._seat_taken, True
        if must_wait:
            unit.turn.acquire()
        if not unit.is_done:
            self._work_for_all()
        return unit.outcome()

    def _work_for_all(self) -> None:
        with self._mutex:
            batch, self._queue = self._queue, []
        self.batches.observe(len(batch))
        try:
            self._commit(batch)
            reach("database.committed")
        except Exception as error:
            # SQLAlchemy takes a COMMIT that failed for the end of the transaction; SQLite leaves it open.
            self._connection.connection.rollback()
            for unit in batch:
                unit.fail(error)
        finally:
            with self._mutex:
                successor = self._queue[0] if self._queue else None
                self._seat_taken = successor is not None
            for unit in batch:
                unit.finish()
            if successor:
                successor.turn.release()

    def _commit(self, batch: list[_Unit[Any]]) -> None:
        """All units in one transaction; only when one fails, once more with a savepoint around each."""
        with self._connection.begin() as transaction:
            if all(unit.attempt(self._connection) for unit in batch):
                reach("database.before_commit")
                return
            transaction.rollback()
        if len(batch) == 1:
            return
        with self._connection.begin():
            for unit in batch:
                self._connection.exec_driver_sql("SAVEPOINT unit")
                if not unit.attempt(self._connection):
                    self._connection.exec_driver_sql("ROLLBACK TO unit")
                self._connection.exec_driver_sql("RELEASE unit")


class _Unit(Generic[T]):
    def __init__(self, work: Callable[[Connection], T]) -> None:
        self._work = work
        self._result: T
        self._error: BaseException | None = RuntimeError("the writer was interrupted")
        self.is_done = False
        self.turn = threading.Lock()
        self.turn.acquire()

    def attempt(self, connection: Connection) -> bool:
        try:
            self._result = self._work(connection)
        except Exception as error:  # handed to the caller, who waits in another thread
            self._error = error
            return False
        self._error = None
        return True

    def fail(self, error: Exception) -> None:
        self._error = error

    def finish(self) -> None:
        self.is_done = True
        self.turn.release()

    def outcome(self) -> T:
        if self._error:
            raise self._error
        return self._result
