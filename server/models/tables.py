"""All tables together."""

from __future__ import annotations

from server.models import audit, channel, inbox, message, turn, user
from server.models.base import metadata

TABLES = (user.users, channel.channels, channel.watches, message.messages, inbox.inbox, turn.turns, audit.audit)

__all__ = ["TABLES", "metadata"]
