"""How the agents are."""

from __future__ import annotations

from sqlalchemy import Row

from colony import errors, operations, schema
from colony.egress import EVERYONE
from server.gate import ACL, EGRESS, Call, Wait, handles
from server.grants import take_back
from server.models import agent as agent_model
from server.models import limits, ownership, settle, user
from server.models.claim import outlook


@handles(operations.AGENTS)
def agents(call: Call, request: schema.ListAgents) -> schema.Agents:
    together = limits.together(call.connection, call.config.terms.limits, call.now)
    return schema.Agents(agents=agent_model.listed(call.connection, call.config.patience, call.now, call.viewer_id), colony=together)


@handles(operations.HEARTBEAT)
def heartbeat(call: Call, request: schema.Heartbeat) -> schema.Outlook | Wait:
    if request.agent != call.caller.username:
        raise errors.Forbidden("an agent's heartbeat comes from itself")
    return _outlook(call, request)


@handles(operations.SET_STATUS)
def set_status(call: Call, request: schema.SetStatus) -> schema.Agent:
    found = owned(call, request.agent)
    if request.status == "dead" and not call.caller.is_admin:
        raise errors.Forbidden(f"only administrators end an agent; on its host: sudo colony-agent death {request.agent}")
    user.move(call.connection, found, request.status, request.note, call.now)
    if request.status == "dead":
        call.announce(settle.bury(call.connection, found, call.now))
        take_back(call.connection)
        call.wake(EGRESS)
    call.wake(("user", found.id), ("turn", found.id), "identities")  # the dead are nobody at once
    return agent_model.listed(call.connection, call.config.patience, call.now, call.viewer_id, request.agent)[0]


@handles(operations.SET_OWNER)
def set_owner(call: Call, request: schema.SetOwner) -> schema.Agent:
    ownership.give(call.connection, request.agent, request.owner)
    take_back(call.connection)
    call.wake(ACL, EGRESS)
    return agent_model.listed(call.connection, call.config.patience, call.now, call.viewer_id, request.agent)[0]


@handles(operations.SET_LIMITS)
def set_limits(call: Call, request: schema.SetLimits) -> schema.Agent:
    found = owned(call, request.agent)
    user.limit(call.connection, found.id, request)
    user.release(call.connection, found.id)
    call.wake(("user", found.id))
    return agent_model.listed(call.connection, call.config.patience, call.now, call.viewer_id, request.agent)[0]


def owned(call: Call, agent: str) -> Row[tuple[object, ...]]:
    """The agent, if the caller decides about it. Raises `NotFound` and `Forbidden`."""
    found = user.find_agent(call.connection, agent, lock=True)
    if not (call.caller.is_admin or found.owner_id == call.caller.id):
        raise errors.Forbidden(f"{agent} is not yours; its owner and administrators decide about it")
    return found


def decided_by(call: Call, agent: str, what: str) -> int | None:
    """The id of the agent if the caller decides what it may do; None: all of them. Raises `Forbidden`, `NotFound`, `Conflict`."""
    if agent == EVERYONE:
        if not call.caller.is_admin:
            raise errors.Forbidden(f"administrators decide what all agents may {what}")
        return None
    found = owned(call, agent)
    if found.status == "dead":
        raise errors.Conflict(f"{agent} has left the colony")  # and would be born again with this
    return int(found.id)


def _outlook(call: Call, request: schema.Heartbeat) -> schema.Outlook | Wait:
    found = outlook(call.connection, request.agent, call.config.terms, call.now)
    answer = schema.Outlook(status=found.status, status_note=found.status_note, due=found.due)
    is_news = request.status not in (None, found.status) or (found.due and not request.busy)
    if is_news or not request.wait:
        return answer
    next_at = None if request.busy else found.next_at
    return Wait(("user", call.caller.id), request.wait, answer, lambda later: _outlook(later, request), next_at, of_oneself=True)
