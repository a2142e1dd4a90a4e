"""What agents do about it."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import Row

from colony import errors, failures, operations, schema
from server.gate import Call, handles
from server.models import claim as claim_model
from server.models import settle, slots, turn, user


@handles(operations.CLAIM)
def claim(call: Call, request: schema.ClaimTurn) -> schema.Claim:
    agent = user.find_agent(call.connection, call.caller.username, lock=True)
    claimed, notices = claim_model.claim(call.connection, agent, request, call.config.terms, call.now)
    call.announce(notices)
    call.concerns = claimed.turn.id if claimed.turn else None
    return claimed


@handles(operations.FINISH)
def finish(call: Call, request: schema.FinishTurn) -> schema.Turn:
    call.announce(settle.finish(call.connection, call.author, _fenced(call, request.id), request, call.config.guard, call.now))
    _wake_next(call)
    return turn.show(call.connection, request.id)


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
    _wake_next(call)
    return turn.show(call.connection, request.id)


@handles(operations.RENEW)
def renew(call: Call, request: schema.RenewTurn) -> schema.Lease:
    until = call.now + timedelta(seconds=request.lease_seconds)
    turn.renew(call.connection, _fenced(call, request.id).id, until)
    return schema.Lease(lease_until=until, status=user.find_agent(call.connection, call.caller.username).status)


@handles(operations.TURN)
def show(call: Call, request: schema.GetTurn) -> schema.Turn:
    return turn.show(call.connection, request.id)


@handles(operations.TURNS)
def turns(call: Call, request: schema.ListTurns) -> schema.Turns:
    agent_id = user.find_agent(call.connection, request.agent).id if request.agent else None
    return schema.Turns(turns=turn.newest(call.connection, agent_id, request.limit))


def _wake_next(call: Call) -> None:
    """The agent itself, and who has waited for a slot."""
    in_line = slots.next_in_line(call.connection, call.config.terms.slots, call.now)
    call.wake(("user", call.caller.id), *(("user", user_id) for user_id in in_line))


def _fenced(call: Call, turn_id: int) -> Row[tuple[object, ...]]:
    """The turn that the request names, which must be the one it speaks for."""
    if call.turn is None or call.turn.id != turn_id:
        raise errors.StaleTurn(f"send the header Colony-Turn: {turn_id}.ATTEMPT of the attempt that is running")
    return call.turn
