"""Sums of what was spent and saved, what is set aside for calls under way, a day's stop, a key nobody may use now."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "4c9a7be2d610"
down_revision = "8e2f64c1d7a0"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
MONEY = sa.Numeric(18, 12)
NOW = sa.text("clock_timestamp()")
ZERO = sa.text("0")
# Today's budget is right from the first minute; whatever the previous release records after this counts from tomorrow.
RECENT = """
insert into spending (quarter, agent, calls, cost_usd)
select date_bin('15 minutes', recorded_at, 'epoch'), agent, count(*), coalesce(sum(cost_usd), 0)
from runs where recorded_at > now() - interval '2 days' and (replied or outcome = 'duplicate') group by 1, 2
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.create_table(
        "spending",
        sa.Column("quarter", TIME, nullable=False),
        sa.Column("agent", sa.Text(), nullable=False),
        sa.Column("calls", sa.BigInteger(), server_default=ZERO, nullable=False),
        sa.Column("cost_usd", MONEY, server_default=ZERO, nullable=False),
        sa.Column("reused", sa.BigInteger(), server_default=ZERO, nullable=False),
        sa.Column("saved_usd", MONEY, server_default=ZERO, nullable=False),
        sa.PrimaryKeyConstraint("quarter", "agent", name="pk_spending"),
    )
    op.create_table(
        "reservations",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("amount_usd", MONEY, nullable=False),
        sa.Column("until", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_reservations"),
    )
    op.create_index("ix_reservations_until", "reservations", ["until"])
    op.create_table(
        "budget_stops",
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("needed_usd", MONEY, nullable=False),
        sa.Column("stopped_at", TIME, server_default=NOW, nullable=False),
        sa.PrimaryKeyConstraint("day", name="pk_budget_stops"),
    )
    op.create_table(
        "breakers",
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("failures", sa.BigInteger(), server_default=sa.text("1"), nullable=False),
        sa.Column("opened_at", TIME, server_default=NOW, nullable=False),
        sa.Column("probe_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("scope", name="pk_breakers"),
    )
    op.execute(RECENT)


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    for table in ("breakers", "budget_stops", "reservations", "spending"):
        op.drop_table(table)
