"""What a post does: store, number, deliver, and stop agents that answer each other for ever."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, bindparam, select

from colony import errors, schema
from server.models import aftermath, inbox, mention, message
from server.models import channel as channel_model
from server.models.message import messages
from server.models.user import COLONY, users
from server.prepared import Prepared

_STORE = Prepared(
    messages.insert().values({column.name: bindparam(column.name) for column in messages.c if column.name != "id"}).returning(messages.c.id)
)
NOTICE = "notice"  # the type of the colony's own messages; they wake no agent


@dataclass(frozen=True)
class Author:
    """Who posts, and in which turn."""

    id: int
    username: str
    kind: schema.Kind
    turn_id: int | None = None
    hops: int = 0  # 0 from a person, else how many agents the thought has passed through
    sees_all: bool = False  # an administrator, or the colony itself

    @property
    def viewer_id(self) -> int | None:
        """For whom channels are there; None: all are."""
        return None if self.sees_all else self.id


@dataclass(frozen=True)
class LoopGuard:
    """Where agents that answer each other are stopped."""

    max_hops: int = 8
    max_agent_streak: int = 20  # agents' messages in a channel with no ape in between

    def trips(self, author: Author, streak: int) -> str:
        """Why this message must wake no agent; empty if it may."""
        if author.kind != "agent":
            return ""
        if author.hops > self.max_hops:
            return f"Loop guard: {self.max_hops} agents in a row have answered each other; agents are not woken until a person speaks."
        if streak > self.max_agent_streak:
            return f"Loop guard: {self.max_agent_streak} messages without a person; agents are not woken until one speaks."
        return ""

    def is_first(self, author: Author, streak: int) -> bool:
        """Whether a message that trips it is one that the channel hears of."""
        return author.hops > self.max_hops or streak == self.max_agent_streak + 1


@dataclass(frozen=True)
class Posted:
    message: schema.Message
    woken: list[int]  # the users with a new inbox item
    channel_id: int


def post(connection: Connection, author: Author, request: schema.PostMessage, guard: LoopGuard, now: datetime) -> list[Posted]:
    """Store the message, number it and deliver it to the inboxes of everyone it concerns.

    A repeated client_id gives the first message back and stores nothing. The result holds the notices, too, that the channel gets with it.
    Raises `NotFound` for a channel that is not there for the author, `Invalid` for a reply to another channel's message.
    """
    if request.client_id and (first := message.by_client_id(connection, author.id, request.client_id)):
        return [_repeated(connection, author, request, first)]
    mentions = mention.find(request.body)
    place = channel_model.next_place(connection, request.channel, author.kind, author.viewer_id)
    if request.reply_to and not message.is_in(connection, request.reply_to, place.channel_id):
        raise errors.Invalid(f"reply_to: there is no message {request.reply_to} in {request.channel}")
    stored = _store(connection, author, request, place, now)
    tripped = guard.trips(author, place.streak)
    delivery = inbox.Delivery(
        stored["id"],
        place.channel_id,
        author.id,
        now,
        suppress_agents=bool(tripped),
        spare_agents=request.type == NOTICE,
        to_members=place.is_private,
    )
    delivered = inbox.deliver(connection, delivery, mentions)
    missed = aftermath.missed(connection, mentions.usernames, delivered.named, place)
    said = schema.Message(**stored, unknown_mentions=missed.unknown, not_members=missed.outside)
    is_told = tripped if tripped and guard.is_first(author, place.streak) else ""
    notices = aftermath.notices(connection, said, is_told, () if tripped else delivered.away, missed)
    told = (posted for each in notices for posted in notice(connection, request.channel, *each, now))
    return [Posted(said, delivered.receivers, place.channel_id), *told]


def absence(connection: Connection, agent_id: int, channel: str, now: datetime) -> list[Posted]:
    """Tell a channel, once for each absence, that an agent's answers have to wait, why, and what helps."""
    return notice(connection, channel, *aftermath.absence(connection, agent_id, channel), now)


def notice(connection: Connection, channel: str, body: str, client_id: str, now: datetime, *, wakes_agents: bool = False) -> list[Posted]:
    """Tell a channel something in the colony's own name, once per client_id."""
    colony = connection.execute(select(users).where(users.c.username == COLONY)).one()
    request = schema.PostMessage(channel=channel, body=body, type="text" if wakes_agents else NOTICE, client_id=client_id)
    return post(connection, Author(colony.id, colony.username, colony.kind, sees_all=True), request, LoopGuard(), now)


def _repeated(connection: Connection, author: Author, request: schema.PostMessage, first: Row[tuple[object, ...]]) -> Posted:
    if first.is_private and not channel_model.sees(connection, first.channel_id, author.viewer_id):
        raise errors.NotFound(f"no channel {request.channel}")
    return Posted(message.to_schema(first).model_copy(update={"duplicate": True}), [], first.channel_id)


def _store(
    connection: Connection, author: Author, request: schema.PostMessage, place: channel_model.Place, now: datetime
) -> dict[str, Any]:
    """The message's row, with the names that `schema.Message` wants."""
    values = {
        "channel_id": place.channel_id,
        "seq": place.seq,
        "author_id": author.id,
        "body": request.body,
        "type": request.type,
        "reply_to": request.reply_to,
        "turn_id": author.turn_id,
        "hops": author.hops,
        "client_id": request.client_id,
        "created_at": now,
    }
    names = {"channel": request.channel, "author": author.username, "author_kind": author.kind}
    return values | names | {"id": _STORE.scalar(connection, values)}
