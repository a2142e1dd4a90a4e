"""What waits for a person's approval."""

from __future__ import annotations

from colony import errors, operations, schema
from server.gate import Call, handles
from server.models import approval


@handles(operations.APPROVALS)
def approvals(call: Call, request: schema.ListApprovals) -> schema.Approvals:
    user_id = None if call.caller.is_admin or call.caller.kind == "ape" else call.caller.id
    found = approval.listed(call.connection, user_id, call.viewer_id, call.now, request.limit, only_pending=not request.all)
    return schema.Approvals(approvals=found)


@handles(operations.APPROVE)
def approve(call: Call, request: schema.Approve) -> schema.Approval:
    return _decide(call, request.id, "approved")


@handles(operations.REFUSE)
def refuse(call: Call, request: schema.Refuse) -> schema.Approval:
    return _decide(call, request.id, "refused")


def _decide(call: Call, id: int, state: schema.ApprovalState) -> schema.Approval:
    if call.caller.kind != "ape" and not call.caller.is_admin:
        raise errors.Forbidden(f"people approve and refuse; {call.caller.username} is of kind {call.caller.kind}")
    found, posted = approval.decide(call.connection, id, state, call.caller.id, call.viewer_id, call.now)
    call.announce(posted)
    return found
