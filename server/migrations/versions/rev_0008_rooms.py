"""Private channels, and who is in them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

KEY = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.add_column("channels", sa.Column("is_private", sa.Boolean, nullable=False, server_default=sa.false()))
    op.add_column("audit", sa.Column("channel_id", KEY))
    op.create_table(
        "members",
        sa.Column("channel_id", KEY, sa.ForeignKey("channels.id", name="fk_members_channel_id_channels"), primary_key=True),
        sa.Column("user_id", KEY, sa.ForeignKey("users.id", name="fk_members_user_id_users"), primary_key=True),
        sa.Column("added_by", KEY, sa.ForeignKey("users.id", name="fk_members_added_by_users"), nullable=False),
        sa.Column("added_at", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_members_user_id", "members", ["user_id"])
