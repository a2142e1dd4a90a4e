"""Secrets: what agents may use without holding it. Their values lie in the database sealed, and only the gate is given them."""

from __future__ import annotations

import hashlib
import json
import logging
import secrets as random
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any

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
    Text,
    bindparam,
    delete,
    false,
    func,
    or_,
    select,
    text,
    update,
)

from colony import errors, schema
from colony.egress import EVERYONE
from server.keyring import KeyRing
from server.models.base import Key, Timestamp, metadata
from server.models.user import users
from server.prepared import Prepared

log = logging.getLogger(__name__)
MAX_SECRETS = 50  # of one agent, and of all together

_IS_OWN, _IS_FOR_ALL = text("agent_id IS NOT NULL"), text("agent_id IS NULL")

secrets = Table(
    "secrets",
    metadata,
    Column("id", Key, primary_key=True),
    Column("name", String(64), nullable=False),
    Column("agent_id", Key, ForeignKey("users.id")),  # NULL: all agents have it
    Column("hosts", Text, nullable=False),  # JSON
    Column("header", String(200)),
    Column("placeholder", String(120), nullable=False),
    Column("sealed", Text, nullable=False),
    Column("set_by", Key, ForeignKey("users.id"), nullable=False),
    Column("set_at", Timestamp, nullable=False),
    Column("as_environment", Boolean, nullable=False, server_default=false()),  # command runners hold it
    Column("uses", Key, nullable=False, server_default="0"),  # since it was set
    Column("used_at", Timestamp),
    Column("in_path", Boolean, nullable=False, server_default=false()),  # the gate puts it into paths and queries, too
    # Two, because a NULL is like no other: one alone would let secrets of all agents come twice.
    Index("uq_secrets_of_agent", "agent_id", "name", unique=True, sqlite_where=_IS_OWN, postgresql_where=_IS_OWN),
    Index("uq_secrets_of_all", "name", unique=True, sqlite_where=_IS_FOR_ALL, postgresql_where=_IS_FOR_ALL),
)

# Of two with one name, an agent's own comes last.
_GIVEN = Prepared(
    select(secrets.c.name, secrets.c.placeholder)
    .where(or_(secrets.c.agent_id == bindparam("agent"), secrets.c.agent_id.is_(None)))
    .order_by(secrets.c.agent_id.is_not(None), secrets.c.id)
)


def put(
    connection: Connection, agent_id: int | None, request: schema.SetSecret, actor_id: int, ring: KeyRing, now: datetime
) -> schema.Secret:
    """Make it the one secret of that name, of the agent or of all; its placeholder stays. Raises `LimitReached` for one too many."""
    hosts = list(dict.fromkeys(request.hosts))
    ways = request.model_dump(include={"header", "in_path", "as_environment"})
    sealed = ring.seal(request.value, _identity(request.name, agent_id, hosts, **ways))
    values: dict[str, Any] = {"hosts": json.dumps(hosts), **ways, "sealed": sealed, "set_by": actor_id, "set_at": now}
    values |= {"uses": 0, "used_at": None}
    this = _of(agent_id) & (secrets.c.name == request.name)
    if not connection.execute(update(secrets).where(this).values(values)).rowcount:
        if connection.execute(select(func.count()).select_from(secrets).where(_of(agent_id))).scalar_one() >= MAX_SECRETS:
            raise errors.LimitReached(f"{request.agent} has {MAX_SECRETS} secrets, as many as it may")
        placeholder = f"colony-secret-{request.name}-{random.token_hex(8)}"
        connection.execute(secrets.insert().values(name=request.name, agent_id=agent_id, placeholder=placeholder, **values))
    return _listed(connection, this)[0]


def drop(connection: Connection, agent_id: int | None, request: schema.DropSecret) -> schema.Secret:
    """The secret that is no more. Raises `NotFound`."""
    this = _of(agent_id) & (secrets.c.name == request.name)
    found = _listed(connection, this)
    if not found:
        whose = request.agent if agent_id else "all agents"
        raise errors.NotFound(f"there is no secret {request.name} of {whose}; `colony secret list` shows those there are")
    connection.execute(delete(secrets).where(this))
    return found[0]


def count_uses(connection: Connection, agent_id: int, uses: Mapping[str, int], now: datetime) -> None:
    """Note how many more connections of the agent took each of its secrets along; what is no more is passed over."""
    is_its = secrets.c.name.in_(name for name, more in uses.items() if more) & or_(_of(agent_id), _of(None))
    # Of two with one name, the agent's own comes last and counts.
    found = connection.execute(select(secrets.c.name, secrets.c.id).where(is_its).order_by(secrets.c.agent_id.is_not(None), secrets.c.id))
    for name, id in {row.name: row.id for row in found}.items():
        values = {"uses": secrets.c.uses + uses[name], "used_at": now}
        connection.execute(update(secrets).where(secrets.c.id == id).values(values))


def drop_all(connection: Connection, agent_id: int) -> None:
    """Who is born again under the name begins without."""
    connection.execute(delete(secrets).where(secrets.c.agent_id == agent_id))


def drop_of_owner(connection: Connection, owner_id: int | None, agent_id: int) -> None:
    """Who owns the agent no more lends it nothing. What they have set for all agents, as an administrator, stays."""
    connection.execute(delete(secrets).where(secrets.c.agent_id == agent_id, secrets.c.set_by == owner_id))


def listed(connection: Connection, viewer_id: int | None, agent_id: int | None) -> list[schema.Secret]:
    """Those of all agents, and of each that the viewer is or owns (None: of each); or those alone that one agent has."""
    conditions = []
    if agent_id is not None:
        conditions.append(or_(_of(agent_id), _of(None)))
    if viewer_id is not None:
        conditions.append(or_(_of(None), _agents.c.id == viewer_id, _agents.c.owner_id == viewer_id))
    return _listed(connection, *conditions)


def environment(connection: Connection, agent_id: int) -> dict[str, str]:
    """What an agent finds in the place of its secrets, by their names."""
    return {row.name: row.placeholder for row in _GIVEN.rows(connection, {"agent": agent_id})}


def held(connection: Connection, agent_id: int, load: Callable[[], KeyRing]) -> dict[str, str]:
    """The values that the agent's program may hold, by name. What can't be opened is left out, and the program will miss it."""
    mine = select(secrets).where(or_(_of(agent_id), _of(None))).order_by(secrets.c.agent_id.is_not(None), secrets.c.id)
    rows = {row.name: row for row in connection.execute(mine)}
    return {row.name: value for row, value in _values(list(rows.values()), load) if row.as_environment}


def for_gate(connection: Connection, load: Callable[[], KeyRing]) -> schema.EgressSecrets:
    """The secrets of each agent that lives, by its Linux user, with their values. Raises `Unavailable` for what can't be opened.

    Their keys are loaded only where there are some.
    """
    is_living = users.c.kind == "agent", users.c.status != "dead", users.c.linux_user.is_not(None)
    living = select(users.c.id, users.c.linux_user, users.c.honeytoken).where(*is_living).order_by(users.c.linux_user)
    rows = list(connection.execute(select(secrets).order_by(secrets.c.id)))
    ring = load() if rows else KeyRing({})
    version = hashlib.sha256()
    agents: dict[str, list[schema.EgressSecret]] = {}
    honeytokens: dict[str, str] = {}
    for agent in connection.execute(living):
        mine = {row.name: row for owner in (None, agent.id) for row in rows if row.agent_id == owner}
        theirs = [(row.name, row.placeholder, row.sealed, row.hosts) for row in mine.values()]
        version.update(repr((agent.linux_user, agent.honeytoken, theirs)).encode())
        if mine:
            agents[agent.linux_user] = [_opened(row, ring) for row in mine.values()]
        if agent.honeytoken:
            honeytokens[agent.linux_user] = agent.honeytoken
    return schema.EgressSecrets(version=version.hexdigest()[:32], agents=agents, honeytokens=honeytokens)


def values(connection: Connection, load: Callable[[], KeyRing]) -> tuple[dict[int | None, set[str]], bool]:
    """What must not be said, by the id of who says it (None: by whomever), and whether all of it could be opened.

    One agent's secret is covered in its own words and in those of who has set it: it must be no means to change what others say, not even
    of who is given the setter's name again.
    """
    setters = secrets.join(users, users.c.id == secrets.c.set_by)
    rows = list(connection.execute(select(secrets, users.c.created_at.label("setter_since")).select_from(setters)))
    found: dict[int | None, set[str]] = {}
    opened = list(_values(rows, load))
    for row, value in opened:
        for speaker in _speakers(row):
            found.setdefault(speaker, set()).add(value)
    return found, len(opened) == len(rows)


def _speakers(row: Row[tuple[object, ...]]) -> set[int | None]:
    if row.agent_id is None:
        return {None}
    return {row.agent_id, row.set_by} if row.set_at >= row.setter_since else {row.agent_id}


def reseal(connection: Connection, ring: KeyRing) -> int:
    """Seal everything with the ring's newest key; gives how many there were. Raises `Unavailable`, and then nothing has changed."""
    rows = list(connection.execute(select(secrets).with_for_update()))
    for row in rows:
        identity = _identity_of(row)
        sealed = ring.seal(ring.open(row.sealed, identity), identity)
        connection.execute(update(secrets).where(secrets.c.id == row.id).values(sealed=sealed))
    return len(rows)


def lost(connection: Connection, ring: KeyRing) -> list[str]:
    """What can't be opened, as whose it is and how it is called."""
    joined = secrets.outerjoin(_agents, _agents.c.id == secrets.c.agent_id)
    found = connection.execute(select(secrets, _agents.c.username.label("agent")).select_from(joined).order_by(secrets.c.id))
    return [f"{row.agent or EVERYONE}: {row.name}" for row in found if not _can_be_opened(row, ring)]


def _can_be_opened(row: Row[tuple[object, ...]], ring: KeyRing) -> bool:
    try:
        _opened(row, ring)
    except (errors.Unavailable, ValueError):
        return False
    return True


def keys_in_use(connection: Connection) -> set[str]:
    """The names of the keys that something is sealed with."""
    return {sealed.partition(":")[0] for sealed in connection.execute(select(secrets.c.sealed)).scalars()}


def _values(rows: list[Row[tuple[object, ...]]], load: Callable[[], KeyRing]) -> Iterator[tuple[Row[tuple[object, ...]], str]]:
    try:
        ring = load() if rows else KeyRing({})
    except errors.Unavailable as error:
        log.error("no secret can be opened: %s", error.detail)
        return
    for row in rows:
        try:
            yield row, _opened(row, ring).value
        except (errors.Unavailable, ValueError) as error:
            log.error("a secret can't be opened name=%s: %s", row.name, error)


def _opened(row: Row[tuple[object, ...]], ring: KeyRing) -> schema.EgressSecret:
    value = ring.open(row.sealed, _identity_of(row))
    ways = {"hosts": json.loads(row.hosts), "header": row.header, "in_path": row.in_path}
    return schema.EgressSecret(name=row.name, value=value, placeholder=row.placeholder, **ways)


def _identity(name: str, agent_id: int | None, hosts: list[str], header: str | None, in_path: bool, as_environment: bool) -> bytes:
    """What a value is sealed for: in another row, for other hosts, in paths, or to be held, it can't be opened."""
    more = [*(["environment"] if as_environment else []), *(["path"] if in_path else [])]
    return json.dumps([name, agent_id, hosts, header, *more]).encode()


def _identity_of(row: Row[tuple[object, ...]]) -> bytes:
    return _identity(row.name, row.agent_id, json.loads(row.hosts), row.header, row.in_path, row.as_environment)


def _of(agent_id: int | None) -> ColumnElement[bool]:
    return secrets.c.agent_id.is_(None) if agent_id is None else secrets.c.agent_id == agent_id


_agents, _setter = users.alias("agents"), users.alias("setter")


def _selected() -> Select[tuple[object, ...]]:
    joined = secrets.outerjoin(_agents, _agents.c.id == secrets.c.agent_id).join(_setter, _setter.c.id == secrets.c.set_by)
    names = _agents.c.username.label("agent"), _setter.c.username.label("setter")
    return select(secrets, *names).select_from(joined).order_by(secrets.c.agent_id.is_not(None), _agents.c.username, secrets.c.name)


def _listed(connection: Connection, *conditions: ColumnElement[bool]) -> list[schema.Secret]:
    return list(_shown(connection.execute(_selected().where(*conditions))))


def _shown(rows: Iterator[Row[tuple[object, ...]]]) -> Iterator[schema.Secret]:
    for row in rows:
        try:
            hosts = json.loads(row.hosts)
            yield schema.Secret(
                name=row.name,
                agent=row.agent or EVERYONE,
                hosts=hosts,
                header=row.header,
                in_path=row.in_path,
                as_environment=row.as_environment,
                placeholder=row.placeholder,
                set_by=row.setter,
                set_at=row.set_at,
                uses=row.uses,
                used_at=row.used_at,
            )
        except (ValueError, TypeError):
            yield schema.Secret(name=row.name, agent=row.agent or EVERYONE, hosts=[], placeholder="")
