"""What agents do about it."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from sqlalchemy import Row
from sqlalchemy.exc import DatabaseError

from colony import errors, failures, operations, schema
from server import keyring
from server.gate import Call, Wait, handles
from server.models import channel, secret, settle, slots, turn, unreadable, user
from server.models import claim as claim_model

log = logging.getLogger(__name__)


@handles(operations.CLAIM)
def claim(call: Call, request: schema.ClaimTurn) -> schema.Claim:
    agent = user.find_agent(call.connection, call.caller.username, lock=True)
    user.seen(call.connection, agent.id, call.now)

    def refusal(channel_name: str) -> str | None:  # where posts are held, a turn can still ask for one
        return call.rights.reply_refusal(call.connection, call.caller, channel_name, may_be_held=True)

    try:
        with call.connection.begin_nested():
            claimed, notices = claim_model.claim(call.connection, agent, request, call.config.terms, refusal, call.now)
    except (errors.ColonyError, DatabaseError):
        raise
    except Exception:  # a message that breaks the claim must not keep its agent from all others for ever
        log.exception("claim broke agent=%s", agent.username)
        claimed, notices = schema.Claim(reason="a message could not be read"), unreadable.set_back(call.connection, agent, call.now)
    call.announce(notices)
    if claimed.turn is None:
        return claimed
    call.concerns = claimed.turn.id
    given: dict[str, object] = {"environment": secret.environment(call.connection, agent.id), "honeytoken": agent.honeytoken}
    given["tools"] = call.rights.tools(call.connection, call.caller)
    where = claimed.turn.channel
    if where and not call.rights.may_read(call.connection, call.caller, where, in_turn=True):
        given["context"] = []  # what it was sent it is told, and nothing else that was said there
    if request.takes_secrets:
        given["secrets"] = secret.held(call.connection, agent.id, lambda: keyring.load(call.config.secret_keys))
    return claimed.model_copy(update={"turn": claimed.turn.model_copy(update=given)})


@handles(operations.FINISH)
def finish(call: Call, request: schema.FinishTurn) -> schema.Turn:
    found = _fenced(call, request.id)
    channel = settle.replies_in(call.connection, found, request) if found.state == "running" else None
    refusal = call.rights.reply_refusal(call.connection, call.caller, channel) if channel else None
    if refusal:  # a finish that is refused would be tried for ever
        call.announce(settle.fail(call.connection, found, failures.FORBIDDEN, refusal, request.usage, call.now))
    else:
        call.announce(settle.finish(call.connection, call.author, found, request, call.config.guard, call.now))
    wake_next(call, call.caller.id)
    return turn.show_end(call.connection, request.id, call.caller.id)


@handles(operations.FAIL)
def fail(call: Call, request: schema.FailTurn) -> schema.Turn:
    failure = failures.FAILURES.get(request.code)
    if failure is None:
        raise errors.Invalid(f"code: unknown; known are {', '.join(failures.FAILURES)}")
    notices = settle.fail(
        call.connection,
        _fenced(call, request.id),
        failure,
        request.detail,
        request.usage,
        call.now,
        rest_seconds=request.retry_in_seconds,
        permanent=request.permanent,
        first_backoff_seconds=call.config.terms.first_backoff_seconds,
    )
    call.announce(notices)
    wake_next(call, call.caller.id)
    return turn.show_end(call.connection, request.id, call.caller.id)


@handles(operations.RENEW)
def renew(call: Call, request: schema.RenewTurn) -> schema.Lease | Wait:
    until = call.now + timedelta(seconds=request.lease_seconds)
    turn.renew(call.connection, _fenced(call, request.id).id, until)
    user.seen(call.connection, call.caller.id, call.now)
    return _lease(call, request, until)


def _lease(call: Call, request: schema.RenewTurn, until: datetime) -> schema.Lease | Wait:
    """That the turn is over, the fence says whenever somebody asks again."""
    lease = schema.Lease(lease_until=until, status=user.find_agent(call.connection, call.caller.username).status)
    if lease.status != "healthy" or not request.wait:
        return lease
    return Wait(("turn", call.caller.id), request.wait, lease, lambda later: _lease(later, request, until), of_oneself=True)


@handles(operations.STOP)
def stop(call: Call, request: schema.StopTurn) -> schema.Turn:
    found = turn.locked(call.connection, request.id, call.viewer_id)
    call.room = found.channel_id if channel.is_private(call.connection, found.channel_id) else None
    if not (call.caller.is_admin or call.caller.id in turn.masters(call.connection, found)):
        raise errors.Forbidden(f"turn {found.id} is not yours: whoever it answers, the agent's owner and administrators stop it")
    call.announce(settle.stop(call.connection, found, call.caller.username, call.now))
    wake_next(call, found.agent_id)
    return turn.show(call.connection, found.id, call.viewer_id)


@handles(operations.TURN)
def show(call: Call, request: schema.GetTurn) -> schema.Turn:
    shown = turn.show(call.connection, request.id, call.viewer_id)
    [told] = readable(call, [shown])
    return told.model_copy(update={"items": [item for item in shown.items if call.may_read(item.message)]})


@handles(operations.TURNS)
def turns(call: Call, request: schema.ListTurns) -> schema.Turns:
    agent_id = user.find_agent(call.connection, request.agent).id if request.agent else None
    return schema.Turns(turns=readable(call, turn.newest(call.connection, agent_id, request.limit, call.viewer_id)))


def readable(call: Call, found: list[schema.Turn]) -> list[schema.Turn]:
    """The turns without what the caller may not read: posts, and what failed in a channel, which can hold what was said there."""
    is_open = {name: call.may_read_in(name) for name in {each.channel for each in found if each.channel}}
    told = [each if is_open.get(each.channel or "", True) else _without_words(each) for each in found]
    return [each.model_copy(update={"posts": list(filter(call.may_read, each.posts))}) for each in told]


def _without_words(found: schema.Turn) -> schema.Turn:
    attempts = [each.model_copy(update={"error": None, "tools": {}}) for each in found.attempts]
    return found.model_copy(update={"error": None, "session_id": None, "attempts": attempts})


def wake_next(call: Call, agent_id: int) -> None:
    """The agent itself, the lease of the turn that has ended, and who has waited for a slot."""
    in_line = slots.next_in_line(call.connection, call.config.terms.slots, call.now)
    call.wake(("turn", agent_id), *(("user", user_id) for user_id in (agent_id, *in_line)))


def _fenced(call: Call, turn_id: int) -> Row[tuple[object, ...]]:
    """The turn that the request names, which must be the one it speaks for."""
    if call.turn is None or call.turn.id != turn_id:
        raise errors.StaleTurn(f"send the header Colony-Turn: {turn_id}.ATTEMPT of the attempt that is running")
    return call.turn
