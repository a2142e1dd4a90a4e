"""What they say."""

from __future__ import annotations

from colony import errors, operations, schema
from server.gate import Call, Wait, handles
from server.models import explain as explain_model
from server.models import message, posting, turn
from server.models import retry as retry_model
from server.rights import NO_MESSAGE


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
    channel_id, found = message.read(call.connection, request.channel, request.since, request.limit)
    is_behind = found.last_seq < (request.since or 0)  # of what the caller has read: a backup was restored, which is news
    if found.messages or is_behind or not request.wait:
        return found
    return Wait(("channel", channel_id), request.wait, found, lambda later: read(later, request))


@handles(operations.EXPLAIN)
def explain(call: Call, request: schema.ExplainMessage) -> schema.Explanation:
    viewer_id = None if call.caller.is_admin else call.caller.id
    found = explain_model.explain(call.connection, request.id, viewer_id, call.config.patience, call.now)
    if not call.may_read(found.message):
        raise errors.NotFound(NO_MESSAGE)
    turns = [each.model_copy(update={"posts": list(filter(call.may_read, each.posts))}) for each in found.turns]
    return found.model_copy(update={"turns": turns, "answers": list(filter(call.may_read, found.answers))})


@handles(operations.RETRY)
def retry(call: Call, request: schema.RetryMessage) -> schema.Retried:
    caller = call.caller
    retried, woken = retry_model.retry(call.connection, request.id, request.agent, caller.id, call.now, is_admin=caller.is_admin)
    call.wake(*(("user", agent_id) for agent_id in woken))
    return retried
