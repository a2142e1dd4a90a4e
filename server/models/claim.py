"""Handing out turns: what an agent does next, and when there is something."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import Connection, Row, and_, bindparam, func, select, update

from colony import errors, failures, schema
from server.models import channel, inbox, limits, posting, settle, slots, spending, turn, user
from server.models.base import Timestamp
from server.models.inbox import inbox as inbox_table
from server.models.limits import Exhausted, Limits
from server.models.posting import Posted
from server.models.turn import turns
from server.models.user import users
from server.prepared import Prepared

MAX_MESSAGES = 20
MAX_CHARACTERS = 16_000


@dataclass(frozen=True)
class Terms:
    """Under which the colony hands out turns."""

    slots: int = 32  # turns that may run at once
    limits: Limits = field(default_factory=Limits)  # of all agents together
    turn_usd: float = 1.0  # the most that one turn may cost, where a budget is set
    first_backoff_seconds: float = failures.FIRST_BACKOFF_SECONDS  # of a turn that failed; it doubles with each failure


@dataclass(frozen=True)
class Outlook:
    """What an agent can look forward to."""

    status: schema.Status
    status_note: str
    due: bool  # a claim with take_over would give a turn
    next_at: datetime | None  # when to look again at the latest, though nothing wakes the agent


_live = and_(turns.c.agent_id == users.c.id, turns.c.state == "running")
_open = and_(inbox_table.c.agent_id == users.c.id, inbox_table.c.acked_at.is_(None))
_is_due = inbox.is_due(bindparam("now", type_=Timestamp))
_OUTLOOK = Prepared(
    select(
        users.c.status,
        users.c.status_note,
        users.c.held_until,
        select(turns.c.kind).where(_live).scalar_subquery(),
        select(turns.c.lease_until).where(_live).scalar_subquery(),
        select(inbox_table.c.id).where(_open, _is_due).order_by(inbox_table.c.id).limit(1).scalar_subquery(),
        select(func.min(inbox_table.c.not_before)).where(_open).scalar_subquery(),
        users.c.id,
        slots.taken(bindparam("now", type_=Timestamp)).scalar_subquery(),
    ).where(users.c.username == bindparam("agent"), users.c.kind == "agent")
)
_BEGUN = ("agent_id", "kind", "channel_id", "hops", "started_at", "state", "attempt_began_at", "lease_until", "reserved_usd")
_BEGIN = Prepared(turns.insert().values({name: bindparam(name) for name in _BEGUN}).returning(turns.c.id))


def outlook(connection: Connection, agent: str, terms: Terms, now: datetime) -> Outlook:
    """Whether there is something to claim, in one statement: each of many waiting agents asks when it is woken. Raises `NotFound`."""
    found = _OUTLOOK.first(connection, {"agent": agent, "now": now})
    if found is None:
        raise errors.NotFound(f"no agent {agent}")
    status, note, held_until, live_kind, lease_until, due_id, next_at, agent_id, taken = found
    if status != "healthy":
        return Outlook(status, note, False, None)
    if held_until and held_until > now:
        return Outlook(status, note, False, held_until)
    if lease_until:  # a dream runs beside the worker that asks; an answer without it is lost
        return Outlook(status, note, live_kind == "answer" or lease_until <= now, lease_until)
    if due_id is None:
        return Outlook(status, note, False, next_at)
    if slots.is_scarce(terms.slots - taken, terms.slots) and not slots.is_free_for(connection, agent_id, due_id, terms.slots, now):
        return Outlook(status, note, False, now + timedelta(seconds=slots.RECHECK_SECONDS))
    return Outlook(status, note, True, None)


def claim(
    connection: Connection,
    agent: Row[tuple[object, ...]],
    request: schema.ClaimTurn,
    terms: Terms,
    refusal: Callable[[str], str | None],
    now: datetime,
) -> tuple[schema.Claim, list[Posted]]:
    """The agent's next turn, or why there is none; with the notices for what had to wait or to be given up on the way.

    The agent's row must be locked. A turn whose lease ran out, or whose process is known to be gone, is handed out again under the
    same id with the next attempt; what its earlier attempts posted comes with it. `refusal` says why the agent may not answer in a
    channel.
    """
    if agent.status != "healthy":
        return schema.Claim(reason=f"{agent.username} is {agent.status}"), []
    if agent.held_until and agent.held_until > now:
        return _later(agent.status_note, agent.held_until, now), []
    notices: list[Posted] = []
    if live := turn.running(connection, agent.id):
        if (live.lease_until > now and not request.take_over) or (live.kind == "answer" and request.kind != "answer"):
            return _later(f"turn {live.id} is running", live.lease_until, now), []
        rest_seconds = 0 if live.failures == 0 else None  # the first time it is tried again at once
        backoff = terms.first_backoff_seconds
        notices = settle.fail(connection, live, failures.LOST, "", None, now, rest_seconds=rest_seconds, first_backoff_seconds=backoff)
    oldest, told = _answerable(connection, agent, refusal, now)
    notices += told
    if request.kind == "answer" and oldest is None:
        next_at = inbox.next_time(connection, agent.id)
        return (_later("nothing is due", next_at, now) if next_at else schema.Claim(reason="nothing is due")), notices
    if request.kind == "pulse" and oldest is not None:
        return schema.Claim(reason="who is asked something needs no pulse"), notices
    user.lock_slots(connection)
    place = oldest.id if oldest and request.kind == "answer" else None
    if not slots.is_free_for(connection, agent.id, place, terms.slots, now):
        recheck_at = now + timedelta(seconds=slots.RECHECK_SECONDS)
        return _later(f"all {terms.slots} turns of the colony are taken, or others wait longer", recheck_at, now), notices
    reserved_usd = limits.reserve(connection, agent, terms.limits, terms.turn_usd, now)
    if isinstance(reserved_usd, Exhausted):
        later, told = _refuse(connection, agent, reserved_usd, oldest, now)
        return later, notices + told
    hand_out = _HandOut(connection, agent.id, now, now + timedelta(seconds=request.lease_seconds), reserved_usd)
    turn_id = hand_out.answer(oldest) if request.kind == "answer" and oldest else hand_out.begin(request.kind, None, 0)
    spending.add(connection, agent.id, now, turns=1)
    return schema.Claim(turn=turn.show(connection, turn_id, agent.id, to_work_on=True)), notices


@dataclass(frozen=True)
class _HandOut:
    """Begins a turn, or a resting one's next attempt."""

    connection: Connection
    agent_id: int
    now: datetime
    lease_until: datetime
    reserved_usd: float

    def answer(self, oldest: Row[tuple[object, ...]]) -> int:
        """A turn for the channel of the agent's oldest item."""
        if oldest.turn_id is not None:
            return self._resume(oldest.turn_id)
        items = _fitting(inbox.unbound(self.connection, self.agent_id, oldest.channel_id, self.now, MAX_MESSAGES))
        turn_id = self.begin("answer", oldest.channel_id, max(item.message.hops for item in items))
        inbox.hand_out(self.connection, [item.id for item in items], turn_id)
        return turn_id

    def begin(self, kind: schema.TurnKind, channel_id: int | None, hops: int) -> int:
        values = {"agent_id": self.agent_id, "kind": kind, "channel_id": channel_id, "hops": hops, "started_at": self.now}
        return int(_BEGIN.scalar(self.connection, values | self._terms))

    def _resume(self, turn_id: int) -> int:
        changes = {**self._terms, "attempt": turns.c.attempt + 1}
        self.connection.execute(update(turns).where(turns.c.id == turn_id).values(changes))
        inbox.hand_out(self.connection, [item.id for item in inbox.of_turn(self.connection, turn_id, only_open=True)], turn_id)
        return turn_id

    @property
    def _terms(self) -> dict[str, object]:
        return {"state": "running", "attempt_began_at": self.now, "lease_until": self.lease_until, "reserved_usd": self.reserved_usd}


def _answerable(
    connection: Connection, agent: Row[tuple[object, ...]], refusal: Callable[[str], str | None], now: datetime
) -> tuple[Row[tuple[object, ...]] | None, list[Posted]]:
    """The agent's item that waits longest, once it is left without mentions where it may not answer; with the notices about those."""
    notices: list[Posted] = []
    # A turn that has begun goes on, and ends at its answer: it may have done something that is to be told.
    while (oldest := inbox.next_due(connection, agent.id, now)) and oldest.turn_id is None:
        name = channel.name_of(connection, oldest.channel_id)
        why = refusal(name) if name else None
        told = settle.decline(connection, agent, oldest.channel_id, why, now) if why else []
        if not told:
            break
        notices += told
    return oldest, notices


def _refuse(
    connection: Connection, agent: Row[tuple[object, ...]], why: Exhausted, oldest: Row[tuple[object, ...]] | None, now: datetime
) -> tuple[schema.Claim, list[Posted]]:
    """A limit is reached. Until it starts anew the agent is held, and the channel that waits longest is told."""
    if why.until is None:
        return schema.Claim(reason=why.reason, retry_in_seconds=slots.RECHECK_SECONDS), []
    note = f"{why.reason}, until {why.until:%Y-%m-%d %H:%M} UTC{failures.HELPS}{why.remedy}"
    user.hold(connection, agent.id, why.until, note, now)
    name = channel.name_of(connection, oldest.channel_id) if oldest else None
    told = posting.absence(connection, agent.id, name, now) if name else []
    return _later(why.reason, why.until, now), told


def _fitting(items: list[schema.InboxItem]) -> list[schema.InboxItem]:
    """The first items whose texts fit in a prompt together; always at least one."""
    total = 0
    fitting: list[schema.InboxItem] = []
    for item in items:
        total += len(item.message.body)
        if fitting and total > MAX_CHARACTERS:
            break
        fitting.append(item)
    return fitting


def _later(reason: str, at: datetime, now: datetime) -> schema.Claim:
    return schema.Claim(reason=reason, retry_in_seconds=max(0.0, (at - now).total_seconds()))
