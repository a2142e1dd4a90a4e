"""How often each secret was used, and when last."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"

KEY = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.add_column("secrets", sa.Column("uses", KEY, nullable=False, server_default="0"))
    op.add_column("secrets", sa.Column("used_at", sa.BigInteger))
