"""What must hold in every colony's database, whatever happened to it: one query per rule, which finds what breaks it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, get_args

from sqlalchemy import ColumnElement, Connection, Select, Table, func, or_, select

from colony import schema
from server.models.channel import channels, members, watches
from server.models.contact import egress_log
from server.models.egress import egress_rules
from server.models.inbox import inbox
from server.models.message import messages
from server.models.turn import turns
from server.models.user import users

MAX_PER_RULE = 20


@dataclass(frozen=True)
class Rule:
    name: str
    says: str  # about a row of what was found, by its columns
    query: Select[Any]


def findings(connection: Connection) -> Iterator[str]:
    """What is wrong, a line each; of one kind not more than a few."""
    for rule in RULES:
        found = connection.execute(rule.query.limit(MAX_PER_RULE + 1)).mappings().all()
        yield from (rule.says.format(**row) for row in found[:MAX_PER_RULE])
        if len(found) > MAX_PER_RULE:
            yield f"more of this kind: {rule.name}"


def sizes(connection: Connection) -> dict[str, int]:
    """How many rows each of the tables holds that tell a colony's story."""
    tables = (users, channels, messages, inbox, turns)
    return {table.name: int(connection.execute(select(func.count()).select_from(table)).scalar_one()) for table in tables}


_is_open = inbox.c.acked_at.is_(None)
_is_live = turns.c.state.in_(["running", "resting"])
_item_turn = inbox.join(turns, turns.c.id == inbox.c.turn_id)
_item = inbox.c.id, inbox.c.turn_id
_membership = members.join(channels, channels.c.id == members.c.channel_id).join(users, users.c.id == members.c.user_id)
_named = channels.c.name, users.c.username
_lowest, _highest = func.coalesce(func.min(messages.c.seq), 1), func.coalesce(func.max(messages.c.seq), 0)
_count = func.count(messages.c.id)


def _without_membership(query: Select[Any], table: Table, user_id: ColumnElement[Any]) -> Select[Any]:
    """Rows of the table that are about a user and a private channel of which that user is no member."""
    joined = table.join(channels, channels.c.id == table.c.channel_id).join(users, users.c.id == user_id)
    is_member = select(members.c.user_id).where(members.c.channel_id == table.c.channel_id, members.c.user_id == user_id).exists()
    return query.select_from(joined).where(channels.c.is_private.is_(True), ~is_member)


def _known(column: ColumnElement[Any], words: Any) -> Rule:
    """Nothing but the words that the code knows."""
    table, name = column.table, column.name
    query = select(table.c.id, column.label("word")).where(column.not_in(get_args(words)))
    return Rule(f"{table.name}.{name} is known", f"{table.name} {{id}}: {name} is {{word!r}}, which means nothing", query)


RULES = (
    Rule(
        "messages are numbered without gaps",
        "channel {name}: {count} messages from #{lowest} to #{highest}, but the last number is said to be #{last_seq}",
        select(channels.c.name, channels.c.last_seq, _count.label("count"), _lowest.label("lowest"), _highest.label("highest"))
        .select_from(channels.outerjoin(messages, messages.c.channel_id == channels.c.id))
        .group_by(channels.c.id, channels.c.name, channels.c.last_seq)
        .having(or_(_count != channels.c.last_seq, _highest != channels.c.last_seq, _lowest != 1)),
    ),
    Rule(
        "a message reaches a user once",
        "message {message_id}: {count} inbox items for user {agent_id}",
        select(inbox.c.message_id, inbox.c.agent_id, func.count().label("count"))
        .group_by(inbox.c.message_id, inbox.c.agent_id)
        .having(func.count() > 1),
    ),
    Rule(
        "an item lies in its message's channel",
        "inbox item {id}: in channel {channel_id}, but message {message_id} is not",
        select(inbox.c.id, inbox.c.channel_id, inbox.c.message_id)
        .select_from(inbox.join(messages, messages.c.id == inbox.c.message_id))
        .where(messages.c.channel_id != inbox.c.channel_id),
    ),
    Rule(
        "an item is open, or it has an outcome",
        "inbox item {id}: acknowledged at {acked_at}, outcome {outcome}",
        select(inbox.c.id, inbox.c.acked_at, inbox.c.outcome).where(_is_open != inbox.c.outcome.is_(None)),
    ),
    Rule(
        "an open item is bound to a turn that goes on, or to none",
        "inbox item {id}: open, but its turn {turn_id} is {state}",
        select(*_item, turns.c.state).select_from(_item_turn).where(_is_open, ~_is_live),
    ),
    Rule(
        "an item's turn is its receiver's",
        "inbox item {id}: for user {receiver}, but its turn {turn_id} is user {agent_id}'s",
        select(*_item, inbox.c.agent_id.label("receiver"), turns.c.agent_id)
        .select_from(_item_turn)
        .where(turns.c.agent_id != inbox.c.agent_id),
    ),
    Rule(
        "what is answered has an answer",
        "inbox item {id}: answered, but turn {turn_id} has posted nothing there",
        select(*_item).where(
            inbox.c.outcome == "answered",
            ~select(messages.c.id).where(messages.c.turn_id == inbox.c.turn_id, messages.c.channel_id == inbox.c.channel_id).exists(),
        ),
    ),
    Rule(
        "nothing waits for the dead",
        "inbox item {id}: open, but its receiver {username} is dead",
        select(inbox.c.id, users.c.username)
        .select_from(inbox.join(users, users.c.id == inbox.c.agent_id))
        .where(_is_open, users.c.status == "dead"),
    ),
    Rule(
        "what waits in a private channel waits for a member",
        "inbox item {id}: open, but its receiver {username} is no member of {name}",
        _without_membership(select(inbox.c.id, *_named), inbox, inbox.c.agent_id).where(_is_open),
    ),
    Rule(
        "who works in a private channel is a member",
        "turn {id}: {state}, but its agent {username} is no member of {name}",
        _without_membership(select(turns.c.id, turns.c.state, *_named), turns, turns.c.agent_id).where(_is_live),
    ),
    Rule(
        "who watches a private channel is a member",
        "{username} watches {name}, and is no member of it",
        _without_membership(select(*_named), watches, watches.c.user_id),
    ),
    Rule(
        "only private channels have members",
        "{username} is a member of {name}, which is public",
        select(*_named).select_from(_membership).where(channels.c.is_private.is_(False)),
    ),
    Rule(
        "the dead are members of nothing",
        "{username} is a member of {name}, but is dead",
        select(*_named).select_from(_membership).where(users.c.status == "dead"),
    ),
    Rule(
        "an agent has at most one running turn",
        "user {agent_id}: {count} turns are running",
        select(turns.c.agent_id, func.count().label("count"))
        .where(turns.c.state == "running")
        .group_by(turns.c.agent_id)
        .having(func.count() > 1),
    ),
    Rule(
        "a resting turn has something to wake for",
        "turn {id}: rests, but none of its items is open",
        select(turns.c.id).where(turns.c.state == "resting", ~select(inbox.c.id).where(inbox.c.turn_id == turns.c.id, _is_open).exists()),
    ),
    Rule(
        "a turn goes on, or it has an end",
        "turn {id}: {state}, finished at {finished_at}",
        select(turns.c.id, turns.c.state, turns.c.finished_at).where(_is_live != turns.c.finished_at.is_(None)),
    ),
    Rule(
        "who posts in a turn is its agent",
        "message {id}: by user {author_id}, in turn {turn_id} of user {agent_id}",
        select(messages.c.id, messages.c.author_id, messages.c.turn_id, turns.c.agent_id)
        .select_from(messages.join(turns, turns.c.id == messages.c.turn_id))
        .where(messages.c.author_id != turns.c.agent_id),
    ),
    Rule(
        "a contact's turn is its agent's",
        "contact {id}: of user {reaching}, in turn {turn_id} of user {agent_id}",
        select(egress_log.c.id, egress_log.c.agent_id.label("reaching"), egress_log.c.turn_id, turns.c.agent_id)
        .select_from(egress_log.join(turns, turns.c.id == egress_log.c.turn_id))
        .where(func.coalesce(egress_log.c.agent_id, 0) != turns.c.agent_id),
    ),
    Rule(
        "the dead have no egress rules",
        "egress rule {id}: for {host}, but its agent {username} is dead",
        select(egress_rules.c.id, egress_rules.c.host, users.c.username)
        .select_from(egress_rules.join(users, users.c.id == egress_rules.c.agent_id))
        .where(users.c.status == "dead"),
    ),
    _known(users.c.kind, schema.Kind),
    _known(users.c.status, schema.Status),
    _known(inbox.c.trigger, schema.Trigger),
    _known(inbox.c.outcome, schema.Outcome),
    _known(turns.c.kind, schema.TurnKind),
    _known(turns.c.state, schema.TurnState),
    _known(egress_rules.c.effect, schema.EgressEffect),
    _known(egress_log.c.verdict, schema.ContactVerdict),
    _known(egress_log.c.kind, schema.ContactKind),
)
