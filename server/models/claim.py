"""Handing out turns: what an agent does next, and when there is something."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, Row, and_, bindparam, exists, func, or_, select, update

from colony import errors, failures, schema
from server.models import inbox, settle, turn, user
from server.models.base import Timestamp, from_microseconds
from server.models.inbox import inbox as inbox_table
from server.models.posting import Posted
from server.models.turn import turns
from server.models.user import users
from server.prepared import Prepared

MAX_MESSAGES = 20
MAX_CHARACTERS = 16_000
SLOT_RETRY_SECONDS = 1.0


@dataclass(frozen=True)
class Outlook:
    """What an agent can look forward to."""

    status: schema.Status
    status_note: str
    due: bool  # a claim with take_over would give a turn
    next_at: datetime | None  # when to look again at the latest, though nothing wakes the agent


_live = and_(turns.c.agent_id == users.c.id, turns.c.state == "running")
_open = and_(inbox_table.c.agent_id == users.c.id, inbox_table.c.acked_at.is_(None))
_is_due = or_(inbox_table.c.not_before.is_(None), inbox_table.c.not_before <= bindparam("now", type_=Timestamp))
_OUTLOOK = Prepared(
    select(
        users.c.status,
        users.c.status_note,
        users.c.held_until,
        select(turns.c.kind).where(_live).scalar_subquery(),
        select(turns.c.lease_until).where(_live).scalar_subquery(),
        exists().where(_open, _is_due),
        select(func.min(inbox_table.c.not_before)).where(_open).scalar_subquery(),
    ).where(users.c.username == bindparam("agent"), users.c.kind == "agent")
)


def outlook(connection: Connection, agent: str, now: datetime) -> Outlook:
    """Whether there is something to claim, in one statement: each of many waiting agents asks when it is woken. Raises `NotFound`."""
    rows = _OUTLOOK.rows(connection, {"agent": agent, "now": now})
    if not rows:
        raise errors.NotFound(f"no agent {agent}")
    status, note, held, live_kind, lease, is_due, next_at = rows[0]
    held_until, lease_until = from_microseconds(held), from_microseconds(lease)
    if status != "healthy":
        return Outlook(status, note, False, None)
    if held_until and held_until > now:
        return Outlook(status, note, False, held_until)
    if lease_until:  # a dream runs beside the worker that asks; an answer without it is lost
        return Outlook(status, note, live_kind == "answer" or lease_until <= now, lease_until)
    return Outlook(status, note, bool(is_due), from_microseconds(next_at))


def claim(
    connection: Connection, agent: Row[tuple[object, ...]], request: schema.ClaimTurn, max_running_turns: int, now: datetime
) -> tuple[schema.Claim, list[Posted]]:
    """The agent's next turn, or why there is none; with the notices for what had to be given up on the way.

    The agent's row must be locked. A turn whose lease ran out, or whose process is known to be gone, is handed out again under the
    same id with the next attempt; what its earlier attempts posted comes with it.
    """
    if agent.status != "healthy":
        return schema.Claim(reason=f"{agent.username} is {agent.status}"), []
    if agent.held_until and agent.held_until > now:
        return _later(agent.status_note, agent.held_until, now), []
    notices: list[Posted] = []
    if live := turn.running(connection, agent.id):
        if (live.lease_until > now and not request.take_over) or (live.kind == "answer" and request.kind != "answer"):
            return _later(f"turn {live.id} is running", live.lease_until, now), []
        rest_seconds = 0 if live.failures == 0 else None  # the first time it is tried again at once
        notices = settle.fail(connection, live, failures.LOST, "", None, now, rest_seconds=rest_seconds)
    user.lock_slots(connection)
    if _running_turns(connection, now) >= max_running_turns:
        return schema.Claim(reason=f"all {max_running_turns} turns of the colony are taken", retry_in_seconds=SLOT_RETRY_SECONDS), notices
    turn_id = _next(connection, agent.id, request, now)
    if turn_id is None:
        next_at = inbox.next_time(connection, agent.id)
        return (_later("nothing is due", next_at, now) if next_at else schema.Claim(reason="nothing is due")), notices
    return schema.Claim(turn=turn.show(connection, turn_id, to_work_on=True)), notices


def _next(connection: Connection, agent_id: int, request: schema.ClaimTurn, now: datetime) -> int | None:
    lease_until = now + timedelta(seconds=request.lease_seconds)
    oldest = inbox.next_due(connection, agent_id, now)
    if request.kind != "answer":
        is_urgent = oldest is not None and request.kind == "pulse"  # who is asked something needs no pulse
        return None if is_urgent else _begin(connection, agent_id, request.kind, None, 0, lease_until, now)
    if oldest is None:
        return None
    if oldest.turn_id is not None:
        return _resume(connection, oldest.turn_id, lease_until)
    items = _fitting(inbox.unbound(connection, agent_id, oldest.channel_id, MAX_MESSAGES))
    hops = max(item.message.hops for item in items)
    turn_id = _begin(connection, agent_id, "answer", oldest.channel_id, hops, lease_until, now)
    inbox.hand_out(connection, [item.id for item in items], turn_id)
    return turn_id


def _begin(
    connection: Connection, agent_id: int, kind: schema.TurnKind, channel_id: int | None, hops: int, lease_until: datetime, now: datetime
) -> int:
    values = {"agent_id": agent_id, "kind": kind, "channel_id": channel_id, "hops": hops, "lease_until": lease_until}
    statement = turns.insert().values(**values, state="running", started_at=now).returning(turns.c.id)
    return int(connection.execute(statement).scalar_one())


def _resume(connection: Connection, turn_id: int, lease_until: datetime) -> int:
    changes = {"state": "running", "attempt": turns.c.attempt + 1, "lease_until": lease_until}
    connection.execute(update(turns).where(turns.c.id == turn_id).values(changes))
    still_open = select(inbox_table.c.id).where(inbox_table.c.turn_id == turn_id, inbox_table.c.acked_at.is_(None))
    inbox.hand_out(connection, list(connection.execute(still_open).scalars()), turn_id)
    return turn_id


def _fitting(items: list[schema.InboxItem]) -> list[schema.InboxItem]:
    """The first items whose texts fit in a prompt together; always at least one."""
    total = 0
    fitting: list[schema.InboxItem] = []
    for item in items:
        total += len(item.message.body)
        if fitting and total > MAX_CHARACTERS:
            break
        fitting.append(item)
    return fitting


def _running_turns(connection: Connection, now: datetime) -> int:
    query = select(func.count()).where(turns.c.state == "running", turns.c.lease_until > now)
    return int(connection.execute(query).scalar_one())


def _later(reason: str, at: datetime, now: datetime) -> schema.Claim:
    return schema.Claim(reason=reason, retry_in_seconds=max(0.0, (at - now).total_seconds()))
