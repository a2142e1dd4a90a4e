"""Limits of agents, what their turns reserve and use, how each attempt ended, what was retried, and who is away or silent."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

KEY = sa.BigInteger().with_variant(sa.Integer, "sqlite")
TIME = sa.BigInteger


def upgrade() -> None:
    op.add_column("users", sa.Column("away_since", TIME))
    op.add_column("users", sa.Column("budget_usd_per_day", sa.Float))
    op.add_column("users", sa.Column("turns_per_hour", sa.Integer))
    op.add_column("users", sa.Column("posts_per_turn", sa.Integer, nullable=False, server_default="10"))
    op.add_column("turns", sa.Column("reserved_usd", sa.Float, nullable=False, server_default="0"))
    op.create_table(
        "spending",
        sa.Column("agent_id", KEY, sa.ForeignKey("users.id", name="fk_spending_agent_id_users"), primary_key=True),
        sa.Column("hour", TIME, primary_key=True),
        sa.Column("turns", sa.Integer, nullable=False, server_default="0"),
        sa.Column("cost_usd", sa.Float, nullable=False, server_default="0"),
    )
    op.add_column("users", sa.Column("status_at", TIME))
    op.add_column("users", sa.Column("alarmed_at", TIME))
    op.add_column("turns", sa.Column("attempt_began_at", TIME))
    op.create_table(
        "attempts",
        sa.Column("turn_id", KEY, sa.ForeignKey("turns.id", name="fk_attempts_turn_id_turns"), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("began_at", TIME, nullable=False),
        sa.Column("ended_at", TIME, nullable=False),
        sa.Column("error_code", sa.String(31)),
        sa.Column("error", sa.String(500)),
        sa.Column("is_reported", sa.Boolean, nullable=False),
        sa.Column("prompt_characters", KEY, nullable=False),
        sa.Column("tools", sa.Text, nullable=False),
        sa.Column("tokens_in", KEY, nullable=False),
        sa.Column("tokens_out", KEY, nullable=False),
        sa.Column("cost_usd", sa.Float, nullable=False),
    )
    op.create_table(
        "retries",
        sa.Column("id", KEY, primary_key=True),
        sa.Column("message_id", KEY, sa.ForeignKey("messages.id", name="fk_retries_message_id_messages"), nullable=False),
        sa.Column("agent_id", KEY, sa.ForeignKey("users.id", name="fk_retries_agent_id_users"), nullable=False),
        sa.Column("turn_id", KEY, sa.ForeignKey("turns.id", name="fk_retries_turn_id_turns")),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("actor_id", KEY, sa.ForeignKey("users.id", name="fk_retries_actor_id_users"), nullable=False),
        sa.Column("at", TIME, nullable=False),
    )
    op.create_index("ix_retries_message_id", "retries", ["message_id"])
