"""Forgets what was handled long ago, and what agents reached, used and asked for then, in small steps beside a running server."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from time import monotonic, sleep

from sqlalchemy import Connection

from server.database import Database
from server.models import approval, audit, contact, inbox, model_use

BATCH = 250  # rows per transaction: a few milliseconds for which the server's own writes wait


@dataclass(frozen=True)
class Pruned:
    """How many were deleted."""

    items: int
    contacts: int
    model_uses: int
    approvals: int


def prune(database: Database, before: datetime, now: datetime) -> Pruned:
    """Delete the inbox items closed before that time, the contacts and uses of the model that began before it, and expired approvals.

    Messages, turns and the audit stay, and so does which hosts an agent has reached at all. Safe to interrupt.
    """
    pruned = Pruned(
        items=_forget(database, before, inbox.handled, lambda connection, ids: inbox.forget(connection, ids, before)),
        contacts=_forget(database, before, contact.old, contact.forget),
        model_uses=_forget(database, before, model_use.old, model_use.forget),
        approvals=_forget(database, before, approval.old, approval.forget),
    )

    def note(connection: Connection) -> None:
        params = json.dumps(asdict(pruned), separators=(",", ":"))
        audit.record(connection, now, "prune", "command", target=f"before {before:%Y-%m-%d %H:%M}", params=params)

    if any(asdict(pruned).values()):
        database.write(note)
    return pruned


def _forget(
    database: Database,
    before: datetime,
    find: Callable[[Connection, datetime, int, int], list[int]],
    delete: Callable[[Connection, list[int]], int],
) -> int:
    """How many rows were deleted of those that `find` finds by id, beyond the one it is given."""
    deleted, last = 0, 0
    while True:
        with database.read() as connection:
            ids = find(connection, before, last, BATCH)
        if not ids:
            return deleted
        last, began = ids[-1], monotonic()
        deleted += database.write(lambda connection, ids=ids: delete(connection, ids))  # type: ignore[misc]
        sleep(monotonic() - began)  # the others' turn
