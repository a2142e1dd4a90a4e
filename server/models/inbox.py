"""The inbox: what each user must handle, and how it ended."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from sqlalchemy import (
    BindParameter,
    Column,
    ColumnElement,
    Connection,
    ForeignKey,
    Index,
    Integer,
    Row,
    Select,
    String,
    Table,
    and_,
    bindparam,
    case,
    cast,
    delete,
    func,
    insert,
    literal,
    literal_column,
    null,
    or_,
    select,
    text,
    union_all,
    update,
)

from colony import schema
from server.models import ending, message
from server.models.base import Key, Timestamp, metadata
from server.models.channel import members, watches
from server.models.mention import Mentions
from server.models.user import users
from server.prepared import Prepared

inbox = Table(
    "inbox",
    metadata,
    Column("id", Key, primary_key=True),
    Column("agent_id", Key, ForeignKey("users.id"), nullable=False),  # the receiver; people have an inbox too
    Column("message_id", Key, ForeignKey("messages.id"), nullable=False),
    Column("channel_id", Key, ForeignKey("channels.id"), nullable=False),
    Column("trigger", String(16), nullable=False),
    Column("created_at", Timestamp, nullable=False),
    Column("turn_id", Key, ForeignKey("turns.id")),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("not_before", Timestamp),
    Column("acked_at", Timestamp),
    Column("outcome", String(16)),
    # Partial, so that they stay as small as what waits, however much has been handled.
    Index("idx_inbox_agent_unacked", "agent_id", "id", sqlite_where=text("acked_at IS NULL"), postgresql_where=text("acked_at IS NULL")),
    Index("ix_inbox_turn_id", "turn_id", sqlite_where=text("turn_id IS NOT NULL"), postgresql_where=text("turn_id IS NOT NULL")),
    Index("ix_inbox_message_id", "message_id"),
)

MANY_NAMES = 64
NOTICED_HOLD = timedelta(seconds=60)  # a shorter one passes before anyone wonders
_TRIGGERS: tuple[schema.Trigger, ...] = ("mention", "broadcast", "watch")  # the strongest first


def is_due(now: datetime | BindParameter[datetime]) -> ColumnElement[bool]:
    return or_(inbox.c.not_before.is_(None), inbox.c.not_before <= now)


def _items() -> Select[tuple[object, ...]]:
    own = (inbox.c[name].label(f"item_{name}") for name in ("id", "trigger", "created_at", "attempts", "turn_id", "not_before"))
    return message.selected().add_columns(*own).join(inbox, inbox.c.message_id == message.messages.c.id)


_is_open = inbox.c.acked_at.is_(None)
_is_mine = and_(inbox.c.agent_id == bindparam("agent"), _is_open)
_is_mine_and_due = and_(_is_mine, is_due(bindparam("now", type_=Timestamp)))
_limit = bindparam("limit", type_=Key)
_PENDING = Prepared(_items().where(_is_mine).order_by(inbox.c.id).limit(_limit))
_PENDING_OF = Prepared(_items().where(_is_mine, inbox.c.trigger == bindparam("trigger")).order_by(inbox.c.id).limit(_limit))
_OF_TURN = Prepared(_items().where(inbox.c.turn_id == bindparam("turn")).order_by(inbox.c.id))
_OPEN_OF_TURN = Prepared(_items().where(inbox.c.turn_id == bindparam("turn"), _is_open).order_by(inbox.c.id))
_DUE = Prepared(select(inbox).where(_is_mine_and_due).order_by(inbox.c.id).limit(_limit))
_NEXT_TIME = Prepared(select(func.min(inbox.c.not_before)).where(_is_mine))
_UNBOUND = Prepared(
    _items()
    .where(_is_mine_and_due, inbox.c.channel_id == bindparam("channel"), inbox.c.turn_id.is_(None))
    .order_by(inbox.c.id)
    .limit(_limit)
)

# Not named as the columns: for SQLAlchemy these names are its own.
_CLOSE = Prepared(
    update(inbox).where(inbox.c.turn_id == bindparam("turn"), _is_open).values(acked_at=bindparam("at"), outcome=bindparam("how"))
)
_HAND_OUT = Prepared(
    update(inbox)
    .where(inbox.c.id == bindparam("item"))
    .values(turn_id=bindparam("to_turn"), attempts=inbox.c.attempts + 1, not_before=null())
)


def _joined(ids: ColumnElement[Any]) -> ColumnElement[str]:
    # A literal: `Prepared` knows no parameter that is written out when the statement runs.
    return func.aggregate_strings(cast(ids, String), literal_column("','"))  # type: ignore[arg-type]


_is_named = inbox.c.trigger == "mention"
_is_held = users.c.held_until > bindparam("soon", type_=Timestamp)
_is_away = and_(users.c.kind == "agent", or_(users.c.status != "healthy", _is_held))
_has_named_away = and_(_is_named, select(users.c.id).where(users.c.id == inbox.c.agent_id, _is_away).correlate(inbox).exists())
_DELIVERED = Prepared(  # one row, as each costs about what it took to write it
    select(
        _joined(inbox.c.agent_id),
        func.count(case((_is_named, 1))),
        _joined(case((_has_named_away, inbox.c.agent_id))),
    ).where(inbox.c.message_id == bindparam("message"))
)


@dataclass(frozen=True)
class Delivery:
    message_id: int
    channel_id: int
    author_id: int
    at: datetime
    suppress_agents: bool = False  # agents get items that are closed from the start
    spare_agents: bool = False  # agents get none at all
    to_members: bool = False  # the channel is private: nobody else gets any


@dataclass(frozen=True)
class Delivered:
    receivers: list[int]  # ids of those who have a new item
    named: int  # how many of them by @name
    away: list[int]  # ids of the agents among those whose answer has to wait


_NOBODY = Delivered([], 0, [])


def deliver(connection: Connection, delivery: Delivery, mentions: Mentions) -> Delivered:
    """One item for each receiver, with the strongest reason; two statements whatever their number."""
    values = {
        "message": delivery.message_id,
        "channel": delivery.channel_id,
        "at": delivery.at,
        "suppressed_at": delivery.at if delivery.suppress_agents else None,
        "suppressed": "suppressed" if delivery.suppress_agents else None,
        "author": delivery.author_id,
        "spared": "agent" if delivery.spare_agents else "",
    }
    names, kinds = _padded(_few(connection, mentions.usernames)), _padded(sorted(mentions.kinds))
    values |= {f"mentioned_name_{place}": name for place, name in enumerate(names)}
    values |= {f"mentioned_kind_{place}": kind for place, kind in enumerate(kinds)}
    if not _delivery(len(names), len(kinds), delivery.to_members).run(connection, values):
        return _NOBODY
    if delivery.suppress_agents:
        born_closed = inbox.c.message_id == delivery.message_id, inbox.c.outcome == "suppressed"
        ending.of_items(connection, "suppressed", connection.execute(select(func.count()).where(*born_closed)).scalar_one())
    receivers, named, away = _DELIVERED.rows(connection, {"message": delivery.message_id, "soon": delivery.at + NOTICED_HOLD})[0]
    return Delivered(_ids(receivers), named, _ids(away))


def pending(connection: Connection, user_id: int, trigger: str | None, limit: int) -> list[schema.InboxItem]:
    """What the user has not processed yet, oldest first."""
    values = {"agent": user_id, "trigger": trigger, "limit": limit}
    return [to_schema(row) for row in (_PENDING_OF if trigger else _PENDING).rows(connection, values)]


def unsaid(connection: Connection, user_id: int, channel_id: int | None = None) -> list[schema.InboxItem]:
    """All that the user has not processed, perhaps only in one channel, oldest first; without bodies, which could be gigabytes."""
    mine = and_(inbox.c.agent_id == user_id, _is_open)
    query = _items().where(mine if channel_id is None else and_(mine, inbox.c.channel_id == channel_id)).order_by(inbox.c.id)
    body, empty = message.messages.c.body, literal("").label("body")
    columns = [empty if column is body else column for column in query.selected_columns]
    return [to_schema(row) for row in connection.execute(query.with_only_columns(*columns))]


def of_turn(connection: Connection, turn_id: int, *, only_open: bool = False) -> list[schema.InboxItem]:
    """The turn's items, oldest first; `only_open` leaves out those that were closed by hand."""
    return [to_schema(row) for row in (_OPEN_OF_TURN if only_open else _OF_TURN).rows(connection, {"turn": turn_id})]


def ack(connection: Connection, user_id: int, ids: list[int], now: datetime) -> list[int]:
    """Close the user's own items by hand; gives those that were still open."""
    mine = and_(inbox.c.agent_id == user_id, inbox.c.id.in_(ids), inbox.c.acked_at.is_(None))
    statement = update(inbox).where(mine).values(acked_at=now, outcome="by_hand").returning(inbox.c.id)
    acked = sorted(connection.execute(statement).scalars())
    ending.of_items(connection, "by_hand", len(acked))
    return acked


def close(connection: Connection, turn_id: int, outcome: schema.Outcome, now: datetime) -> None:
    """End all items of a turn that are still open."""
    ending.of_items(connection, outcome, _CLOSE.run(connection, {"turn": turn_id, "at": now, "how": outcome}))


def close_all(connection: Connection, user_id: int, outcome: schema.Outcome, now: datetime, channel_id: int | None = None) -> None:
    """End all that a user has not processed, or what of it lies in one channel."""
    still_open = and_(inbox.c.agent_id == user_id, inbox.c.acked_at.is_(None))
    there = still_open if channel_id is None else and_(still_open, inbox.c.channel_id == channel_id)
    closed = connection.execute(update(inbox).where(there).values(acked_at=now, outcome=outcome))
    ending.of_items(connection, outcome, closed.rowcount)


def handled(connection: Connection, before: datetime, after_id: int, limit: int) -> list[int]:
    """The next items closed before that time, by id; never the newest item of all: SQLite would give its id to another."""
    newest = select(func.max(inbox.c.id)).scalar_subquery()
    query = select(inbox.c.id).where(inbox.c.id > after_id, inbox.c.acked_at < before, inbox.c.id < newest)
    return list(connection.execute(query.order_by(inbox.c.id).limit(limit)).scalars())


def forget(connection: Connection, ids: list[int], before: datetime) -> int:
    """Delete those of the items that were closed before that time; gives their number."""
    return connection.execute(delete(inbox).where(inbox.c.id.in_(ids), inbox.c.acked_at < before)).rowcount


def rest(connection: Connection, turn_id: int, until: datetime) -> None:
    """Let the turn's open items wait; they stay bound to it."""
    connection.execute(update(inbox).where(inbox.c.turn_id == turn_id, inbox.c.acked_at.is_(None)).values(not_before=until))


def hand_out(connection: Connection, ids: list[int], turn_id: int) -> None:
    """Bind items to a turn and count the attempt."""
    for item_id in ids:
        _HAND_OUT.run(connection, {"item": item_id, "to_turn": turn_id})


def next_due(connection: Connection, agent_id: int, now: datetime) -> Row[tuple[object, ...]] | None:
    """The agent's open item that waits longest, of those whose time has come."""
    return next(iter(due(connection, agent_id, now, 1)), None)


def due(connection: Connection, agent_id: int, now: datetime, limit: int) -> list[Row[tuple[object, ...]]]:
    """The agent's open items whose time has come, oldest first; without their messages."""
    return _DUE.rows(connection, {"agent": agent_id, "now": now, "limit": limit})


def can_be_read(connection: Connection, item_id: int) -> bool:
    """Whether the item and its message are what the colony writes; anybody may have written to the database."""
    try:
        to_schema(connection.execute(_items().where(inbox.c.id == item_id)).one())
    except Exception:
        return False
    return True


def next_time(connection: Connection, agent_id: int) -> datetime | None:
    """When the first resting item falls due; None if nothing rests."""
    found: datetime | None = _NEXT_TIME.scalar(connection, {"agent": agent_id})
    return found


def unbound(connection: Connection, agent_id: int, channel_id: int, now: datetime, limit: int) -> list[schema.InboxItem]:
    """The channel's due items that no turn has taken yet, oldest first."""
    values = {"agent": agent_id, "channel": channel_id, "now": now, "limit": limit}
    return [to_schema(row) for row in _UNBOUND.rows(connection, values)]


def to_schema(row: Row[tuple[object, ...]]) -> schema.InboxItem:
    fields = row._mapping
    own = {name: fields[f"item_{name}"] for name in ("id", "trigger", "created_at", "attempts", "turn_id", "not_before")}
    own["trigger"] = known_trigger(own["trigger"])
    return schema.InboxItem(**own, message=message.to_schema(row))


def known_trigger(stored: object) -> schema.Trigger:
    """The weakest for what the colony never wrote."""
    return next((trigger for trigger in _TRIGGERS if trigger == stored), "watch")


def _ids(joined: str | None) -> list[int]:
    return [int(each) for each in joined.split(",")] if joined else []


def _few(connection: Connection, usernames: frozenset[str]) -> list[str]:
    """The names; of very many only those that exist: a body holds 16,000, and a statement with as many takes half a minute."""
    if len(usernames) > MANY_NAMES:
        usernames = usernames & set(connection.execute(select(users.c.username)).scalars())
    return sorted(usernames)


def _padded(values: list[str]) -> list[str]:
    """The values, the first of them repeated up to a power of two: so there are few statements to prepare."""
    return values + values[:1] * ((1 << max(0, len(values) - 1).bit_length()) - len(values)) if values else []


@cache
def _delivery(names: int, kinds: int, to_members: bool) -> Prepared:
    """The statement for so many names and kinds, in a public channel or among the members of a private one."""
    chosen = _receivers(names, kinds).subquery()
    closed = users.c.kind == "agent"
    receivers = (
        select(
            chosen.c.user_id,
            bindparam("message", type_=Key),
            bindparam("channel", type_=Key),
            chosen.c.trigger,
            bindparam("at", type_=Timestamp),
            literal(0),
            case((closed, bindparam("suppressed_at", type_=Timestamp)), else_=null()),
            case((closed, bindparam("suppressed", type_=String)), else_=null()),
        )
        .select_from(chosen.join(users, users.c.id == chosen.c.user_id))
        .where(users.c.id != bindparam("author", type_=Key), users.c.status != "dead", users.c.kind != bindparam("spared", type_=String))
    )
    if to_members:
        is_member = members.c.channel_id == bindparam("channel", type_=Key), members.c.user_id == users.c.id
        receivers = receivers.where(select(members.c.user_id).where(*is_member).correlate(users).exists())
    columns = ["agent_id", "message_id", "channel_id", "trigger", "created_at", "attempts", "acked_at", "outcome"]
    return Prepared(insert(inbox).from_select(columns, receivers))


def _receivers(names: int, kinds: int) -> Select[tuple[object, ...]]:
    """Who could get the message, and the strongest reason."""
    watching = watches.c.channel_id == bindparam("channel", type_=Key)
    if not names and not kinds:
        return select(watches.c.user_id, literal("watch").label("trigger")).where(watching)
    reasons = [select(watches.c.user_id, literal(2).label("rank")).where(watching)]
    if names:
        named = users.c.username.in_([bindparam(f"mentioned_name_{place}", type_=String) for place in range(names)])
        reasons.append(select(users.c.id, literal(0)).where(named))
    if kinds:
        of_kind = users.c.kind.in_([bindparam(f"mentioned_kind_{place}", type_=String) for place in range(kinds)])
        reasons.append(select(users.c.id, literal(1)).where(of_kind))
    found = union_all(*reasons).subquery()
    rank = func.min(found.c.rank)
    trigger = case(*((rank == place, literal(name)) for place, name in enumerate(_TRIGGERS)))
    return select(found.c.user_id, trigger.label("trigger")).group_by(found.c.user_id)
