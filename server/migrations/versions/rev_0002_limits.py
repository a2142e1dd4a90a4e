"""Limits of agents, what their turns reserve and use of them, and since when an agent is away."""

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
