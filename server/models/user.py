"""Users: people, agents, gateways and services."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Collection, Mapping
from datetime import datetime

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Float,
    ForeignKey,
    Index,
    Integer,
    Row,
    ScalarSelect,
    String,
    Table,
    and_,
    bindparam,
    func,
    literal,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from colony import errors, schema
from server.models.base import Key, Timestamp, metadata
from server.prepared import Prepared

COLONY = "colony"  # the service that signs notices, and whom an administrator without an account of their own acts as
POSTS_PER_TURN = 10  # besides the reply, unless the agent is given another limit

users = Table(
    "users",
    metadata,
    Column("id", Key, primary_key=True),
    Column("username", String(31), nullable=False, unique=True),
    Column("kind", String(16), nullable=False),
    Column("linux_user", String(32), unique=True),
    Column("token_hash", String(64), unique=True),
    Column("status", String(16), nullable=False),
    Column("status_note", String(500), nullable=False, server_default=""),
    Column("owner_id", Key, ForeignKey("users.id")),  # an agent's; who is no ape counts for none
    Column("last_seen_at", Timestamp),
    Column("held_until", Timestamp),  # an agent waits till then: its model's API is out of reach, or its budget is spent
    Column("away_since", Timestamp),  # held, paused or draining since then; NULL: at work
    Column("created_at", Timestamp, nullable=False),
    Column("budget_usd_per_day", Float),  # an agent's; NULL: only the colony's
    Column("turns_per_hour", Integer),  # likewise
    Column("posts_per_turn", Integer, nullable=False, server_default=str(POSTS_PER_TURN)),
    Column("status_at", Timestamp),  # when it took its status, if it ever changed
    Column("alarmed_at", Timestamp),  # since then people know that the agent is silent
    Column("honeytoken", String(80)),  # an agent's: worth nothing, and laid out to be stolen
    Index("ix_users_kind", "kind"),
)

_MOVES: dict[str, set[str]] = {
    "provisioning": {"healthy", "dead"},
    "healthy": {"paused", "draining"},
    "paused": {"healthy", "draining"},
    "draining": {"dead", "healthy"},
    "dead": set(),
}
_GONE = {"linux_user": None, "token_hash": None}  # the Linux user may be somebody else's tomorrow

owners = users.alias("owners")
owns = and_(owners.c.id == users.c.owner_id, owners.c.kind == "ape")

_named = select(users).where(users.c.username == bindparam("name"))
_FIND = Prepared(_named)
_shown = select(users, owners.c.username.label("owner")).select_from(users.outerjoin(owners, owns))
_SHOW = Prepared(_shown.where(users.c.username == bindparam("name")))
_FIND_AGENT = Prepared(_named.where(users.c.kind == "agent"))
_LOCK_AGENT = Prepared(_named.where(users.c.kind == "agent").with_for_update(key_share=True))
_LOCK = Prepared(_named.with_for_update(key_share=True))
_SEEN = Prepared(update(users).where(users.c.id == bindparam("user")).values(last_seen_at=bindparam("now")))
_RELEASE = Prepared(
    update(users)
    .where(users.c.id == bindparam("user"), users.c.held_until.is_not(None))
    .values(held_until=None, away_since=None, status_note="")
)


def find(connection: Connection, username: str, *, lock: bool = False) -> Row[tuple[object, ...]]:
    """Raises `NotFound`. `lock` lets nobody else change the user until the transaction ends."""
    row = (_LOCK if lock else _FIND).first(connection, {"name": username})
    if row is None:
        raise errors.NotFound(f"no user {username}")
    return row


def find_agent(connection: Connection, username: str, *, lock: bool = False) -> Row[tuple[object, ...]]:
    """Raises `NotFound` for anything but an agent. `lock` holds other claims of this agent off until the transaction ends."""
    row = (_LOCK_AGENT if lock else _FIND_AGENT).first(connection, {"name": username})
    if row is None:
        raise errors.NotFound(f"no agent {username}")
    return row


def find_linux_user(connection: Connection, linux_user: str) -> Row[tuple[object, ...]]:
    """The agent that has this Linux user. Raises `NotFound`."""
    row = connection.execute(select(users).where(users.c.linux_user == linux_user, users.c.kind == "agent")).first()
    if row is None:
        raise errors.NotFound(f"no agent has the Linux user {linux_user}")
    return row


def born(user_id: ColumnElement[int]) -> ScalarSelect[datetime]:
    """When the user of that id began, within a statement: what was done under the name before is somebody else's."""
    return select(users.c.created_at).where(users.c.id == user_id).scalar_subquery()


def lock_slots(connection: Connection) -> None:
    """Hold all other claims off until the transaction ends: each must see the turns that the one before began."""
    _LOCK.first(connection, {"name": COLONY})


def show(connection: Connection, username: str, *, is_admin: bool = False) -> schema.User:
    """Raises `NotFound`."""
    row = _SHOW.first(connection, {"name": username})
    if row is None:
        raise errors.NotFound(f"no user {username}")
    return _to_schema(row, is_admin=is_admin)


def listed(connection: Connection, kind: str | None = None) -> list[schema.User]:
    query = _shown.order_by(users.c.username)
    return [_to_schema(row) for row in connection.execute(query.where(users.c.kind == kind) if kind else query)]


def statuses(connection: Connection, usernames: Collection[str]) -> dict[str, schema.Status]:
    """The status of each of the names that somebody here has."""
    query = select(users.c.username, users.c.status).where(users.c.username.in_(usernames)).order_by(users.c.username)
    return {row.username: row.status for row in connection.execute(query)}


def create(connection: Connection, request: schema.CreateUser, now: datetime) -> schema.User:
    """Add a user. The name of one who is dead or has left may be given to another of that kind, who begins anew.

    Raises `Conflict` when the name or the Linux user is taken, `NotFound` and `Invalid` for an owner who can't be one.
    """
    if request.username in schema.BROADCASTS:
        raise errors.Conflict(f"{request.username} is reserved: @{request.username} addresses all of them")
    if request.username in schema.KINDS:
        raise errors.Conflict(f"{request.username} is reserved: it means all of that kind")
    status = "provisioning" if request.kind == "agent" else "healthy"
    if request.owner and request.kind != "agent":
        raise errors.Invalid(f"owner: agents have one, and {request.username} is to be of kind {request.kind}")
    owner_id = _person_id(connection, request.owner)
    values = request.model_dump(exclude={"owner"}) | {"status": status, "owner_id": owner_id, "created_at": now}
    values["honeytoken"] = f"colony-admin-{secrets.token_hex(20)}" if request.kind == "agent" else None
    try:
        with connection.begin_nested():
            if not _revive(connection, values):
                connection.execute(users.insert().values(values))
    except IntegrityError:
        raise errors.Conflict(f"there is a user {request.username}, was one of another kind, or is one for this Linux user") from None
    return show(connection, request.username)


def _revive(connection: Connection, values: Mapping[str, object]) -> bool:
    """Make who had this name a new user, if they are gone. The id stays, by which their messages and costs are known."""
    anew = dict.fromkeys(("last_seen_at", "away_since", "status_at", "alarmed_at", "budget_usd_per_day", "turns_per_hour"))
    is_gone = users.c.username == values["username"], users.c.kind == values["kind"], users.c.status == "dead"
    changed = update(users).where(*is_gone).values({**anew, **values, "status_note": "", "posts_per_turn": POSTS_PER_TURN})
    return bool(connection.execute(changed).rowcount)


def issue_token(connection: Connection, username: str) -> str:
    """A new 256-bit token, of which only the hash is kept. Raises `NotFound` and `Conflict`."""
    if find(connection, username).status == "dead":
        raise errors.Conflict(f"{username} has left the colony; `colony create-user` gives the name again")
    token = secrets.token_urlsafe(32)
    _set_token(connection, username, token_hash(token))
    return token


def revoke_token(connection: Connection, username: str) -> None:
    """Raises `NotFound`."""
    _set_token(connection, username, None)


def _set_token(connection: Connection, username: str, hashed: str | None) -> None:
    changed = connection.execute(update(users).where(users.c.username == username).values(token_hash=hashed))
    if not changed.rowcount:
        raise errors.NotFound(f"no user {username}")


def token_hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def seen(connection: Connection, user_id: int, now: datetime) -> None:
    _SEEN.run(connection, {"user": user_id, "now": now})


def hold(connection: Connection, user_id: int, until: datetime, note: str, now: datetime) -> None:
    """Let an agent wait: nothing is handed out to it before `until`."""
    changes = {"held_until": until, "status_note": note[:500], "away_since": func.coalesce(users.c.away_since, literal(now, Timestamp))}
    connection.execute(update(users).where(users.c.id == user_id).values(changes))


def release(connection: Connection, user_id: int) -> None:
    """End a hold, if there is one."""
    _RELEASE.run(connection, {"user": user_id})


def limit(connection: Connection, user_id: int, limits: schema.SetLimits) -> None:
    """Change an agent's limits as the request says."""
    lifted = {"budget_usd_per_day", "turns_per_hour"} if limits.lift == "all" else {limits.lift} - {None}
    given = limits.model_dump(include={"budget_usd_per_day", "turns_per_hour", "posts_per_turn"}, exclude_none=True)
    if changes := dict.fromkeys(filter(None, lifted)) | given:
        connection.execute(update(users).where(users.c.id == user_id).values(changes))


def move(connection: Connection, agent: Row[tuple[object, ...]], status: str, note: str, now: datetime) -> None:
    """Change an agent's status; one that stays as it is keeps its note, unless there is another.

    Raises `Conflict` for a move that an agent's life doesn't have.
    """
    if status != agent.status and status not in _MOVES[agent.status]:
        allowed = ", ".join(sorted(_MOVES[agent.status])) or "nothing"
        raise errors.Conflict(f"{agent.username} is {agent.status} and can become {allowed}, not {status}")
    since = None if status == "healthy" else now if status != agent.status else agent.away_since
    note = note or (agent.status_note if status == agent.status else "")  # what was said of it is still so
    changes = {"status": status, "status_note": note, "status_at": now, "held_until": None, "away_since": since}
    if status == "dead":
        changes |= _GONE
    connection.execute(update(users).where(users.c.id == agent.id).values(changes))


def give(connection: Connection, agent_id: int, owner: str | None) -> None:
    """Make the agent that person's, or nobody's. Raises `NotFound` and `Invalid` for an owner who can't be one."""
    connection.execute(update(users).where(users.c.id == agent_id).values(owner_id=_person_id(connection, owner)))


def owned(connection: Connection, owner_id: int) -> list[tuple[int, str]]:
    """The ids and names of somebody's agents, which nobody else changes until the transaction ends."""
    query = select(users.c.id, users.c.username).where(users.c.owner_id == owner_id).order_by(users.c.id).with_for_update(key_share=True)
    return [(row.id, row.username) for row in connection.execute(query)]


def part_with(connection: Connection, user_id: int, now: datetime) -> None:
    """Somebody other than an agent is here no more, and owns nothing."""
    connection.execute(update(users).where(users.c.id == user_id).values({"status": "dead", "status_at": now, **_GONE}))
    connection.execute(update(users).where(users.c.owner_id == user_id).values(owner_id=None))


def _person_id(connection: Connection, owner: str | None) -> int | None:
    if owner is None:
        return None
    found = find(connection, owner, lock=True)  # who leaves meanwhile owns nothing
    if found.kind != "ape" or found.status == "dead":
        raise errors.Invalid(f"owner: {owner} is no person of this colony")
    return int(found.id)


def _to_schema(row: Row[tuple[object, ...]], *, is_admin: bool = False) -> schema.User:
    return schema.User(
        id=row.id,
        username=row.username,
        kind=row.kind,
        linux_user=row.linux_user,
        status=row.status,
        status_note=row.status_note,
        is_admin=is_admin,
        last_seen_at=row.last_seen_at,
        has_token=row.token_hash is not None,
        owner=row.owner,
    )
