"""The audit: one row for each operation that changes something, whether it succeeded or not."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Column, Connection, ForeignKey, String, Table, Text, bindparam

from server.models.base import Key, Timestamp, metadata
from server.prepared import Prepared

audit = Table(
    "audit",
    metadata,
    Column("id", Key, primary_key=True),
    Column("at", Timestamp, nullable=False),
    Column("actor_id", Key, ForeignKey("users.id")),  # NULL: nobody we know
    Column("operation", String(31), nullable=False),
    Column("target", String(100), nullable=False, server_default=""),
    Column("outcome", String(16), nullable=False),
    Column("error_code", String(31)),
    Column("surface", String(16), nullable=False),
    Column("turn_id", Key),
    Column("params", Text, nullable=False, server_default="{}"),
    Column("channel_id", Key),  # the private channel that it is about: only who sees that is told
)

_RECORD = Prepared(audit.insert().values({column.name: bindparam(column.name) for column in audit.c if column.name != "id"}))


def record(
    connection: Connection,
    at: datetime,
    operation: str,
    surface: str,
    *,
    actor_id: int | None = None,
    target: str = "",
    error_code: str | None = None,
    turn_id: int | None = None,
    params: str = "{}",
    channel_id: int | None = None,
) -> None:
    """Write the row; `error_code` makes it a refusal. `params` is JSON without what people wrote."""
    _RECORD.run(
        connection,
        {
            "at": at,
            "actor_id": actor_id,
            "operation": operation,
            "target": target[:100],
            "outcome": "refused" if error_code else "done",
            "error_code": error_code,
            "surface": surface,
            "turn_id": turn_id,
            "params": params,
            "channel_id": channel_id,
        },
    )
