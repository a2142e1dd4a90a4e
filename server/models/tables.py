"""All tables together."""

from __future__ import annotations

from server.models import (
    acl,
    approval,
    attempt,
    audit,
    channel,
    contact,
    egress,
    inbox,
    message,
    model_use,
    retry,
    secret,
    spending,
    turn,
    user,
)
from server.models.base import metadata

TABLES = (
    user.users,
    channel.channels,
    channel.members,
    channel.watches,
    message.messages,
    inbox.inbox,
    turn.turns,
    attempt.attempts,
    retry.retries,
    spending.spending,
    audit.audit,
    egress.egress_rules,
    contact.egress_log,
    contact.egress_hosts,
    model_use.model_uses,
    secret.secrets,
    acl.acl,
    acl.role_members,
    approval.approvals,
)

__all__ = ["TABLES", "metadata"]
