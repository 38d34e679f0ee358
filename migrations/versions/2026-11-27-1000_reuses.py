"""Replies that were reused, once for each case. The columns that summed them stay while the release before may run."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "a90d6e12c4b7"
down_revision = "d5a1c83f6e07"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.create_table(
        "reuses",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("reply_key", "agent")),
        sa.Column("revision_id", sa.BigInteger(), nullable=False),
        sa.Column("context_version", sa.Text(), nullable=False),
        sa.Column("saved_usd", sa.Numeric(18, 12), nullable=True),
        sa.Column("agrees", sa.Boolean(), nullable=True),
        sa.Column(
            "recorded_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(["revision_id"], ["revisions.id"], name="fk_reuses_revision_id_revisions"),
        sa.ForeignKeyConstraint(["context_version"], ["contexts.version"], name="fk_reuses_context_version_contexts"),
        sa.PrimaryKeyConstraint("id", name="pk_reuses"),
        sa.UniqueConstraint(
            "reply_key", "revision_id", "context_version", name="uq_reuses_reply_key_revision_id_context_version"
        ),
    )
    op.create_index("ix_reuses_recorded_at", "reuses", ["recorded_at"])


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.drop_table("reuses")
