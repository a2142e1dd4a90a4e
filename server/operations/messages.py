"""What they say."""

from __future__ import annotations

from colony import errors, operations, schema
from server.gate import Call, Wait, handles
from server.models import explain as explain_model
from server.models import message, posting, turn
from server.models import retry as retry_model
from server.operations.channels import entered
from server.operations.turns import readable


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
    return found.model_copy(update={"turns": readable(call, found.turns), "answers": list(filter(call.may_read, found.answers))})


@handles(operations.RETRY)
def retry(call: Call, request: schema.RetryMessage) -> schema.Retried:
    caller = call.caller
    said = message.find(call.connection, request.id, call.viewer_id)
    call.room = said.channel_id if said.is_private else None
    retried, woken = retry_model.retry(call.connection, said, request.agent, caller.id, call.now, is_admin=caller.is_admin)
    call.wake(*(("user", agent_id) for agent_id in woken))
    return retried
