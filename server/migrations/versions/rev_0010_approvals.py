"""What a held call would be done to."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.add_column("approvals", sa.Column("scope", sa.String(80), nullable=False, server_default="*"))
    # Of what was held before nobody knows it: it is to be asked for anew.
    op.execute("UPDATE approvals SET state = 'expired' WHERE state <> 'used'")
