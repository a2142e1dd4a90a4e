"""What a post does: store, number, deliver, and stop agents that answer each other for ever."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, select

from colony import errors, schema
from server.models import channel as channel_model
from server.models import inbox, mention, message, user
from server.models.message import messages
from server.models.user import COLONY, users
from server.prepared import Prepared

_STORE = Prepared(
    messages.insert()
    .values({column.name: bindparam(column.name) for column in messages.c if column.name != "id"})
    .returning(messages.c.id)
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


@dataclass(frozen=True)
class Posted:
    message: schema.Message
    woken: list[int]  # the users with a new inbox item
    channel_id: int


def post(connection: Connection, author: Author, request: schema.PostMessage, guard: LoopGuard, now: datetime) -> list[Posted]:
    """Store the message, number it and deliver it to the inboxes of everyone it concerns.

    A repeated client_id gives the first message back and stores nothing. The result holds a notice too when the loop guard cut in.
    Raises `NotFound` for a channel that is not there for the author, `Invalid` for a reply to another channel's message.
    """
    if request.client_id and (first := message.by_client_id(connection, author.id, request.client_id)):
        if first.is_private and not channel_model.sees(connection, first.channel_id, author.viewer_id):
            raise errors.NotFound(f"no channel {request.channel}")
        return [Posted(message.to_schema(first).model_copy(update={"duplicate": True}), [], first.channel_id)]
    mentions = mention.find(request.body)
    channel_id, seq, streak, is_private = channel_model.next_seq(connection, request.channel, author.kind, author.viewer_id)
    if request.reply_to and not message.is_in(connection, request.reply_to, channel_id):
        raise errors.Invalid(f"reply_to: there is no message {request.reply_to} in {request.channel}")
    values: dict[str, Any] = {
        "channel_id": channel_id,
        "seq": seq,
        "author_id": author.id,
        "body": request.body,
        "type": request.type,
        "reply_to": request.reply_to,
        "turn_id": author.turn_id,
        "hops": author.hops,
        "client_id": request.client_id,
        "created_at": now,
    }
    message_id = _STORE.rows(connection, values)[0][0]
    tripped = _trips(guard, author, streak)
    delivery = inbox.Delivery(
        message_id,
        channel_id,
        author.id,
        now,
        suppress_agents=bool(tripped),
        spare_agents=request.type == NOTICE,
        to_members=is_private,
    )
    delivered = inbox.deliver(connection, delivery, mentions)
    # Whoever was reached by name exists and lives: only where one was not, somebody needs to be looked up.
    missed = mentions.usernames if delivered.named < len(mentions.usernames) else frozenset()
    known = user.statuses(connection, missed) if missed else {}
    living = {name for name, status in known.items() if status != "dead"}
    outside = living - channel_model.insiders(connection, channel_id, living) if is_private and living else set()
    stored = schema.Message(
        **values,
        id=message_id,
        channel=request.channel,
        author=author.username,
        author_kind=author.kind,
        unknown_mentions=sorted(missed - known.keys()),
        not_members=sorted(outside),
    )
    posted = [Posted(stored, delivered.receivers, channel_id)]
    if tripped and _is_first(guard, author, streak):
        posted += notice(connection, request.channel, tripped, f"guard:{author.turn_id or f'post-{message_id}'}", now)
    for agent_id in delivered.away if not tripped else ():
        posted += absence(connection, agent_id, request.channel, now)
    if outside and author.kind == "agent":  # whom nobody asks to invite them
        missed_by = f"{', '.join(sorted(outside))} can't be told of #{seq}: no member of this channel."
        posted += notice(connection, request.channel, missed_by, f"{message_id}:outside", now)
    for name in sorted(known.keys() - living):
        farewell = f"{name} has left the colony and won't answer #{seq}."
        posted += notice(connection, request.channel, farewell, f"{message_id}:{name}", now)
    return posted


def absence(connection: Connection, agent_id: int, channel: str, now: datetime) -> list[Posted]:
    """Tell a channel, once for each absence, that an agent's answers have to wait, why, and what helps."""
    agent = connection.execute(select(users).where(users.c.id == agent_id)).one()
    note = f": {agent.status_note}" if agent.status_note else ""
    body = {
        "healthy": f"{agent.username} has to wait with its answers{note}.",
        "provisioning": f"{agent.username} is not at work yet{note}. It answers once it is.",
    }.get(agent.status, f"{agent.username} is {agent.status}{note}. It answers once somebody calls `colony resume {agent.username}`.")
    since = agent.away_since or agent.created_at
    return notice(connection, channel, body, f"away:{agent.id}:{since.timestamp():.6f}:{channel}", now)


def notice(
    connection: Connection, channel: str, body: str, client_id: str, now: datetime, *, wakes_agents: bool = False
) -> list[Posted]:
    """Tell a channel something in the colony's own name, once per client_id."""
    colony = connection.execute(select(users).where(users.c.username == COLONY)).one()
    request = schema.PostMessage(channel=channel, body=body, type="text" if wakes_agents else NOTICE, client_id=client_id)
    return post(connection, Author(colony.id, colony.username, colony.kind, sees_all=True), request, LoopGuard(), now)


def _trips(guard: LoopGuard, author: Author, streak: int) -> str:
    """Why this message must wake no agent; empty if it may."""
    if author.kind != "agent":
        return ""
    if author.hops > guard.max_hops:
        return f"Loop guard: {guard.max_hops} agents in a row have answered each other; agents are not woken until a person speaks."
    if streak > guard.max_agent_streak:
        return f"Loop guard: {guard.max_agent_streak} messages without a person; agents are not woken until one speaks."
    return ""


def _is_first(guard: LoopGuard, author: Author, streak: int) -> bool:
    return author.hops > guard.max_hops or streak == guard.max_agent_streak + 1
