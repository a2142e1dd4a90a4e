"""What agents may reach, what they reached, and which hosts they have reached before."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

KEY = sa.BigInteger().with_variant(sa.Integer, "sqlite")
TIME = sa.BigInteger


def upgrade() -> None:
    op.create_table(
        "egress_rules",
        sa.Column("id", KEY, primary_key=True),
        sa.Column("agent_id", KEY, sa.ForeignKey("users.id", name="fk_egress_rules_agent_id_users")),
        sa.Column("effect", sa.String(8), nullable=False),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("ports", sa.String(255), nullable=False),
        sa.Column("set_by", KEY, sa.ForeignKey("users.id", name="fk_egress_rules_set_by_users"), nullable=False),
        sa.Column("set_at", TIME, nullable=False),
    )
    is_own, is_for_all = sa.text("agent_id IS NOT NULL"), sa.text("agent_id IS NULL")
    own, for_all = ("uq_egress_rules_of_agent", ["agent_id", "host"]), ("uq_egress_rules_of_all", ["host"])
    for (name, columns), where in ((own, is_own), (for_all, is_for_all)):
        op.create_index(name, "egress_rules", columns, unique=True, sqlite_where=where, postgresql_where=where)
    op.create_table(
        "egress_log",
        sa.Column("id", KEY, primary_key=True),
        sa.Column("contact_id", sa.String(36), nullable=False),
        sa.Column("agent_id", KEY, sa.ForeignKey("users.id", name="fk_egress_log_agent_id_users")),
        sa.Column("linux_user", sa.String(64), nullable=False),
        sa.Column("turn_id", KEY, sa.ForeignKey("turns.id", name="fk_egress_log_turn_id_turns")),
        sa.Column("attempt", sa.Integer),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("port", sa.Integer, nullable=False),
        sa.Column("verdict", sa.String(16), nullable=False),
        sa.Column("reason", sa.String(200), nullable=False),
        sa.Column("sent_bytes", KEY, nullable=False),
        sa.Column("received_bytes", KEY, nullable=False),
        sa.Column("began_at", TIME, nullable=False),
        sa.Column("seconds", sa.Float, nullable=False),
        sa.UniqueConstraint("contact_id", name="uq_egress_log_contact_id"),
    )
    op.create_index("ix_egress_log_agent_id", "egress_log", ["agent_id", "id"])
    is_bound = sa.text("turn_id IS NOT NULL")
    op.create_index("ix_egress_log_turn_id", "egress_log", ["turn_id"], sqlite_where=is_bound, postgresql_where=is_bound)
    op.create_table(
        "egress_hosts",
        sa.Column("agent_id", KEY, sa.ForeignKey("users.id", name="fk_egress_hosts_agent_id_users"), primary_key=True),
        sa.Column("host", sa.String(255), primary_key=True),
        sa.Column("first_at", TIME, nullable=False),
    )
    op.create_index("ix_egress_hosts_first_at", "egress_hosts", ["agent_id", "first_at"])
