"""Contacts are known while they go on, and one may stand for many."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

KEY = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.add_column("egress_log", sa.Column("times", KEY, nullable=False, server_default="1"))
    op.add_column("egress_log", sa.Column("is_open", sa.Boolean, nullable=False, server_default=sa.false()))
    op.add_column("egress_log", sa.Column("heard_at", sa.BigInteger))
