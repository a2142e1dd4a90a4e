"""Who has opened a channel: there is an end of how many one opens in a day."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"

KEY = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.add_column("channels", sa.Column("opened_by", KEY))
    op.create_index("ix_channels_opened_by", "channels", ["opened_by", "created_at"])
