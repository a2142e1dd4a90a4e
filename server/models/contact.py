"""Contacts: what agents reached or tried to reach, as the gate of their sandboxes reports it."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    Float,
    ForeignKey,
    Index,
    Integer,
    Row,
    String,
    Table,
    UniqueConstraint,
    delete,
    false,
    func,
    or_,
    select,
    text,
    update,
)

from colony import egress, schema
from server.models import channel, ops, turn
from server.models.attempt import attempts
from server.models.base import Key, Timestamp, metadata
from server.models.channel import channels
from server.models.posting import Posted
from server.models.spending import this_hour
from server.models.turn import turns
from server.models.user import users

SHOWN = 20  # kinds of contacts of each attempt
NOTICES_PER_HOUR = 20  # about first contacts, of each agent
MOST_HOSTS = 1000  # of an agent that are remembered: a rule with a star allows any number of names
SILENCE = timedelta(minutes=3)  # after which what goes on is taken for lost; the gate tells of it each minute
RECENT_TURNS = 100  # of an agent, among which a contact's is looked for, besides the one that runs

_IS_BOUND = text("turn_id IS NOT NULL")

egress_log = Table(
    "egress_log",
    metadata,
    Column("id", Key, primary_key=True),
    Column("contact_id", String(36), nullable=False),  # the gate's name for it
    Column("agent_id", Key, ForeignKey("users.id")),  # NULL: no agent had that Linux user
    Column("linux_user", String(64), nullable=False),
    Column("turn_id", Key, ForeignKey("turns.id")),  # that ran when it began
    Column("attempt", Integer),
    Column("kind", String(16), nullable=False),
    Column("host", String(255), nullable=False),
    Column("port", Integer, nullable=False),
    Column("verdict", String(16), nullable=False),
    Column("reason", String(200), nullable=False),
    Column("sent_bytes", Key, nullable=False),
    Column("received_bytes", Key, nullable=False),
    Column("began_at", Timestamp, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("times", Key, nullable=False, server_default="1"),  # how many of its like it stands for
    Column("is_open", Boolean, nullable=False, server_default=false()),
    Column("heard_at", Timestamp),  # when the gate told of it last; NULL: before there was this column
    UniqueConstraint("contact_id"),
    Index("ix_egress_log_agent_id", "agent_id", "id"),
    Index("ix_egress_log_turn_id", "turn_id", sqlite_where=_IS_BOUND, postgresql_where=_IS_BOUND),
)

egress_hosts = Table(
    "egress_hosts",
    metadata,
    Column("agent_id", Key, ForeignKey("users.id"), primary_key=True),
    Column("host", String(255), primary_key=True),
    Column("first_at", Timestamp, nullable=False),  # when the colony heard of it
    Index("ix_egress_hosts_first_at", "agent_id", "first_at"),
)


@dataclass(frozen=True)
class _Run:
    """An attempt of a turn, which has ended or not."""

    turn_id: int
    attempt: int
    began_at: datetime
    ended_at: datetime | None

    def has_seen(self, moment: datetime) -> bool:
        return self.began_at <= moment and (self.ended_at is None or moment <= self.ended_at)


@dataclass(frozen=True)
class Betrayal:
    """An agent that gave its honeytoken away, and when: what has the same name is the same one."""

    agent_id: int
    occasion: str


def record(connection: Connection, reported: Collection[schema.Contact], now: datetime) -> tuple[int, list[Posted]]:
    """Keep what is new, each with the agent and its turn; gives how many are new, and the notices about first contacts.

    Those that are known are changed while they go on, and where they stand for more: whatever comes late or twice changes nothing.
    """
    by_id = _newest(reported)
    known = connection.execute(select(egress_log).where(egress_log.c.contact_id.in_(by_id)).with_for_update()).all()
    for row in known:
        _go_on(connection, row, by_id.pop(row.contact_id), now)
    fresh = list(by_id.values())
    if not fresh:
        return 0, []
    linux_users = {contact.linux_user for contact in fresh}
    found = connection.execute(select(users).where(users.c.linux_user.in_(linux_users), users.c.kind == "agent"))
    agents = {agent.linux_user: agent for agent in found}
    runs = {name: _runs(connection, agent.id, fresh) for name, agent in agents.items()}
    rows = [_row(contact, agents.get(contact.linux_user), runs.get(contact.linux_user, []), now) for contact in fresh]
    connection.execute(egress_log.insert(), rows)
    posted: list[Posted] = []
    for agent in agents.values():
        posted += _announce(connection, agent, [row for row in rows if row["agent_id"] == agent.id], now)
    return len(rows), posted


def secret_uses(connection: Connection, reported: Collection[schema.Contact]) -> dict[int, Counter[str]]:
    """How often each agent's secrets were used in what is new in the contacts, which are not recorded yet. They count when they end."""
    by_id = _newest(contact for contact in reported if contact.secrets and not contact.is_open)
    if not by_id:
        return {}
    known = connection.execute(select(egress_log).where(egress_log.c.contact_id.in_(by_id)).with_for_update())
    counted = {row.contact_id: row.times for row in known if not row.is_open}
    linux_users = {contact.linux_user for contact in by_id.values()}
    named = select(users.c.linux_user, users.c.id).where(users.c.linux_user.in_(linux_users), users.c.kind == "agent")
    agents = {row.linux_user: row.id for row in connection.execute(named)}
    uses: dict[int, Counter[str]] = {agent_id: Counter() for agent_id in agents.values()}
    for contact in by_id.values():
        if contact.linux_user in agents:
            more = max(0, contact.times - counted.get(contact.id, 0))
            uses[agents[contact.linux_user]].update(dict.fromkeys(contact.secrets, more))
    return uses


def betrayals(connection: Connection, reported: Collection[schema.Contact]) -> list[Betrayal]:
    """What of the contacts, which are recorded, an agent that lives gave its honeytoken away in: those of one turn together."""
    ids = [contact.id for contact in reported if contact.holds_honeytoken]
    if not ids:
        return []
    kept = select(egress_log.c.agent_id, egress_log.c.turn_id, egress_log.c.attempt, egress_log.c.contact_id)
    joined = kept.join(users, users.c.id == egress_log.c.agent_id).where(egress_log.c.contact_id.in_(ids), users.c.status != "dead")
    found: dict[tuple[object, ...], Betrayal] = {}
    for row in connection.execute(joined.order_by(egress_log.c.id)):
        occasion = f"{row.turn_id}.{row.attempt}" if row.turn_id else row.contact_id
        found.setdefault((row.agent_id, row.turn_id, row.attempt), Betrayal(row.agent_id, occasion))
    return list(found.values())


def read(
    connection: Connection, agent_id: int | None, viewer_id: int | None, request: schema.ReadEgressLog, now: datetime
) -> list[schema.EgressEntry]:
    """The newest contacts, newest first: of the agent or of everyone, perhaps only those in that turn or before that one.

    For the viewer only what was reached in turns that are there for them, and by the agent itself, not its predecessor. None sees all.
    """
    query = select(egress_log, users.c.username.label("agent")).outerjoin(users, users.c.id == egress_log.c.agent_id)
    if viewer_id is not None:
        its_turn = select(turns.c.id).where(turns.c.id == egress_log.c.turn_id, turn.seen_by(channel.viewer(viewer_id)))
        is_there = or_(egress_log.c.turn_id.is_(None), its_turn.correlate(egress_log).exists())
        query = query.where(egress_log.c.began_at >= users.c.created_at, is_there)
    for column, value in ((egress_log.c.agent_id, agent_id), (egress_log.c.turn_id, request.turn)):
        query = query if value is None else query.where(column == value)
    query = query if request.before is None else query.where(egress_log.c.id < request.before)
    return [_to_schema(row, now) for row in connection.execute(query.order_by(egress_log.c.id.desc()).limit(request.limit))]


def reached(connection: Connection, turn_ids: Collection[int]) -> dict[int, tuple[list[schema.Reached], dict[int, int]]]:
    """What each turn reached: of each attempt the first kinds of contacts, and by attempt how many contacts there were beyond those."""
    of = egress_log.c
    kind = of.turn_id, of.attempt, of.host, of.port, of.verdict
    sums = [func.sum(column).label(column.name) for column in (of.sent_bytes, of.received_bytes)]
    counted = select(*kind, func.sum(of.times).label("contacts"), *sums, func.min(of.id).label("first_id"))
    kinds = counted.where(of.turn_id.in_(turn_ids)).group_by(*kind).subquery()
    attempt = kinds.c.turn_id, kinds.c.attempt
    place = func.row_number().over(partition_by=attempt, order_by=kinds.c.first_id).label("place")
    numbered = select(*kinds.c, place, func.sum(kinds.c.contacts).over(partition_by=attempt).label("of_attempt")).subquery()
    query = select(*numbered.c).where(numbered.c.place <= SHOWN).order_by(numbered.c.turn_id, numbered.c.attempt, numbered.c.place)
    found: dict[int, tuple[list[schema.Reached], dict[int, int]]] = {}
    for row in connection.execute(query):
        shown, left_out = found.setdefault(row.turn_id, ([], {}))
        with suppress(ValueError):  # what the colony did not write is left out
            shown.append(schema.Reached(**{name: row._mapping[name] for name in schema.Reached.model_fields}))
        left_out[row.attempt] = left_out.get(row.attempt, int(row.of_attempt)) - int(row.contacts)
    return {turn_id: (shown, {attempt: left for attempt, left in left_out.items() if left}) for turn_id, (shown, left_out) in found.items()}


def forget_hosts(connection: Connection, agent_id: int) -> None:
    """Who is born again under the name has reached nothing yet."""
    connection.execute(delete(egress_hosts).where(egress_hosts.c.agent_id == agent_id))


def old(connection: Connection, before: datetime, after_id: int, limit: int) -> list[int]:
    """The next contacts that began before that time, by id."""
    query = select(egress_log.c.id).where(egress_log.c.id > after_id, egress_log.c.began_at < before)
    return list(connection.execute(query.order_by(egress_log.c.id).limit(limit)).scalars())


def forget(connection: Connection, ids: list[int]) -> int:
    """Delete these contacts; gives their number."""
    return connection.execute(delete(egress_log).where(egress_log.c.id.in_(ids))).rowcount


def _runs(connection: Connection, agent_id: int, contacts: Collection[schema.Contact]) -> list[_Run]:
    """The attempts in which the contacts can have begun, the latest first."""
    moments = [contact.began_at for contact in contacts]
    recent = select(turns.c.id).where(turns.c.agent_id == agent_id, turns.c.started_at <= max(moments))
    recent = recent.order_by(turns.c.started_at.desc()).limit(RECENT_TURNS)
    columns = attempts.c.turn_id, attempts.c.number, attempts.c.began_at, attempts.c.ended_at
    ended = select(*columns).where(attempts.c.turn_id.in_(recent), attempts.c.began_at <= max(moments), attempts.c.ended_at >= min(moments))
    began = func.coalesce(turns.c.attempt_began_at, turns.c.started_at, type_=Timestamp)
    live = select(turns.c.id, turns.c.attempt, began).where(turns.c.agent_id == agent_id, turns.c.state == "running")
    runs = [_Run(*row) for row in connection.execute(ended)] + [_Run(*row, None) for row in connection.execute(live)]
    return sorted(runs, key=lambda run: run.began_at, reverse=True)


def _newest(reported: Iterable[schema.Contact]) -> dict[str, schema.Contact]:
    """What is said last of each, by its id."""
    by_id: dict[str, schema.Contact] = {}
    for contact in reported:
        if (before := by_id.get(contact.id)) is None or _is_newer(contact, before):
            by_id[contact.id] = contact
    return by_id


def _is_newer(contact: schema.Contact, known: schema.Contact | Row[tuple[object, ...]]) -> bool:
    """Whether it is what came later. What has ended goes on no more, but may be found to stand for more."""
    if known.is_open:
        return not contact.is_open or contact.seconds >= known.seconds
    return not contact.is_open and contact.times > known.times


def _go_on(connection: Connection, row: Row[tuple[object, ...]], contact: schema.Contact, now: datetime) -> None:
    if _is_newer(contact, row):
        values = contact.model_dump(include={"verdict", "reason", "sent_bytes", "received_bytes", "seconds", "times", "is_open"})
        connection.execute(update(egress_log).where(egress_log.c.id == row.id).values(values | {"heard_at": now}))


def _row(contact: schema.Contact, agent: Row[tuple[object, ...]] | None, runs: list[_Run], now: datetime) -> dict[str, object]:
    run = next((run for run in runs if run.has_seen(contact.began_at)), None)
    kept = contact.model_dump(exclude={"id", "holds_honeytoken", "secrets"})
    kept |= {"contact_id": contact.id, "host": _normal(contact.host) or contact.host, "heard_at": now}
    return kept | {"agent_id": agent and agent.id, "turn_id": run and run.turn_id, "attempt": run and run.attempt}


def _announce(connection: Connection, agent: Row[tuple[object, ...]], rows: list[dict[str, object]], now: datetime) -> Iterator[Posted]:
    """Tell #ops of hosts that the agent has never been allowed to reach before, and of very many only that there are more."""
    fresh = _first_contacts(connection, agent.id, rows)
    if not fresh:
        return
    remembered = connection.execute(select(func.count()).where(egress_hosts.c.agent_id == agent.id)).scalar_one()
    fresh = dict(itertools.islice(fresh.items(), max(0, MOST_HOSTS - remembered)))
    if not fresh:
        return
    is_of_this_hour = egress_hosts.c.agent_id == agent.id, egress_hosts.c.first_at >= this_hour(now)
    told = connection.execute(select(func.count()).select_from(egress_hosts).where(*is_of_this_hour)).scalar_one()
    connection.execute(egress_hosts.insert(), [{"agent_id": agent.id, "host": host, "first_at": now} for host in fresh])
    name, private = agent.username, _private_turns(connection, fresh.values())
    for host, row in list(fresh.items())[: max(0, NOTICES_PER_HOUR - told)]:
        said = f"{name} reaches {host} for the first time" + (f" (turn {row['turn_id']})." if row["turn_id"] else ".")
        if row["turn_id"] in private:
            said = f"{name} reaches a host for the first time, in a private channel: administrators see it in `colony egress log {name}`."
        yield from ops.tell(connection, agent, said, f"egress:{row['contact_id']}", now)
    if told + len(fresh) > NOTICES_PER_HOUR:
        more = f"{name} reaches more hosts for the first time within this hour than are told here: `colony egress log {name}`."
        posted = ops.tell(connection, agent, more, f"egress:{agent.id}:{this_hour(now):%Y-%m-%dT%H}", now)
        yield from (each for each in posted if not each.message.duplicate)


def _private_turns(connection: Connection, rows: Iterable[dict[str, object]]) -> set[int]:
    """The turns of the contacts that not everybody may know of."""
    ids = [row["turn_id"] for row in rows if row["turn_id"]]
    query = select(turns.c.id).join(channels, channels.c.id == turns.c.channel_id).where(turns.c.id.in_(ids), channels.c.is_private)
    return set(connection.execute(query).scalars())


def _first_contacts(connection: Connection, agent_id: int, rows: list[dict[str, object]]) -> dict[str, dict[str, object]]:
    """The first of the contacts with each host that is new to the agent. What is no host's name is never told: it could say anything."""
    first: dict[str, dict[str, object]] = {}
    for row in rows:
        # What broke off after something had gone through was reached, too.
        was_reached = row["verdict"] == "allowed" or row["sent_bytes"] or row["received_bytes"]
        if was_reached and row["verdict"] != "denied" and row["kind"] != "model" and _normal(str(row["host"])):
            first.setdefault(str(row["host"]), row)
    is_known = egress_hosts.c.agent_id == agent_id, egress_hosts.c.host.in_(first)
    for host in connection.execute(select(egress_hosts.c.host).where(*is_known)).scalars():
        del first[host]
    return first


def _normal(host: str) -> str | None:
    try:
        return egress.normal(host)
    except ValueError:
        return None


def _to_schema(row: Row[tuple[object, ...]], now: datetime) -> schema.EgressEntry:
    """The contact; where the database holds what is none, one that says so."""
    fields = row._asdict()  # what the wire form does not have is ignored
    if row.is_open:
        fields["state"] = "open" if row.heard_at and row.heard_at > now - SILENCE else "lost"
    try:
        return schema.EgressEntry(**fields)
    except ValueError:
        kept = {name: fields[name] for name in ("id", "agent", "linux_user", "began_at")}
        return schema.EgressEntry(**kept, host="", port=0, verdict="failed", kind="connect", reason="(the colony can't read this contact)")
