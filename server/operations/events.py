"""What happens, for those who follow it."""

from __future__ import annotations

from datetime import timedelta
from time import monotonic

from colony import errors, operations, schema
from server.gate import EVENTS, Call, Wait, handles
from server.models import event
from server.models.audit import audit
from server.models.message import messages

RECHECK_SECONDS = 0.01  # while a transaction is under way that may have taken a lower id; most take less
PATIENCE_SECONDS = 5.0  # with such a transaction
_NO_LIMIT = 3600.0  # without a position nothing can be answered before: the patience ends this wait


@handles(operations.EVENTS)
def events(call: Call, request: schema.ListEvents) -> schema.Events | Wait:
    since, until = event.parsed(request.since), event.newest(call.connection)
    if since and (since.message > until.message or since.audit > until.audit):
        raise errors.Conflict(f"since: {since} is ahead of this colony, which is at {until}; if it was restored, begin without since")
    unsettled = call.database.writing(call.connection, messages, audit) if since != until else frozenset()
    return _once_settled(call, request, until, unsettled, monotonic() + PATIENCE_SECONDS)


def _once_settled(
    call: Call, request: schema.ListEvents, until: event.Position, unsettled: frozenset[str], give_up_at: float
) -> schema.Events | Wait:
    """The events up to `until`, once those transactions have ended: from then on none can appear among them."""
    if not unsettled:
        return _page(call, request, until)
    if monotonic() > give_up_at:
        raise errors.Unavailable("a transaction in the colony's database does not end; events wait for it")

    def again(later: Call) -> schema.Events | Wait:
        still = unsettled & later.database.writing(later.connection, messages, audit)
        return _once_settled(later, request, until, still, give_up_at)

    nothing_yet = schema.Events(position=request.since or "", events=[])
    seconds = request.wait if request.since and request.wait else _NO_LIMIT
    return Wait(EVENTS, seconds, nothing_yet, again, call.now + timedelta(seconds=RECHECK_SECONDS))


def _page(call: Call, request: schema.ListEvents, until: event.Position) -> schema.Events | Wait:
    since = event.parsed(request.since)
    hidden = call.rights.unreadable(call.connection, call.caller, in_turn=call.turn is not None)
    found = event.page(call.connection, since, until, request.limit, call.viewer_id, hidden)
    if found.events or found.position != str(since) or not request.wait:
        return found
    return Wait(EVENTS, request.wait, found, lambda later: events(later, request))
