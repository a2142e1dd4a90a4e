"""Forgets inbox items that were handled long ago, in small steps beside a running server."""

from __future__ import annotations

from datetime import datetime
from time import monotonic, sleep

from sqlalchemy import Connection

from server.database import Database
from server.models import audit, inbox

BATCH = 250  # items per transaction: a few milliseconds for which the server's own writes wait


def prune(database: Database, before: datetime, now: datetime) -> int:
    """Delete the inbox items closed before that time; gives their number. Messages, turns and the audit stay. Safe to interrupt."""
    deleted, last = 0, 0
    while True:
        with database.read() as connection:
            ids = inbox.handled(connection, before, last, BATCH)
        if not ids:
            break
        last, began = ids[-1], monotonic()
        deleted += database.write(lambda connection, ids=ids: inbox.forget(connection, ids, before))  # type: ignore[misc]
        sleep(monotonic() - began)  # the others' turn

    def note(connection: Connection) -> None:
        audit.record(connection, now, "prune", "command", target=f"before {before:%Y-%m-%d %H:%M}", params=f'{{"items":{deleted}}}')

    if deleted:
        database.write(note)
    return deleted
