"""What they may reach, and what they reached."""

from __future__ import annotations

from colony import errors, operations, schema
from colony.egress import EVERYONE, is_address
from server.gate import EGRESS, EVENTS, Call, Wait, handles
from server.models import alarm, contact, metering, secret, user
from server.models import egress as egress_model
from server.operations.agents import decided_by


@handles(operations.EGRESS_RULES)
def egress_rules(call: Call, request: schema.ListEgress) -> schema.EgressRules:
    is_one = request.agent not in (None, EVERYONE)
    agent_id = user.find_agent(call.connection, str(request.agent)).id if is_one else None
    return schema.EgressRules(rules=egress_model.listed(call.connection, agent_id, of_all=request.agent == EVERYONE))


@handles(operations.SET_EGRESS)
def set_egress(call: Call, request: schema.SetEgress) -> schema.EgressRule:
    agent_id = decided_by(call, request.agent, "reach")
    if request.effect == "allow" and is_address(request.host) and not call.caller.is_admin:
        raise errors.Forbidden("an address may lead into the host or its own network: only administrators allow one; allow a name")
    call.wake(EGRESS)
    return egress_model.put(call.connection, agent_id, request, call.caller.id, call.now)


@handles(operations.DROP_EGRESS)
def drop_egress(call: Call, request: schema.DropEgress) -> schema.EgressRule:
    agent_id = decided_by(call, request.agent, "reach")
    call.wake(EGRESS)
    return egress_model.drop(call.connection, agent_id, request)


@handles(operations.EGRESS_POLICY)
def egress_policy(call: Call, request: schema.GetEgressPolicy) -> schema.EgressPolicy | Wait:
    found = egress_model.policy(call.connection)
    if found.version != request.known or not request.wait:
        return found
    return Wait(EGRESS, request.wait, found, lambda later: egress_policy(later, request))


@handles(operations.RECORD_EGRESS)
def record_egress(call: Call, request: schema.RecordEgress) -> schema.EgressRecorded:
    uses = contact.secret_uses(call.connection, request.contacts)
    recorded, notices = contact.record(call.connection, request.contacts, call.now)
    for agent_id, more in uses.items():
        secret.count_uses(call.connection, agent_id, more, call.now)
    for betrayal in contact.betrayals(call.connection, request.contacts):
        notices += alarm.sound(call.connection, betrayal.agent_id, "through the gate", betrayal.occasion, call.now)
        call.wake(("user", betrayal.agent_id), ("turn", betrayal.agent_id))
    if notices:
        call.announce(notices)
        call.wake(EVENTS)
    return schema.EgressRecorded(recorded=recorded)


@handles(operations.METER)
def meter(call: Call, request: schema.Meter) -> schema.Metered:
    agent = user.find_linux_user(call.connection, request.linux_user)
    return metering.meter(call.connection, agent.id, request, call.now)


@handles(operations.EGRESS_LOG)
def egress_log(call: Call, request: schema.ReadEgressLog) -> schema.EgressLog:
    found = contact.read(call.connection, _logged(call, request.agent), call.viewer_id, request, call.now)
    return schema.EgressLog(contacts=found)


def _logged(call: Call, agent: str | None) -> int | None:
    """The id of the agent whose contacts the caller may see; None: everyone's."""
    if agent is None:
        if not call.caller.is_admin:
            raise errors.Forbidden("agent: name one; administrators alone see what everyone reached")
        return None
    found = user.find_agent(call.connection, agent)
    if not (call.caller.is_admin or call.caller.id in (found.id, found.owner_id)):
        raise errors.Forbidden(f"agent {agent} is not yours; it, its owner and administrators see what it reached")
    return int(found.id)
