"""Shows answers: as JSON, as plain text for pipes and agents, or (in terminal.py) as rich text for people."""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TextIO

from colony import pipe, schema, story
from colony.story import Words

Cell = str | int | float | datetime | bool | Words | None
# Control characters steer a terminal, and so do their 8-bit forms; bidi overrides reorder what is read; surrogates can't be encoded.
_HARMFUL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


NOTHING: dict[type[schema.Response], str] = {  # what people are told where a list is empty
    schema.Agents: "no agents",
    schema.Turns: "no turns",
    schema.EgressRules: "no rules: what no rule allows is denied",
    schema.EgressLog: "no connections",
    schema.Secrets: "no secrets",
    schema.Acl: "no rows; --defaults shows what holds all the same",
    schema.Approvals: "nothing is held; --all shows what was",
    schema.Roles: "nobody has a role",
}


@dataclass(frozen=True)
class Table:
    columns: tuple[str, ...]
    rows: list[tuple[Cell, ...]]


@dataclass(frozen=True)
class Record:
    rows: list[tuple[str, Cell]]


@dataclass(frozen=True)
class Entry:
    """One message, with the inbox item that points to it."""

    message: schema.Message
    item: schema.InboxItem | None = None
    has_body: bool = True


@dataclass(frozen=True)
class Word:
    """One value, bare, so that a script can take it."""

    text: str


Part = Table | Record | Entry | Word | Words


def show(answer: schema.Response, is_json: bool, out: TextIO | None = None, now: datetime | None = None) -> None:
    """Write the answer to `out`, readably for whatever that is. Nothing that others wrote can steer a terminal."""
    out = out or pipe.stdout()
    if is_json:
        text = answer.model_dump_json(ensure_ascii=(out.encoding or "utf-8").lower() != "utf-8")
        # Within JSON such characters stand in strings only, where an escape means the same.
        print(_HARMFUL.sub(lambda match: f"\\u{ord(match[0]):04x}", text), file=out)
    elif found := parts(answer):
        write(found, out, now)
    elif type(answer) in NOTHING:
        note(NOTHING[type(answer)])


def write(parts: Sequence[Part], out: TextIO | None = None, now: datetime | None = None) -> None:
    """Write the parts to `out`, readably for whatever that is."""
    out = out or pipe.stdout()
    if out.isatty():
        from colony import terminal

        terminal.write(parts, out, now or datetime.now(UTC))
    else:
        for part in parts:
            print(plain(part), file=out)


def note(text: str) -> None:
    """Tell the person one line, beside the data."""
    print(f"colony: {' '.join(clean(text).split())}", file=sys.stderr)


def clean(text: str) -> str:
    """The text with everything visible that would steer a terminal; line ends and tabs stay."""
    return _HARMFUL.sub(lambda match: match[0].encode("unicode_escape").decode(), text.replace("\r\n", "\n"))


def line(text: str) -> str:
    """The text in one line."""
    return " ".join(clean(text).split())


def told(sentence: Words, when: Callable[[datetime], str]) -> str:
    return line("".join(when(word) if isinstance(word, datetime) else word for word in sentence.words))


def plain(part: Part) -> str:
    """The part as text for pipes: tab-separated cells, ISO times in UTC, bodies indented so that none can pose as a message."""
    match part:
        case Word(text):
            return line(text)
        case Words():
            return "    " * part.indent + told(part, iso)
        case Record(rows):
            return "\n".join(f"{name}\t{_plain_cell(value)}" for name, value in rows)
        case Table(columns, rows):
            return "\n".join("\t".join(cells) for cells in [columns, *(map(_plain_cell, row) for row in rows)])
        case Entry(message, _, has_body):
            head = ", ".join([f"{line(message.author)} ({message.author_kind})", *facts(part, iso)])
            body = "".join(f"\n    {row}".rstrip(" ") for row in clean(message.body).split("\n"))
            return f"{head}:{body}" if has_body else head


def facts(entry: Entry, when: Callable[[datetime], str]) -> list[str]:
    """What the head of a message says beside its author."""
    message, item = entry.message, entry.item
    said = [f"item {item.id} ({item.trigger})"] if item else []
    said += [f"{line(message.channel)} {message.seq}", when(message.created_at), f"id {message.id}"]
    if message.type != "text":
        said.append(line(message.type))
    if message.reply_to:
        said.append(f"reply to {message.reply_to}")
    if message.turn_id:
        said.append(f"turn {message.turn_id}")
    if item and item.attempts:
        said.append(f"attempts {item.attempts}")
    return said


def iso(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@functools.singledispatch
def parts(answer: schema.Response) -> Sequence[Part]:
    """What there is to show: for any response its fields, for those below something more readable."""
    return [_record(answer)]


@parts.register
def _(answer: schema.Users) -> Sequence[Part]:
    return _table(answer.users, "username", "kind", "status", "status_note", "linux_user", "has_token", "owner", "last_seen_at")


@parts.register
def _(answer: schema.Token) -> Sequence[Part]:
    return [Word(answer.token)]


@parts.register
def _(answer: schema.Channels) -> Sequence[Part]:
    return _table(answer.channels, "name", "last_seq", "watched", "topic", "created_at", "is_private")


@parts.register
def _(answer: schema.Members) -> Sequence[Part]:
    return _table(answer.members, "username", "kind", "added_by", "added_at")


@parts.register
def _(answer: schema.Message) -> Sequence[Part]:
    return [Entry(answer, has_body=False)]


@parts.register
def _(answer: schema.Messages) -> Sequence[Part]:
    return [Entry(message) for message in answer.messages]


@parts.register
def _(answer: schema.Inbox) -> Sequence[Part]:
    return [Entry(item.message, item) for item in answer.items]


@parts.register
def _(answer: schema.Acked) -> Sequence[Part]:
    return [Word(str(number)) for number in answer.acked]


@parts.register
def _(answer: schema.Turns) -> Sequence[Part]:
    columns = ("id", "agent", "kind", "channel", "state", "attempt", "started_at", "finished_at")
    return _table(answer.turns, *columns, "tokens_in", "tokens_out", "cost_usd", "error_code")


@parts.register
def _(answer: schema.Turn) -> Sequence[Part]:
    items = [Entry(item.message, item) for item in answer.items]
    return [_record(answer), *story.attempts(answer), *items, *(Entry(message) for message in answer.posts)]


@parts.register
def _(answer: schema.Agents) -> Sequence[Part]:
    columns = ("username", "status", "activity", "status_note", "inbox", "oldest_item_at", "turns_today", "cost_usd_today", "left", "owner")
    told = {"activity": story.activity, "left": story.left}
    rows: list[tuple[Cell, ...]] = [
        (*(told[column](agent) if column in told else getattr(agent, column) for column in columns), agent.last_seen_at)
        for agent in answer.agents
    ]
    together = answer.colony and story.left(answer.colony)
    return [
        *([Table((*columns, "last_seen_at"), rows)] if rows else []),
        *([Word(f"All agents together have left: {together}")] if together else []),
    ]


@parts.register
def _(answer: schema.EgressRule) -> Sequence[Part]:
    return [story.rule(answer)]


@parts.register
def _(answer: schema.EgressRules) -> Sequence[Part]:
    columns = ("agent", "effect", "host", "ports", "set_by", "set_at")
    rows: list[tuple[Cell, ...]] = [
        tuple(story.ports(rule) if column == "ports" else getattr(rule, column) for column in columns) for rule in answer.rules
    ]
    return [Table(columns, rows)] if rows else []


@parts.register
def _(answer: schema.Secret) -> Sequence[Part]:
    return [story.secret(answer)]


@parts.register
def _(answer: schema.Secrets) -> Sequence[Part]:
    columns = ("agent", "name", "hosts", "header", "in_path", "as_environment", "set_by", "set_at", "uses", "used_at")
    rows: list[tuple[Cell, ...]] = [
        tuple(",".join(each.hosts) if column == "hosts" else getattr(each, column) for column in columns) for each in answer.secrets
    ]
    return [Table(columns, rows)] if rows else []


@parts.register
def _(answer: schema.EgressVerdict) -> Sequence[Part]:
    return [story.verdict(answer)]


@parts.register
def _(answer: schema.EgressLog) -> Sequence[Part]:
    what = ("id", "began_at", "agent", "kind", "host", "port", "verdict", "times")
    return _table(answer.contacts, *what, "sent_bytes", "received_bytes", "seconds", "state", "turn_id", "reason")


@parts.register
def _(answer: schema.AclRow) -> Sequence[Part]:
    return [Words((str(answer) + (" (may pass it on)" if answer.grant_option else ""),))]


@parts.register
def _(answer: schema.Acl) -> Sequence[Part]:
    return _table(answer.rows, "principal", "effect", "action", "scope", "grant_option", "granted_by", "granted_at")


@parts.register
def _(answer: schema.AclVerdict) -> Sequence[Part]:
    return [story.right(answer)]


@parts.register
def _(answer: schema.Approval) -> Sequence[Part]:
    return [story.approval(answer)]


@parts.register
def _(answer: schema.Approvals) -> Sequence[Part]:
    return _table(answer.approvals, "id", "state", "user", "operation", "arguments", "turn_id", "asked_at", "expires_at", "decided_by")


@parts.register
def _(answer: schema.Roles) -> Sequence[Part]:
    return _table(answer.members, "role", "username")


@parts.register
def _(answer: schema.Retried) -> Sequence[Part]:
    return story.retried(answer)


@parts.register
def _(answer: schema.Explanation) -> Sequence[Part]:
    return [Entry(answer.message), *story.explained(answer)]


@parts.register
def _(answer: schema.Events) -> Sequence[Part]:
    return [part for event in answer.events for part in parts(event)]


@parts.register
def _(answer: schema.Event) -> Sequence[Part]:
    if answer.message:
        return [Entry(answer.message)]
    deed = answer.deed or schema.Deed(operation="?")
    said = [deed.actor or "somebody", deed.operation, deed.target, *(f"{name} {value}" for name, value in deed.fields.items())]
    turn = [f"turn {deed.turn_id}"] if deed.turn_id else []
    return [Word(" ".join(filter(None, said)) + "".join(f", {each}" for each in (*turn, iso(answer.at), f"event {answer.id}")))]


def _table(rows: Sequence[schema.Response], *columns: str) -> Sequence[Part]:
    return [Table(columns, [tuple(getattr(row, column) for column in columns) for row in rows])] if rows else []


def _record(answer: schema.Response) -> Record:
    return Record([(name, value) for name, value in answer if value not in (None, "") and isinstance(value, Cell)])


def _plain_cell(value: Cell) -> str:
    match value:
        case None:
            return ""
        case datetime():
            return iso(value)
        case Words():
            return told(value, iso)
        case bool():
            return "yes" if value else "no"
        case float():
            return str(round(value, 6))
        case _:
            return line(str(value))
