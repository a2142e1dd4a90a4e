"""Ending turns: with an answer, or with a failure that rests or is final."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import cache

from sqlalchemy import ColumnElement, Connection, Row, bindparam, select, update

from colony import errors, failures, schema
from colony.failures import Failure
from server.models import (
    acl,
    approval,
    attempt,
    channel,
    contact,
    egress,
    ending,
    inbox,
    message,
    model_use,
    posting,
    secret,
    spending,
    user,
)
from server.models.posting import Author, LoopGuard, Posted
from server.models.turn import running, turns
from server.prepared import Prepared

NUMBERS_NAMED = 20
DECLINED_AT_ONCE = 500  # messages
NOTHING_TO_SAY = frozenset({"", "HEARTBEAT_OK"})


def finish(
    connection: Connection, agent: Author, turn: Row[tuple[object, ...]], request: schema.FinishTurn, guard: LoopGuard, now: datetime
) -> list[Posted]:
    """Post the reply, close the items and the turn. A repetition changes nothing. Raises `StaleTurn` for a turn that failed."""
    if turn.state == "finished":
        return []
    if turn.state != "running":
        raise errors.StaleTurn(f"turn {turn.id} has failed already")
    posted = _reply(connection, agent, turn, request, guard, now)
    has_spoken = any(said.channel == _channel_name(connection, turn) for said in message.of_turn(connection, turn.id, None))
    outcome: schema.Outcome = "answered" if has_spoken else "ignored"
    inbox.close(connection, turn.id, outcome, now)
    ending.of_turn(connection, turn.kind, "finished", outcome)
    closed = {"state": "finished", "finished_at": now, "session_id": request.session_id, "error_code": None, "error": None}
    _spend(connection, turn, request.usage, now, closed)
    user.release(connection, turn.agent_id)
    return posted


def fail(
    connection: Connection,
    turn: Row[tuple[object, ...]],
    failure: Failure,
    detail: str,
    usage: schema.Usage | None,  # None: not known; then it is taken to have cost what it had reserved
    now: datetime,
    *,
    rest_seconds: int | None = None,
    permanent: bool = False,
    first_backoff_seconds: float = failures.FIRST_BACKOFF_SECONDS,
) -> list[Posted]:
    """Let the turn rest and be tried again, or give it up and tell the channel. A failure that doesn't count lets the whole agent wait.

    Raises `StaleTurn` for a turn that is finished.
    """
    if turn.state == "finished":
        raise errors.StaleTurn(f"turn {turn.id} is finished already")
    if turn.state != "running":
        if usage:
            _spend_late(connection, turn, usage, now)
        return []
    count = turn.failures + failure.counted
    changes = {"failures": count, "error_code": failure.code, "error": detail[:500]}
    gives_up = permanent or failure.permanent or count >= failures.MAX_FAILURES or not inbox.of_turn(connection, turn.id, only_open=True)
    _spend(connection, turn, usage, now, changes | _ended(gives_up, now))
    ending.of_turn(connection, turn.kind, "failed" if gives_up else "resting", failure.code)
    seconds = _rest_seconds(failure, count, first_backoff_seconds) if rest_seconds is None else rest_seconds
    if not failure.counted and seconds:
        # Everybody reads the note, other agents and other channels, too: so it says nothing in the words of what failed.
        note = f"{failure.says}{failures.HELPS}{failure.remedy}"
        user.hold(connection, turn.agent_id, now + timedelta(seconds=seconds), note, now)
    if gives_up:
        return _give_up(connection, turn, failure, _reason(failure, detail), now)
    # A failure that doesn't count holds the agent, not the items: once the hold ends, however it does, they are due.
    inbox.rest(connection, turn.id, now + timedelta(seconds=seconds if failure.counted else 0))
    name = _channel_name(connection, turn)
    if name is None or failure.counted or timedelta(seconds=seconds) < inbox.NOTICED_HOLD:
        return []
    return posting.absence(connection, turn.agent_id, name, now)


def stop(connection: Connection, turn: Row[tuple[object, ...]], by: str, now: datetime) -> list[Posted]:
    """End a running or resting turn for good, and tell its channel who did. A repetition changes nothing.

    Raises `Conflict` for a turn that is finished.
    """
    if turn.state == "finished":
        raise errors.Conflict(f"turn {turn.id} is finished already: there is nothing to stop")
    if turn.state == "failed":
        return []
    ending.of_turn(connection, turn.kind, "failed", failures.CANCELLED.code)
    reason = f"{by} stopped it"
    changes = {"state": "failed", "finished_at": now, "error_code": failures.CANCELLED.code, "error": reason}
    if turn.state == "running":
        _spend(connection, turn, None, now, changes)
    else:
        connection.execute(update(turns).where(turns.c.id == turn.id).values(changes))
    return _give_up(connection, turn, failures.CANCELLED, reason, now)


def end_emptied(connection: Connection, agent_id: int, now: datetime) -> None:
    """Close the agent's resting turns whose items were all closed by hand: nothing would ever wake them."""
    has_open = select(inbox.inbox.c.id).where(inbox.inbox.c.turn_id == turns.c.id, inbox.inbox.c.acked_at.is_(None)).exists()
    emptied = (turns.c.agent_id == agent_id) & (turns.c.state == "resting") & ~has_open
    for kind in connection.execute(update(turns).where(emptied).values(state="failed", finished_at=now).returning(turns.c.kind)).scalars():
        ending.of_turn(connection, kind, "failed", "by_hand")


def bury(connection: Connection, agent: Row[tuple[object, ...]], now: datetime) -> list[Posted]:
    """End all that an agent leaves open when it dies, and tell each channel."""
    live = running(connection, agent.id)
    channel.leave_all(connection, agent.id)
    still_open = inbox.unsaid(connection, agent.id)
    _end_turns(connection, agent.id, live, failures.GONE, now)
    inbox.close_all(connection, agent.id, "dead", now)
    egress.drop_all(connection, agent.id)
    secret.drop_all(connection, agent.id)
    acl.drop_all(connection, agent.id, agent.username)
    approval.end_all(connection, agent.id)
    contact.forget_hosts(connection, agent.id)
    channels_left = sorted({item.message.channel for item in still_open})
    regrets = {name: [item for item in still_open if item.message.channel == name] for name in channels_left}
    death = f"{agent.id}:gone:{now.isoformat()}"  # it may be born again, and die once more
    return [
        posted
        for name, items in regrets.items()
        for posted in posting.notice(connection, name, _regret(agent.username, items, failures.GONE), f"{death}:{name}", now)
    ]


def withdraw(connection: Connection, leaver: Row[tuple[object, ...]], room: Row[tuple[object, ...]], now: datetime) -> list[Posted]:
    """End what a user leaves open in a private channel, which must be held, and tell it which messages an agent does not answer."""
    waiting = inbox.unsaid(connection, leaver.id, room.id)
    live = running(connection, leaver.id)
    is_here = turns.c.channel_id == room.id
    _end_turns(connection, leaver.id, live if live and live.channel_id == room.id else None, failures.REMOVED, now, is_here)
    inbox.close_all(connection, leaver.id, "dead" if leaver.kind == "agent" else "by_hand", now, room.id)
    if leaver.kind != "agent" or not waiting:
        return []
    regret = _regret(leaver.username, waiting, failures.REMOVED)
    return posting.notice(connection, room.name, regret, f"{waiting[-1].id}:removed:{now.isoformat()}", now)


def decline(connection: Connection, agent: Row[tuple[object, ...]], channel_id: int, why: str, now: datetime) -> list[Posted]:
    """Give up what is due and mentions the agent in a channel where it may not answer, and tell the channel; no turn is begun for it.

    What it only watches there it is told all the same: of that nobody waits for an answer.
    """
    due = inbox.unbound(connection, agent.id, channel_id, now, DECLINED_AT_ONCE)
    mentions = [item for item in due if item.trigger == "mention"]
    if not mentions:
        return []
    ids = [item.id for item in mentions]
    connection.execute(update(inbox.inbox).where(inbox.inbox.c.id.in_(ids)).values(acked_at=now, outcome="dead"))
    ending.of_items(connection, "dead", len(ids))
    regret = _regret(agent.username, mentions, failures.FORBIDDEN, _reason(failures.FORBIDDEN, why))
    return posting.notice(connection, mentions[0].message.channel, regret, f"{ids[-1]}:forbidden:{now.isoformat()}", now)


def _end_turns(
    connection: Connection,
    agent_id: int,
    live: Row[tuple[object, ...]] | None,
    failure: Failure,
    now: datetime,
    *which: ColumnElement[bool],
) -> None:
    """End the agent's turns, or those of them, for good; the one that is live with what it had reserved."""
    if live:
        _spend(connection, live, None, now, {"error_code": failure.code})
    mine = turns.c.agent_id == agent_id, turns.c.state.in_(["running", "resting"]), *which
    ended = {"state": "failed", "finished_at": now, "error_code": failure.code}
    for kind in connection.execute(update(turns).where(*mine).values(ended).returning(turns.c.kind)).scalars():
        ending.of_turn(connection, kind, "failed", failure.code)


def replies_in(connection: Connection, turn: Row[tuple[object, ...]], request: schema.FinishTurn) -> str | None:
    """The channel in which the reply is posted; None for a turn that says nothing."""
    return None if (request.reply or "").strip() in NOTHING_TO_SAY else _channel_name(connection, turn)


def _reply(
    connection: Connection, agent: Author, turn: Row[tuple[object, ...]], request: schema.FinishTurn, guard: LoopGuard, now: datetime
) -> list[Posted]:
    name = replies_in(connection, turn, request)
    if name is None:
        return []
    items, body = inbox.of_turn(connection, turn.id), (request.reply or "").strip()
    reply = schema.PostMessage(channel=name, body=body, reply_to=items[-1].message.id if items else None, client_id=f"{turn.id}:reply")
    return posting.post(connection, agent, reply, guard, now)


def _give_up(connection: Connection, turn: Row[tuple[object, ...]], failure: Failure, reason: str, now: datetime) -> list[Posted]:
    waiting = inbox.of_turn(connection, turn.id, only_open=True)
    inbox.close(connection, turn.id, "dead", now)
    name = _channel_name(connection, turn)
    if name is None or not waiting:
        return []
    agent = connection.execute(select(user.users.c.username).where(user.users.c.id == turn.agent_id)).scalar_one()
    return posting.notice(connection, name, _regret(agent, waiting, failure, reason), f"{turn.id}:dead", now)


def _reason(failure: Failure, detail: str) -> str:
    """The detail came from the agent: shown as code, it addresses nobody."""
    quoted = " ".join(detail.replace("`", "'").split())
    return f"{failure.says} (`{quoted}`)" if quoted and quoted != failure.says else failure.says


def _regret(agent: str, items: list[schema.InboxItem], failure: Failure, reason: str = "") -> str:
    """What a channel is told about messages that get no answer."""
    numbers = ", ".join(f"#{item.message.seq}" for item in items[:NUMBERS_NAMED])
    more = f" and {len(items) - NUMBERS_NAMED} more" if len(items) > NUMBERS_NAMED else ""
    askers = " ".join(sorted({f"@{item.message.author}" for item in items if item.message.author_kind == "ape"}))
    again = f" To try again: `colony retry {' '.join(str(item.message.id) for item in items[:NUMBERS_NAMED])}`."
    says = f"{askers} {agent} could not answer {numbers}{more}: {reason or failure.says}. What helps: {failure.remedy}.".strip()
    return says + (again if failure.can_be_retried else "")


def _rest_seconds(failure: Failure, failed: int, first_backoff_seconds: float) -> float:
    return failures.backoff_seconds(failed, first_backoff_seconds) if failure.counted else failure.hold_seconds


def _ended(is_final: bool, now: datetime) -> dict[str, object]:
    return {"state": "failed", "finished_at": now} if is_final else {"state": "resting"}


def count_late(connection: Connection, turn: Row[tuple[object, ...]], number: int, used: schema.Usage, now: datetime) -> None:
    """Book what an attempt that has ended turns out to have used of the model, as far as that exceeds what it was taken to have used."""
    _book(connection, turn, attempt.count_late(connection, turn.id, number, used), now, {})


def _spend(
    connection: Connection, turn: Row[tuple[object, ...]], usage: schema.Usage | None, now: datetime, changes: dict[str, object]
) -> None:
    """Book what the running attempt has cost, free what it had reserved, note how it ended and write the other changes of the turn."""
    taken = _taken(usage or schema.Usage(cost_usd=None), model_use.of_attempt(connection, turn.id, turn.attempt), turn.reserved_usd)
    attempt.ended(connection, turn, taken, now, changes, is_reported=usage is not None)
    _book(connection, turn, taken, now, changes | {"reserved_usd": 0.0})


def _taken(usage: schema.Usage, metered: schema.Usage, reserved_usd: float) -> schema.Usage:
    """What an attempt says it has used, but no less than the gate has counted, nor very much more than it may.

    Where nobody knows, it has cost what it had reserved.
    """
    if usage.cost_usd is None:
        cost_usd = metered.cost_usd or reserved_usd
    else:
        cost_usd = max(attempt.believed(usage.cost_usd, reserved_usd), metered.cost_usd or 0.0)
    tokens_in, tokens_out = max(usage.tokens_in, metered.tokens_in), max(usage.tokens_out, metered.tokens_out)
    return usage.model_copy(update={"cost_usd": cost_usd, "tokens_in": tokens_in, "tokens_out": tokens_out})


def _spend_late(connection: Connection, turn: Row[tuple[object, ...]], usage: schema.Usage, now: datetime) -> None:
    """Book what an attempt reports that others have ended, as far as that exceeds what it was taken to have used."""
    _book(connection, turn, attempt.report_late(connection, turn, usage), now, {})


def _book(connection: Connection, turn: Row[tuple[object, ...]], usage: schema.Usage, now: datetime, changes: dict[str, object]) -> None:
    values = {f"new_{name}": value for name, value in changes.items()}
    values |= {f"more_{name}": getattr(usage, name) or 0 for name in attempt.COUNTED}
    _booking(tuple(changes)).run(connection, values | {"turn": turn.id})
    if usage.cost_usd:
        spending.add(connection, turn.agent_id, now, usd=usage.cost_usd)


@cache
def _booking(changed: tuple[str, ...]) -> Prepared:
    spent = {name: turns.c[name] + bindparam(f"more_{name}") for name in attempt.COUNTED}
    changes: dict[str, object] = {name: bindparam(f"new_{name}") for name in changed}
    return Prepared(update(turns).where(turns.c.id == bindparam("turn")).values(spent | changes))


def _channel_name(connection: Connection, turn: Row[tuple[object, ...]]) -> str | None:
    return channel.name_of(connection, turn.channel_id)
