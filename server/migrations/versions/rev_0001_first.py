"""The first tables: users, channels, messages, inbox, turns, audit; with the colony's own user and two channels."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from server.models.base import now

revision = "0001"
down_revision = None

KEY = sa.BigInteger().with_variant(sa.Integer, "sqlite")
TIME = sa.BigInteger


def upgrade() -> None:
    users = op.create_table(
        "users",
        sa.Column("id", KEY, primary_key=True),
        sa.Column("username", sa.String(31), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("linux_user", sa.String(32)),
        sa.Column("token_hash", sa.String(64)),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("status_note", sa.String(500), nullable=False, server_default=""),
        sa.Column("owner_id", KEY, sa.ForeignKey("users.id", name="fk_users_owner_id_users")),
        sa.Column("last_seen_at", TIME),
        sa.Column("held_until", TIME),
        sa.Column("created_at", TIME, nullable=False),
        sa.UniqueConstraint("username", name="uq_users_username"),
        sa.UniqueConstraint("linux_user", name="uq_users_linux_user"),
        sa.UniqueConstraint("token_hash", name="uq_users_token_hash"),
    )
    op.create_index("ix_users_kind", "users", ["kind"])
    channels = op.create_table(
        "channels",
        sa.Column("id", KEY, primary_key=True),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("topic", sa.String(500), nullable=False, server_default=""),
        sa.Column("last_seq", KEY, nullable=False, server_default="0"),
        sa.Column("agent_streak", sa.Integer, nullable=False, server_default="0"),
        sa.Column("created_at", TIME, nullable=False),
        sa.UniqueConstraint("name", name="uq_channels_name"),
    )
    op.create_table(
        "watches",
        sa.Column("channel_id", KEY, sa.ForeignKey("channels.id", name="fk_watches_channel_id_channels"), primary_key=True),
        sa.Column("user_id", KEY, sa.ForeignKey("users.id", name="fk_watches_user_id_users"), primary_key=True),
    )
    op.create_index("ix_watches_user_id", "watches", ["user_id"])
    op.create_table(
        "turns",
        sa.Column("id", KEY, primary_key=True),
        sa.Column("agent_id", KEY, sa.ForeignKey("users.id", name="fk_turns_agent_id_users"), nullable=False),
        sa.Column("channel_id", KEY, sa.ForeignKey("channels.id", name="fk_turns_channel_id_channels")),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False, server_default="1"),
        sa.Column("failures", sa.Integer, nullable=False, server_default="0"),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("hops", sa.Integer, nullable=False, server_default="0"),
        sa.Column("lease_until", TIME, nullable=False),
        sa.Column("session_id", sa.String(200)),
        sa.Column("started_at", TIME, nullable=False),
        sa.Column("finished_at", TIME),
        sa.Column("tokens_in", KEY, nullable=False, server_default="0"),
        sa.Column("tokens_out", KEY, nullable=False, server_default="0"),
        sa.Column("cost_usd", sa.Float, nullable=False, server_default="0"),
        sa.Column("error_code", sa.String(31)),
        sa.Column("error", sa.String(500)),
    )
    op.create_index("ix_turns_agent_started", "turns", ["agent_id", "started_at"])
    is_running = sa.text("state = 'running'")
    op.create_index("uq_turns_running", "turns", ["agent_id"], unique=True, sqlite_where=is_running, postgresql_where=is_running)
    op.create_table(
        "messages",
        sa.Column("id", KEY, primary_key=True),
        sa.Column("channel_id", KEY, sa.ForeignKey("channels.id", name="fk_messages_channel_id_channels"), nullable=False),
        sa.Column("seq", KEY, nullable=False),
        sa.Column("author_id", KEY, sa.ForeignKey("users.id", name="fk_messages_author_id_users"), nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("type", sa.String(31), nullable=False),
        sa.Column("reply_to", KEY, sa.ForeignKey("messages.id", name="fk_messages_reply_to_messages")),
        sa.Column("turn_id", KEY, sa.ForeignKey("turns.id", name="fk_messages_turn_id_turns")),
        sa.Column("hops", sa.Integer, nullable=False, server_default="0"),
        sa.Column("client_id", sa.String(200)),
        sa.Column("created_at", TIME, nullable=False),
        sa.UniqueConstraint("channel_id", "seq", name="uq_messages_channel_seq"),
        sa.UniqueConstraint("author_id", "client_id", name="uq_messages_author_client"),
    )
    op.create_index("ix_messages_turn_id", "messages", ["turn_id"])
    op.create_table(
        "inbox",
        sa.Column("id", KEY, primary_key=True),
        sa.Column("agent_id", KEY, sa.ForeignKey("users.id", name="fk_inbox_agent_id_users"), nullable=False),
        sa.Column("message_id", KEY, sa.ForeignKey("messages.id", name="fk_inbox_message_id_messages"), nullable=False),
        sa.Column("channel_id", KEY, sa.ForeignKey("channels.id", name="fk_inbox_channel_id_channels"), nullable=False),
        sa.Column("trigger", sa.String(16), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("turn_id", KEY, sa.ForeignKey("turns.id", name="fk_inbox_turn_id_turns")),
        sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
        sa.Column("not_before", TIME),
        sa.Column("acked_at", TIME),
        sa.Column("outcome", sa.String(16)),
    )
    is_open, is_bound = sa.text("acked_at IS NULL"), sa.text("turn_id IS NOT NULL")
    op.create_index("idx_inbox_agent_unacked", "inbox", ["agent_id", "id"], sqlite_where=is_open, postgresql_where=is_open)
    op.create_index("ix_inbox_turn_id", "inbox", ["turn_id"], sqlite_where=is_bound, postgresql_where=is_bound)
    op.create_index("ix_inbox_message_id", "inbox", ["message_id"])
    op.create_table(
        "audit",
        sa.Column("id", KEY, primary_key=True),
        sa.Column("at", TIME, nullable=False),
        sa.Column("actor_id", KEY, sa.ForeignKey("users.id", name="fk_audit_actor_id_users")),
        sa.Column("operation", sa.String(31), nullable=False),
        sa.Column("target", sa.String(100), nullable=False, server_default=""),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("error_code", sa.String(31)),
        sa.Column("surface", sa.String(16), nullable=False),
        sa.Column("turn_id", KEY),
        sa.Column("params", sa.Text, nullable=False, server_default="{}"),
    )
    born = int(now().timestamp() * 1_000_000)
    op.bulk_insert(users, [{"username": "colony", "kind": "service", "status": "healthy", "created_at": born}])
    op.bulk_insert(
        channels,
        [
            {"name": "general", "topic": "Everything that has no channel of its own", "created_at": born},
            {"name": "ops", "topic": "How the colony itself is doing", "created_at": born},
        ],
    )
