"""Judging by Message Batches: batches, their requests, the tickets that wait, and the runs that came of them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "b47c0e9d2a15"
down_revision = "c41d7e90b2f5"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
NOW = sa.text("clock_timestamp()")
COUNTS = ("succeeded", "errored", "canceled", "expired")


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    create_batches()
    create_requests()
    create_tickets()
    op.add_column("runs", sa.Column("batch_id", sa.BigInteger(), nullable=True))
    op.create_foreign_key("fk_runs_batch_id_batches", "runs", "batches", ["batch_id"], ["id"])
    op.create_index("ix_runs_batch_id", "runs", ["batch_id"], postgresql_where=sa.text("batch_id is not null"))


def create_batches() -> None:
    op.create_table(
        "batches",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("vendor_id", sa.Text(), nullable=True),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), server_default="submitting", nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        *(sa.Column(name, sa.BigInteger(), server_default=sa.text("0"), nullable=False) for name in COUNTS),
        sa.Column("note", sa.Text(), server_default="", nullable=False),
        sa.Column("reservation_id", sa.BigInteger(), nullable=True),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False),
        *(sa.Column(name, TIME, nullable=True) for name in ("sent_at", "expires_at", "cancel_asked_at", "ended_at")),
        sa.CheckConstraint("state in ('submitting', 'waiting', 'ended', 'lost')", name="ck_batches_state"),
        sa.PrimaryKeyConstraint("id", name="pk_batches"),
        sa.UniqueConstraint("vendor_id", name="uq_batches_vendor_id"),
    )
    op.create_index(
        "ix_batches_open", "batches", ["id"], postgresql_where=sa.text("state in ('submitting', 'waiting')")
    )


def create_requests() -> None:
    op.create_table(
        "batch_requests",
        sa.Column("batch_id", sa.BigInteger(), nullable=False),
        sa.Column("reply_key", sa.Text(), nullable=False),
        sa.Column("revision_id", sa.BigInteger(), nullable=False),
        sa.Column("context_version", sa.Text(), nullable=False),
        sa.Column("agent", sa.Text(), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("repetition", sa.BigInteger(), nullable=False),
        sa.Column("agent_hash", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), server_default="asked", nullable=False),
        sa.Column("note", sa.Text(), server_default="", nullable=False),
        sa.CheckConstraint(
            "state in ('asked', 'succeeded', 'errored', 'refused', 'canceled', 'expired')",
            name="ck_batch_requests_state",
        ),
        sa.ForeignKeyConstraint(["batch_id"], ["batches.id"], name="fk_batch_requests_batch_id_batches"),
        sa.ForeignKeyConstraint(["revision_id"], ["revisions.id"], name="fk_batch_requests_revision_id_revisions"),
        sa.ForeignKeyConstraint(
            ["context_version"], ["contexts.version"], name="fk_batch_requests_context_version_contexts"
        ),
        sa.PrimaryKeyConstraint("batch_id", "reply_key", name="pk_batch_requests"),
    )
    op.create_index(
        "ix_batch_requests_asked", "batch_requests", ["reply_key"], postgresql_where=sa.text("state = 'asked'")
    )


def create_tickets() -> None:
    op.create_table(
        "batch_tickets",
        sa.Column("revision_id", sa.BigInteger(), nullable=False),
        sa.Column("batch_id", sa.BigInteger(), nullable=True),
        sa.Column("reply_key", sa.Text(), nullable=True),
        sa.Column("tries", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("recorded_at", TIME, server_default=NOW, nullable=False),
        sa.ForeignKeyConstraint(["batch_id"], ["batches.id"], name="fk_batch_tickets_batch_id_batches"),
        sa.ForeignKeyConstraint(["revision_id"], ["revisions.id"], name="fk_batch_tickets_revision_id_revisions"),
        sa.PrimaryKeyConstraint("revision_id", name="pk_batch_tickets"),
    )
    op.create_index("ix_batch_tickets_batch_id", "batch_tickets", ["batch_id"])
    op.create_index(
        "ix_batch_tickets_free", "batch_tickets", ["revision_id"], postgresql_where=sa.text("batch_id is null")
    )


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.drop_index("ix_runs_batch_id", "runs")
    op.drop_constraint("fk_runs_batch_id_batches", "runs")
    op.drop_column("runs", "batch_id")
    for table in ("batch_tickets", "batch_requests", "batches"):
        op.drop_table(table)
