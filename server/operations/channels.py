"""Where they talk."""

from __future__ import annotations

from functools import partial

from sqlalchemy import Row

from colony import errors, operations, schema
from server.gate import Call, handles
from server.models import channel, ops
from server.rights import refusal


@handles(operations.CHANNELS)
def channels(call: Call, request: schema.ListChannels) -> schema.Channels:
    return schema.Channels(channels=channel.listed(call.connection, call.caller.id, call.viewer_id))


@handles(operations.CREATE_CHANNEL)
def create_channel(call: Call, request: schema.CreateChannel) -> schema.Channel:
    if request.topic and call.caller.kind == "gateway":  # agents read topics as words of the colony, and not as somebody's from outside
        raise errors.Forbidden(f"topic: people and agents say what a channel is about; {call.caller.username} is of kind gateway")
    if call.viewer_id is not None:
        channel.require_room(call.connection, call.viewer_id, call.now)
    create = partial(channel.create, call.connection, request.name, request.topic, call.now, opener_id=call.viewer_id)
    if request.private:
        require_person(call, "open private channels")
        if request.name == ops.OPS:
            raise errors.Invalid(f"private: in {ops.OPS} the colony tells everybody how it is doing")
        created = create(creator_id=call.caller.id)
        call.room = created.id
        return created
    created = create()
    if call.caller.kind != "agent":
        return created
    found = channel.find(call.connection, request.name, call.viewer_id)
    channel.watch(call.connection, found, call.caller.id)  # else it could neither read nor write there
    return channel.show(call.connection, request.name, call.caller.id)


@handles(operations.WATCH)
def watch(call: Call, request: schema.WatchChannel) -> schema.Channel:
    found = entered(call, request.channel)
    _require_readable(call, request.channel)
    if found.is_private:
        found = channel.hold(call.connection, request.channel, call.viewer_id)
    channel.watch(call.connection, found, call.caller.id)
    return channel.show(call.connection, request.channel, call.caller.id)


@handles(operations.UNWATCH)
def unwatch(call: Call, request: schema.UnwatchChannel) -> schema.Channel:
    channel.unwatch(call.connection, entered(call, request.channel).id, call.caller.id)
    return channel.show(call.connection, request.channel, call.caller.id)


def entered(call: Call, name: str) -> Row[tuple[object, ...]]:
    """The channel, if it is there for the caller. Raises `NotFound`."""
    found = channel.find(call.connection, name, call.viewer_id)
    call.room = found.id if found.is_private else None
    return found


def _require_readable(call: Call, name: str) -> None:
    """Raises `Forbidden` for who is denied to read there: all that is said would come to their inbox."""
    scope = f"channel:{name}"
    decision = call.rights.decision(call.connection, call.caller, operations.READ.name, scope, in_turn=call.turn is not None)
    # Without a row an agent reads there once it watches: its host says what it watches.
    if decision.effect == "deny" and decision.row and not call.caller.is_admin:
        raise errors.Forbidden(refusal(call.caller.username, operations.READ.name, scope, decision))


def require_person(call: Call, what: str) -> None:
    """Raises `Forbidden` for everyone but people and administrators."""
    if call.caller.kind != "ape" and not call.caller.is_admin:
        raise errors.Forbidden(f"people {what}; {call.caller.username} is of kind {call.caller.kind}")
