"""A reply key is taken while its reply can be found: one that retention has taken may be asked for, and kept, anew."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "5b0f6f3a9d21"
down_revision = "c16d0ea47b87"
branch_labels = None
depends_on = None

NAME, TABLE, COLUMNS = "uq_runs_reply_key", "runs", ["reply_key"]


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.drop_index(NAME, TABLE)
    op.create_index(NAME, TABLE, COLUMNS, unique=True, postgresql_where=sa.text("reply is not null"))
    op.create_index("ix_verdicts_no_model", "verdicts", ["id"], postgresql_where=sa.text("panel = 'none'"))


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.drop_index("ix_verdicts_no_model", "verdicts")
    op.drop_index(NAME, TABLE)
    # Of replies that were asked for again, the newest keeps the key.
    op.execute(
        "update runs set replied = false where replied and exists"
        " (select from runs newer where newer.reply_key = runs.reply_key and newer.replied and newer.id > runs.id)"
    )
    op.create_index(NAME, TABLE, COLUMNS, unique=True, postgresql_where=sa.text("replied"))
