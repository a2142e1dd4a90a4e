"""The handlers: thin, a file per noun. Importing this package registers all of them with the gate."""

from server.operations import (
    acl,
    agents,
    approvals,
    channels,
    egress,
    events,
    inbox,
    members,
    messages,
    roles,
    secrets,
    turns,
    users,
)

__all__ = [
    "acl",
    "agents",
    "approvals",
    "channels",
    "egress",
    "events",
    "inbox",
    "members",
    "messages",
    "roles",
    "secrets",
    "turns",
    "users",
]
