"""Approvals: what somebody wanted to do that a person has to agree with first, once and exactly so."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    ForeignKey,
    Index,
    Row,
    Select,
    String,
    Table,
    Text,
    delete,
    exists,
    func,
    select,
    update,
)

from colony import errors, schema
from server.keyring import KeyRing
from server.models import ops, posting
from server.models.base import Key, Timestamp, metadata
from server.models.channel import channels, seen_by, viewer
from server.models.posting import Posted
from server.models.turn import turns
from server.models.user import users

LIFETIME = timedelta(hours=24)  # of a question, and of an answer to it
MAX_PENDING = 20  # questions of one user
_OPEN: tuple[schema.ApprovalState, ...] = ("pending", "approved", "refused")  # until they expire
HIDDEN = "(not shown here)"

approvals = Table(
    "approvals",
    metadata,
    Column("id", Key, primary_key=True),
    Column("user_id", Key, ForeignKey("users.id"), nullable=False),
    Column("operation", String(31), nullable=False),
    Column("arguments_hash", String(64), nullable=False),  # an HMAC under the colony's keys
    Column("arguments", Text, nullable=False),  # JSON, for people to read
    Column("turn_id", Key, ForeignKey("turns.id")),
    Column("state", String(16), nullable=False),
    Column("asked_at", Timestamp, nullable=False),
    Column("decided_by", Key, ForeignKey("users.id")),
    Column("decided_at", Timestamp),
    Column("expires_at", Timestamp, nullable=False),
    Column("channel_id", Key, ForeignKey("channels.id")),  # a private one's: for who sees it
    Column("used_as", String(200)),  # the client_id of the call that has used it: a repetition is the same call
    Column("scope", String(80), nullable=False, server_default="*"),  # what it would be done to, as rows name it
    Index("ix_approvals_user_hash", "user_id", "arguments_hash"),
    Index("ix_approvals_state", "state"),
)


@dataclass(frozen=True)
class Wanted:
    """A call that is held, as far as it makes a difference."""

    user_id: int
    operation: str
    request: schema.Request
    ring: KeyRing

    @property
    def arguments(self) -> dict[str, object]:
        return self.request.model_dump(mode="json", exclude=set(self.request.incidental), exclude_defaults=True)

    @cached_property
    def hashes(self) -> list[str]:
        """By which it is known again, the first from now on; none without keys. A secret's value could be guessed from a bare hash."""
        return self.ring.marks(json.dumps([self.operation, self.arguments], sort_keys=True))

    @property
    def key(self) -> str | None:
        return getattr(self.request, "client_id", None)


def use(connection: Connection, wanted: Wanted, now: datetime) -> bool:
    """Whether the call was approved and may be made now, which uses the approval up. Raises `Forbidden` where it was refused."""
    mine = (approvals.c.user_id == wanted.user_id) & (approvals.c.arguments_hash.in_(wanted.hashes))
    for row in connection.execute(select(approvals).where(mine).order_by(approvals.c.id.desc()).with_for_update()):
        if row.state == "used" and wanted.key and row.used_as == wanted.key:
            return True
        if row.state == "approved" and row.expires_at > now:
            connection.execute(update(approvals).where(approvals.c.id == row.id).values(state="used", used_as=wanted.key))
            return True
        if row.state == "refused" and row.expires_at > now:
            raise errors.Forbidden(f"this was refused (#{row.id}); it can be asked for again after {row.expires_at:%Y-%m-%d %H:%M} UTC")
    return False


def ask(
    connection: Connection, wanted: Wanted, turn_id: int | None, scope: str, room_id: int | None, now: datetime
) -> tuple[errors.Held, list[Posted]]:
    """That the call is held, and under which number, with what #ops is told of it: once. Raises `LimitReached` for one too many.

    `scope` is what it would be done to, `room_id` the private channel's that it is about: only who sees that is told more.
    """
    asker = connection.execute(select(users).where(users.c.id == wanted.user_id).with_for_update(key_share=True)).one()  # one at a time
    pending = (approvals.c.user_id == wanted.user_id) & (approvals.c.state == "pending") & (approvals.c.expires_at > now)
    same = connection.execute(select(approvals.c.id).where(pending, approvals.c.arguments_hash.in_(wanted.hashes))).scalar()
    hears_of_it = _ear(connection, wanted.user_id, turn_id) is not None
    if same is not None:
        if hears_of_it:
            connection.execute(update(approvals).where(approvals.c.id == same).values(turn_id=turn_id))
        return _held(same, hears_of_it), []
    if connection.execute(select(func.count()).select_from(approvals).where(pending)).scalar_one() >= MAX_PENDING:
        raise errors.LimitReached(f"{MAX_PENDING} of your calls wait for approval, as many as may")
    names_a_room = isinstance(wanted.request, schema.CreateChannel) and wanted.request.private  # which is nobody else's to know of
    hidden = frozenset({"name", "topic"}) if names_a_room else wanted.request.sealed
    sealed = dict.fromkeys(hidden & wanted.arguments.keys(), HIDDEN)
    values = {
        "user_id": wanted.user_id,
        "operation": wanted.operation,
        "arguments_hash": wanted.hashes[0],
        "arguments": json.dumps(wanted.arguments | sealed, ensure_ascii=False),
        "turn_id": turn_id,
        "channel_id": room_id,
        "scope": scope,
        "state": "pending",
        "asked_at": now,
        "expires_at": now + LIFETIME,
    }
    id = int(connection.execute(approvals.insert().values(values).returning(approvals.c.id)).scalar_one())
    text = f"{asker.username} asks to {wanted.operation}: `colony approvals` shows what. `colony approve {id}` or `colony refuse {id}`."
    return _held(id, hears_of_it), ops.tell(connection, asker, text, f"approval:{id}", now)


def sought(connection: Connection, id: int, viewer_id: int | None) -> tuple[str, str, int | None]:
    """The operation that is asked for, its scope, and the private channel's id that it is about. Raises `NotFound`."""
    row = connection.execute(select(approvals).where(approvals.c.id == id, _is_seen(viewer_id))).first()
    if row is None:
        raise errors.NotFound(f"no approval {id}")
    return row.operation, row.scope, row.channel_id


def decide(
    connection: Connection, id: int, state: schema.ApprovalState, actor_id: int, viewer_id: int | None, now: datetime
) -> tuple[schema.Approval, list[Posted]]:
    """Approve or refuse it, and tell the asker where they hear of it; a repetition changes nothing.

    Raises `NotFound`, and `Conflict` for what is decided or has expired.
    """
    row = connection.execute(select(approvals).where(approvals.c.id == id, _is_seen(viewer_id)).with_for_update()).first()
    if row is None:
        raise errors.NotFound(f"no approval {id}")
    if row.user_id == actor_id:
        raise errors.Forbidden("nobody approves or refuses what they want to do themselves")
    if row.state == "pending" and row.expires_at > now:
        decided = {"state": state, "decided_by": actor_id, "decided_at": now, "expires_at": now + LIFETIME}
        connection.execute(update(approvals).where(approvals.c.id == id).values(decided))
    elif row.state != state:
        raise errors.Conflict(f"#{id} is {_state(row, now)}")
    found = _to_schema(connection.execute(_selected().where(approvals.c.id == id)).one(), now)
    ear = _ear(connection, row.user_id, row.turn_id)
    posted = posting.notice(connection, ear, _answer(found), f"approval:{id}:decided", now, wakes_agents=True) if ear else []
    return found.model_copy(update={"asker_is_told": bool(posted)}), posted


def listed(
    connection: Connection,
    viewer_id: int | None,
    now: datetime,
    limit: int,
    *,
    only_pending: bool,
    user_id: int | None = None,
    unreadable: Collection[str] = (),
) -> list[schema.Approval]:
    """The newest first: those of one user, or of all but what others ask for in channels that are unreadable.

    None as the viewer sees what is asked in private channels, too.
    """
    is_there = _is_seen(viewer_id) & approvals.c.scope.not_in([f"channel:{name}" for name in unreadable])
    if viewer_id is not None:
        is_there |= _is_theirs(viewer_id)
    query = _selected().where(is_there).order_by(approvals.c.id.desc()).limit(limit)
    if user_id is not None:
        query = query.where(_is_theirs(user_id))
    if only_pending:
        query = query.where(approvals.c.state == "pending", approvals.c.expires_at > now)
    return [_to_schema(row, now) for row in connection.execute(query)]


def asker_of(connection: Connection, id: int, viewer_id: int) -> str | None:
    """The name of who wants it; None for no approval that is there for the viewer."""
    query = select(users.c.username).join(approvals, approvals.c.user_id == users.c.id).where(approvals.c.id == id, _is_seen(viewer_id))
    found: str | None = connection.execute(query).scalar()
    return found


def old(connection: Connection, before: datetime, after_id: int, limit: int) -> list[int]:
    """The next ones that counted for nothing any more at that time, by id; never the newest: SQLite would give its id to another."""
    newest = select(func.max(approvals.c.id)).scalar_subquery()
    query = select(approvals.c.id).where(approvals.c.id > after_id, approvals.c.expires_at < before, approvals.c.id < newest)
    return list(connection.execute(query.order_by(approvals.c.id).limit(limit)).scalars())


def forget(connection: Connection, ids: list[int]) -> int:
    """Delete these; gives their number."""
    return connection.execute(delete(approvals).where(approvals.c.id.in_(ids))).rowcount


def end_all(connection: Connection, user_id: int) -> None:
    """Who is given the name again has nothing approved."""
    connection.execute(_ended.where(approvals.c.user_id == user_id))


def end_everybody_s(connection: Connection) -> None:
    """With other keys nothing of it would be known again; in a restored colony what was done since would pass once more."""
    connection.execute(_ended)


def _held(id: int, hears_of_it: bool) -> errors.Held:
    then = "you will hear of it in this turn's channel; make the same call again then" if hears_of_it else "ask again then"
    return errors.Held(f"held as #{id} until an ape approves it; {then}")


def _ear(connection: Connection, asker_id: int, turn_id: int | None) -> str | None:
    """The channel where an agent hears what becomes of a call that it made in that turn; none in a pulse, nor where it is no more."""
    query = select(channels.c.name).join(turns, turns.c.channel_id == channels.c.id)
    found: str | None = connection.execute(query.where(turns.c.id == turn_id, seen_by(viewer(asker_id)))).scalar()
    return found


def _answer(decided: schema.Approval) -> str:
    """For whoever is in the channel: neither what was to be done where, nor who has decided, which may be none of their business."""
    until = f"{decided.expires_at:%Y-%m-%d %H:%M} UTC"
    outcomes = {
        "approved": f"is approved: make the same call again before {until}. It passes once.",
        "refused": f"is refused, and stays so until {until}: don't make it again.",
    }
    return f"@{decided.user} your call to {decided.operation}, held as #{decided.id}, {outcomes[decided.state]}"


def _state(row: Row[tuple[object, ...]], now: datetime) -> schema.ApprovalState:
    """What it is by now; what the colony never wrote counts for nothing any more."""
    if row.state == "used":
        return "used"
    return next((state for state in _OPEN if state == row.state and row.expires_at > now), "expired")


def _is_seen(viewer_id: int | None) -> ColumnElement[bool]:
    is_elsewhere = exists().where(channels.c.id == approvals.c.channel_id, ~seen_by(viewer(viewer_id)))
    return ~is_elsewhere


def _is_theirs(user_id: int) -> ColumnElement[bool]:
    """Whether the user has asked, and not somebody who had their name before."""
    return (approvals.c.user_id == user_id) & (approvals.c.asked_at >= users.c.created_at)


_ended = update(approvals).where(approvals.c.state.in_(_OPEN)).values(state="expired")
_decider = users.alias("decider")


def _selected() -> Select[tuple[object, ...]]:
    joined = approvals.join(users, users.c.id == approvals.c.user_id).outerjoin(_decider, _decider.c.id == approvals.c.decided_by)
    return select(approvals, users.c.username.label("asker"), _decider.c.username.label("decider")).select_from(joined)


def _to_schema(row: Row[tuple[object, ...]], now: datetime) -> schema.Approval:
    return schema.Approval(
        id=row.id,
        user=row.asker,
        operation=row.operation,
        arguments=_laid_open(row.arguments),
        turn_id=row.turn_id,
        state=_state(row, now),
        asked_at=row.asked_at,
        decided_by=row.decider,
        decided_at=row.decided_at,
        expires_at=row.expires_at,
    )


# Besides what Python takes for not printable: fillers, variation selectors, tags and all else that Unicode lets a font leave out.
_UNSEEN = frozenset(
    map(chr, (0x34F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0, *range(0x180B, 0x1810), *range(0xFE00, 0xFE10)))
) | frozenset(map(chr, range(0xE0000, 0xE1000)))


def _laid_open(document: str) -> str:
    """The JSON with escapes in the place of what nobody would see: models read it."""
    return "".join(char if char.isprintable() and char not in _UNSEEN else json.dumps(char)[1:-1] for char in document)
