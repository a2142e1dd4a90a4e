"""All tables together."""

from __future__ import annotations

from server.models import audit, channel, inbox, message, spending, turn, user
from server.models.base import metadata

TABLES = (user.users, channel.channels, channel.watches, message.messages, inbox.inbox, turn.turns, spending.spending, audit.audit)

__all__ = ["TABLES", "metadata"]
