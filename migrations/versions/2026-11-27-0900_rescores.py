"""Re-scoring: what was wanted, what each ticket would have got, and the runs that were made for it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "d5a1c83f6e07"
down_revision = "e5a1c37d9b40"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
NOW = sa.text("clock_timestamp()")
MONEY = sa.Numeric(18, 12)


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    create_rescores()
    create_results()
    op.add_column("runs", sa.Column("rescore_id", sa.BigInteger(), nullable=True))
    op.create_foreign_key("fk_runs_rescore_id_rescores", "runs", "rescores", ["rescore_id"], ["id"])
    op.create_index("ix_runs_rescore_id", "runs", ["rescore_id"], postgresql_where=sa.text("rescore_id is not null"))


def create_rescores() -> None:
    op.create_table(
        "rescores",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("context_version", sa.Text(), nullable=False),
        *(sa.Column(name, TIME, nullable=False) for name in ("since", "until")),
        sa.Column("state", sa.Text(), server_default="waiting", nullable=False),
        *(sa.Column(name, sa.Text(), server_default="", nullable=False) for name in ("note", "model")),
        sa.Column("demonstration", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in ("tickets", "unjudged", "removed", "calls")),
        sa.Column("estimate_usd", MONEY, nullable=True),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("recorded_at", TIME, server_default=NOW, nullable=False),
        sa.Column("finished_at", TIME, nullable=True),
        sa.CheckConstraint("state in ('waiting', 'running', 'done', 'failed', 'cancelled')", name="ck_rescores_state"),
        sa.ForeignKeyConstraint(["context_version"], ["contexts.version"], name="fk_rescores_context_version_contexts"),
        sa.PrimaryKeyConstraint("id", name="pk_rescores"),
    )


def create_results() -> None:
    refers = {"rescore": "rescores", "revision": "revisions", "ticket": "tickets", "verdict": "verdicts"}
    op.create_table(
        "rescore_results",
        *(sa.Column(f"{name}_id", sa.BigInteger(), nullable=False) for name in refers),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("score", MONEY, nullable=True),
        sa.Column("comparison", postgresql.JSONB(), nullable=True),
        sa.Column("moved", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("note", sa.Text(), server_default="", nullable=False),
        sa.CheckConstraint("outcome in ('pass', 'fail', 'escalate')", name="ck_rescore_results_outcome"),
        *(
            sa.ForeignKeyConstraint([f"{name}_id"], [f"{table}.id"], name=f"fk_rescore_results_{name}_id_{table}")
            for name, table in refers.items()
        ),
        sa.PrimaryKeyConstraint("rescore_id", "revision_id", name="pk_rescore_results"),
    )
    op.create_index(
        "ix_rescore_results_waiting",
        "rescore_results",
        ["rescore_id", "revision_id"],
        postgresql_where=sa.text("outcome is null and note = ''"),
    )


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.drop_index("ix_runs_rescore_id", "runs")
    op.drop_constraint("fk_runs_rescore_id_rescores", "runs")
    op.drop_column("runs", "rescore_id")
    for table in ("rescore_results", "rescores"):
        op.drop_table(table)
