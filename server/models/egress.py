"""Egress rules: what an agent, or all of them, may reach. Whether a connection is allowed, `colony.egress` decides from them."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime

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
    delete,
    func,
    or_,
    select,
    text,
    update,
)

from colony import errors, schema
from colony.egress import EVERYONE
from server.models.base import Key, Timestamp, metadata
from server.models.user import users

MAX_RULES = 200  # of one agent, and of all together: each of them goes to the gate with every change

_IS_OWN, _IS_FOR_ALL = text("agent_id IS NOT NULL"), text("agent_id IS NULL")

egress_rules = Table(
    "egress_rules",
    metadata,
    Column("id", Key, primary_key=True),
    Column("agent_id", Key, ForeignKey("users.id")),  # NULL: for all agents
    Column("effect", String(8), nullable=False),
    Column("host", String(255), nullable=False),
    Column("ports", String(255), nullable=False),  # JSON
    Column("set_by", Key, ForeignKey("users.id"), nullable=False),
    Column("set_at", Timestamp, nullable=False),
    # Two, because a NULL is like no other: one alone would let rules for all agents come twice.
    Index("uq_egress_rules_of_agent", "agent_id", "host", unique=True, sqlite_where=_IS_OWN, postgresql_where=_IS_OWN),
    Index("uq_egress_rules_of_all", "host", unique=True, sqlite_where=_IS_FOR_ALL, postgresql_where=_IS_FOR_ALL),
)


def put(connection: Connection, agent_id: int | None, request: schema.SetEgress, actor_id: int, now: datetime) -> schema.EgressRule:
    """Make it the one rule for that host, of the agent or of all. Raises `LimitReached` for one rule too many."""
    values = {"effect": request.effect, "ports": json.dumps(request.ports), "set_by": actor_id, "set_at": now}
    mine = _of(agent_id)
    if not connection.execute(update(egress_rules).where(mine, egress_rules.c.host == request.host).values(values)).rowcount:
        if connection.execute(select(func.count()).select_from(egress_rules).where(mine)).scalar_one() >= MAX_RULES:
            raise errors.LimitReached(f"{request.agent} has {MAX_RULES} rules, as many as it may; *.example.org stands for many")
        connection.execute(egress_rules.insert().values(agent_id=agent_id, host=request.host, **values))
    return _listed(connection, mine & (egress_rules.c.host == request.host))[0]


def drop(connection: Connection, agent_id: int | None, request: schema.DropEgress) -> schema.EgressRule:
    """The rule that is no more. Raises `NotFound`."""
    this = _of(agent_id) & (egress_rules.c.host == request.host)
    found = _listed(connection, this)
    if not found:
        raise errors.NotFound(f"{request.agent} has no rule for the host {request.host}; `colony egress list` shows those there are")
    connection.execute(delete(egress_rules).where(this))
    return found[0]


def drop_all(connection: Connection, agent_id: int) -> None:
    """Who is born again under the name begins without."""
    connection.execute(delete(egress_rules).where(egress_rules.c.agent_id == agent_id))


def listed(connection: Connection, agent_id: int | None = None, *, of_all: bool = False) -> list[schema.EgressRule]:
    """Every rule; or those that count for the agent, or those `of_all` agents alone."""
    if agent_id is None:
        return _listed(connection, _of(None) if of_all else None)
    return _listed(connection, or_(_of(agent_id), _of(None)))


def policy(connection: Connection) -> schema.EgressPolicy:
    """The rules for each agent that lives, by its Linux user. The version is made from the content: no server need remember it."""
    is_living = users.c.kind == "agent", users.c.status != "dead", users.c.linux_user.is_not(None)
    living = select(users.c.id, users.c.linux_user).where(*is_living).order_by(users.c.linux_user)
    rules: dict[int | None, list[schema.EgressRule]] = {}
    for row in connection.execute(_selected()):
        rule = _to_schema(row)
        rules.setdefault(row.agent_id, []).append(rule.model_copy(update={"set_by": None, "set_at": None}))
    own = {row.linux_user: rules.get(row.id, []) for row in connection.execute(living)}
    of_all = rules.get(None, []) if own else []  # they mean something only where there is an agent
    agents = {linux_user: of_all + theirs for linux_user, theirs in own.items()}
    return schema.EgressPolicy(version=_hash({"": of_all, **own}), agents=agents)


def _hash(rules: dict[str, list[schema.EgressRule]]) -> str:
    said = json.dumps({name: [rule.model_dump(mode="json") for rule in theirs] for name, theirs in rules.items()}, sort_keys=True)
    return hashlib.sha256(said.encode()).hexdigest()[:32]


def _of(agent_id: int | None) -> ColumnElement[bool]:
    return egress_rules.c.agent_id.is_(None) if agent_id is None else egress_rules.c.agent_id == agent_id


_setter = users.alias("setter")


def _selected() -> Select[tuple[object, ...]]:
    joined = egress_rules.outerjoin(users, users.c.id == egress_rules.c.agent_id).join(_setter, _setter.c.id == egress_rules.c.set_by)
    names = users.c.username.label("agent"), _setter.c.username.label("setter")
    order = egress_rules.c.agent_id.is_not(None), users.c.username, egress_rules.c.host
    return select(egress_rules, *names).select_from(joined).order_by(*order)


def _listed(connection: Connection, condition: ColumnElement[bool] | None) -> list[schema.EgressRule]:
    query = _selected() if condition is None else _selected().where(condition)
    return [_to_schema(row) for row in connection.execute(query)]


def _to_schema(row: Row[tuple[object, ...]]) -> schema.EgressRule:
    """The rule; one that the database does not hold as the colony writes it denies its host."""
    name = EVERYONE if row.agent_id is None else row.agent
    told = {"agent": name, "host": row.host, "set_by": row.setter, "set_at": row.set_at}
    try:
        return schema.EgressRule(**told, effect=row.effect, ports=json.loads(row.ports))
    except (ValueError, TypeError):
        return schema.EgressRule(**told, effect="deny")
