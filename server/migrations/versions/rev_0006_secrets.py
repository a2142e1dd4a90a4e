"""Secrets that agents use without holding them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

KEY = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.create_table(
        "secrets",
        sa.Column("id", KEY, primary_key=True),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("agent_id", KEY, sa.ForeignKey("users.id", name="fk_secrets_agent_id_users")),
        sa.Column("hosts", sa.Text, nullable=False),
        sa.Column("header", sa.String(200)),
        sa.Column("placeholder", sa.String(120), nullable=False),
        sa.Column("sealed", sa.Text, nullable=False),
        sa.Column("set_by", KEY, sa.ForeignKey("users.id", name="fk_secrets_set_by_users"), nullable=False),
        sa.Column("set_at", sa.BigInteger, nullable=False),
    )
    is_own, is_for_all = sa.text("agent_id IS NOT NULL"), sa.text("agent_id IS NULL")
    own, for_all = ("uq_secrets_of_agent", ["agent_id", "name"]), ("uq_secrets_of_all", ["name"])
    for (name, columns), where in ((own, is_own), (for_all, is_for_all)):
        op.create_index(name, "secrets", columns, unique=True, sqlite_where=where, postgresql_where=where)
