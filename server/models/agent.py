"""Agents as the colony sees them: their state, what they work on, what waits for them, what they did today."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, Row, Subquery, and_, func, select

from colony import schema
from server.models import spending
from server.models.base import Timestamp
from server.models.channel import channels, seen_by, viewer
from server.models.inbox import inbox, is_due
from server.models.spending import spending as used
from server.models.turn import turns
from server.models.user import owners, owns, users


@dataclass(frozen=True)
class Waiting:
    """An agent's open inbox items."""

    agent: str
    items: int
    oldest_seconds: float


@dataclass(frozen=True)
class Patience:
    """How long a healthy agent may be silent, or let something wait, before people are told."""

    silent_seconds: int = 120  # its worker's heartbeats come every 40 s
    overdue_seconds: int = 600


def waiting(connection: Connection, now: datetime) -> list[Waiting]:
    """The agents for whom something waits, the oldest first; costs as much as there is open."""
    oldest = func.min(inbox.c.created_at, type_=Timestamp)
    counted = (
        select(users.c.username, func.count().label("items"), oldest.label("oldest"))
        .select_from(users.join(inbox, inbox.c.agent_id == users.c.id))
        .where(users.c.kind == "agent", inbox.c.acked_at.is_(None))
        .group_by(users.c.username)
        .order_by(oldest)
    )
    return [Waiting(row.username, row.items, max(0.0, (now - row.oldest).total_seconds())) for row in connection.execute(counted)]


def listed(
    connection: Connection, patience: Patience, now: datetime, viewer_id: int | None, username: str | None = None
) -> list[schema.Agent]:
    """All agents, or the one of that name; "today" is the UTC day, and each attempt of a turn counts.

    Where an agent works is told to who sees that channel; None sees all.
    """
    waiting, overdue = _waiting(), _overdue(now)
    today = (
        select(
            used.c.agent_id,
            func.sum(used.c.turns).label("turns_today"),
            func.sum(used.c.turns).filter(used.c.hour == spending.this_hour(now)).label("turns_this_hour"),
            func.sum(used.c.cost_usd).label("cost_usd_today"),
        )
        .where(used.c.hour >= spending.today(now), used.c.hour < spending.tomorrow(now))
        .group_by(used.c.agent_id)
        .subquery()
    )
    live = and_(turns.c.agent_id == users.c.id, turns.c.state == "running")
    joined = (
        users.outerjoin(waiting, waiting.c.agent_id == users.c.id)
        .outerjoin(overdue, overdue.c.agent_id == users.c.id)
        .outerjoin(today, today.c.agent_id == users.c.id)
        .outerjoin(turns, live)
        .outerjoin(channels, and_(channels.c.id == turns.c.channel_id, seen_by(viewer(viewer_id))))
        .outerjoin(owners, owns)
    )
    found = owners.c.username.label("owner"), waiting.c.inbox, waiting.c.oldest_item_at, overdue.c.first_due_at
    used_up = today.c.turns_today, today.c.turns_this_hour, today.c.cost_usd_today
    turn = turns.c.id.label("turn_id"), turns.c.attempt.label("turn_attempt"), turns.c.lease_until, channels.c.name.label("turn_channel")
    began = func.coalesce(turns.c.attempt_began_at, turns.c.started_at).label("working_since")
    query = select(users, *found, *used_up, *turn, began).select_from(joined).where(users.c.kind == "agent").order_by(users.c.username)
    if username is not None:
        query = query.where(users.c.username == username)
    return [
        schema.Agent(
            username=row.username,
            owner=row.owner,
            status=row.status,
            status_note=row.status_note,
            last_seen_at=row.last_seen_at,
            held_until=row.held_until if row.held_until and row.held_until > now else None,
            inbox=row.inbox or 0,
            oldest_item_at=row.oldest_item_at,
            silent_since=silent_since(row, patience, now),
            overdue_since=overdue_since(row, patience, now),
            turn_id=row.turn_id,
            turn_channel=row.turn_channel,
            turn_attempt=row.turn_attempt,
            working_since=row.working_since,
            contact_lost_at=row.lease_until if row.lease_until and row.lease_until <= now else None,
            turns_today=row.turns_today or 0,
            turns_this_hour=row.turns_this_hour or 0,
            turns_per_hour=row.turns_per_hour,
            cost_usd_today=row.cost_usd_today or 0.0,
            budget_usd_per_day=row.budget_usd_per_day,
            posts_per_turn=row.posts_per_turn,
        )
        for row in connection.execute(query)
    ]


def watched(connection: Connection, now: datetime) -> list[Row[tuple[object, ...]]]:
    """The agents that should work, or were reported not to, with what `silent_since` and `overdue_since` want to know."""
    waiting, overdue = _waiting(), _overdue(now)
    joined = users.outerjoin(waiting, waiting.c.agent_id == users.c.id).outerjoin(overdue, overdue.c.agent_id == users.c.id)
    query = select(users, waiting.c.inbox, waiting.c.oldest_item_at, overdue.c.first_due_at).select_from(joined)
    is_watched = (users.c.status == "healthy") | users.c.alarmed_at.is_not(None)
    return list(connection.execute(query.where(users.c.kind == "agent", is_watched).order_by(users.c.username)))


def silent_since(agent: Row[tuple[object, ...]], patience: Patience, now: datetime) -> datetime | None:
    """Since when nothing was heard of an agent that should report; None while all is well."""
    # What lies ahead was written before the clock was set back; it would hide a silence until then.
    heard = max((at for at in (agent.last_seen_at, agent.status_at, agent.created_at) if at and at <= now), default=now)
    is_silent = agent.status == "healthy" and heard <= now - timedelta(seconds=patience.silent_seconds)
    return heard if is_silent else None


def overdue_since(agent: Row[tuple[object, ...]], patience: Patience, now: datetime) -> datetime | None:
    """Since when something has waited for too long that the agent could work on; None while all is well."""
    first: datetime | None = agent.first_due_at if agent.status == "healthy" else None
    return first if first and first <= now - timedelta(seconds=patience.overdue_seconds) else None


def _waiting() -> Subquery:
    counted = select(inbox.c.agent_id, func.count().label("inbox"), func.min(inbox.c.created_at).label("oldest_item_at"))
    return counted.where(inbox.c.acked_at.is_(None)).group_by(inbox.c.agent_id).subquery()


def _overdue(now: datetime) -> Subquery:
    """When the first of each agent's due items came that no running turn has in hand."""
    joined = inbox.outerjoin(turns, and_(turns.c.id == inbox.c.turn_id, turns.c.state == "running"))
    first = select(inbox.c.agent_id, func.min(inbox.c.created_at).label("first_due_at")).select_from(joined)
    return first.where(inbox.c.acked_at.is_(None), is_due(now), turns.c.id.is_(None)).group_by(inbox.c.agent_id).subquery()
