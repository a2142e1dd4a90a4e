"""What became of a message: who was woken and why, how their turns went, and why somebody was not woken."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, func, select

from colony import schema
from server.models import agent as agent_model
from server.models import channel, contact, mention, message, retry, turn, user
from server.models.agent import Patience
from server.models.inbox import inbox, known_trigger
from server.models.message import messages
from server.models.posting import NOTICE
from server.models.retry import retries
from server.models.user import users

MAX_FATES = 100
CUT_CHARACTERS = 200  # what is shown of messages besides the one asked for
BROADCASTS = {"agents", "apes"}


def explain(connection: Connection, message_id: int, viewer_id: int | None, patience: Patience, now: datetime) -> schema.Explanation:
    """What each turn reached is for the viewer if they could stop it or it is theirs; None sees it all. Raises `NotFound`."""
    row = message.find(connection, message_id, viewer_id)
    said = message.to_schema(row)
    fates = _fates(connection, message_id, patience, now)
    count = connection.execute(select(func.count()).select_from(inbox).where(inbox.c.message_id == message_id)).scalar_one()
    return schema.Explanation(
        message=said,
        fates=fates,
        left_out=count - len(fates),
        turns=_turns(connection, said, fates, viewer_id),
        answers=_answered(connection, said, viewer_id),
        notes=list(_notes(connection, said, fates, row.channel_id if row.is_private else None, is_whole=count == len(fates))),
    )


def _fates(connection: Connection, message_id: int, patience: Patience, now: datetime) -> list[schema.Fate]:
    query = select(inbox, users.c.username, users.c.kind).join(users, users.c.id == inbox.c.agent_id)
    rows = connection.execute(query.where(inbox.c.message_id == message_id).order_by(inbox.c.id).limit(MAX_FATES))
    tried_again = retry.of_message(connection, message_id)
    agents = {agent.username: agent for agent in agent_model.listed(connection, patience, now, None)}
    return [
        schema.Fate(
            item_id=row.id,
            receiver=row.username,
            receiver_kind=row.kind,
            trigger=known_trigger(row.trigger),
            created_at=row.created_at,
            outcome=row.outcome,
            acked_at=row.acked_at,
            not_before=row.not_before if row.not_before and row.not_before > now else None,
            attempts=row.attempts,
            turn_id=row.turn_id,
            retries=tried_again.get(row.agent_id, []),
            waits_for=_waits_for(row, agents[row.username], now) if row.outcome is None and row.username in agents else "",
        )
        for row in rows
    ]


def _waits_for(item: Row[tuple[object, ...]], agent: schema.Agent, now: datetime) -> str:
    """Why an agent has not handled an open item yet, besides that it rests after a failure."""
    name, note = agent.username, f": {agent.status_note}" if agent.status_note else ""
    if agent.turn_id is not None and agent.turn_id == item.turn_id:
        return f"turn {item.turn_id} has lost contact" if agent.contact_lost_at else f"{name} works on it in turn {item.turn_id}"
    if agent.status != "healthy":
        return f"{name} is {agent.status}{note}"
    if agent.silent_since:
        return f"{name} is silent"
    if agent.held_until and agent.held_until > now:
        return f"{name} has to wait{note}"
    if item.not_before and item.not_before > now:
        return ""  # which tells by itself
    return f"{name} works on turn {agent.turn_id} first" if agent.turn_id else ""


def _turns(connection: Connection, said: schema.Message, fates: list[schema.Fate], viewer_id: int | None) -> list[schema.Turn]:
    ids = {said.turn_id} | {fate.turn_id for fate in fates} | {again.turn_id for fate in fates for again in fate.retries}
    found = turn.listed(connection, {id for id in ids if id is not None}, viewer_id)
    posts = message.openings(connection, messages.c.turn_id.in_([each.id for each in found]), CUT_CHARACTERS, viewer_id)
    told: dict[int, dict[str, Any]] = {each.id: {"posts": [post for post in posts if post.turn_id == each.id]} for each in found}
    shown = [turn_id for turn_id in told if viewer_id is None or turn.concerns(connection, turn_id, viewer_id)]
    for turn_id, (reached, left_out) in contact.reached(connection, shown).items():
        told[turn_id] |= {"reached": reached, "reached_left_out": left_out}
    return [each.model_copy(update=told[each.id]) for each in found]


def _answered(connection: Connection, said: schema.Message, viewer_id: int | None) -> list[schema.Message]:
    """The messages that the turn was about in which this one was posted."""
    if said.turn_id is None:
        return []
    handled = (select(table.c.message_id).where(table.c.turn_id == said.turn_id) for table in (inbox, retries))
    ids = {said.reply_to, *(id for query in handled for id in connection.execute(query).scalars())}
    return message.openings(connection, messages.c.id.in_([id for id in ids if id is not None]), CUT_CHARACTERS, viewer_id)


def _notes(connection: Connection, said: schema.Message, fates: list[schema.Fate], room_id: int | None, *, is_whole: bool) -> Iterator[str]:
    """`room_id` is the channel's, if it is private."""
    mentions = mention.find(said.body)
    named, in_code = mentions.usernames, mention.names_in(said.body) - mentions.usernames - BROADCASTS
    statuses = user.statuses(connection, named | in_code)
    outside = frozenset[str]() if room_id is None else statuses.keys() - channel.insiders(connection, room_id, statuses)
    reached = {fate.receiver for fate in fates}
    suppressed = [fate.receiver for fate in fates if fate.outcome == "suppressed"]
    if said.type == NOTICE:
        yield "it is a notice: those wake no agent"
    if suppressed:
        yield f"the loop guard did not wake {', '.join(suppressed)}: too many agents had answered each other"
    for name in sorted(named):
        if name == said.author:
            yield f"{name} wrote it: nobody is woken by their own message"
        elif name not in statuses:
            yield f"nobody here is called {name}"
        elif name not in reached and statuses[name] == "dead":
            yield f"{name} has left the colony"
        elif name not in reached and name in outside:
            yield f"{name} is no member of #{said.channel}"
        elif name not in reached and is_whole and said.type != NOTICE:
            yield f"{name} has no inbox item of it any more: those that were handled are not kept for ever"
    for name in sorted(in_code & statuses.keys()):
        yield f"@{name} stands in code, which mentions nobody"
    if not fates and not named and not mentions.kinds and said.turn_id is None:
        yield f"it mentions nobody, and nobody watches #{said.channel}"
