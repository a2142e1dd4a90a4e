"""The attempts of turns that have ended: when, with what error, and what each took."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from datetime import datetime

from sqlalchemy import Boolean, Column, Connection, Float, ForeignKey, Integer, Row, String, Table, Text, bindparam, select, update

from colony import schema
from server.models.base import Key, Timestamp, metadata
from server.prepared import Prepared

SHOWN = 20  # of each turn: one that waits for an API can have thousands

attempts = Table(
    "attempts",
    metadata,
    Column("turn_id", Key, ForeignKey("turns.id"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("began_at", Timestamp, nullable=False),
    Column("ended_at", Timestamp, nullable=False),
    Column("error_code", String(31)),  # NULL: it finished the turn
    Column("error", String(500)),
    Column("is_reported", Boolean, nullable=False),  # its process has said what it took
    Column("prompt_characters", Key, nullable=False),
    Column("tools", Text, nullable=False),  # JSON: name → how often
    Column("tokens_in", Key, nullable=False),
    Column("tokens_out", Key, nullable=False),
    Column("cost_usd", Float, nullable=False),
)

_ENDED = Prepared(attempts.insert().values({column.name: bindparam(column.name) for column in attempts.c}))
_NEWEST = Prepared(
    select(attempts)
    .where(attempts.c.turn_id == bindparam("turn"), attempts.c.number > bindparam("after"))
    .order_by(attempts.c.number)
)


def ended(
    connection: Connection,
    turn: Row[tuple[object, ...]],
    usage: schema.Usage | None,
    cost_usd: float,
    now: datetime,
    how: Mapping[str, object],
) -> None:
    """Write down how the turn's running attempt ended and what it is taken to have cost; without `usage` it can report once later."""
    values = {
        "turn_id": turn.id,
        "number": turn.attempt,
        "began_at": turn.attempt_began_at or turn.started_at,
        "ended_at": now,
        "error_code": how.get("error_code"),
        "error": how.get("error"),
        "is_reported": usage is not None,
    }
    _ENDED.run(connection, values | _taken(usage or schema.Usage()) | {"cost_usd": cost_usd})


def report_late(connection: Connection, turn: Row[tuple[object, ...]], usage: schema.Usage) -> float | None:
    """Add what an attempt took that others have ended; gives what it was taken to have cost, or None if it has reported before."""
    mine = attempts.c.turn_id == turn.id, attempts.c.number == turn.attempt, attempts.c.is_reported.is_(False)
    booked: float | None = connection.execute(select(attempts.c.cost_usd).where(*mine).with_for_update()).scalar()
    if booked is not None:
        cost_usd = max(booked, usage.cost_usd or 0.0)
        connection.execute(update(attempts).where(*mine).values(_taken(usage) | {"is_reported": True, "cost_usd": cost_usd}))
    return booked


def of_turns(connection: Connection, turns: Collection[schema.Turn]) -> dict[int, list[schema.Attempt]]:
    """The newest ended attempts of each turn, oldest first, by the turn's id."""
    found: dict[int, list[schema.Attempt]] = {}
    for turn in turns:
        rows = _NEWEST.rows(connection, {"turn": turn.id, "after": turn.attempt - SHOWN})
        found[turn.id] = [_to_schema(row) for row in rows]
    return found


def _taken(usage: schema.Usage) -> dict[str, object]:
    taken = usage.model_dump(exclude={"cost_usd"})
    return taken | {"tools": json.dumps(taken["tools"])}


def _to_schema(row: Row[tuple[object, ...]]) -> schema.Attempt:
    """The attempt; where the database holds what is none, one that says so."""
    fields = row._asdict()  # what the wire form does not have is ignored
    fields["seconds"] = (row.ended_at - row.began_at).total_seconds()
    try:
        return schema.Attempt(**fields | {"tools": json.loads(row.tools)})
    except (ValueError, TypeError):
        kept = {name: fields[name] for name in ("number", "began_at", "ended_at", "seconds")}
        return schema.Attempt(**kept, error="(the colony can't read this attempt)")
