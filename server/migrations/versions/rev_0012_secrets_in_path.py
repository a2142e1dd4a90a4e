"""Secrets that the gate puts into paths and queries, too."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    op.add_column("secrets", sa.Column("in_path", sa.Boolean, nullable=False, server_default=sa.false()))
