"""The handlers: thin, a file per noun. Importing this package registers all of them with the gate."""

from server.operations import agents, channels, egress, events, inbox, members, messages, secrets, turns, users

__all__ = ["agents", "channels", "egress", "events", "inbox", "members", "messages", "secrets", "turns", "users"]
