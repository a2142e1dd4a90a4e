"""What they say."""

from __future__ import annotations

from collections.abc import Iterator

from colony import errors, operations, schema
from server.gate import Call, Wait, handles
from server.identity import Caller
from server.models import explain as explain_model
from server.models import message, posting, turn, user
from server.models import retry as retry_model
from server.operations.channels import entered
from server.operations.turns import readable
from server.rights import refusal


@handles(operations.POST)
def post(call: Call, request: schema.PostMessage) -> schema.Message:
    if request.type == posting.NOTICE and call.caller.kind != "service":
        raise errors.Invalid("type: notice is for the colony's own messages")
    if call.turn and not (request.client_id and message.by_client_id(call.connection, call.caller.id, request.client_id)):
        turn.require_room(call.connection, call.turn)
    posted = posting.post(call.connection, call.author, request, call.config.guard, call.now)
    call.announce(posted)
    return posted[0].message


@handles(operations.READ)
def read(call: Call, request: schema.ReadMessages) -> schema.Messages | Wait:
    channel = entered(call, request.channel)
    found = message.read(call.connection, channel, request.since, request.limit)
    is_behind = found.last_seq < (request.since or 0)  # of what the caller has read: a backup was restored, which is news
    if found.messages or is_behind or not request.wait:
        return found
    return Wait(("channel", channel.id), request.wait, found, lambda later: read(later, request))


@handles(operations.EXPLAIN)
def explain(call: Call, request: schema.ExplainMessage) -> schema.Explanation:
    found = explain_model.explain(call.connection, request.id, call.viewer_id, call.config.patience, call.now)
    if not call.may_read(found.message):
        raise errors.NotFound(f"no message {request.id}")
    answers, notes = list(filter(call.may_read, found.answers)), [*found.notes, *_denials(call, found)]
    return found.model_copy(update={"turns": readable(call, found.turns), "answers": answers, "notes": notes})


def _denials(call: Call, found: schema.Explanation) -> Iterator[str]:
    """The rows by which agents that it mentions are given no turn."""
    scope = f"channel:{found.message.channel}"
    for fate in found.fates:
        if fate.receiver_kind == "agent" and fate.trigger == "mention" and fate.turn_id is None and fate.outcome in (None, "dead"):
            agent = user.find(call.connection, fate.receiver)
            who = Caller(agent.id, agent.username, agent.kind)
            decision = call.rights.decision(call.connection, who, operations.POST.name, scope, in_turn=True)
            if decision.effect == "deny" and decision.row:  # where it was addressed, and is no more, no row is needed
                yield refusal(agent.username, operations.POST.name, scope, decision)


@handles(operations.RETRY)
def retry(call: Call, request: schema.RetryMessage) -> schema.Retried:
    caller = call.caller
    said = message.find(call.connection, request.id, call.viewer_id)
    call.room = said.channel_id if said.is_private else None
    retried, woken = retry_model.retry(call.connection, said, request.agent, caller.id, call.now, is_admin=caller.is_admin)
    call.wake(*(("user", agent_id) for agent_id in woken))
    return retried
