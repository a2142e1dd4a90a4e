"""What each request to the model has used."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

KEY = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.create_table(
        "model_uses",
        sa.Column("id", KEY, primary_key=True),
        sa.Column("contact_id", sa.String(36), nullable=False),
        sa.Column("turn_id", KEY, sa.ForeignKey("turns.id", name="fk_model_uses_turn_id_turns"), nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("model", sa.String(200), nullable=False),
        sa.Column("tokens_in", KEY, nullable=False),
        sa.Column("tokens_out", KEY, nullable=False),
        sa.Column("cost_usd", sa.Float, nullable=False),
        sa.Column("is_final", sa.Boolean, nullable=False),
        sa.Column("began_at", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("contact_id", name="uq_model_uses_contact_id"),
    )
    op.create_index("ix_model_uses_turn_id", "model_uses", ["turn_id", "attempt"])
