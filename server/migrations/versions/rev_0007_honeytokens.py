"""What lies in each agent's sandbox to be stolen, and secrets that programs may hold."""

from __future__ import annotations

import secrets

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.add_column("users", sa.Column("honeytoken", sa.String(80)))
    op.add_column("secrets", sa.Column("as_environment", sa.Boolean, nullable=False, server_default=sa.false()))
    users = sa.table("users", sa.column("id"), sa.column("kind"), sa.column("honeytoken"))
    agents = op.get_bind().execute(sa.select(users.c.id).where(users.c.kind == "agent")).scalars().all()
    for agent_id in agents:
        value = f"colony-admin-{secrets.token_hex(20)}"
        op.execute(users.update().where(users.c.id == agent_id).values(honeytoken=value))
