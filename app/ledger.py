"""The sums that budgets are held by: what was spent, by quarter of an hour.

Written in the transaction that records the run, so that they are what a sum over `runs` would say, at the price of one
row instead of a day's.
"""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from sqlalchemy import func, select, text
from sqlalchemy.dialects.postgresql import insert

from app.tables import Spending, table_of

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import ScalarSelect
    from sqlalchemy.orm import Session

QUARTER = timedelta(minutes=15)  # every time zone's day begins with one
_NOW = func.date_bin(QUARTER, func.clock_timestamp(), text("timestamptz 'epoch'"))
_SPENDING = table_of(Spending)
_ADDED = insert(_SPENDING).values(quarter=_NOW)
_BOOK = _ADDED.on_conflict_do_update(  # built once: it is a part of every call
    index_elements=["quarter", "agent"],
    set_={name: _SPENDING.c[name] + _ADDED.excluded[name] for name in ("calls", "cost_usd")},
)


def book(session: Session, *, agent: str, cost_usd: Decimal | None, calls: int = 1) -> None:
    """Paid replies count. The last statement of a transaction: others wait for its row."""
    session.execute(_BOOK, {"agent": agent, "calls": calls, "cost_usd": cost_usd or Decimal(0)})


def spent(*, start: datetime, end: datetime) -> ScalarSelect[Decimal]:
    """US$ for everything recorded in a half-open period that begins and ends with a quarter of an hour."""
    within = (Spending.quarter >= start, Spending.quarter < end)
    return select(func.coalesce(func.sum(Spending.cost_usd), 0)).where(*within).scalar_subquery()
