"""Secrets that the gate puts into paths and queries, too."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.add_column("secrets", sa.Column("in_path", sa.Boolean, nullable=False, server_default=sa.false()))
