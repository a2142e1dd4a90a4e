"""The colony's slots for running turns: few, and given to whoever waits longest."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Connection, Select, and_, bindparam, exists, func, or_, select

from colony import schema
from server.models.base import Key, Timestamp
from server.models.inbox import inbox, is_due
from server.models.turn import turns
from server.models.user import users
from server.prepared import Prepared

PRESENT_SECONDS = 60  # an agent that was heard of within that time would take a slot; another must not keep it free
ALWAYS_FAIR = 8  # with so few slots left, or half of all, the order is looked at
RECHECK_SECONDS = 5  # after which an agent without a slot looks again, should nobody have woken it


def taken(now: ColumnElement[datetime]) -> Select[int]:
    """How many turns run."""
    running = turns.alias()
    return select(func.count()).select_from(running).where(running.c.state == "running", running.c.lease_until > now)


_now = bindparam("now", type_=Timestamp)
_free = bindparam("free", type_=Key)
_is_busy = exists().where(turns.c.agent_id == users.c.id, turns.c.state == "running", turns.c.lease_until > _now)
_could_begin = and_(
    users.c.kind == "agent",
    users.c.status == "healthy",
    or_(users.c.held_until.is_(None), users.c.held_until <= _now),
    users.c.last_seen_at > bindparam("present_since", type_=Timestamp),
    ~_is_busy,
)
_is_theirs_and_due = and_(inbox.c.agent_id == users.c.id, inbox.c.acked_at.is_(None), is_due(_now))
_oldest = select(inbox.c.id).where(_is_theirs_and_due).order_by(inbox.c.id).limit(1).scalar_subquery()
_waiting = select(users.c.id, _oldest.label("oldest")).where(_could_begin).subquery()
_waits_longer = exists().where(_is_theirs_and_due, inbox.c.id < bindparam("item"))
_TAKEN = Prepared(taken(_now))
_AHEAD = Prepared(select(users.c.id).where(_could_begin, users.c.id != bindparam("agent"), _waits_longer).limit(_free))
_NEXT = Prepared(select(_waiting.c.id).where(_waiting.c.oldest.is_not(None)).order_by(_waiting.c.oldest).limit(_free))


def is_free_for(connection: Connection, agent_id: int, oldest_item_id: int | None, slots: int, now: datetime) -> bool:
    """Whether the agent may begin a turn: more slots are free than agents wait longer than it does (all do, if it has no item)."""
    free = slots - int(_TAKEN.scalar(connection, {"now": now}))
    if free <= 0 or not is_scarce(free, slots):
        return free > 0
    place = schema.MAX_ID if oldest_item_id is None else oldest_item_id
    return len(_AHEAD.rows(connection, _moment(now) | {"agent": agent_id, "item": place, "free": free})) < free


def next_in_line(connection: Connection, slots: int, now: datetime) -> list[int]:
    """The agents to wake when a turn has ended: as many as slots are free, if some agents may have been refused one."""
    free = slots - int(_TAKEN.scalar(connection, {"now": now}))
    if free <= 0 or not is_scarce(free, slots):
        return []
    return [row.id for row in _NEXT.rows(connection, _moment(now) | {"free": free})]


def is_scarce(free: int, slots: int) -> bool:
    """Else there is enough for all, and nobody needs to know who waits."""
    return free <= max(slots // 2, ALWAYS_FAIR)


def _moment(now: datetime) -> dict[str, object]:
    return {"now": now, "present_since": now - timedelta(seconds=PRESENT_SECONDS)}
