"""The attempts of turns that have ended: when, with what error, and what each took."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from datetime import datetime

from sqlalchemy import (
    Boolean,
    Column,
    ColumnElement,
    Connection,
    Float,
    ForeignKey,
    Integer,
    Row,
    String,
    Table,
    Text,
    bindparam,
    select,
    update,
)

from colony import schema
from server.models.base import Key, Timestamp, metadata
from server.prepared import Prepared

COUNTED = ("tokens_in", "tokens_out", "cost_usd")
OVERSHOOT = 4.0  # times what it may cost: what an attempt says beyond was made up where it ran, and would use up everybody's budget
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
    select(attempts).where(attempts.c.turn_id == bindparam("turn"), attempts.c.number > bindparam("after")).order_by(attempts.c.number)
)


def ended(
    connection: Connection,
    turn: Row[tuple[object, ...]],
    usage: schema.Usage,
    now: datetime,
    how: Mapping[str, object],
    *,
    is_reported: bool,
) -> None:
    """Write down how the turn's running attempt ended and what it is taken to have used; unless `is_reported` it can report once later."""
    values = {
        "turn_id": turn.id,
        "number": turn.attempt,
        "began_at": turn.attempt_began_at or turn.started_at,
        "ended_at": now,
        "error_code": how.get("error_code"),
        "error": how.get("error"),
        "is_reported": is_reported,
    }
    _ENDED.run(connection, values | _taken(usage))


def believed(said_usd: float, may_cost_usd: float) -> float:
    """As much of what an attempt says it has cost; all where no budget is set, as it takes nothing from anybody then."""
    return min(said_usd, OVERSHOOT * may_cost_usd) if may_cost_usd else said_usd


def report_late(connection: Connection, turn: Row[tuple[object, ...]], usage: schema.Usage) -> schema.Usage:
    """Add what an attempt took that others have ended; gives by how much that exceeds what it was taken to have used.

    That is nothing if it has reported before.
    """
    told = {"is_reported": True, "prompt_characters": usage.prompt_characters, "tools": json.dumps(usage.tools)}
    taken_usd = connection.execute(select(attempts.c.cost_usd).where(*_is(turn.id, turn.attempt))).scalar()
    usage = usage.model_copy(update={"cost_usd": believed(usage.cost_usd or 0.0, taken_usd or 0.0)})
    return _raise_to(connection, usage, told, turn.id, turn.attempt, attempts.c.is_reported.is_(False))


def count_late(connection: Connection, turn_id: int, number: int, used: schema.Usage) -> schema.Usage:
    """Let an attempt that has ended have used at least that much; gives by how much that exceeds what it was taken to have used."""
    return _raise_to(connection, used, {}, turn_id, number)


def _raise_to(
    connection: Connection, usage: schema.Usage, told: Mapping[str, object], turn_id: int, number: int, *only: ColumnElement[bool]
) -> schema.Usage:
    mine = *_is(turn_id, number), *only
    row = connection.execute(select(attempts).where(*mine).with_for_update()).first()
    if row is None:
        return schema.Usage()
    counted = {name: max(row._mapping[name], getattr(usage, name) or 0) for name in COUNTED}
    connection.execute(update(attempts).where(*mine).values({**told, **counted}))
    return schema.Usage(**{name: counted[name] - row._mapping[name] for name in COUNTED})


def of_turns(connection: Connection, turns: Collection[schema.Turn]) -> dict[int, list[schema.Attempt]]:
    """The newest ended attempts of each turn, oldest first, by the turn's id."""
    found: dict[int, list[schema.Attempt]] = {}
    for turn in turns:
        rows = _NEWEST.rows(connection, {"turn": turn.id, "after": turn.attempt - SHOWN})
        found[turn.id] = [_to_schema(row) for row in rows]
    return found


def _taken(usage: schema.Usage) -> dict[str, object]:
    taken = usage.model_dump()
    return taken | {"tools": json.dumps(taken["tools"])}


def _is(turn_id: int, number: int) -> tuple[ColumnElement[bool], ...]:
    return attempts.c.turn_id == turn_id, attempts.c.number == number


def _to_schema(row: Row[tuple[object, ...]]) -> schema.Attempt:
    """The attempt; where the database holds what is none, one that says so."""
    fields = row._asdict()  # what the wire form does not have is ignored
    fields["seconds"] = (row.ended_at - row.began_at).total_seconds()
    try:
        return schema.Attempt(**fields | {"tools": json.loads(row.tools)})
    except (ValueError, TypeError):
        kept = {name: fields[name] for name in ("number", "began_at", "ended_at", "seconds")}
        return schema.Attempt(**kept, error="(the colony can't read this attempt)")
