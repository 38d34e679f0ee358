"""The last step that a verdict took: checks, worker, second run, without hostile text, strong model."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "c41d7e90b2f5"
down_revision = "4c9a7be2d610"
branch_labels = None
depends_on = None

ROUTES = "route in ('checks', 'worker', 'second', 'masked', 'strong')"
# What a verdict's own runs tell of those from before; the previous release goes on writing none, which reads as worker.
BEFORE = """
UPDATE verdicts SET route = 'second' FROM (
    SELECT DISTINCT revision_id, context_version FROM runs WHERE purpose = 'second' AND replied
) AS second
WHERE second.revision_id = verdicts.revision_id AND second.context_version = verdicts.context_version
    AND verdicts.panel <> 'none'
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.add_column("verdicts", sa.Column("route", sa.Text(), server_default="worker", nullable=False))
    op.execute("UPDATE verdicts SET route = 'checks' WHERE panel = 'none'")
    op.execute(BEFORE)
    op.create_check_constraint("route", "verdicts", ROUTES)


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.drop_column("verdicts", "route")
