"""Retries: agents handle a message once more that they gave up or were not woken by."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Column, Connection, ForeignKey, Index, Row, String, Table, select, update

from colony import errors, schema
from server.models import channel
from server.models.base import Key, Timestamp, metadata
from server.models.inbox import inbox
from server.models.user import users

RETRIABLE = ("dead", "suppressed")  # outcomes

retries = Table(
    "retries",
    metadata,
    Column("id", Key, primary_key=True),
    Column("message_id", Key, ForeignKey("messages.id"), nullable=False),
    Column("agent_id", Key, ForeignKey("users.id"), nullable=False),
    Column("turn_id", Key, ForeignKey("turns.id")),  # in which it was given up
    Column("outcome", String(16), nullable=False),  # how it had ended
    Column("actor_id", Key, ForeignKey("users.id"), nullable=False),
    Column("at", Timestamp, nullable=False),
    Index("ix_retries_message_id", "message_id"),
)


def retry(
    connection: Connection, said: Row[tuple[object, ...]], agent: str | None, actor_id: int, now: datetime, *, is_admin: bool
) -> tuple[schema.Retried, list[int]]:
    """Open the message's dead and suppressed items again; with the ids of the agents to wake.

    Raises `Forbidden` for whoever is neither its author nor the agents' owner nor an administrator, and `Conflict`, which says why,
    where nothing can be retried and nothing waits; `NotFound` for who has been taken out of its channel meanwhile.
    """
    message_id = said.id
    if said.is_private:
        channel.hold(connection, said.channel, None if is_admin else actor_id)
    items = _items(connection, message_id, agent)
    outside = _outside(connection, items) if said.is_private else frozenset[str]()
    wrote_it = actor_id == said.author_id and said.created_at >= _born(connection, actor_id)
    mine = [item for item in items if is_admin or wrote_it or actor_id == item.owner_id]
    if items and not mine:
        raise errors.Forbidden(f"message {message_id} is not yours: its author, the agent's owner and administrators have it retried")
    ended = [item for item in mine if item.outcome in RETRIABLE and item.status != "dead" and item.username not in outside]
    waiting = [item.username for item in mine if item.outcome is None]
    if not ended and not waiting:
        raise errors.Conflict(f"message {message_id} can't be retried: " + (_refusals(mine, outside) or _nobody(agent)))
    for item in ended:
        values = {"message_id": message_id, "agent_id": item.agent_id, "turn_id": item.turn_id, "outcome": item.outcome}
        connection.execute(retries.insert().values(**values, actor_id=actor_id, at=now))
    reopened = {"acked_at": None, "outcome": None, "turn_id": None, "not_before": None, "attempts": 0}
    connection.execute(update(inbox).where(inbox.c.id.in_([item.id for item in ended])).values(reopened))
    retried = schema.Retried(message_id=message_id, retried=[item.username for item in ended], waiting=waiting)
    return retried, [item.agent_id for item in ended]


def of_message(connection: Connection, message_id: int) -> dict[int, list[schema.Retry]]:
    """Who had the message retried, oldest first, by the agent's id."""
    query = select(retries, users.c.username.label("by")).join(users, users.c.id == retries.c.actor_id)
    found: dict[int, list[schema.Retry]] = {}
    for row in connection.execute(query.where(retries.c.message_id == message_id).order_by(retries.c.id)):
        found.setdefault(row.agent_id, []).append(schema.Retry(at=row.at, by=row.by, outcome=row.outcome, turn_id=row.turn_id))
    return found


def _born(connection: Connection, user_id: int) -> datetime:
    """What was said under the name before is somebody else's."""
    since: datetime = connection.execute(select(users.c.created_at).where(users.c.id == user_id)).scalar_one()
    return since


def _items(connection: Connection, message_id: int, agent: str | None) -> list[Row[tuple[object, ...]]]:
    """The message's items for agents; another retry of them waits until the transaction ends, and then sees what it did."""
    query = (
        select(inbox, users.c.username, users.c.owner_id, users.c.status)
        .join(users, users.c.id == inbox.c.agent_id)
        .where(inbox.c.message_id == message_id, users.c.kind == "agent")
        .order_by(users.c.username)
        .with_for_update(of=inbox)
    )
    return list(connection.execute(query.where(users.c.username == agent) if agent else query))


def _outside(connection: Connection, items: list[Row[tuple[object, ...]]]) -> frozenset[str]:
    """Those of the receivers who are no members of the messages' private channel any more."""
    names = {item.username for item in items}
    return frozenset(names - channel.insiders(connection, items[0].channel_id, names) if items else ())


def _refusals(items: list[Row[tuple[object, ...]]], outside: frozenset[str]) -> str:
    return "; ".join(_refusal(item, is_outside=item.username in outside) for item in items)


def _refusal(item: Row[tuple[object, ...]], *, is_outside: bool) -> str:
    if item.status == "dead":
        return f"{item.username} has left the colony"
    if is_outside:
        return f"{item.username} is no member of its channel any more"
    did = {"answered": "has answered it", "ignored": "has read it and had nothing to say", "by_hand": "has closed it by hand"}
    return f"{item.username} {did.get(item.outcome, 'is done with it')}" + (f" (turn {item.turn_id})" if item.turn_id else "")


def _nobody(agent: str | None) -> str:
    return f"it was not for {agent}" if agent else "it was for no agent"
