"""The escalations of a ticket are found by an index: the queue's page looks them up for each of its rows."""

from __future__ import annotations

from alembic import op

revision = "d58a1f3c7e42"
down_revision = "b47c0e9d2a15"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.create_index("ix_escalations_ticket_id", "escalations", ["ticket_id"])


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.drop_index("ix_escalations_ticket_id", "escalations")
