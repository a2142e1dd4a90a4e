"""Where they talk."""

from __future__ import annotations

from colony import operations, schema
from server.gate import Call, handles
from server.models import channel


@handles(operations.CHANNELS)
def channels(call: Call, request: schema.ListChannels) -> schema.Channels:
    return schema.Channels(channels=channel.listed(call.connection, call.caller.id))


@handles(operations.CREATE_CHANNEL)
def create_channel(call: Call, request: schema.CreateChannel) -> schema.Channel:
    created = channel.create(call.connection, request.name, request.topic, call.now)
    if call.caller.kind != "agent":
        return created
    channel.watch(call.connection, request.name, call.caller.id)  # else it could neither read nor write there
    return channel.show(call.connection, request.name, call.caller.id)


@handles(operations.WATCH)
def watch(call: Call, request: schema.WatchChannel) -> schema.Channel:
    channel.watch(call.connection, request.channel, call.caller.id)
    return channel.show(call.connection, request.channel, call.caller.id)


@handles(operations.UNWATCH)
def unwatch(call: Call, request: schema.UnwatchChannel) -> schema.Channel:
    channel.unwatch(call.connection, request.channel, call.caller.id)
    return channel.show(call.connection, request.channel, call.caller.id)
