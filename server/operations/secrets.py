"""What agents may use without holding it."""

from __future__ import annotations

from colony import errors, operations, schema
from colony.egress import EVERYONE
from server import keyring
from server.gate import EGRESS, Call, Wait, handles
from server.models import secret, user
from server.operations.agents import decided_by


@handles(operations.SECRETS)
def secrets(call: Call, request: schema.ListSecrets) -> schema.Secrets:
    agent_id = None if request.agent in (None, EVERYONE) else user.find_agent(call.connection, str(request.agent)).id
    return schema.Secrets(secrets=secret.listed(call.connection, None if call.caller.is_admin else call.caller.id, agent_id))


@handles(operations.SET_SECRET)
def set_secret(call: Call, request: schema.SetSecret) -> schema.Secret:
    agent_id = decided_by(call, request.agent, "use")
    call.wake(EGRESS)
    return secret.put(call.connection, agent_id, request, call.caller.id, keyring.begun(call.config.secret_keys), call.now)


@handles(operations.DROP_SECRET)
def drop_secret(call: Call, request: schema.DropSecret) -> schema.Secret:
    agent_id = decided_by(call, request.agent, "use")
    call.wake(EGRESS)
    return secret.drop(call.connection, agent_id, request)


@handles(operations.EGRESS_SECRETS)
def egress_secrets(call: Call, request: schema.GetEgressSecrets) -> schema.EgressSecrets | Wait:
    """Not even administrators are told: what they can do on the machine of the keys needs no operation."""
    if not call.caller.is_gate:
        raise errors.Forbidden("values of secrets are for the gate alone")
    found = secret.for_gate(call.connection, lambda: keyring.load(call.config.secret_keys))
    if found.version != request.known or not request.wait:
        return found
    return Wait(EGRESS, request.wait, found, lambda later: egress_secrets(later, request))
