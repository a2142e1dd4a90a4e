"""Events: the messages and the audit, read as one stream. Nothing is stored for it.

A position is `MESSAGE.AUDIT`, the highest id of each that has been passed.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, Table, delete, exists, func, select

from colony import operations, schema
from colony.operations import OPERATIONS
from server.models import channel, message, turn
from server.models.audit import audit
from server.models.channel import channels
from server.models.message import messages
from server.models.turn import turns
from server.models.user import COLONY, users

LEAP = 1_000_000  # more than a colony says between its last backup and the disaster
MAX_SCANNED = 10_000  # rows of each per page: among very many posts there may be few deeds, and little that the viewer may see
_POSTS = {operations.POST.name}  # they show as their messages
_FOR_ADMINISTRATORS = {row.name for row in OPERATIONS.values() if row.who == "admin"}


@dataclass(frozen=True)
class Position:
    message: int
    audit: int

    def __str__(self) -> str:
        return f"{self.message}.{self.audit}"


@dataclass(frozen=True)
class _Found:
    """An event that does not know yet after what it comes."""

    at: datetime
    message: schema.Message | None = None
    deed: schema.Deed | None = None
    audit_id: int = 0

    def after(self, place: Position) -> Position:
        return Position(self.message.id, place.audit) if self.message else Position(place.message, self.audit_id)


def parsed(position: str | None) -> Position | None:
    return Position(*map(int, position.split("."))) if position else None


def newest(connection: Connection) -> Position:
    """The position after all that is visible now; on a database with concurrent writers something may still appear below it."""
    last = [select(func.coalesce(func.max(table.c.id), 0)).scalar_subquery() for table in (messages, audit)]
    return Position(*connection.execute(select(*last)).one())


@contextmanager
def leap(connection: Connection, before: Position, now: datetime) -> Iterator[None]:
    """What is written meanwhile comes far beyond both that position and all that is there."""
    here = newest(connection)
    ids = [(max(pair) // LEAP + 1) * LEAP for pair in ((here.message, before.message), (here.audit, before.audit))]
    author = select(users.c.id).where(users.c.username == COLONY).scalar_subquery()
    channel = select(func.min(channels.c.id)).scalar_subquery()
    # SQLite gives the next id after the highest that is there.
    empty = {"id": ids[0], "channel_id": channel, "author_id": author, "seq": 0, "body": "", "type": "notice", "created_at": now}
    connection.execute(messages.insert().values(empty))
    connection.execute(audit.insert().values(id=ids[1], at=now, operation="leap", outcome="done", surface="command"))
    yield
    for table, taken in zip((messages, audit), ids, strict=True):
        connection.execute(delete(table).where(table.c.id == taken))


def page(
    connection: Connection, since: Position | None, until: Position, limit: int, viewer_id: int | None, unreadable: Collection[str] = ()
) -> schema.Events:
    """The events after `since` up to `until`, or the newest up to there; oldest first. Without what is said in unreadable channels.

    A page may be empty and yet lead further. What is said and done where the viewer sees no channel is not told; None sees all, and
    alone the deeds of administrators.
    """
    first, last = _scanned(connection, since, until)
    seen = message.selected().where(channel.seen_by(channel.viewer(viewer_id)))
    seen = seen.where(channels.c.name.not_in(unreadable)) if unreadable else seen
    said = [_message(row) for row in _rows(connection, seen, messages, (first.message, last.message), limit, since is None)]
    deeds = select(audit, users.c.username.label("actor")).select_from(audit.outerjoin(users, users.c.id == audit.c.actor_id))
    deeds = deeds.where(audit.c.outcome == "done", *_is_told(viewer_id))
    done = [_deed(row) for row in _rows(connection, deeds, audit, (first.audit, last.audit), limit, since is None)]
    merged = list(heapq.merge(said, done, key=lambda found: found.at))
    if since is None:
        shown = message.fitting(merged[: -limit - 1 : -1], _said)[::-1]
        return _numbered(shown, _before(shown, last), last)
    shown = message.fitting(merged[:limit], _said)
    is_all = len(merged) == len(shown) and max(len(said), len(done)) < limit
    return _numbered(shown, since, last if is_all else None)


def _said(found: _Found) -> schema.Message | None:
    return found.message


def _is_told(viewer_id: int | None) -> list[ColumnElement[bool]]:
    """Of which rows of the audit the viewer hears."""
    if viewer_id is None:
        return [audit.c.operation.not_in(_POSTS)]
    viewer = channel.viewer(viewer_id)
    is_elsewhere = exists().where(channels.c.id == audit.c.channel_id, ~channel.seen_by(viewer))
    is_in_turn_elsewhere = exists().where(turns.c.id == audit.c.turn_id, ~turn.seen_by(viewer))
    return [audit.c.operation.not_in(_POSTS | _FOR_ADMINISTRATORS), ~is_elsewhere, ~is_in_turn_elsewhere]


def _scanned(connection: Connection, since: Position | None, until: Position) -> tuple[Position, Position]:
    """After which rows one page begins to look, and up to which."""
    if since is None:
        return Position(*(_first_scanned(connection, table) for table in (messages, audit))), until
    last = Position(_last_scanned(connection, messages, since.message), _last_scanned(connection, audit, since.audit))
    return since, Position(min(until.message, last.message), min(until.audit, last.audit))


def _first_scanned(connection: Connection, table: Table) -> int:
    """The row that one page without a position begins after."""
    found = select(table.c.id).order_by(table.c.id.desc()).offset(MAX_SCANNED).limit(1)
    return int(connection.execute(found).scalar() or 0)


def _last_scanned(connection: Connection, table: Table, since: int) -> int:
    """The highest id that one page from a position looks at; there may be a gap first."""
    following = connection.execute(select(func.min(table.c.id)).where(table.c.id > since)).scalar()
    return (following or since) + MAX_SCANNED


def _rows(
    connection: Connection, query: Select[Any], table: Table, between: tuple[int, int], limit: int, from_the_end: bool
) -> Sequence[Row[Any]]:
    """The first rows after the one id up to the other, or the last of them; ascending."""
    query = query.where(table.c.id > between[0], table.c.id <= between[1]).limit(limit)
    if from_the_end:
        return connection.execute(query.order_by(table.c.id.desc())).all()[::-1]
    return connection.execute(query.order_by(table.c.id)).all()


def _message(row: Row[Any]) -> _Found:
    return _Found(row.created_at, message=message.to_schema(row))


def _deed(row: Row[Any]) -> _Found:
    told = OPERATIONS[row.operation].request.told if row.operation in OPERATIONS else frozenset[str]()
    fields = {name: value for name, value in json.loads(row.params).items() if name in told}
    deed = schema.Deed(operation=row.operation, actor=row.actor, target=row.target, turn_id=row.turn_id, fields=fields)
    return _Found(row.at, deed=deed, audit_id=row.id)


def _before(events: Sequence[_Found], last: Position) -> Position:
    """The position just before the first of them."""
    first_message = next((found.message.id - 1 for found in events if found.message), last.message)
    return Position(first_message, next((found.audit_id - 1 for found in events if found.deed), last.audit))


def _numbered(found: Sequence[_Found], place: Position, position: Position | None) -> schema.Events:
    """With the id of each; without a position the page ends after its last event."""
    events = []
    for each in found:
        place = each.after(place)
        kind: schema.EventKind = "message" if each.message else "deed"
        events.append(schema.Event(id=str(place), kind=kind, at=each.at, message=each.message, deed=each.deed))
    return schema.Events(position=str(position or place), events=events)
