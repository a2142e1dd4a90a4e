"""All tables together."""

from __future__ import annotations

from server.models import attempt, audit, channel, inbox, message, retry, spending, turn, user
from server.models.base import metadata

TABLES = (
    user.users,
    channel.channels,
    channel.watches,
    message.messages,
    inbox.inbox,
    turn.turns,
    attempt.attempts,
    retry.retries,
    spending.spending,
    audit.audit,
)

__all__ = ["TABLES", "metadata"]
