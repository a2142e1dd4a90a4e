"""What turns have used of the model, as the gate counts it: each request's tokens and cost, first as estimated and then as it was."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    Float,
    ForeignKey,
    Index,
    Integer,
    Row,
    String,
    Table,
    UniqueConstraint,
    bindparam,
    delete,
    func,
    select,
    update,
)

from colony import schema
from server.models.base import Key, Timestamp, metadata
from server.prepared import Prepared

model_uses = Table(
    "model_uses",
    metadata,
    Column("id", Key, primary_key=True),
    Column("contact_id", String(36), nullable=False),  # the gate's name for the request
    Column("turn_id", Key, ForeignKey("turns.id"), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("model", String(200), nullable=False),
    Column("tokens_in", Key, nullable=False),
    Column("tokens_out", Key, nullable=False),
    Column("cost_usd", Float, nullable=False),
    Column("is_final", Boolean, nullable=False),  # False: an estimate, until the gate says what it was
    Column("began_at", Timestamp, nullable=False),
    UniqueConstraint("contact_id"),
    Index("ix_model_uses_turn_id", "turn_id", "attempt"),
)

_sums = [func.coalesce(func.sum(column), 0) for column in (model_uses.c.tokens_in, model_uses.c.tokens_out, model_uses.c.cost_usd)]
_OF_ATTEMPT = Prepared(select(*_sums).where(model_uses.c.turn_id == bindparam("turn"), model_uses.c.attempt == bindparam("number")))


def find(connection: Connection, contact_id: str) -> Row[tuple[object, ...]] | None:
    return connection.execute(select(model_uses).where(model_uses.c.contact_id == contact_id)).first()


def put(connection: Connection, turn_id: int, attempt: int, request: schema.Meter, now: datetime) -> None:
    """Keep what the request is known to have used by now. What was booked and has come to nothing is not kept."""
    mine = model_uses.c.contact_id == request.id
    is_nothing = request.is_final and not (request.cost_usd or request.tokens_in or request.tokens_out)
    if is_nothing and connection.execute(delete(model_uses).where(mine)).rowcount:
        return  # else it is kept, so that its booking, which is still on its way, comes too late
    values = request.model_dump(exclude={"id", "linux_user"})
    if not connection.execute(update(model_uses).where(mine).values(values)).rowcount:
        more = {"contact_id": request.id, "turn_id": turn_id, "attempt": attempt, "began_at": now}
        connection.execute(model_uses.insert().values(values | more))


def of_attempt(connection: Connection, turn_id: int, attempt: int) -> schema.Usage:
    """All that its requests to the model have used; what has no answer yet as it was estimated. Nothing where no gate counts."""
    row = _OF_ATTEMPT.rows(connection, {"turn": turn_id, "number": attempt})[0]
    return schema.Usage(tokens_in=int(row[0]), tokens_out=int(row[1]), cost_usd=float(row[2]))


def old(connection: Connection, before: datetime, after_id: int, limit: int) -> list[int]:
    """The next ones that began before that time, by id. What they cost is in their attempts."""
    query = select(model_uses.c.id).where(model_uses.c.id > after_id, model_uses.c.began_at < before)
    return list(connection.execute(query.order_by(model_uses.c.id).limit(limit)).scalars())


def forget(connection: Connection, ids: list[int]) -> int:
    """Delete these; gives their number."""
    return connection.execute(delete(model_uses).where(model_uses.c.id.in_(ids))).rowcount
