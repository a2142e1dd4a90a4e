"""What a held call would be done to; and what it is known again by, which nobody can guess from any more."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.add_column("approvals", sa.Column("scope", sa.String(80), nullable=False, server_default="*"))
    # Of what was held before nobody knows either: it is to be asked for anew.
    op.execute("UPDATE approvals SET arguments_hash = ''")
    op.execute("UPDATE approvals SET state = 'expired' WHERE state <> 'used'")
