"""The rows that say who may do what, and who has which role. What they mean, `server.judgement` decides."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime

from sqlalchemy import (
    Boolean,
    Column,
    ColumnElement,
    Connection,
    ForeignKey,
    Index,
    Row,
    Select,
    String,
    Table,
    UniqueConstraint,
    bindparam,
    delete,
    exists,
    func,
    or_,
    select,
    update,
)

from colony import errors, schema
from server.models.base import Key, Timestamp, metadata
from server.models.channel import channels, watches
from server.models.channel import members as insiders
from server.models.inbox import inbox
from server.models.turn import turns
from server.models.user import COLONY, born, users
from server.prepared import Prepared

MAX_ROWS = 100  # of one user, administrators apart: each server keeps all of them in mind
ROLE = "role:"  # before a role's name, where a row speaks of it

acl = Table(
    "acl",
    metadata,
    Column("id", Key, primary_key=True),
    Column("principal", String(64), nullable=False),
    Column("action", String(64), nullable=False),
    Column("scope", String(80), nullable=False),
    Column("effect", String(8), nullable=False),
    Column("granted_by", Key, ForeignKey("users.id"), nullable=False),
    Column("granted_at", Timestamp, nullable=False),
    Column("grant_option", Boolean, nullable=False),
    UniqueConstraint("principal", "action", "scope", name="uq_acl_principal_action_scope"),
)

role_members = Table(
    "role_members",
    metadata,
    Column("role", String(31), primary_key=True),
    Column("user_id", Key, ForeignKey("users.id"), primary_key=True),
    Index("ix_role_members_user_id", "user_id"),
)

_granted = acl.join(users, users.c.id == acl.c.granted_by)
_rows: Select[tuple[object, ...]] = (
    select(acl, users.c.username.label("granter")).select_from(_granted).order_by(acl.c.principal, acl.c.action, acl.c.scope)
)
_ALL = Prepared(_rows)
_MEMBERS = Prepared(select(role_members))
_user, _channel = bindparam("user", type_=Key), channels.c.id
_former = turns.alias("former")
# The last turn of who had the name before: by its id, and not by its time, the index of an agent's turns in a channel leads past it.
_of_former_life = (
    select(_former.c.id)
    .where(_former.c.agent_id == _user, _former.c.started_at < born(_user))
    .order_by(_former.c.started_at.desc())
    .limit(1)
    .scalar_subquery()
)
# Each item leads to a turn, which is remembered when the item is forgotten; only what is still open may have none.
_TAKES_PART = Prepared(
    select(channels.c.id).where(
        channels.c.name == bindparam("channel"),
        or_(
            exists().where(watches.c.channel_id == _channel, watches.c.user_id == _user),
            exists().where(insiders.c.channel_id == _channel, insiders.c.user_id == _user),
            exists().where(inbox.c.agent_id == _user, inbox.c.acked_at.is_(None), inbox.c.channel_id == _channel),
            exists().where(turns.c.agent_id == _user, turns.c.channel_id == _channel, turns.c.id > func.coalesce(_of_former_life, 0)),
        ),
    )
)
_is_living = users.c.status != "dead"
_OWNS = Prepared(select(users.c.id).where(users.c.username == bindparam("agent"), users.c.owner_id == _user, _is_living))


def rows(connection: Connection) -> tuple[schema.AclRow, ...]:
    """All that are stored."""
    return tuple(_to_schema(row) for row in _ALL.rows(connection, {}))


def roles(connection: Connection) -> Mapping[int, frozenset[str]]:
    """The roles of each user that has some, as rows speak of them."""
    found: dict[int, frozenset[str]] = {}
    for role, user_id in _MEMBERS.rows(connection, {}):
        found[user_id] = found.get(user_id, frozenset()) | {f"{ROLE}{role}"}
    return found


def takes_part(connection: Connection, user_id: int, channel: str) -> bool:
    """Whether the user watches the channel, is a member of it, was addressed there, or has had a turn about it in this life."""
    return _TAKES_PART.first(connection, {"user": user_id, "channel": channel}) is not None


def owns(connection: Connection, user_id: int, agent: str) -> bool:
    return _OWNS.first(connection, {"user": user_id, "agent": agent}) is not None


def find(connection: Connection, request: schema.SetAcl | schema.DropAcl) -> schema.AclRow | None:
    """The row that there is for this principal, action and scope."""
    found = connection.execute(_rows.where(_is(request))).first()
    return _to_schema(found) if found else None


def put(connection: Connection, request: schema.SetAcl, actor_id: int, now: datetime, *, is_bounded: bool) -> None:
    """Make it the one row for its principal, action and scope. Raises `LimitReached` for one too many of an actor who is bounded."""
    values = {"effect": request.effect, "grant_option": request.grant_option, "granted_by": actor_id, "granted_at": now}
    if connection.execute(update(acl).where(_is(request)).values(values)).rowcount:
        return
    theirs = select(func.count()).select_from(acl).where(acl.c.granted_by == actor_id)
    if is_bounded and connection.execute(theirs).scalar_one() >= MAX_ROWS:
        raise errors.LimitReached(f"you have set {MAX_ROWS} rows, as many as one may; a role or a wildcard stands for many")
    connection.execute(acl.insert().values(principal=request.principal, action=request.action, scope=request.scope, **values))


def drop(connection: Connection, row: schema.DropAcl | schema.AclRow) -> None:
    connection.execute(delete(acl).where(_is(row)))


def givers(connection: Connection, administrators: Collection[str]) -> list[tuple[int, str, schema.Kind]]:
    """The id, name and kind of all who have set rows, but for the colony and for who has one of those Linux users."""
    is_plain = users.c.username != COLONY, or_(users.c.linux_user.is_(None), users.c.linux_user.not_in(administrators))
    query = select(users.c.id, users.c.username, users.c.kind).where(users.c.id.in_(select(acl.c.granted_by)), *is_plain)
    return [(row.id, row.username, row.kind) for row in connection.execute(query)]


def drop_of_owner(connection: Connection, owner_id: int | None, username: str) -> None:
    """Who owns the agent no more has said nothing about it."""
    is_about = or_(acl.c.principal == username, acl.c.scope == f"agent:{username}")
    connection.execute(delete(acl).where(is_about, acl.c.granted_by == owner_id))


def drop_all(connection: Connection, user_id: int, username: str) -> None:
    """Who is given the name again begins without."""
    connection.execute(delete(acl).where(or_(acl.c.principal == username, acl.c.scope == f"agent:{username}")))
    connection.execute(delete(role_members).where(role_members.c.user_id == user_id))


def members(connection: Connection) -> list[schema.RoleMember]:
    query = select(role_members.c.role, users.c.username).join(users, users.c.id == role_members.c.user_id)
    found = connection.execute(query.order_by(role_members.c.role, users.c.username))
    return [schema.RoleMember(role=row.role, username=row.username) for row in found]


def join(connection: Connection, role: str, user_id: int) -> None:
    """A repetition changes nothing."""
    if connection.execute(select(role_members).where(_is_member(role, user_id))).first() is None:
        connection.execute(role_members.insert().values(role=role, user_id=user_id))


def leave(connection: Connection, role: str, user_id: int) -> None:
    connection.execute(delete(role_members).where(_is_member(role, user_id)))


def _is(request: schema.SetAcl | schema.DropAcl | schema.AclRow) -> ColumnElement[bool]:
    return (acl.c.principal == request.principal) & (acl.c.action == request.action) & (acl.c.scope == request.scope)


def _is_member(role: str, user_id: int) -> ColumnElement[bool]:
    return (role_members.c.role == role) & (role_members.c.user_id == user_id)


def _to_schema(row: Row[tuple[object, ...]]) -> schema.AclRow:
    """The row; one that the database does not hold as the colony writes it denies what it speaks of."""
    told = {"principal": row.principal, "action": row.action, "scope": row.scope, "granted_by": row.granter, "granted_at": row.granted_at}
    try:
        return schema.AclRow(**told, effect=row.effect, grant_option=row.grant_option)
    except ValueError:
        return schema.AclRow(**told, effect="deny")
