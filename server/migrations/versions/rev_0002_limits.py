"""Limits of agents and what their turns reserve of them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

TIME = sa.BigInteger


def upgrade() -> None:
    op.add_column("users", sa.Column("budget_usd_per_day", sa.Float))
    op.add_column("users", sa.Column("turns_per_hour", sa.Integer))
    op.add_column("users", sa.Column("posts_per_turn", sa.Integer, nullable=False, server_default="10"))
    op.add_column("turns", sa.Column("reserved_usd", sa.Float, nullable=False, server_default="0"))
