"""Who may do what, roles, and what waits for approval."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

KEY = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.create_table(
        "acl",
        sa.Column("id", KEY, primary_key=True),
        sa.Column("principal", sa.String(64), nullable=False),
        sa.Column("action", sa.String(64), nullable=False),
        sa.Column("scope", sa.String(80), nullable=False),
        sa.Column("effect", sa.String(8), nullable=False),
        sa.Column("granted_by", KEY, sa.ForeignKey("users.id", name="fk_acl_granted_by_users"), nullable=False),
        sa.Column("granted_at", sa.BigInteger, nullable=False),
        sa.Column("grant_option", sa.Boolean, nullable=False),
        sa.UniqueConstraint("principal", "action", "scope", name="uq_acl_principal_action_scope"),
    )
    op.create_table(
        "role_members",
        sa.Column("role", sa.String(31), primary_key=True),
        sa.Column("user_id", KEY, sa.ForeignKey("users.id", name="fk_role_members_user_id_users"), primary_key=True),
    )
    op.create_index("ix_role_members_user_id", "role_members", ["user_id"])
    op.create_table(
        "approvals",
        sa.Column("id", KEY, primary_key=True),
        sa.Column("user_id", KEY, sa.ForeignKey("users.id", name="fk_approvals_user_id_users"), nullable=False),
        sa.Column("operation", sa.String(31), nullable=False),
        sa.Column("arguments_hash", sa.String(64), nullable=False),
        sa.Column("arguments", sa.Text, nullable=False),
        sa.Column("turn_id", KEY, sa.ForeignKey("turns.id", name="fk_approvals_turn_id_turns")),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("asked_at", sa.BigInteger, nullable=False),
        sa.Column("decided_by", KEY, sa.ForeignKey("users.id", name="fk_approvals_decided_by_users")),
        sa.Column("decided_at", sa.BigInteger),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
        sa.Column("channel_id", KEY, sa.ForeignKey("channels.id", name="fk_approvals_channel_id_channels")),
        sa.Column("used_as", sa.String(200)),
    )
    op.create_index("ix_approvals_user_hash", "approvals", ["user_id", "arguments_hash"])
    op.create_index("ix_approvals_state", "approvals", ["state"])
    op.create_index("ix_turns_agent_channel", "turns", ["agent_id", "channel_id"])
