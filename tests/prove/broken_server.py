"""`python -m tests.prove.broken_server FLAW …`: colony-server without one of the things that keep its promise. A proof must notice."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from sqlalchemy import Connection, Row, Transaction, select

from colony import errors, schema
from colony.failpoints import reach
from server import cli, database
from server.models import posting, turn
from server.models.posting import Author, LoopGuard, Posted

T = TypeVar("T")
LATE_SECONDS = 0.05


class HastyWriter:
    """Gives what the work returns, and commits a moment later."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._seat = threading.Lock()

    def run(self, work: Callable[[Connection], T]) -> T:
        self._seat.acquire()
        transaction = self._connection.begin()
        try:
            result = work(self._connection)
        except BaseException:
            transaction.rollback()
            self._seat.release()
            raise
        is_post = isinstance(result, tuple) and isinstance(result[0], schema.Message)
        threading.Thread(target=self._commit, args=[transaction, is_post]).start()
        return result

    def _commit(self, transaction: Transaction, is_post: bool) -> None:
        time.sleep(LATE_SECONDS)
        if is_post:  # nobody would miss a heartbeat
            reach("database.before_commit")
        transaction.commit()
        reach("database.committed")
        self._seat.release()


def acknowledge_before_the_commit() -> None:
    def close(self: database.SQLite) -> None:
        self.write(lambda connection: time.sleep(3 * LATE_SECONDS))  # it has the seat: whatever came before is committed
        time.sleep(3 * LATE_SECONDS)
        properly(self)

    properly = database.SQLite.close
    database.SQLite.close = close  # type: ignore[method-assign]
    database.Writer = HastyWriter  # type: ignore[attr-defined, assignment]


def let_stale_attempts_speak() -> None:
    def anyone(connection: Connection, agent_id: int, reference: turn.Reference, **how: Any) -> Row[Any]:
        try:
            return fenced(connection, agent_id, reference, **how)
        except errors.StaleTurn:
            newest = connection.execute(select(turn.turns.c.attempt).where(turn.turns.c.id == reference.id)).scalar_one()
            return fenced(connection, agent_id, turn.Reference(reference.id, newest), may_be_closed=True)

    fenced = turn.fenced
    turn.fenced = anyone


def forget_client_ids() -> None:
    post = posting.post

    def post_anyway(connection: Connection, author: Author, request: schema.PostMessage, guard: LoopGuard, now: Any) -> list[Posted]:
        return post(connection, author, request.model_copy(update={"client_id": None}), guard, now)

    posting.post = post_anyway


FLAWS = {"hasty": acknowledge_before_the_commit, "unfenced": let_stale_attempts_speak, "forgetful": forget_client_ids}

if __name__ == "__main__":
    FLAWS[sys.argv.pop(1)]()
    cli.main()
