"""Turns: one run of an agent over a channel's inbox items, or a pulse, or a dream. Here their table, the fence and how they show."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import get_args

from pydantic import ValidationError
from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Float,
    ForeignKey,
    Index,
    Integer,
    Row,
    Select,
    String,
    Table,
    bindparam,
    false,
    func,
    or_,
    select,
    text,
    update,
)

from colony import errors, schema
from colony.failures import FAILURES
from server.models import attempt, channel, inbox, message
from server.models.base import Key, Timestamp, metadata
from server.models.channel import channels
from server.models.user import users
from server.prepared import Prepared

CONTEXT_MESSAGES = 10

turns = Table(
    "turns",
    metadata,
    Column("id", Key, primary_key=True),
    Column("agent_id", Key, ForeignKey("users.id"), nullable=False),
    Column("channel_id", Key, ForeignKey("channels.id")),  # NULL for a pulse and a dream
    Column("kind", String(16), nullable=False),
    Column("attempt", Integer, nullable=False, server_default="1"),  # raised each time the turn is handed out: the fence
    Column("failures", Integer, nullable=False, server_default="0"),  # those that count towards giving up
    Column("state", String(16), nullable=False),
    Column("hops", Integer, nullable=False, server_default="0"),  # the highest among its items' messages
    Column("lease_until", Timestamp, nullable=False),
    Column("session_id", String(200)),
    Column("started_at", Timestamp, nullable=False),
    Column("finished_at", Timestamp),
    Column("tokens_in", Key, nullable=False, server_default="0"),
    Column("tokens_out", Key, nullable=False, server_default="0"),
    Column("cost_usd", Float, nullable=False, server_default="0"),
    Column("reserved_usd", Float, nullable=False, server_default="0"),  # while it runs: the most it may cost
    Column("error_code", String(31)),
    Column("error", String(500)),
    Column("attempt_began_at", Timestamp),  # when it was handed out last
    Index("ix_turns_agent_started", "agent_id", "started_at"),
    Index("ix_turns_agent_channel", "agent_id", "channel_id"),
    # An agent has at most one live turn: the database itself refuses a second.
    Index("uq_turns_running", "agent_id", unique=True, sqlite_where=text("state = 'running'"), postgresql_where=text("state = 'running'")),
)


def seen_by(viewer: ColumnElement[int]) -> ColumnElement[bool]:
    """Whether a row of `turns` is there for the viewer, a user's id: none is whose channel is not. NULL sees all."""
    its_channel = select(channels.c.id).where(channels.c.id == turns.c.channel_id, channel.seen_by(viewer))
    return or_(turns.c.channel_id.is_(None), its_channel.correlate(turns).exists())


def _selected() -> Select[tuple[object, ...]]:
    names = users.c.username.label("agent"), channels.c.name.label("channel")
    is_private = func.coalesce(channels.c.is_private, false()).label("is_private")
    joined = turns.join(users, users.c.id == turns.c.agent_id).outerjoin(channels, channels.c.id == turns.c.channel_id)
    return select(turns, *names, is_private).select_from(joined)


_viewer = bindparam("viewer", type_=Key)
_of_agent = select(turns).where(turns.c.agent_id == bindparam("agent")).with_for_update(key_share=True)
_FENCED = Prepared(_of_agent.where(turns.c.id == bindparam("id")))
_RUNNING = Prepared(_of_agent.where(turns.c.state == "running"))
_RENEW = Prepared(update(turns).where(turns.c.id == bindparam("turn")).values(lease_until=bindparam("until")))
_SHOWN = Prepared(_selected().where(turns.c.id == bindparam("id"), seen_by(_viewer)))
_is_of_this_life = turns.c.started_at >= users.c.created_at
_AGENT = Prepared(
    select(users.c.username)
    .join(turns, turns.c.agent_id == users.c.id)
    .where(turns.c.id == bindparam("id"), seen_by(_viewer), or_(turns.c.agent_id != _viewer, _is_of_this_life))
)
_ROOM = Prepared(
    select(
        select(users.c.posts_per_turn).where(users.c.id == bindparam("agent")).scalar_subquery(),
        select(func.count()).where(message.messages.c.turn_id == bindparam("turn")).scalar_subquery(),
    )
)


@dataclass(frozen=True)
class Reference:
    """Which attempt of which turn a request speaks for: the header `Colony-Turn: ID.ATTEMPT`."""

    id: int
    attempt: int

    def __str__(self) -> str:
        return f"{self.id}.{self.attempt}"

    @classmethod
    def parse(cls, header: str) -> Reference:
        """Raises `Invalid`."""
        turn_id, dot, attempt = header.partition(".")
        if not (dot and turn_id.isascii() and turn_id.isdigit() and attempt.isascii() and attempt.isdigit() and len(header) <= 30):
            raise errors.Invalid("the header Colony-Turn must be ID.ATTEMPT, such as 7.1")
        return cls(min(int(turn_id), schema.MAX_ID), min(int(attempt), schema.MAX_ID))


def fenced(connection: Connection, agent_id: int, reference: Reference, *, may_be_closed: bool) -> Row[tuple[object, ...]]:
    """The turn, if this attempt of it may still speak. Raises `StaleTurn`, also for turns of others and none at all.

    `may_be_closed` lets the repetition of a finish through to where it is recognised.
    """
    row = _FENCED.first(connection, {"id": reference.id, "agent": agent_id})
    if row is None or row.attempt != reference.attempt or (row.state != "running" and not may_be_closed):
        raise errors.StaleTurn(f"turn {reference.id}.{reference.attempt} is over; nothing more is accepted from it")
    return row


def running(connection: Connection, agent_id: int) -> Row[tuple[object, ...]] | None:
    """The agent's live turn, whether its lease ran out or not; nobody else ends it until the transaction does."""
    return _RUNNING.first(connection, {"agent": agent_id})


def running_by_kind(connection: Connection) -> dict[schema.TurnKind, int]:
    counted = select(turns.c.kind, func.count().label("running")).where(turns.c.state == "running").group_by(turns.c.kind)
    return dict.fromkeys(get_args(schema.TurnKind), 0) | {row.kind: row.running for row in connection.execute(counted)}


def locked(connection: Connection, turn_id: int, viewer_id: int | None) -> Row[tuple[object, ...]]:
    """The turn, of which nothing changes any more until the transaction ends, if the viewer sees it. Raises `NotFound`."""
    agent = select(turns.c.agent_id).where(turns.c.id == turn_id).scalar_subquery()
    connection.execute(select(users.c.id).where(users.c.id == agent).with_for_update(key_share=True))  # no claim resumes it
    this = turns.c.id == turn_id, seen_by(channel.viewer(viewer_id))
    row = connection.execute(select(turns).where(*this).with_for_update(key_share=True)).first()
    if row is None:
        raise errors.NotFound(f"no turn {turn_id}")
    return row


def masters(connection: Connection, turn: Row[tuple[object, ...]]) -> set[int | None]:
    """Who may stop the turn: the people whose messages it is to answer, and the agent's owner."""
    owner = connection.execute(select(users.c.owner_id).where(users.c.id == turn.agent_id)).scalar_one()
    return {*_askers(connection, turn.id), owner}


def _askers(connection: Connection, turn_id: int) -> set[int]:
    item, said = inbox.inbox.c, message.messages.c
    asked = select(said.author_id).join(inbox.inbox, item.message_id == said.id).join(users, users.c.id == said.author_id)
    is_theirs = users.c.kind == "ape", said.created_at >= users.c.created_at
    return set(connection.execute(asked.where(item.turn_id == turn_id, *is_theirs)).scalars())


def agent_of(connection: Connection, turn_id: int, viewer_id: int) -> str | None:
    """The name of the agent whose turn it is; None for no turn that is there for the viewer, or one of the viewer's former life."""
    found: str | None = _AGENT.scalar(connection, {"id": turn_id, "viewer": viewer_id})
    return found


def concerns(connection: Connection, turn_id: int, user_id: int) -> bool:
    """Whether the turn is this agent's or its owner's, or is to answer this person. One of a former life is to answer people alone."""
    mine = select(users.c.id, users.c.owner_id).join(turns, turns.c.agent_id == users.c.id)
    agent = connection.execute(mine.where(turns.c.id == turn_id, _is_of_this_life)).first()
    return user_id in _askers(connection, turn_id) or (agent is not None and user_id in (agent.id, agent.owner_id))


def renew(connection: Connection, turn_id: int, until: datetime) -> None:
    _RENEW.run(connection, {"turn": turn_id, "until": until})


def require_room(connection: Connection, turn: Row[tuple[object, ...]]) -> None:
    """Raises `LimitReached` once the turn has posted as much as its agent may."""
    limit, count = _ROOM.rows(connection, {"agent": turn.agent_id, "turn": turn.id})[0]
    if count >= limit:
        raise errors.LimitReached(f"this turn has posted {count} messages, as many as it may; say the rest in your reply")


def show(connection: Connection, turn_id: int, viewer_id: int | None, *, to_work_on: bool = False) -> schema.Turn:
    """The turn with its items and posts, as the viewer sees it (None sees all). Raises `NotFound`.

    `to_work_on`: with its open items alone and what was said before.
    """
    row = _SHOWN.first(connection, {"id": turn_id, "viewer": viewer_id})
    if row is None:
        raise errors.NotFound(f"no turn {turn_id}")
    items = inbox.of_turn(connection, turn_id, only_open=to_work_on)
    context = []
    if to_work_on and items:
        context = message.around(connection, row.channel_id, [item.message for item in items], CONTEXT_MESSAGES)
    shown = to_schema(row, must_be_sound=to_work_on)
    tried = [] if to_work_on else attempt.of_turns(connection, [shown])[turn_id]
    posts = message.of_turn(connection, turn_id, viewer_id)
    return shown.model_copy(update={"items": items, "context": context, "posts": posts, "attempts": tried})


def show_end(connection: Connection, turn_id: int, agent_id: int) -> schema.Turn:
    """A turn as its agent is told that it is over; where it is no member of the channel any more, without items and posts."""
    try:
        return show(connection, turn_id, agent_id)
    except errors.NotFound:
        return listed(connection, {turn_id}, None)[0]


def listed(connection: Connection, ids: Collection[int], viewer_id: int | None) -> list[schema.Turn]:
    """Those of these turns that the viewer sees (None: all), with their attempts, but without items and posts."""
    these = turns.c.id.in_(ids), seen_by(channel.viewer(viewer_id))
    found = [to_schema(row) for row in connection.execute(_selected().where(*these).order_by(turns.c.id))]
    tried = attempt.of_turns(connection, found)
    return [each.model_copy(update={"attempts": tried[each.id]}) for each in found]


def newest(connection: Connection, agent_id: int | None, limit: int, viewer_id: int | None) -> list[schema.Turn]:
    query = _selected().where(seen_by(channel.viewer(viewer_id))).order_by(turns.c.id.desc()).limit(limit)
    return [to_schema(row) for row in connection.execute(query.where(turns.c.agent_id == agent_id) if agent_id else query)]


def to_schema(row: Row[tuple[object, ...]], *, must_be_sound: bool = False) -> schema.Turn:
    """The turn; where the database holds what is none, one that says so: it must not hide the others. But nobody can work on it."""
    fields = row._asdict()  # what the wire form does not have is ignored
    failure = FAILURES.get(row.error_code)
    try:
        return schema.Turn(**fields, remedy=failure.remedy if failure else None)
    except ValidationError:
        if must_be_sound:
            raise
        kept = {name: fields[name] for name in ("id", "agent", "channel", "lease_until", "started_at")}
        return schema.Turn(**kept, kind="answer", state="failed", attempt=1, error="(the colony can't read this turn)")
